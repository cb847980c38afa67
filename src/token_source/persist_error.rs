//! Why something could not be kept.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::mount_table::MountTable;
use super::sandbox::hint;
use super::symlinks::parent;
use crate::systemd::advice;

/// How long somebody waits for the disk. One that hangs must not keep a token from its next
/// step: it would die for the sake of a write.
pub(crate) const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a value could not be kept, or a kept one not be had. Holds no value.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// The folder that the file is to be in does not exist.
    #[error(
        "{}: there is no such folder; create it, for the service's user to write to{}",
        folder.display(),
        hint(folder).unwrap_or_default()
    )]
    NoFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// The service may not write there.
    #[error(
        "{}: nothing can be written there ({error}); check owner and mode{}",
        path.display(),
        advice(", and `ReadWritePaths=` and `ProtectSystem=` of the unit", "")
    )]
    Denied {
        /// The folder or the file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The file system is read-only.
    #[error(
        "{}: the file system mounted at {} is read-only ({error}); mount it read-write{}",
        path.display(),
        mount.display(),
        advice(", or if the unit's `ProtectSystem=` makes it read-only, add the folder to `ReadWritePaths=`", "")
    )]
    ReadOnly {
        /// The folder or the file.
        path: PathBuf,
        /// Where its file system is mounted.
        mount: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The file itself is a mount point, which cannot be replaced.
    #[error(
        "{}: it is a mount point by itself, so it cannot be replaced ({error}); mount its folder instead of the single file (a file in `docker run -v`, or `subPath` in Kubernetes)",
        path.display()
    )]
    MountPoint {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// There is no room.
    #[error("{}: there is no room for it ({error}); free some, the write is repeated", path.display())]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// What is to be replaced is something else than a regular file.
    #[error("{}: it is not a regular file, so it is not replaced; check the path", path.display())]
    NotAFile {
        /// What stands there.
        path: PathBuf,
    },
    /// The file belongs to somebody else, and the new one cannot be given to them.
    #[error(
        "{}: it belongs to user {owner}, and a new file cannot be given to them; `chown` it to the service's user",
        path.display()
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// The user id that it belongs to.
        owner: u32,
    },
    /// Another daemon keeps its state in this directory.
    #[error(
        "{}: another tokenkeep is using this directory; stop it, or give this one a `state_dir` of its own",
        path.display()
    )]
    Locked {
        /// The state directory.
        path: PathBuf,
    },
    /// There is no state directory to keep it in.
    #[error("there is no state directory that can be written to; see the warning at the start")]
    NoStateDir,
    /// What was kept could not be understood, and was set aside.
    #[error(
        "{}: it is damaged and was set aside as {}; what can be read of it is used, and every other token is asked about; the copy contains token values and is deleted after 7 days",
        path.display(),
        aside.display()
    )]
    Damaged {
        /// The file that was damaged.
        path: PathBuf,
        /// Where it is now.
        aside: PathBuf,
    },
    /// What was kept is not of this program, or of a version of it that is not known here.
    #[error(
        "{}: its version {version} is not one that this tokenkeep knows; it was set aside as {}, and every token is asked about; the copy contains token values and is deleted after 7 days",
        path.display(),
        aside.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Where it is now.
        aside: PathBuf,
        /// The version that it says it has.
        version: i32,
    },
    /// Anything else.
    #[error("{}: {doing} failed ({error})", path.display())]
    Failed {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, as a noun phrase.
        doing: &'static str,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

impl PersistError {
    /// The fault behind `error`, met at `path` while `doing` something.
    pub(crate) fn new(path: impl Into<PathBuf>, doing: &'static str, error: io::Error) -> Self {
        let path = path.into();
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

    /// The disk has not answered within [`DISK_TIMEOUT`]; what was asked of it may yet happen.
    pub(crate) fn timed_out(path: impl Into<PathBuf>, doing: &'static str) -> Self {
        let text = format!("no answer from the disk within {} s", DISK_TIMEOUT.as_secs());
        Self::new(path, doing, io::Error::new(io::ErrorKind::TimedOut, text))
    }

    /// The same fault once more, for another who waits for the same write.
    pub(crate) fn duplicate(&self) -> Self {
        let same = |error: &io::Error| io::Error::new(error.kind(), error.to_string());
        match self {
            Self::NoFolder { folder } => Self::NoFolder { folder: folder.clone() },
            Self::Denied { path, error } => Self::Denied { path: path.clone(), error: same(error) },
            Self::ReadOnly { path, mount, error } => {
                Self::ReadOnly { path: path.clone(), mount: mount.clone(), error: same(error) }
            }
            Self::MountPoint { path, error } => {
                Self::MountPoint { path: path.clone(), error: same(error) }
            }
            Self::NoRoom { path, error } => Self::NoRoom { path: path.clone(), error: same(error) },
            Self::NotAFile { path } => Self::NotAFile { path: path.clone() },
            Self::Owner { path, owner } => Self::Owner { path: path.clone(), owner: *owner },
            Self::Locked { path } => Self::Locked { path: path.clone() },
            Self::NoStateDir => Self::NoStateDir,
            Self::Damaged { path, aside } => {
                Self::Damaged { path: path.clone(), aside: aside.clone() }
            }
            Self::Foreign { path, aside, version } => {
                Self::Foreign { path: path.clone(), aside: aside.clone(), version: *version }
            }
            Self::Failed { path, doing, error } => {
                Self::Failed { path: path.clone(), doing, error: same(error) }
            }
        }
    }
}

/// Where the file system is mounted that `path` is on, or its folder if it does not exist.
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
    fn a_full_disk_and_a_quota_are_told_apart_from_other_faults() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            assert!(sentence(kind).contains("there is no room"), "{kind}");
        }
        assert!(sentence(io::ErrorKind::Other).contains("writing failed"));
    }

    #[test]
    fn a_refused_write_names_the_settings_of_a_unit_to_a_service_only() {
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
            let said = sentence(kind);
            assert_eq!(said.contains("ReadWritePaths="), crate::systemd::is_service(), "{said}");
        }
    }
}
