//! The text of the configuration that `init` writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::shell_word;
use crate::cli::profile::NATIVE;
use crate::profile::{Call, Profile};
use crate::settings::{Installation, Parameter};
use crate::token_source::CONFIG_PREFIX;

/// Begins with [`CONFIG_PREFIX`].
const HEADER: &str = "\
# tokenkeep's configuration. All keys: tokenkeep.toml(5). Test it with `tokenkeep check-config`.
# Add tokens with `tokenkeep add NAME`: it stores the value and writes conf.d/NAME.toml.
";

const LISTEN: &str = "
# Status page, metrics and health checks, for this machine only: remove the `#`.
#[control]
#listen = \"127.0.0.1:9464\"
";

const REAUTH_BEFORE: &str = "\
# Log in this long before a value expires that cannot be renewed further: remove the `#`.
#reauth_before = \"30s\"
";

/// A server, with the login of its profile if there is one.
pub(super) struct ServerText<'a> {
    pub(super) url: &'a str,
    pub(super) allow_http: bool,
    /// `None` for the native API.
    pub(super) profile: Option<&'a Profile>,
    pub(super) parameters: BTreeMap<String, Parameter>,
}

impl<'a> ServerText<'a> {
    /// The server at `url`. Parameters that are not in `given` are read from files beside the
    /// configuration.
    pub(super) fn new(
        url: &'a str,
        allow_http: bool,
        profile: Option<&'a Profile>,
        given: &BTreeMap<String, Parameter>,
        installation: &Installation,
    ) -> Self {
        let names = profile.into_iter().flat_map(|profile| {
            let calls = profile.calls();
            calls.flat_map(|(_, call)| call.parameters()).map(|name| (&*profile.name, name))
        });
        let file = |profile: &str, name: &str| {
            let path = installation.config().with_file_name(format!("{profile}.{name}"));
            Parameter::File(std::path::absolute(&path).unwrap_or(path))
        };
        let parameters = names.map(|(profile, name)| {
            let given = given.get(name).map(|parameter| match parameter {
                Parameter::File(path) => {
                    Parameter::File(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
                }
                other => other.clone(),
            });
            (name.to_owned(), given.unwrap_or_else(|| file(profile, name)))
        });
        Self { url, allow_http, profile, parameters: parameters.collect() }
    }

    /// The name of the `[server.NAME]` and of the `[reauth.NAME]`.
    pub(super) fn name(&self) -> &str {
        self.profile.map_or(NATIVE, |profile| &profile.name)
    }

    /// The text of the file. `is_whole`: of the main file.
    pub(super) fn text(&self, is_whole: bool) -> String {
        debug_assert!(HEADER.starts_with(CONFIG_PREFIX));
        let name = self.name();
        let mut text = format!("{HEADER}\n[server.{name}]\nurl = {}\n", quoted(self.url));
        if self.allow_http {
            text += "allow_http = true\n";
        }
        if let Some(profile) = self.profile {
            let _ = writeln!(text, "profile = {}", quoted(&profile.name));
            let used = |calls: &[&Option<Call>]| -> BTreeSet<String> {
                let calls = calls.iter().filter_map(|call| call.as_ref());
                calls.flat_map(|call| call.parameters()).map(str::to_owned).collect()
            };
            let shared = used(&[&profile.query, &profile.renew, &profile.revoke]);
            text += &self.with(&shared);
            if let Some(login) = &profile.login {
                let own: BTreeSet<_> = login.parameters().into_iter().map(str::to_owned).collect();
                let _ = write!(text, "\n[reauth.{name}]\nlogin = true\n");
                text += &self.with(&own.difference(&shared).cloned().collect());
                if login.refresh.is_none() && profile.assume.is_none() {
                    text += REAUTH_BEFORE;
                }
            }
        }
        text + if is_whole { LISTEN } else { "" }
    }

    /// The line for these parameters, if there are any.
    fn with(&self, names: &BTreeSet<String>) -> String {
        let source = |parameter: &Parameter| match parameter {
            Parameter::Text(text) => quoted(text),
            Parameter::File(path) => format!("{{ file = {} }}", quoted(&path.to_string_lossy())),
            Parameter::Credential(name) => format!("{{ credential = {} }}", quoted(name)),
            Parameter::Env(name) => format!("{{ env = {} }}", quoted(name)),
        };
        let named = names.iter().filter_map(|name| Some((name, self.parameters.get(name)?)));
        let entries: Vec<_> =
            named.map(|(name, parameter)| format!("{name} = {}", source(parameter))).collect();
        if entries.is_empty() {
            return String::new();
        }
        format!("with = {{ {} }}\n", entries.join(", "))
    }

    /// The files of parameters that do not exist, with the names of the parameters.
    pub(super) fn missing_files(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.parameters.iter().filter_map(|(name, parameter)| match parameter {
            Parameter::File(path) if path.symlink_metadata().is_err() => {
                Some((name.as_str(), PathBuf::as_path(path)))
            }
            _ => None,
        })
    }

    /// The arguments of `add` for a token of this server: one alternative, or two if a token may
    /// have a refresh token or a login. A token with a refresh token has the login only if that
    /// returns a refresh token too; otherwise the session would become another user's, the client's.
    pub(super) fn add_arguments(&self) -> Vec<String> {
        let Some(profile) = self.profile else { return vec!["add NAME".to_owned()] };
        let mut alternatives = Vec::new();
        let reauth = format!(" --reauth {}", shell_word(&profile.name));
        if profile.renews_with_refresh_token() {
            let returns_refresh = |login: &Call| login.refresh.is_some();
            let with_login = profile.login.as_ref().is_some_and(returns_refresh);
            let reauth = if with_login { &*reauth } else { "" };
            alternatives.push(format!("add NAME{reauth} --refresh-file FILE"));
        }
        if profile.login.is_some() {
            alternatives.push(format!("add NAME{reauth} --no-value"));
        }
        if alternatives.is_empty() {
            alternatives.push("add NAME".to_owned());
        }
        alternatives
    }
}

/// A text in TOML.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::builtin;

    fn text(profile: &str, given: &[(&str, &str)]) -> String {
        let profile = builtin(profile).unwrap();
        let given = given
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Parameter::Text((*text).to_owned())));
        let installation = Installation::system("/etc/tokenkeep/tokenkeep.toml");
        let server = ServerText::new(
            "https://api.example.net",
            false,
            Some(&profile),
            &given.collect(),
            &installation,
        );
        server.text(false).replace(HEADER, "")
    }

    #[test]
    fn parameters_of_the_login_alone_are_those_of_the_reauth() {
        assert_eq!(
            text("vault", &[("role_id", "7387")]),
            "\n[server.vault]\nurl = \"https://api.example.net\"\nprofile = \"vault\"\n\n\
             [reauth.vault]\nlogin = true\nwith = { role_id = \"7387\", secret_id = { file = \
             \"/etc/tokenkeep/vault.secret_id\" } }\n"
                .to_owned()
                + REAUTH_BEFORE
        );
    }

    #[test]
    fn parameters_that_several_calls_use_are_those_of_the_server() {
        assert_eq!(
            text("oauth2", &[("client_id", "a\"b")]),
            "\n[server.oauth2]\nurl = \"https://api.example.net\"\nprofile = \"oauth2\"\nwith = { \
             client_id = 'a\"b', client_secret = { file = \"/etc/tokenkeep/oauth2.client_secret\" } }\n\
             \n[reauth.oauth2]\nlogin = true\n"
                .to_owned()
                + REAUTH_BEFORE
        );
    }
}
