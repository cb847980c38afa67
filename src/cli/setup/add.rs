//! `add`: stores a token and adds it to the configuration.
//!
//! Order: plan and validate; read the token; query the server once; write the token file, then the
//! entry; reload the daemon. If this process is killed between the two writes, a token file without
//! an entry remains, and `add` can be repeated.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use serde::Serialize;

use super::daemon::{inventory_of, reload_daemon, start_command};
use super::files::{StateDirectory, check_writable, not_written, print_written, write_config};
use super::other_tokens::{inventory_with, owner_of};
use super::{check_home, command_line, input, refused, shell_word};
use crate::cli::client::UNCHANGED;
use crate::cli::diagnostics::DiagnosticStyle;
use crate::cli::probe::{self, ProbeResult};
use crate::cli::{
    CliError, EX_CONFIG, EX_DEAD, EX_NOPERM, EX_SOFTWARE, EX_UNAVAILABLE, eprint_message,
    print_text, unit, warn,
};
use crate::secret::{TokenValue, looks_secret};
use crate::settings::{
    FileChange, Installation, Location, Server, Settings, Source, find_token, name_error,
};
use crate::text::printable;
use crate::token_source::{CONFIG_PREFIX, read};

/// Begins with [`CONFIG_PREFIX`].
const COMMENT: &str = "\
# tokenkeep add wrote this file, and `tokenkeep remove` removes it. Other keys of a token may be
# added: see tokenkeep.toml(5).
";

/// Add a token: store its value, and reload the daemon
///
/// Reads the token from the terminal, without echo, or from standard input. Queries the server once,
/// and writes nothing if the token has expired or was rejected, or the server does not respond. Then
/// writes NAME.token in `state_dir` and conf.d/NAME.toml beside the configuration file.
#[derive(Debug, Args)]
pub(in crate::cli) struct Add {
    /// Name of the token
    #[arg(value_name = "NAME")]
    name: String,
    /// Never pass the token as an argument: it is read from the terminal or standard input
    #[arg(hide = true, value_hint = ValueHint::Other)]
    value: Option<String>,
    /// Its server [default: the only one that is configured]
    #[arg(long, value_name = "SERVER")]
    server: Option<String>,
    /// The `reauth` method that gets a new value when the token has expired
    #[arg(long, value_name = "REAUTH")]
    reauth: Option<String>,
    /// Replace the value of a token that exists
    #[arg(long)]
    replace: bool,
    /// Store the token even if the server rejects it or does not respond
    #[arg(long)]
    force: bool,
}

/// What is to be written.
struct Plan<'a> {
    server: &'a Server,
    /// The token file.
    file: PathBuf,
    /// Path and text of the entry; `None` if it exists and stays as it is.
    entry: Option<(PathBuf, String)>,
}

impl Add {
    /// Runs the command.
    pub(in crate::cli) fn run(
        self,
        installation: &Installation,
        style: DiagnosticStyle,
    ) -> Result<(), CliError> {
        check_home(installation)?;
        self.check_arguments(installation)?;
        let overrides = unit::overrides(installation);
        let loaded = installation.load(unit::environment(&overrides))?;
        let settings = &loaded.settings;
        let state = StateDirectory::find(&settings.state_dir, installation)
            .map_err(|error| CliError::System { doing: "finding `state_dir`", error })?;
        let plan = self.plan(settings, &state, installation, &overrides)?;
        if let Some((path, text)) = &plan.entry {
            let change = FileChange::Write(path, text);
            let mut changed = installation.load_changed(change, unit::environment(&overrides))?;
            let is_ours =
                |place: &Location| matches!(place, Location::Text { file, .. } if file == path);
            changed.warnings.retain(|warning| is_ours(&warning.location));
            warn(&changed.warnings, style);
        }
        self.check_permissions(&plan, &state, installation)?;

        let server = &plan.server;
        let prompt = format!("Token for {} at {} (input is hidden): ", self.name, server.url);
        let value = input::read_token(&printable(&prompt))?;
        if let Some(other) = owner_of(&value, &self.name, settings) {
            return Err(refused(format!(
                "this is the value of {other}; each token needs a value of its own; nothing was \
                 written"
            )));
        }
        let is_stored = self.is_stored(&plan, &value, installation)?;
        self.verify(server, &value)?;
        self.write(&plan, &state, (&value, is_stored), installation)?;
        let unchanged = match plan.entry {
            Some(_) => UNCHANGED,
            None => "the daemon checks the new value, then puts it into service",
        };
        let next = if reload_daemon(installation, &overrides, unchanged)? {
            command_line(installation, &format!("status {}", shell_word(&self.name)))
        } else {
            start_command(installation)
        };
        print_text(&format!("Next: {next}\n"))
    }

