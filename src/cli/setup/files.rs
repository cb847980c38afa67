//! Creates the files and directories of an installation, with the right owner and mode.

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Component, Path, PathBuf};
use std::thread;

use nix::unistd::{User, getgrouplist};
use rustix::fs::{Access, Gid, Uid, access};
use rustix::process::{getegid, geteuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
use zeroize::Zeroizing;

use super::links::{LinkError, resolve};
use super::{bare_command_line, refused, shell_word};
use crate::cli::doctor::{service_user, user_name};
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

    /// Where the token file at `path` is written.
    ///
    /// For root, a symbolic link that another user may have placed is an error, because it could
    /// direct the write to any file. Exception: in this directory and below it, the link is replaced
    /// if it is the file itself.
    pub(super) fn target(&self, path: &Path) -> Result<Target, CliError> {
        let failed = |error| CliError::System { doing: "finding the token file", error };
        let path = std::path::absolute(path).map_err(failed)?;
        let replaces_link = self.contains(&path);
        let path = match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) if replaces_link => follow_links(folder)?.join(name),
            _ => follow_links(&path)?,
        };
        Ok(Target { path, replaces_link })
    }

    /// Whether the absolute `path` is below this directory.
    fn contains(&self, path: &Path) -> bool {
        path.starts_with(&self.path) && path.components().all(|part| part != Component::ParentDir)
    }

    /// Writes `value` into the token file at `target`. An existing file keeps its group and mode. A
    /// new one belongs to the service's user.
    pub(super) fn write_token(
        &self,
        target: &Target,
        value: &TokenValue,
        overwrite: bool,
    ) -> Result<(), PersistError> {
        let Target { path, replaces_link } = target;
        let old = path.symlink_metadata().ok();
        if !replaces_link && (old.is_some() || self.owner.is_none()) {
            return replace(path, value);
        }
        let value = value.expose().as_bytes();
        let mut content = Zeroizing::new(Vec::with_capacity(value.len() + 1));
        content.extend_from_slice(value);
        content.push(b'\n');
        let owner = self.owner.unwrap_or_else(|| (geteuid(), getegid()));
        // Only root may give a file to any group.
        let kept = old.filter(|old| {
            let keeps_group = self.owner.is_some() || old.gid() == owner.1.as_raw();
            old.is_file() && old.uid() == owner.0.as_raw() && keeps_group
        });
        let (group, mode) = kept
            .map_or((owner.1, SECRET_MODE), |old| (Gid::from_raw(old.gid()), old.mode() & 0o777));
        let owner = self.owner.map(|(user, _)| (user, group));
        install(path, &content, owner, mode, overwrite)
    }

    /// Checks that the service's user can read the token file at `path`, if this process is root.
    pub(super) fn check_readable(&self, path: &Path) -> Result<(), CliError> {
        let Some(owner) = self.owner.filter(|(user, _)| !user.is_root()) else { return Ok(()) };
        // systemd gives the state directory to the service's user when the service starts.
        let is_given_later = self.contains(path)
            && fs::metadata(&self.path).is_ok_and(|directory| directory.uid() == 0);
        if is_given_later {
            return Ok(());
        }
        let Some(Err(error)) = open_as(owner, path) else { return Ok(()) };
        let (user, uid) = (user_name(owner.0.as_raw().into()), owner.0.as_raw());
        let file = path.display();
        let word = shell_word(&file.to_string()).into_owned();
        Err(CliError::Failed {
            sentence: format!(
                "{file}: the service's user, {user}, cannot read the token: {error}; run `chown \
                 {uid} {word}` and let that user enter its directories, then repeat this command"
            ),
            status: EX_NOPERM,
        })
    }
}

/// For root, `path` with all symbolic links followed, which only root may control; for other users,
/// `path` as it is.
pub(super) fn follow_links(path: &Path) -> Result<PathBuf, CliError> {
    if !geteuid().is_root() {
        return Ok(path.to_owned());
    }
    // The parent of a bare name is an empty path.
    let resolved = std::path::absolute(Path::new(".").join(path))
        .map_err(LinkError::Failed)
        .and_then(|path| resolve(&path, geteuid()));
    resolved.map_err(|error| match error {
        LinkError::Untrusted { link, target } => refused(format!(
            "{} is a symbolic link to {}, and a user other than root controls it, so root does not \
             follow it; set `file` of the token to the target, or run this command as that user; \
             nothing was changed",
            link.display(),
            target.display()
        )),
        LinkError::Failed(error) => CliError::System { doing: "following symbolic links", error },
    })
}

/// Opens the file at `path` for reading as a user other than that of this process. `None` if this
/// process cannot act as that user.
fn open_as((user, group): Owner, path: &Path) -> Option<io::Result<()>> {
    let name = User::from_uid(user.as_raw().into()).ok().flatten();
    let name = name.and_then(|user| CString::new(user.name).ok());
    let groups = name.and_then(|name| getgrouplist(&name, group.as_raw().into()).ok());
    let groups = groups.unwrap_or_default().into_iter().map(|group| Gid::from_raw(group.as_raw()));
    let groups = groups.collect::<Vec<_>>();
    let open = || {
        // On Linux, these change the thread and not the process.
        set_thread_groups(&groups).ok()?;
        set_thread_gid(group).ok()?;
        set_thread_uid(user).ok()?;
        Some(File::open(path).map(drop))
    };
    thread::scope(|scope| scope.spawn(open).join().ok().flatten())
}

/// Where a token file is written.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    /// Whether a symbolic link at `path` is replaced, and not followed.
    replaces_link: bool,
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
