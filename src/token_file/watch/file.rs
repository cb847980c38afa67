//! One watched file: where its path leads, and what it looked like.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::token_file::links::chain;

/// A file that is watched.
#[derive(Debug)]
pub(super) struct Watched {
    /// Its path as configured.
    pub(super) path: PathBuf,
    /// What symbolic links lead to, step by step; empty for a plain file.
    pub(super) links: Vec<PathBuf>,
    /// What it was when it was last looked at; `None` if it was not there.
    pub(super) stamp: Option<Stamp>,
}

/// What tells one state of a file from another, cheaply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Watched {
    /// Every path whose change changes the file.
    pub(super) fn steps(&self) -> Vec<&Path> {
        std::iter::once(&self.path).chain(&self.links).map(PathBuf::as_path).collect()
    }
}

impl Stamp {
    /// The stamp of the file at `path`; `None` if there is none, or none to be seen.
    pub(super) fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().as_ref().map(Self::from)
    }

    /// The device that the file is on.
    #[cfg(test)]
    pub(super) fn device(&self) -> u64 {
        self.device
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What the link at `path` leads to, step by step; nothing for a plain file.
pub(super) fn links(path: &Path) -> Vec<PathBuf> {
    chain(path).skip(1).collect()
}
