//! `add`: stores a token and adds it to the configuration.
//!
//! Order: plan and validate; read the token; query the server once; write the token file or that of
//! the refresh token, then the entry; reload the daemon. If this process is killed between the two
//! writes, a token file without an entry remains, and `add` can be repeated.

mod plan;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};

use self::plan::Plan;
use super::daemon::{reload_daemon, start_command};
use super::files::{StateDirectory, check_writable, not_written, print_written, write_config};
use super::other_tokens::owner_of;
use super::{check_home, command_line, input, refused, shell_word};
use crate::cli::client::UNCHANGED;
use crate::cli::diagnostics::DiagnosticStyle;
use crate::cli::probe::{self, ProbeResult};
use crate::cli::{
    CliError, EX_CONFIG, EX_DEAD, EX_NOPERM, EX_SOFTWARE, EX_UNAVAILABLE, eprint_message,
    print_text, unit, warn,
};
use crate::secret::{TokenValue, looks_secret};
use crate::settings::{FileChange, Installation, Location, Server, Source, name_error};
use crate::text::printable;
use crate::token_source::read;

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
    /// File with the refresh token that the daemon renews the token with. It is copied to
    /// NAME.refresh in `state_dir`. The token itself is not read: the first renewal gets a value. The
    /// refresh token is the daemon's from then on, and nothing else may use it
    #[arg(long, value_name = "PATH", conflicts_with = "no_value")]
    refresh_file: Option<PathBuf>,
    /// Do not read the token: the `reauth` method gets the first value
    #[arg(long)]
    no_value: bool,
    /// Replace the value of a token that exists
    #[arg(long)]
    replace: bool,
    /// Store the token even if the server rejects it or does not respond
    #[arg(long)]
    force: bool,
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

        let secret = self.read_secret(&plan)?;
        if let Some(secret) = &secret {
            if let Some(other) = owner_of(&secret.value, &self.name, settings) {
                return Err(refused(format!(
                    "this is the value of {other}; each token needs a value of its own; nothing was \
                     written"
                )));
            }
            self.check_file(secret, installation)?;
            if secret.is_token {
                self.verify(plan.server, &secret.value)?;
            }
        }
        self.write(&plan, &state, secret.as_ref(), installation)?;
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

    /// Reads the token or the refresh token; `None` if neither is wanted.
    fn read_secret<'p>(&self, plan: &'p Plan<'_>) -> Result<Option<Secret<'p>>, CliError> {
        if let (Some(given), Some(file)) = (&self.refresh_file, &plan.refresh) {
            let found = read(&Source::File(given.clone()), &|_| None).map_err(|error| {
                CliError::Failed {
                    sentence: format!("--refresh-file: {error}; nothing was written"),
                    status: EX_CONFIG,
                }
            })?;
            return Ok(Some(Secret::of(file, found.value, false)));
        }
        if self.no_value {
            return Ok(None);
        }
        let (name, url) = (&self.name, &plan.server.url);
        let value = input::read_token(&printable(&format!(
            "Token for {name} at {url} (input is hidden): "
        )))?;
        Ok(Some(Secret::of(&plan.file, value, true)))
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

    /// The user's command, for a remedy.
    fn command(&self) -> String {
        let mut command = format!("add {}", shell_word(&self.name));
        let refresh_file = self.refresh_file.as_ref().map(|path| path.display().to_string());
        for (option, value) in [
            ("--server", &self.server),
            ("--reauth", &self.reauth),
            ("--refresh-file", &refresh_file),
        ] {
            if let Some(value) = value {
                command += &format!(" {option} {}", shell_word(value));
            }
        }
        for (option, is_set) in
            [("--no-value", self.no_value), ("--replace", self.replace), ("--force", self.force)]
        {
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
        let refresh = plan.refresh.as_deref().filter(|_| self.refresh_file.is_some());
        if let Some(refresh) = refresh {
            state.target(refresh)?;
        }
        let entry = plan.entry.as_ref().map(|(path, _)| path.as_path());
        for path in [Some(plan.file.as_path()), refresh, entry].into_iter().flatten() {
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

    /// Notes whether the file has this value already. Fails if it has other content, which would be
    /// lost.
    fn check_file(&self, secret: &Secret<'_>, installation: &Installation) -> Result<(), CliError> {
        if self.replace || secret.file.symlink_metadata().is_err() || secret.is_stored() {
            return Ok(());
        }
        Err(refused(format!(
            "{} exists with other content, and no token of the configuration uses it; to overwrite \
             it, run `{} --replace`; nothing was written",
            secret.file.display(),
            command_line(installation, &self.command())
        )))
    }

    /// Queries the server about the token.
    fn verify(&self, server: &Server, value: &TokenValue) -> Result<(), CliError> {
        if let Some(profile) = server.profile.as_ref().filter(|profile| profile.query.is_none()) {
            eprint_message(&format!(
                "the token is stored without a check, because profile {} has no `query`",
                profile.name
            ));
            return Ok(());
        }
        if let Some(name) = unit::parameter_of_service(server) {
            eprint_message(&format!(
                "the token is stored without a check, because only the service has the value of \
                 `with.{name}` of [server.{}]",
                server.name
            ));
            return Ok(());
        }
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
        secret: Option<&Secret<'_>>,
        installation: &Installation,
    ) -> Result<(), CliError> {
        let failed = |error| not_written(&error, installation, &self.command());
        let new = secret.filter(|secret| self.replace || !secret.is_stored());
        if let Some(Secret { file, value, .. }) = new {
            if file.parent() == Some(&state.path) {
                state.create().map_err(failed)?;
            }
            // Without --replace, this fails if another process has created the file meanwhile.
            let target = state.target(file)?;
            state.write_token(&target, value, self.replace).map_err(failed)?;
            print_written(file)?;
        }
        if let Some(secret) = secret {
            state.check_readable(secret.file)?;
        }
        let Some((path, text)) = &plan.entry else { return Ok(()) };
        if let Err(error) = write_config(installation, path, text, self.replace) {
            if let Some(new) = new.filter(|_| !self.replace) {
                // The entry exists if only syncing its directory failed.
                if fs::read_to_string(path).is_ok_and(|found| found == *text) {
                    remove_file(path)?;
                }
                remove_file(new.file)?;
            }
            return Err(failed(error));
        }
        print_written(path)
    }
}

/// The token or the refresh token that is to be stored.
struct Secret<'a> {
    file: &'a Path,
    value: TokenValue,
    /// Whether it is the token itself.
    is_token: bool,
}

impl<'a> Secret<'a> {
    const fn of(file: &'a Path, value: TokenValue, is_token: bool) -> Self {
        Self { file, value, is_token }
    }

    /// Whether the file has this value already.
    fn is_stored(&self) -> bool {
        let source = Source::File(self.file.to_owned());
        read(&source, &|_| None).is_ok_and(|found| found.value == self.value)
    }
}

/// Removes a file that this command wrote.
fn remove_file(path: &Path) -> Result<(), CliError> {
    fs::remove_file(path).map_err(|error| CliError::Failed {
        sentence: format!("{}: removing it failed: {error}", path.display()),
        status: EX_SOFTWARE,
    })
}
