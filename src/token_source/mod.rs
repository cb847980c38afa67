//! Token value sources: files, systemd credentials and environment variables. Also writes values
//! back to files, exports them to `env_file`s, and watches files for changes.
//!
//! All functions block on the file system, and none decides which value counts. Errors never
//! contain a value or the content of a file.

mod atomic_replace;
mod env_file;
mod mount_table;
mod persist_error;
mod read;
mod sandbox;
mod symlinks;
mod temporary_files;
mod watch;

pub use atomic_replace::replace;
pub(crate) use atomic_replace::{install, sync_folder};
pub(crate) use env_file::{ExportedFile, check_env_file, write_env_file};
pub(crate) use mount_table::is_mount_point;
pub(crate) use persist_error::DISK_TIMEOUT;
pub use persist_error::PersistError;
pub(crate) use read::no_credentials;
pub use read::{
    Found, SourceError, SourceErrorKind, SourceWarning, Variables, describe, read, read_key,
    read_line, read_parameter,
};
pub(crate) use sandbox::hint as sandbox_hint;
pub(crate) use temporary_files::CONFIG_PREFIX;
pub use temporary_files::remove_stale_temporary_files;
pub use watch::{ChangedNames, InotifyError, Watcher};

/// Prefix of the temporary files that are created before a rename. Readers of a directory skip
/// files with this prefix.
pub const TEMPORARY_PREFIX: &str = ".tokenkeep-";