    fn check_arguments(&self, installation: &Installation) -> Result<(), CliError> {
        let usage = command_line(installation, "add NAME");
        if self.value.is_some() || looks_secret(&self.name) {
            return Err(CliError::Usage(format!(
                "a token value is not an argument, because other users can read arguments; run \
                 `{usage}`, which asks for it, or `{usage} < FILE`"
            )));
        }
        if self.name.starts_with('-') {
            return Err(CliError::Usage(
                "a name that begins with `-` looks like an option to other commands; choose \
                 another one, like quotes-1"
                    .to_owned(),
            ));
        }
        name_error(&self.name).map_or(Ok(()), |error| {
            Err(CliError::Usage(format!("this token {error}; choose a short name, like quotes-1")))
        })
    }

    /// Decides what is to be written, or why nothing is.
    fn plan<'a>(
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
            let file = state.path.join(format!("{name}.token"));
            let text = self.entry(server, &file, self.reauth.as_deref())?;
            return Ok(Plan { server, file, entry: Some((entry, text)) });
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
        let keep_alive = &token.keep_alive;
        let reauth = self.reauth.as_ref().or(keep_alive.reauth.as_ref());
        let is_changed = reauth != keep_alive.reauth.as_ref()
            || self.server.as_ref().is_some_and(|server| *server != keep_alive.server);
        let file = file.clone();
        if !is_changed {
            let server = settings.servers.iter().find(|server| server.name == keep_alive.server);
            let server = server.ok_or_else(|| refused("the token has no server"))?;
            return Ok(Plan { server, file, entry: None });
        }
        let ours = entry.filter(|entry| {
            let keys = ["file", "reauth", "server"];
            entry.is_alone && entry.keys.iter().all(|key| keys.contains(&key.as_str()))
        });
        let Some(ours) = ours.filter(|entry| entry.file != installation.config()) else {
            return Err(refused(format!(
                "the token {name} is configured by hand{place}; change its server or reauth there"
            )));
        };
        let server = self.server.as_ref().unwrap_or(&keep_alive.server);
        let server = choose_server(Some(server), settings, installation)?;
        let text = self.entry(server, &file, reauth.map(String::as_str))?;
        Ok(Plan { server, file, entry: Some((ours.file, text)) })
    }

    /// The text of the entry.
    fn entry(
        &self,
        server: &Server,
        file: &Path,
        reauth: Option<&str>,
    ) -> Result<String, CliError> {
        #[derive(Serialize)]
        struct Entry<'a> {
            server: &'a str,
            file: &'a Path,
            #[serde(skip_serializing_if = "Option::is_none")]
            reauth: Option<&'a str>,
        }
        let entry = Entry { server: &server.name, file, reauth };
        let tables = BTreeMap::from([("token", BTreeMap::from([(&self.name, entry)]))]);
        let text = toml::to_string(&tables)
            .map_err(|error| CliError::Usage(format!("the entry cannot be written: {error}")))?;
        debug_assert!(COMMENT.starts_with(CONFIG_PREFIX));
        Ok(format!("{COMMENT}{text}"))
    }

    /// The user's command, for a remedy.
    fn command(&self) -> String {
        let mut command = format!("add {}", shell_word(&self.name));
        for (option, value) in [("--server", &self.server), ("--reauth", &self.reauth)] {
            if let Some(value) = value {
                command += &format!(" {option} {}", shell_word(value));
            }
        }
        for (option, is_set) in [("--replace", self.replace), ("--force", self.force)] {
            if is_set {
                command += &format!(" {option}");
            }
        }
        command
    }

    fn check_permissions(
        &self,
        plan: &Plan<'_>,
        state: &StateDirectory,
        installation: &Installation,
    ) -> Result<(), CliError> {
        state.target(&plan.file)?;
        let entry = plan.entry.as_ref().map(|(path, _)| path.as_path());
        for path in [Some(plan.file.as_path()), entry].into_iter().flatten() {
            let folder = path.parent().unwrap_or(Path::new("."));
            let checked = check_writable(folder, installation, &self.command());
            checked.map_err(|error| self.with_state_remedy(error, folder, state, installation))?;
        }
        Ok(())
    }

    /// `error`, with more remedies if a user other than root has chosen a configuration file, and
    /// `folder` is the system's `state_dir`.
    fn with_state_remedy(
        &self,
        error: CliError,
        folder: &Path,
        state: &StateDirectory,
        installation: &Installation,
    ) -> CliError {
        let is_chosen = installation.config() != installation.default_config();
        match error {
            CliError::Failed { mut sentence, status: status @ EX_NOPERM }
                if folder == state.path && is_chosen && !installation.is_user() =>
            {
                sentence += &format!(
                    "; or set `state_dir = \"…\"` in {} to a directory that you can write to; or, \
                     for a service of your own: `tokenkeep --user {}`",
                    installation.config().display(),
                    self.command()
                );
                CliError::Failed { sentence, status }
            }
            error => error,
        }
    }

    /// Whether the token file has this value already. Fails if it has other content, which would be
    /// lost.
    fn is_stored(
        &self,
        plan: &Plan<'_>,
        value: &TokenValue,
        installation: &Installation,
    ) -> Result<bool, CliError> {
        if self.replace || plan.file.symlink_metadata().is_err() {
            return Ok(false);
        }
        let source = Source::File(plan.file.clone());
        if read(&source, &|_| None).is_ok_and(|found| found.value == *value) {
            return Ok(true);
        }
        Err(refused(format!(
            "{} exists with other content, and no token of the configuration uses it; to overwrite \
             it, run `{} --replace`; nothing was written",
            plan.file.display(),
            command_line(installation, &self.command())
        )))
    }

    /// Queries the server about the token.
    fn verify(&self, server: &Server, value: &TokenValue) -> Result<(), CliError> {
        let result = match probe::query(server, value.clone()) {
            // The server could not be queried.
            Err(CliError::Failed { sentence, status }) => Err((sentence, status)),
            result => match result? {
                ProbeResult::Alive(reading) => Ok(probe::alive(&reading, server)),
                ProbeResult::Dead(word, fault) => {
                    let text = probe::error_text(&fault);
                    Err((format!("the token is not valid: {word}: {text}"), EX_DEAD))
                }
                ProbeResult::Misconfigured(fault) => Err((probe::error_text(&fault), EX_CONFIG)),
                ProbeResult::NoAnswer(fault) => Err((probe::error_text(&fault), EX_UNAVAILABLE)),
                ProbeResult::RenewsBy(_)
                | ProbeResult::NothingRenews { .. }
                | ProbeResult::OutOfTime
                | ProbeResult::Undecided => {
                    Err(("the server gave no conclusive response".to_owned(), EX_UNAVAILABLE))
                }
            },
        };
        match result {
            Ok(alive) => print_text(&format!("{}: {alive}\n", self.name)),
            Err((reason, _)) if self.force => {
                eprint_message(&format!("warning: {reason}; stored because of --force"));
                Ok(())
            }
            Err((reason, status)) => {
                let sentence =
                    format!("{reason}; nothing was written (--force stores the token anyway)");
                Err(CliError::Failed { sentence, status })
            }
        }
    }

    fn write(
        &self,
        plan: &Plan<'_>,
        state: &StateDirectory,
        (value, is_stored): (&TokenValue, bool),
        installation: &Installation,
    ) -> Result<(), CliError> {
        let failed = |error| not_written(&error, installation, &self.command());
        if plan.file.parent() == Some(&state.path) {
            state.create().map_err(failed)?;
        }
        if !is_stored {
            // Without --replace, this fails if another process has created the file meanwhile.
            let target = state.target(&plan.file)?;
            state.write_token(&target, value, self.replace).map_err(failed)?;
            print_written(&plan.file)?;
        }
        state.check_readable(&plan.file)?;
        let Some((path, text)) = &plan.entry else { return Ok(()) };
        if let Err(error) = write_config(installation, path, text, self.replace) {
            if !is_stored && !self.replace {
                // The entry exists if only syncing its directory failed.
                if fs::read_to_string(path).is_ok_and(|found| found == *text) {
                    remove_file(path)?;
                }
                remove_file(&plan.file)?;
            }
            return Err(failed(error));
        }
        print_written(path)
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

/// Removes a file that this command wrote.
fn remove_file(path: &Path) -> Result<(), CliError> {
    fs::remove_file(path).map_err(|error| CliError::Failed {
        sentence: format!("{}: removing it failed: {error}", path.display()),
        status: EX_SOFTWARE,
    })
}

/// The error that there is no server or reauth of this name.
fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known = known.collect::<Vec<_>>().join(", ");
    let known = if known.is_empty() { "none".to_owned() } else { known };
    format!("there is no [{kind}.{name}]; configured: {known}")
}
