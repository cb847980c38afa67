//! Environment of the systemd unit. It can override the configuration, and the shell that runs
//! `check-config` does not have it.
//!
//! Queries `systemctl show`, within [`SYSTEMCTL_TIMEOUT`]. Without systemd, unit or response, there
//! are no variables.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::runtime;
use crate::settings::{Installation, Parameter, Server};
use crate::token_source::{SourceErrorKind, read_parameter};

/// Name of the packaged unit.
pub(super) const UNIT: &str = "tokenkeep.service";

/// Prefix of overrides, and of variables that are probably misspelt overrides.
const PREFIX: &str = "TOKENKEEP_";

/// Timeout of `systemctl`.
const SYSTEMCTL_TIMEOUT: Duration = Duration::from_secs(2);

/// systemd makes the credentials of the shipped unit available here, for its user.
const CREDENTIALS: &str = "/run/credentials/tokenkeep.service";

/// An environment variable. Outside the unit, the credentials of the running service stand in for
/// `$CREDENTIALS_DIRECTORY`.
pub(super) fn variable(name: &str) -> Option<OsString> {
    let value = std::env::var_os(name);
    if name == "CREDENTIALS_DIRECTORY" && value.is_none() {
        return Path::new(CREDENTIALS).is_dir().then(|| CREDENTIALS.into());
    }
    value
}

/// A parameter of the server's queries whose source is a credential or a variable of the service
/// that this process does not have.
pub(super) fn parameter_of_service(server: &Server) -> Option<&str> {
    let query = server.profile.as_ref()?.query.as_ref()?;
    let needed = query.parameters();
    let mut parameters = server.with.iter().filter(|(name, _)| needed.contains(name.as_str()));
    let is_missing = |parameter: &Parameter| {
        read_parameter(parameter, &variable).is_err_and(|error| {
            matches!(
                error.kind,
                SourceErrorKind::NoCredentialsDirectory | SourceErrorKind::VariableUnset
            )
        })
    };
    parameters.find(|(_, parameter)| is_missing(parameter)).map(|(name, _)| name.as_str())
}

/// The overrides that the unit sets for the daemon of `installation`, by name.
pub(super) fn overrides(installation: &Installation) -> BTreeMap<String, String> {
    let Some(shown) = show(installation.is_user()) else { return BTreeMap::new() };
    let mut overrides = BTreeMap::new();
    if !applies_to(&shown, installation) {
        return overrides;
    }
    // Files win over Environment=, and later ones over earlier ones.
    for line in shown.lines() {
        if let Some(list) = line.strip_prefix("Environment=") {
            overrides.extend(words(list).iter().filter_map(|word| assignment(word)));
        }
    }
    for line in shown.lines() {
        if let Some(file) = line.strip_prefix("EnvironmentFiles=") {
            let file = file.split(" (ignore_errors=").next().unwrap_or_default();
            // systemd itself reports one that is missing.
            let text = fs::read_to_string(file).unwrap_or_default();
            overrides.extend(text.lines().filter_map(line_of_file));
        }
    }
    overrides.retain(|name, _| name.to_uppercase().starts_with(PREFIX));
    overrides
}

/// The environment of this process, with the overrides of the unit.
pub(super) fn environment(
    overrides: &BTreeMap<String, String>,
) -> impl Iterator<Item = (OsString, OsString)> {
    let own = std::env::vars_os()
        .filter(|(name, _)| name.to_str().is_none_or(|name| !overrides.contains_key(name)));
    own.chain(overrides.iter().map(|(name, value)| (name.into(), value.into())))
}

/// The unit's properties from systemd, or from the user's service manager. Starts no thread, because
/// `doctor` changes its user later.
fn show(is_user: bool) -> Option<String> {
    let mut command = Command::new("systemctl");
    command
        .args(is_user.then_some("--user"))
        .args(["show", "--no-pager", "-p", "ExecStart,Environment,EnvironmentFiles", UNIT])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let runtime = runtime().ok()?;
    let output = runtime.block_on(async { timeout(SYSTEMCTL_TIMEOUT, command.output()).await });
    let output = output.ok()?.ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// Whether the unit starts a daemon with this configuration, as far as is known.
fn applies_to(shown: &str, installation: &Installation) -> bool {
    let command = shown.lines().find_map(|line| line.strip_prefix("ExecStart="));
    let Some(command) = command.filter(|command| !command.is_empty()) else { return true };
    let arguments = command.split("argv[]=").nth(1).unwrap_or(command);
    let mut arguments = arguments.split([' ', '=']);
    let named = arguments.find(|argument| *argument == "--config").and_then(|_| arguments.next());
    installation.config() == named.map_or(installation.default_config(), Path::new)
}

/// Splits a list as systemd writes it: words are quoted if necessary.
fn words(list: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = list.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            (' ', None) => words.extend(word.take()),
            ('"' | '\'', None) => {
                // What is quoted may be empty.
                word.get_or_insert_default();
                quote = Some(c);
            }
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(rest.next()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn assignment(word: &str) -> Option<(String, String)> {
    word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// The variable that a line of an `EnvironmentFile=` sets.
fn line_of_file(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if line.starts_with(['#', ';']) {
        return None;
    }
    let (name, value) = line.split_once('=')?;
    let value = value.trim_start();
    let value = if value.starts_with(['"', '\'']) {
        words(value).into_iter().next().unwrap_or_default()
    } else {
        value.to_owned()
    };
    Some((name.trim_end().to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::DEFAULT_PATH;

    #[test]
    fn words_are_read_as_systemd_writes_them() {
        let list = r#"A=b "TOKENKEEP__X=a \"b\" $c" C= D=\$"#;
        assert_eq!(words(list), ["A=b", "TOKENKEEP__X=a \"b\" $c", "C=", "D=$"]);
        assert_eq!(words(""), Vec::<String>::new());
        assert_eq!(words("''"), [""]);
    }

    #[test]
    fn lines_of_a_file_may_be_quoted_or_comments() {
        let some = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        assert_eq!(line_of_file(" A = b c "), some("A", "b c"));
        assert_eq!(line_of_file("A=\"b \\\" c\""), some("A", "b \" c"));
        assert_eq!(line_of_file("A='b'"), some("A", "b"));
        for line in ["", "# A=b", "; A=b", "A"] {
            assert_eq!(line_of_file(line), None, "{line}");
        }
    }

    #[test]
    fn unit_concerns_the_configuration_that_its_command_names() {
        let command = |arguments: &str| {
            format!(
                "ExecStart={{ path=/usr/bin/tokenkeep ; argv[]=/usr/bin/tokenkeep {arguments} ; ignore_errors=no }}\n"
            )
        };
        for (shown, config, expected) in [
            (command("run"), DEFAULT_PATH, true),
            (command("--system run"), DEFAULT_PATH, true),
            (command("run"), "/srv/a.toml", false),
            (command("run --config /srv/a.toml"), "/srv/a.toml", true),
            (command("--config=/srv/a.toml run"), "/srv/a.toml", true),
            (command("run --config /srv/a.toml"), DEFAULT_PATH, false),
            ("ExecStart=\n".to_owned(), "/srv/a.toml", true),
            (String::new(), "/srv/a.toml", true),
        ] {
            assert_eq!(
                applies_to(&shown, &Installation::system(config)),
                expected,
                "{shown} {config}"
            );
        }
    }
}
