//! What `add` writes where, or why it writes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::daemon::inventory_of;
use super::super::files::StateDirectory;
use super::super::other_tokens::inventory_with;
use super::super::{command_line, refused};
use super::Add;
use crate::cli::{CliError, EX_CONFIG};
use crate::settings::{Installation, Server, Settings, Source, find_token};
use crate::token_source::CONFIG_PREFIX;

/// Begins with [`CONFIG_PREFIX`].
const COMMENT: &str = "\
# tokenkeep add wrote this file, and `tokenkeep remove` removes it. Other keys of a token may be
# added: see tokenkeep.toml(5).
";

/// What is to be written.
pub(super) struct Plan<'a> {
    pub(super) server: &'a Server,
    /// The token file.
    pub(super) file: PathBuf,
    /// The file for the refresh token, if the token has one or gets one.
    pub(super) refresh: Option<PathBuf>,
    /// Path and text of the entry; `None` if it exists and stays as it is.
    pub(super) entry: Option<(PathBuf, String)>,
}

impl Add {
    /// Decides what is to be written, or why nothing is.
    pub(super) fn plan<'a>(
        &self,
        settings: &'a Settings,
        state: &StateDirectory,
        installation: &Installation,
        overrides: &BTreeMap<String, String>,
    ) -> Result<Plan<'a>, CliError> {
        let name = &self.name;
        let is_known = |reauth: &String| settings.reauths.iter().any(|known| known.name == *reauth);
        if let Some(reauth) = self.reauth.as_ref().filter(|reauth| !is_known(reauth)) {
            let known = settings.reauths.iter().map(|known| known.name.as_str());
            return Err(CliError::Usage(unknown("reauth", reauth, known)));
        }
        let Some(token) = settings.tokens.iter().find(|token| token.name == *name) else {
            let place = inventory_with(settings, name).or_else(|| {
                inventory_of(installation, overrides, name)
                    .map(|inventory| format!("{name} of [inventory.{inventory}]"))
            });
            if let Some(place) = place {
                return Err(refused(format!("the token exists: {place}; choose another name")));
            }
            let server = choose_server(self.server.as_ref(), settings, installation)?;
            let entry = installation.drop_ins().join(format!("{name}.toml"));
            if entry.symlink_metadata().is_ok() {
                return Err(refused(format!(
                    "{} exists and does not define this token; choose another name",
                    entry.display()
                )));
            }
            self.check_sources(server)?;
            let file = state.path.join(format!("{name}.token"));
            let refresh = self.refresh_file.is_some();
            let refresh = refresh.then(|| state.path.join(format!("{name}.refresh")));
            let text = self.entry(server, &file, refresh.as_deref(), self.reauth.as_deref())?;
            return Ok(Plan { server, file, refresh, entry: Some((entry, text)) });
        };

        let entry = find_token(installation.config(), name);
        let place = entry.as_ref().map_or_else(String::new, |entry| {
            format!(", in {} line {}", entry.file.display(), entry.line)
        });
        if !self.replace {
            return Err(refused(format!(
                "the token {name} exists{place}; add --replace to give it a new value"
            )));
        }
        let Source::File(file) = &token.source else {
            return Err(refused(format!(
                "the token {name} has no `file`{place}; replace its value where it comes from"
            )));
        };
        if self.no_value {
            return Err(refused(format!(
                "the token {name} exists{place}; --no-value would replace nothing: remove --replace \
                 and choose another name"
            )));
        }
        let old_refresh = match &token.refresh {
            None => None,
            Some(Source::File(path)) => Some(path.clone()),
            Some(Source::Credential(_) | Source::Env(_)) if self.refresh_file.is_none() => None,
            Some(Source::Credential(_) | Source::Env(_)) => {
                return Err(refused(format!(
                    "the refresh token of {name} is not in a file{place}; replace it where it comes \
                     from"
                )));
            }
        };
        let gets_refresh = self.refresh_file.is_some() && old_refresh.is_none();
        let new_refresh = gets_refresh.then(|| state.path.join(format!("{name}.refresh")));
        let refresh = old_refresh.or(new_refresh);
        let keep_alive = &token.keep_alive;
        let reauth = self.reauth.as_ref().or(keep_alive.reauth.as_ref());
        let is_changed = gets_refresh
            || reauth != keep_alive.reauth.as_ref()
            || self.server.as_ref().is_some_and(|server| *server != keep_alive.server);
        let file = file.clone();
        if !is_changed {
            let server = settings.servers.iter().find(|server| server.name == keep_alive.server);
            let server = server.ok_or_else(|| refused("the token has no server"))?;
            self.check_sources(server)?;
            return Ok(Plan { server, file, refresh, entry: None });
        }
        let ours = entry.filter(|entry| {
            let keys = ["file", "reauth", "refresh", "server"];
            entry.is_alone && entry.keys.iter().all(|key| keys.contains(&key.as_str()))
        });
        let Some(ours) = ours.filter(|entry| entry.file != installation.config()) else {
            return Err(refused(format!(
                "the token {name} is configured by hand{place}; change its keys there"
            )));
        };
        let server = self.server.as_ref().unwrap_or(&keep_alive.server);
        let server = choose_server(Some(server), settings, installation)?;
        self.check_sources(server)?;
        let text = self.entry(server, &file, refresh.as_deref(), reauth.map(String::as_str))?;
        Ok(Plan { server, file, refresh, entry: Some((ours.file, text)) })
    }

    /// Checks that the token has a source of values.
    fn check_sources(&self, server: &Server) -> Result<(), CliError> {
        let name = server.profile.as_ref().map_or("sarus", |profile| &profile.name);
        let has_refresh =
            server.profile.as_ref().is_some_and(|profile| profile.renews_with_refresh_token());
        if self.refresh_file.is_some() && !has_refresh {
            return Err(CliError::Usage(format!(
                "--refresh-file: profile {name} of server {} has no refresh tokens; remove it",
                server.name
            )));
        }
        if self.no_value && self.reauth.is_none() && self.refresh_file.is_none() {
            return Err(CliError::Usage(
                "--no-value: a token without a value needs a `reauth` that gets one; add --reauth \
                 REAUTH"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// The text of the entry.
    fn entry(
        &self,
        server: &Server,
        file: &Path,
        refresh: Option<&Path>,
        reauth: Option<&str>,
    ) -> Result<String, CliError> {
        #[derive(Serialize)]
        struct Refresh<'a> {
            file: &'a Path,
        }
        #[derive(Serialize)]
        struct Entry<'a> {
            server: &'a str,
            file: &'a Path,
            #[serde(skip_serializing_if = "Option::is_none")]
            reauth: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            refresh: Option<Refresh<'a>>,
        }
        let refresh = refresh.map(|file| Refresh { file });
        let entry = Entry { server: &server.name, file, reauth, refresh };
        let tables = BTreeMap::from([("token", BTreeMap::from([(&self.name, entry)]))]);
        let text = toml::to_string(&tables)
            .map_err(|error| CliError::Usage(format!("the entry cannot be written: {error}")))?;
        debug_assert!(COMMENT.starts_with(CONFIG_PREFIX));
        Ok(format!("{COMMENT}{text}"))
    }
}

/// The server called `name`, or the only one that is configured.
fn choose_server<'a>(
    name: Option<&String>,
    settings: &'a Settings,
    installation: &Installation,
) -> Result<&'a Server, CliError> {
    let names = || settings.servers.iter().map(|server| server.name.as_str());
    match (name, &settings.servers[..]) {
        (_, []) => {
            let init = command_line(installation, "init");
            let sentence = format!("no server is configured; run `{init}` first");
            Err(CliError::Failed { sentence, status: EX_CONFIG })
        }
        (None, [server]) => Ok(server),
        (None, _) => {
            let names = names().collect::<Vec<_>>().join(", ");
            let sentence = format!("several servers are configured: {names}; add --server NAME");
            Err(CliError::Usage(sentence))
        }
        (Some(name), servers) => servers
            .iter()
            .find(|server| server.name == *name)
            .ok_or_else(|| CliError::Usage(unknown("server", name, names()))),
    }
}

/// The error that there is no server or reauth of this name.
fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known = known.collect::<Vec<_>>().join(", ");
    let known = if known.is_empty() { "none".to_owned() } else { known };
    format!("there is no [{kind}.{name}]; configured: {known}")
}
