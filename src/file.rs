//! Reads files that other processes write: opens without blocking, and detects changes.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a file for reading. Does not block on a FIFO without a writer, and does not acquire a
/// controlling terminal.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::empty())
}

/// Like [`open`], but fails if `path` is a symbolic link.
pub(crate) fn open_target(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::NOFOLLOW)
}

fn open_with(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | flags).bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(path)
}

/// Identifies the state of a file without reading it. The time of the last status change is
/// included, so that a write that restores the modification time is detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    /// The stamp of the file at `path`; `None` if it does not exist or cannot be seen.
    pub fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().as_ref().map(Self::from)
    }

    /// Whether the content is unchanged since `earlier`. Ignores the time of the status change,
    /// which also changes when another file replaces this one.
    pub(crate) fn is_unwritten_since(&self, earlier: &Self) -> bool {
        Self { changed: earlier.changed, ..*self } == *earlier
    }

    /// The device that the file is on.
    #[cfg(test)]
    pub(crate) const fn device(&self) -> u64 {
        self.device
    }
}

impl From<&Metadata> for FileStamp {
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
