//! Errors of writing a token value or the state database.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::mount_table::MountTable;
use super::sandbox::hint;
use super::symlinks::parent;
use crate::systemd::sandbox_advice;

/// Maximum time to wait for a disk operation. A disk that hangs must not prevent the next check of
/// a token.
pub(crate) const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// A value could not be written, or persisted state could not be read. Contains no value.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PersistError {
    /// The directory of the file does not exist.
    #[error(
        "{}: there is no such directory; create it, writable by the service's user{}",
        folder.display(),
        hint(folder).unwrap_or_default()
    )]
    NoFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// Permission denied.
    #[error(
        "{}: it is not writable ({error}); check owner and mode{}",
        path.display(),
        sandbox_advice(", and `ReadWritePaths=` and `ProtectSystem=` of the unit")
    )]
    Denied {
        /// The folder or the file.
        path: PathBuf,
        /// The error from the system.
        #[source]
        error: Arc<io::Error>,
    },
    /// The file system is read-only.
    #[error(
        "{}: the file system mounted at {} is read-only ({error}); mount it read-write{}",
        path.display(),
        mount.display(),
        sandbox_advice(", or if the unit's `ProtectSystem=` makes it read-only, add the directory to \
        `ReadWritePaths=`")
    )]
    ReadOnly {
        /// The folder or the file.
        path: PathBuf,
        /// Mount point of its file system.
        mount: PathBuf,
        /// The error from the system.
        #[source]
        error: Arc<io::Error>,
    },
    /// The file is a mount point, so it cannot be replaced.
    #[error(
        "{}: it is a mount point, so it cannot be replaced ({error}); mount its directory instead \
         of the single file (a file in `docker run -v`, or `subPath` in Kubernetes)",
        path.display()
    )]
    MountPoint {
        /// The file.
        path: PathBuf,
        /// The error from the system.
        #[source]
        error: Arc<io::Error>,
    },
    /// The disk is full or a quota is exhausted.
    #[error("{}: the file system is full ({error}); free some space, the write is retried", path.display())]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// The error from the system.
        #[source]
        error: Arc<io::Error>,
    },
    /// The path is not a regular file.
    #[error("{}: it is not a regular file, so it is not replaced; check the path", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file belongs to another user, and the new file cannot be given to that user.
    #[error(
        "{}: it belongs to user {owner}, and a new file cannot get that owner; `chown` it to the \
         service's user",
        path.display()
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// User id of the owner.
        owner: u32,
    },
    /// The group of an `env_file` is unknown, or the new file cannot get it.
    #[error("{}: it cannot get the group {group}: {reason}", path.display())]
    Group {
        /// The file.
        path: PathBuf,
        /// The group, by name or number.
        group: String,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// The file at the path of an `env_file` has another content.
    #[error(
        "{}: it contains something other than one NAME=\"value\" line, so it is not replaced; move it \
         away, or correct `env_file`",
        path.display()
    )]
    NotAnEnvFile {
        /// The file.
        path: PathBuf,
    },
    /// Another daemon uses this state directory.
    #[error(
        "{}: another tokenkeep is using this directory; stop it, or set another `state_dir`",
        path.display()
    )]
    Locked {
        /// The state directory.
        path: PathBuf,
    },
    /// There is no writable state directory.
    #[error("there is no writable state directory; see the warning at the start")]
    NoStateDir,
    /// The database is damaged and was set aside.
    #[error(
        "{}: it is damaged and was renamed to {}; its readable rows are used, and all other tokens \
         are checked; the copy contains token values and is deleted after 7 days",
        path.display(),
        aside.display()
    )]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// Its new path.
        aside: PathBuf,
    },
    /// Another file is at the path of the open database.
    #[error(
        "{}: it was moved or replaced while tokenkeep used it; the current values were written to \
         the file at this path; stop tokenkeep before you move or replace it",
        path.display()
    )]
    Moved {
        /// The path.
        path: PathBuf,
    },
    /// The database has an unknown format or version and was set aside.
    #[error(
        "{}: its version {version} is unknown to this tokenkeep; it was renamed to {}, and all \
         tokens are checked; the copy contains token values and is deleted after 7 days",
        path.display(),
        aside.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its new path.
        aside: PathBuf,
        /// The version in the file.
        version: i32,
    },
    /// Any other error.
    #[error("{}: {doing} failed ({error})", path.display())]
    Failed {
        /// The file or folder.
        path: PathBuf,
        /// The operation, as a noun phrase.
        doing: &'static str,
        /// The error from the system.
        #[source]
        error: Arc<io::Error>,
    },
}

impl PersistError {
    /// Classifies `error`, which occurred at `path` during the operation `doing`.
    pub(crate) fn new(path: impl Into<PathBuf>, doing: &'static str, error: io::Error) -> Self {
        let (path, error) = (path.into(), Arc::new(error));
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied { path, error },
            io::ErrorKind::ReadOnlyFilesystem => {
                let mount = mount_of(&path).unwrap_or_else(|| path.clone());
                Self::ReadOnly { path, mount, error }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoRoom { path, error }
            }
            _ => Self::Failed { path, doing, error },
        }
    }

    /// The operation did not finish within [`DISK_TIMEOUT`]. It may still succeed later.
    pub(crate) fn timed_out(path: impl Into<PathBuf>, doing: &'static str) -> Self {
        let text = format!("the disk did not respond within {} s", DISK_TIMEOUT.as_secs());
        Self::new(path, doing, io::Error::new(io::ErrorKind::TimedOut, text))
    }

    /// The write has waited this long for other writes, and was not begun.
    pub(crate) fn queued(path: impl Into<PathBuf>, waited: Duration) -> Self {
        let text = format!(
            "other `env_file`s are being written, and their disks have not responded for {} s",
            waited.as_secs()
        );
        Self::new(path, "writing", io::Error::new(io::ErrorKind::TimedOut, text))
    }
}

/// Mount point of the file system of `path`, or of its directory if `path` does not exist.
fn mount_of(path: &Path) -> Option<PathBuf> {
    let real = path.canonicalize().or_else(|_| parent(path).canonicalize()).ok()?;
    MountTable::read().ok()?.of(&real).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(kind: io::ErrorKind) -> String {
        PersistError::new("/var/lib/quotes.token", "writing", kind.into()).to_string()
    }

    #[test]
    fn full_disk_and_exhausted_quota_have_their_own_error() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            assert!(sentence(kind).contains("the file system is full"), "{kind}");
        }
        assert!(sentence(io::ErrorKind::Other).contains("writing failed"));
    }

    #[test]
    fn permission_error_names_unit_settings_only_in_a_service() {
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
            let said = sentence(kind);
            assert_eq!(
                said.contains("ReadWritePaths="),
                crate::systemd::is_system_service(),
                "{said}"
            );
        }
    }
}
