//! The directories and links on the way to a directory, and whether inotify is reliable there.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::statfs;

use crate::token_source::symlinks::MAX_LINKS;

/// File systems that only this kernel changes, by the types of statfs(2). On other file systems,
/// such as NFS, SMB, 9P or FUSE, another machine or process can change a file without an inotify
/// event.
const LOCAL: &[u32] = &[
    0xEF53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683E, // Btrfs
    0x0102_1994, // tmpfs
    0x8584_58F6, // ramfs
    0x794C_7630, // overlayfs
    0x2FC1_2FC1, // ZFS
    0xCA45_1A4E, // bcachefs
    0xF2F5_2010, // F2FS
    0x2405_1905, // UBIFS
    0x72B6,      // JFFS2
    0x3153_464A, // JFS
    0x3434,      // NILFS
    0x5265_4973, // ReiserFS
    0x7371_7368, // SquashFS
    0xE0F5_E1E2, // EROFS
    0x4D44,      // FAT
    0x2011_BAB0, // exFAT
];

/// All steps on the way to a directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Route {
    /// Directories and symbolic links, each once, without the directory itself. If none of them is
    /// moved, removed or mounted over, the path leads to the same directory.
    pub(super) steps: Vec<PathBuf>,
    /// The directory, as a path without symbolic links.
    pub(super) end: PathBuf,
}

impl Route {
    /// Follows `path`; `None` if its symbolic links form a cycle.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let mut rest: VecDeque<OsString> = names(&std::path::absolute(path).ok()?).collect();
        let root = PathBuf::from("/");
        let (mut steps, mut end, mut links) = (vec![root.clone()], root.clone(), 0);
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                end.pop();
                continue;
            }
            let next = end.join(name);
            if let Ok(target) = fs::read_link(&next) {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                if target.is_absolute() {
                    end.clone_from(&root);
                }
                for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                    rest.push_front(name);
                }
            } else {
                end.clone_from(&next);
            }
            if !steps.contains(&next) {
                steps.push(next);
            }
        }
        steps.retain(|step| *step != end);
        Some(Self { steps, end })
    }
}

/// The names in a path, including `..`.
fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// Whether the directory at `path` is on a file system that only this kernel changes.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the types have 32 bits, whatever the size of the field"
)]
fn is_local(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| LOCAL.contains(&(found.f_type as u32)))
}

/// Device and inode.
pub(super) type Identity = (u64, u64);

/// The directory at the end of a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct DirectoryState {
    pub(super) identity: Identity,
    pub(super) is_local: bool,
}

impl DirectoryState {
    /// The directory at `path`; `None` if there is none. Blocks as long as the disk does.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let identity = (metadata.dev(), metadata.ino());
        Some(Self { identity, is_local: is_local(path) })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn route_contains_every_directory_and_link_once_without_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("real/deep")).unwrap();
        symlink("real", root.join("link")).unwrap();
        let route = Route::of(&root.join("link/../link/deep")).unwrap();
        assert_eq!(route.end, root.join("real/deep"));
        let ours: Vec<_> = route.steps.iter().filter(|step| step.starts_with(&root)).collect();
        assert_eq!(ours, [&root, &root.join("link"), &root.join("real")]);
        assert_eq!(route.steps[0], Path::new("/"));
    }

    #[test]
    fn cycle_of_links_has_no_route() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert_eq!(Route::of(&folder.path().join("a/c")), None);
    }

    #[test]
    fn proc_is_not_a_local_file_system() {
        assert!(!is_local(Path::new("/proc")));
        assert!(is_local(Path::new(env!("CARGO_MANIFEST_DIR"))));
    }
}
