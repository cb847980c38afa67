//! `remove`: removes a token from the configuration, and its file if requested.
//!
//! Order: remove the entry; reload the daemon; delete the token file. While a daemon keeps the token
//! alive, the file stays, so that the daemon does not miss its value.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use super::daemon::{inventory_of, reload_daemon};
use super::files::{check_writable, follow_links, not_written};
use super::other_tokens::inventory_with;
use super::{check_home, command_line, refused, shell_word, sudo};
use crate::cli::client::UNCHANGED;
use crate::cli::diagnostics::DiagnosticStyle;
use crate::cli::{CliError, eprint_message, print_text, unit, warn};
use crate::settings::{
    FileChange, Installation, Settings, Source, TokenEntry, WarningKind, find_token,
};
use crate::token_source::{PersistError, sync_folder};

/// Remove a token from the configuration, and reload the daemon
///
/// Removes the file in conf.d that configures the token and nothing else, as `add` writes it. A token
/// that is configured elsewhere must be removed by hand: the message names the file and the line. The
/// token stays valid at the server; `revoke` ends it.
#[derive(Debug, Args)]
pub(in crate::cli) struct Remove {
    /// Name of the token
    #[arg(value_name = "NAME")]
    name: String,
    /// Delete the token file too
    #[arg(long)]
    delete_token: bool,
}

impl Remove {
    /// Runs the command.
    pub(in crate::cli) fn run(
        self,
        installation: &Installation,
        style: DiagnosticStyle,
    ) -> Result<(), CliError> {
        check_home(installation)?;
        let overrides = unit::overrides(installation);
        let load = || installation.load(unit::environment(&overrides));
        let Some(entry) = find_token(installation.config(), &self.name) else {
            return Err(self.not_found(&load()?.settings, installation, &overrides));
        };
        self.check_alone(&entry, installation)?;
        let change = FileChange::Remove(&entry.file);
        let mut changed = installation.load_changed(change, unit::environment(&overrides))?;
        changed.warnings.retain(|warning| warning.kind == WarningKind::Unused);
        // The entry may be the error in the configuration. The token's file is unknown then.
        let settings = match load() {
            Err(errors) if self.delete_token => return Err(errors.into()),
            loaded => loaded.map_or(changed.settings, |loaded| loaded.settings),
        };
        let files = self.files(&settings);
        if self.delete_token {
            self.check_unshared(&files, &settings)?;
        }
        let deleted = if self.delete_token { &files[..] } else { &[] };
        for path in [&entry.file].into_iter().chain(deleted) {
            let folder = path.parent().unwrap_or(Path::new("."));
            follow_links(folder)?;
            check_writable(folder, installation, &self.command())?;
        }

        self.delete(&entry.file, installation)?;
        warn(&changed.warnings, style);
        if let Err(error) = reload_daemon(installation, &overrides, UNCHANGED) {
            report_rest(&files, installation);
            return Err(error);
        }
        for file in deleted.iter().filter(|file| file.symlink_metadata().is_ok()) {
            self.delete(file, installation)?;
        }
        let rest = if self.delete_token { Vec::new() } else { files };
        let env_file = settings.tokens.iter().find(|token| token.name == self.name);
        let env_file = env_file.and_then(|token| Some(token.env_file.as_ref()?.path.clone()));
        for file in rest.into_iter().chain(env_file).filter(|file| file.exists()) {
            print_text(&format!("the token is still in {}\n", file.display()))?;
        }
        Ok(())
    }

    /// Why there is no entry of the token.
    fn not_found(
        &self,
        settings: &Settings,
        installation: &Installation,
        overrides: &BTreeMap<String, String>,
    ) -> CliError {
        let name = &self.name;
        let place = inventory_with(settings, name).or_else(|| {
            inventory_of(installation, overrides, name)
                .map(|inventory| format!("[inventory.{inventory}]"))
        });
        let status = command_line(installation, "status");
        refused(place.map_or_else(
            || format!("there is no token {name}; `{status}` lists all tokens"),
            |place| format!("the token {name} comes from {place}; remove it there"),
        ))
    }

    /// Checks that the file of the entry defines nothing else.
    fn check_alone(&self, entry: &TokenEntry, installation: &Installation) -> Result<(), CliError> {
        if entry.is_alone && entry.file != installation.config() {
            return Ok(());
        }
        let (name, file, line) = (&self.name, entry.file.display(), entry.line);
        let reload = command_line(installation, "reload --wait");
        Err(refused(format!(
            "the token {name} is configured in {file} line {line}, with other settings in the same \
             file; delete its table [token.{name}] there, then run `{reload}`"
        )))
    }

    /// The files of the token's value and of its refresh token, as far as it has them.
    fn files(&self, settings: &Settings) -> Vec<PathBuf> {
        let token = settings.tokens.iter().find(|token| token.name == self.name);
        let sources =
            token.into_iter().flat_map(|token| [Some(&token.source), token.refresh.as_ref()]);
        let files = sources.flatten().filter_map(|source| match source {
            Source::File(file) => Some(file.clone()),
            Source::Credential(_) | Source::Env(_) => None,
        });
        files.collect()
    }

    /// Checks that no other token uses one of the files.
    fn check_unshared(&self, files: &[PathBuf], settings: &Settings) -> Result<(), CliError> {
        let mut others = settings.tokens.iter().filter(|token| token.name != self.name);
        let shared = others.find_map(|other| match &other.source {
            Source::File(file) if files.contains(file) => Some((&other.name, file)),
            _ => None,
        });
        shared.map_or(Ok(()), |(other, file)| {
            Err(refused(format!(
                "[token.{other}] uses the same file, {}; run this without --delete-token",
                file.display()
            )))
        })
    }

    fn delete(&self, path: &Path, installation: &Installation) -> Result<(), CliError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let removed = fs::remove_file(path)
            .map_err(|error| PersistError::new(path, "removing it", error))
            .and_then(|()| sync_folder(folder));
        removed.map_err(|error| not_written(&error, installation, &self.command()))?;
        print_text(&format!("removed {}\n", path.display()))
    }

    /// The user's command, for a remedy.
    fn command(&self) -> String {
        let option = if self.delete_token { " --delete-token" } else { "" };
        format!("remove {}{option}", shell_word(&self.name))
    }
}

/// Says that the token's files remain because the daemon, which may still use them, was not reloaded.
fn report_rest(files: &[PathBuf], installation: &Installation) {
    for file in files.iter().filter(|file| file.symlink_metadata().is_ok()) {
        let reload = command_line(installation, "reload --wait");
        let sudo = sudo();
        let word = shell_word(&file.to_string_lossy()).into_owned();
        eprint_message(&format!(
            "the token is still in {}, because the daemon was not reloaded; to delete it, run \
             `{reload}`, then `{sudo}rm {word}`",
            file.display()
        ));
    }
}
