//! Where token values come from and where they are kept: files, credentials, the environment.
//!
//! Everything here blocks on the file system, and none of it decides which value counts.
//! No content of a file, and no value, is part of any error.

mod atomic_replace;
mod mount_table;
mod persist_error;
mod read;
mod sandbox;
mod symlinks;
mod temporary_files;
mod watch;

pub use atomic_replace::replace;
pub(crate) use mount_table::is_mount_point;
pub(crate) use persist_error::DISK_TIMEOUT;
pub use persist_error::PersistError;
pub(crate) use read::no_credentials;
pub use read::{
    Found, SourceError, SourceErrorKind, SourceWarning, Variables, describe, read, read_key,
};
pub(crate) use sandbox::hint as sandbox_hint;
pub use temporary_files::remove_stale_temporary_files;
pub use watch::{ChangedNames, InotifyError, Watcher};

/// What the name of every file begins with that is written here and not yet renamed to its
/// final name: whoever watches a folder passes such files by.
pub const TEMPORARY_PREFIX: &str = ".tokenkeep-";
