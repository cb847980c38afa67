//! Follows symbolic links step by step, to replace the file at the end and to watch each link.

use std::fs;
use std::path::{Path, PathBuf};

/// Maximum number of links to follow; the same as in the kernel.
pub(super) const MAX_LINKS: usize = 40;

/// `path`, then the target of each symbolic link, up to the first path that is not a link or does
/// not exist. A cycle of links returns `MAX_LINKS + 1` paths. Links among the parent directories of
/// a path are not separate steps.
pub(super) fn chain(path: &Path) -> impl Iterator<Item = PathBuf> {
    std::iter::successors(Some(path.to_owned()), |path| {
        fs::read_link(path).ok().map(|next| parent(path).join(next))
    })
    .take(MAX_LINKS + 1)
}

/// The parent directory of `path`; the current directory for a bare name.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
