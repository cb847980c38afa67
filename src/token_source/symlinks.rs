//! Following symbolic links one at a time: a file is replaced behind them, and watched along them.

use std::fs;
use std::path::{Path, PathBuf};

/// How many symbolic links are followed; as many as the kernel itself follows.
pub(super) const MAX_LINKS: usize = 40;

/// `path`, then what each symbolic link leads to, to the first that is no link or not there.
/// Links that lead in a circle give `MAX_LINKS + 1` paths. A link among the folders of a path
/// is not a step of its own.
pub(super) fn chain(path: &Path) -> impl Iterator<Item = PathBuf> {
    std::iter::successors(Some(path.to_owned()), |path| {
        fs::read_link(path).ok().map(|next| parent(path).join(next))
    })
    .take(MAX_LINKS + 1)
}

/// The folder of `path`; the current one for a bare name.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
