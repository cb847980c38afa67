//! One watched file: where its path leads, and what it looked like.

use std::path::{Path, PathBuf};

use crate::file::FileStamp;
use crate::token_source::symlinks::chain;

/// A file that is watched.
#[derive(Debug)]
pub(super) struct WatchedFile {
    /// Its path as configured.
    pub(super) path: PathBuf,
    /// What symbolic links lead to, step by step; empty for a plain file.
    pub(super) links: Vec<PathBuf>,
    /// What it was when it was last looked at; `None` if it was not there.
    pub(super) stamp: Option<FileStamp>,
}

impl WatchedFile {
    /// Every path whose change changes the file.
    pub(super) fn steps(&self) -> Vec<&Path> {
        std::iter::once(&self.path).chain(&self.links).map(PathBuf::as_path).collect()
    }
}

/// What the link at `path` leads to, step by step; nothing for a plain file.
pub(super) fn links(path: &Path) -> Vec<PathBuf> {
    chain(path).skip(1).collect()
}
