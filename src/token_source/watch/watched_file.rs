//! One watched file: its path, symbolic links and last stamp.

use std::path::{Path, PathBuf};

use crate::file::FileStamp;
use crate::token_source::symlinks::chain;

/// A watched file.
#[derive(Debug)]
pub(super) struct WatchedFile {
    /// Its path as configured.
    pub(super) path: PathBuf,
    /// Targets of the symbolic links, step by step; empty for a plain file.
    pub(super) links: Vec<PathBuf>,
    /// Its stamp at the last comparison; `None` if it did not exist.
    pub(super) stamp: Option<FileStamp>,
}

impl WatchedFile {
    /// All paths on the way to the file: a change of any of them can change the file.
    pub(super) fn steps(&self) -> Vec<&Path> {
        std::iter::once(&self.path).chain(&self.links).map(PathBuf::as_path).collect()
    }
}

/// Targets of the symbolic link at `path`, step by step; empty for a plain file.
pub(super) fn links(path: &Path) -> Vec<PathBuf> {
    chain(path).skip(1).collect()
}
