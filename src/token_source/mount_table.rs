//! The mount table of this process, from `/proc/self/mountinfo`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// Path of the mount table. It can be polled for changes.
pub(super) const MOUNT_TABLE: &str = "/proc/self/mountinfo";

/// Whether `path` is a mount point. `path` must be absolute and free of symbolic links.
pub(crate) fn is_mount_point(path: &Path) -> bool {
    MountTable::read().is_ok_and(|mounts| mounts.of(path) == Some(path))
}

/// A snapshot of all mount points.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct MountTable(Vec<PathBuf>);

impl MountTable {
    /// Reads the mount table.
    pub(super) fn read() -> io::Result<Self> {
        Ok(Self::parse(&fs::read(MOUNT_TABLE)?))
    }

    fn parse(table: &[u8]) -> Self {
        // ID, parent ID, device, root, mount point, options, ...
        let point = |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).map(unescape);
        Self(table.split(|byte| *byte == b'\n').filter_map(point).collect())
    }

    /// The mount point of the file system that contains `path`. `path` must be absolute and free of
    /// symbolic links.
    pub(super) fn of(&self, path: &Path) -> Option<&Path> {
        let points = self.0.iter().filter(|point| path.starts_with(point));
        points.max_by_key(|point| point.as_os_str().len()).map(PathBuf::as_path)
    }

    /// The mount points that were added, removed or mounted over between two snapshots.
    pub(super) fn changes(&self, now: &Self) -> BTreeSet<PathBuf> {
        let mut balance = BTreeMap::<&PathBuf, i32>::new();
        self.0.iter().for_each(|point| *balance.entry(point).or_default() -= 1);
        now.0.iter().for_each(|point| *balance.entry(point).or_default() += 1);
        let changed = balance.into_iter().filter(|(_, balance)| *balance != 0);
        changed.map(|(point, _)| point.clone()).collect()
    }

    /// Names of the mount points directly in `folder`.
    pub(super) fn inside(&self, folder: &Path) -> impl Iterator<Item = &OsStr> {
        let points = self.0.iter().filter(move |point| point.parent() == Some(folder));
        points.filter_map(|point| point.file_name())
    }
}

/// Decodes a path of the mount table. The kernel writes white space and backslashes as octal
/// `\ooo`.
fn unescape(text: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let octal = |digits: &[u8]| {
            let digits = str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        };
        let escaped = after.split_at_checked(3).filter(|_| *first == b'\\');
        let escaped = escaped.and_then(|(digits, after)| Some((octal(digits)?, after)));
        let (byte, after) = escaped.unwrap_or((*first, after));
        path.push(byte);
        rest = after;
    }
    OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 27 0:40 / /mnt/with\\040space rw - tmpfs tmpfs rw
32 27 254:0 /host/t /etc/app/quotes.token ro,relatime shared:1 - ext4 /dev/vda rw
";

    #[test]
    fn the_mount_of_a_path_is_the_innermost() {
        let mounts = MountTable::parse(TABLE);
        let of = |path: &str| mounts.of(Path::new(path)).unwrap().to_str().unwrap().to_owned();
        assert_eq!(of("/etc/app/other.token"), "/");
        assert_eq!(of("/etc/app/quotes.token"), "/etc/app/quotes.token");
        assert_eq!(of("/mnt/with space/a"), "/mnt/with space");
        assert_eq!(of("/mnt/with"), "/");
    }

    #[test]
    fn only_mount_points_directly_in_a_folder_are_inside_it() {
        let mounts = MountTable::parse(TABLE);
        let inside = |folder: &str| mounts.inside(Path::new(folder)).collect::<Vec<_>>();
        assert_eq!(inside("/etc/app"), ["quotes.token"]);
        assert_eq!(inside("/etc"), Vec::<&OsStr>::new());
        assert_eq!(inside("/"), ["proc"]);
    }

    #[test]
    fn mount_over_a_mount_point_is_a_change() {
        let before = MountTable::parse(TABLE);
        let now = MountTable::parse(&[TABLE, b"40 27 0:50 / /proc rw - tmpfs tmpfs rw\n"].concat());
        assert_eq!(before.changes(&now), BTreeSet::from([PathBuf::from("/proc")]));
        assert_eq!(now.changes(&before), BTreeSet::from([PathBuf::from("/proc")]));
        assert!(now.changes(&now).is_empty());
    }

    #[test]
    fn the_mount_table_of_this_process_has_a_root() {
        assert_eq!(MountTable::read().unwrap().of(Path::new("/")), Some(Path::new("/")));
    }
}
