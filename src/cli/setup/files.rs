//! Creates the files and directories of an installation, with the right owner and mode.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

use nix::unistd::User;
use rustix::fs::{Access, Gid, Uid, access};
use rustix::process::geteuid;
use zeroize::Zeroizing;

use super::bare_command_line;
use crate::cli::doctor::service_user;
use crate::cli::{CliError, EX_NOPERM, EX_SOFTWARE, print_text};
use crate::secret::TokenValue;
use crate::settings::Installation;
use crate::token_source::{PersistError, install, replace};

/// Mode of a configuration file: it contains no secret.
const CONFIG_MODE: u32 = 0o644;
/// Mode of a file that contains a secret.
const SECRET_MODE: u32 = 0o600;
/// Mode of a directory for secrets, and of all directories of a user.
const PRIVATE_DIRECTORY: u32 = 0o700;
const PUBLIC_DIRECTORY: u32 = 0o755;

/// User and group of the service.
type Owner = (Uid, Gid);

/// Where an installation keeps token files, and whom they belong to.
#[derive(Debug)]
pub(super) struct StateDirectory {
    pub(super) path: PathBuf,
    /// `None`: the user of this process.
    owner: Option<Owner>,
    mode_of_parents: u32,
}

impl StateDirectory {
    /// The state directory at `path`, which may not exist yet. Its files belong to the service's
    /// user if this process may change owners.
    pub(super) fn find(path: &Path, installation: &Installation) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let owner = if geteuid().is_root() { owner_of_state(&path, installation) } else { None };
        Ok(Self { path, owner, mode_of_parents: directory_mode(installation) })
    }

    /// Creates the directory if it does not exist.
    pub(super) fn create(&self) -> Result<(), PersistError> {
        if self.path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = self.path.parent() {
            create_directory(parent, self.mode_of_parents)?;
        }
        create_directory(&self.path, PRIVATE_DIRECTORY)?;
        let Some((user, group)) = self.owner else { return Ok(()) };
        lchown(&self.path, Some(user.as_raw()), Some(group.as_raw()))
            .map_err(|error| PersistError::new(&self.path, "setting its owner", error))
    }

    /// Writes `value` into the token file at `path`. In this directory, a symbolic link is replaced
    /// and not followed, because the service's user may have placed it.
    pub(super) fn write_token(
        &self,
        path: &Path,
        value: &TokenValue,
        overwrite: bool,
    ) -> Result<(), PersistError> {
        if path.parent() != Some(&self.path) {
            return replace(path, value);
        }
        let value = value.expose().as_bytes();
        let mut content = Zeroizing::new(Vec::with_capacity(value.len() + 1));
        content.extend_from_slice(value);
        content.push(b'\n');
        install(path, &content, self.owner, SECRET_MODE, overwrite)
    }
}

/// The owner of the state directory at `path`. If it does not exist or is root's, the service's user:
/// systemd gives it to that user when the service starts.
fn owner_of_state(path: &Path, installation: &Installation) -> Option<Owner> {
    let found = fs::metadata(path).ok().filter(|found| found.uid() != 0);
    let found = found.map(|found| (found.uid(), found.gid()));
    let owner = found.or_else(|| match service_user(path, installation)? {
        Ok(User { uid, gid, .. }) => Some((uid.as_raw(), gid.as_raw())),
        Err(_) => None,
    });
    owner.map(|(user, group)| (Uid::from_raw(user), Gid::from_raw(group)))
}

/// Writes a configuration file, and creates its directory if necessary.
pub(super) fn write_config(
    installation: &Installation,
    path: &Path,
    text: &str,
    overwrite: bool,
) -> Result<(), PersistError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        create_directory(folder, directory_mode(installation))?;
    }
    install(path, text.as_bytes(), None, CONFIG_MODE, overwrite)
}

/// Mode of directories without secrets.
const fn directory_mode(installation: &Installation) -> u32 {
    if installation.is_user() { PRIVATE_DIRECTORY } else { PUBLIC_DIRECTORY }
}

/// Creates the directory at `path` and its parents, if they do not exist, whatever the umask is.
fn create_directory(path: &Path, mode: u32) -> Result<(), PersistError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_directory(parent, mode)?;
    }
    let created =
        fs::create_dir(path).and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)));
    created.map_err(|error| PersistError::new(path, "creating it", error))
}

/// Creates the directory of the control socket of a user's own service: `$XDG_RUNTIME_DIR` is empty
/// after each login. If it cannot be created, the daemon reports that it has no socket.
pub(in crate::cli) fn create_socket_directory(socket: &Path, installation: &Installation) {
    if socket == installation.default_socket()
        && let Some(folder) = socket.parent()
    {
        let _ = create_directory(folder, PRIVATE_DIRECTORY);
    }
}

/// Checks that this process may create files in `folder`, which need not exist.
pub(super) fn check_writable(
    folder: &Path,
    installation: &Installation,
    command: &str,
) -> Result<(), CliError> {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let existing = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let checked = access(existing, Access::WRITE_OK | Access::EXEC_OK);
    checked.map_err(|error| {
        let error = PersistError::new(existing, "writing to it", error.into());
        not_written(&error, installation, command)
    })
}

/// The error if a file cannot be written. `command` is the user's command, for the remedy.
pub(super) fn not_written(
    error: &PersistError,
    installation: &Installation,
    command: &str,
) -> CliError {
    let mut sentence = error.to_string();
    if !matches!(error, PersistError::Denied { .. } | PersistError::ReadOnly { .. }) {
        return CliError::Failed { sentence, status: EX_SOFTWARE };
    }
    let may_need_root = matches!(error, PersistError::Denied { .. }) && !installation.is_user();
    if may_need_root && !geteuid().is_root() {
        let line = bare_command_line(installation, command);
        sentence += &format!("; or run `sudo {line}`");
        if installation.config() == installation.default_config() {
            sentence += &format!("; for a service of your own: `tokenkeep --user {command}`");
        }
    }
    CliError::Failed { sentence, status: EX_NOPERM }
}

/// Prints that a file was written.
pub(super) fn print_written(path: &Path) -> Result<(), CliError> {
    print_text(&format!("wrote {}\n", path.display()))
}
