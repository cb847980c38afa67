//! `init`, `add` and `remove`: create the configuration, and add and remove tokens.
//!
//! Nothing is written before everything is known to be right: permissions, the token, and the whole
//! configuration as it will be. Each file is replaced atomically. A token value is never printed.

mod add;
mod daemon;
mod files;
mod init;
mod init_text;
mod input;
mod links;
mod other_tokens;
mod remove;

use std::borrow::Cow;
use std::os::unix::fs::MetadataExt as _;

use rustix::process::geteuid;

pub(super) use self::add::Add;
pub(super) use self::files::create_socket_directory;
pub(super) use self::init::Init;
pub(super) use self::remove::Remove;

use super::doctor::user_name;
use super::{CliError, EX_DEAD, EX_NOPERM};
use crate::settings::Installation;

/// A command that was not carried out: the state of the system does not permit it.
fn refused(sentence: impl Into<String>) -> CliError {
    CliError::Failed { sentence: sentence.into(), status: EX_DEAD }
}

/// Checks that root does not write into the directories of another user, as with a `sudo` that keeps
/// `$HOME`: that user could not change the files.
fn check_home(installation: &Installation) -> Result<(), CliError> {
    if !installation.is_user() || !geteuid().is_root() {
        return Ok(());
    }
    let config = installation.default_config();
    let existing =
        config.ancestors().skip(1).find_map(|folder| Some((folder, folder.metadata().ok()?)));
    let Some((folder, owner)) = existing.filter(|(_, found)| found.uid() != 0) else {
        return Ok(());
    };
    let (folder, owner) = (folder.display(), user_name(owner.uid().into()));
    Err(CliError::Failed {
        sentence: format!(
            "{folder} belongs to {owner}, and this command runs as root: run it as that user, without \
             `sudo`, or for the system's service without --user; nothing was written"
        ),
        status: EX_NOPERM,
    })
}

/// The command line `tokenkeep COMMAND`, as the user must type it for `installation`.
fn command_line(installation: &Installation, command: &str) -> String {
    format!("{}{}", sudo(), bare_command_line(installation, command))
}

/// `sudo ` if this command was started by it.
fn sudo() -> &'static str {
    if std::env::var_os("SUDO_UID").is_some() { "sudo " } else { "" }
}

/// [`command_line`] without `sudo`.
fn bare_command_line(installation: &Installation, command: &str) -> String {
    let mut line = "tokenkeep".to_owned();
    let is_found = !geteuid().is_root() && installation.config().exists();
    if installation.is_user() && !is_found {
        line += " --user";
    }
    if installation.config() != installation.default_config() {
        let config = installation.config().display().to_string();
        line += &format!(" --config {}", shell_word(&config));
    }
    format!("{line} {command}")
}

/// `text` as one word of a shell.
fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.,+%/:@=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.into();
    }
    format!("'{}'", text.replace('\'', r"'\''")).into()
}
