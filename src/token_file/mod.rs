//! Where token values come from and where they are kept: files, credentials, the environment.
//!
//! Everything here blocks on the file system, and none of it decides which value counts.
//! No content of a file, and no value, is part of any error.

mod leftovers;
mod links;
mod mounts;
mod replace;
mod sandbox;
mod source;
mod store_fault;
mod watch;

pub use leftovers::remove_leftovers;
pub(crate) use mounts::is_mount_point;
pub use replace::replace;
pub(crate) use sandbox::remark as sandbox_remark;
pub(crate) use source::no_credentials;
pub use source::{
    Found, SourceFault, SourceFaultKind, SourceWarning, Variables, describe, read, read_key,
};
pub(crate) use store_fault::DISK_PATIENCE;
pub use store_fault::StoreFault;
pub use watch::{Shortage, Touched, Watcher};

/// What the name of every file begins with that is written here and not yet renamed to its
/// final name: whoever watches a folder passes such files by.
pub const TEMPORARY_PREFIX: &str = ".tokenkeep-";
