//! Symbolic links in paths that root writes to: another user must not choose the file.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::Uid;
use rustix::io::Errno;

/// Maximum number of links to follow; the same as in the kernel.
const MAX_LINKS: usize = 40;

/// A path that was not resolved.
#[derive(Debug)]
pub(super) enum LinkError {
    /// The link, or the directory that it is in, belongs to another user.
    Untrusted {
        link: PathBuf,
        target: PathBuf,
    },
    Failed(io::Error),
}

/// Follows all symbolic links in the absolute `path`, those of its directories too. The file need
/// not exist. A link is followed only if it and its directory belong to root or to `trusted`.
pub(super) fn resolve(path: &Path, trusted: Uid) -> Result<PathBuf, LinkError> {
    let is_trusted = |found: &fs::Metadata| [0, trusted.as_raw()].contains(&found.uid());
    let mut rest = parts(path);
    let mut resolved = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if &*part == ".." {
            resolved.pop();
            continue;
        }
        let next = resolved.join(&*part);
        let found = match next.symlink_metadata() {
            Ok(found) if found.is_symlink() => found,
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LinkError::Failed(error));
            }
            Ok(_) | Err(_) => {
                resolved = next;
                continue;
            }
        };
        let target = fs::read_link(&next).map_err(LinkError::Failed)?;
        let folder = fs::metadata(&resolved).map_err(LinkError::Failed)?;
        if !is_trusted(&found) || !is_trusted(&folder) {
            return Err(LinkError::Untrusted { target: resolved.join(target), link: next });
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(LinkError::Failed(Errno::LOOP.into()));
        }
        if target.is_absolute() {
            resolved = PathBuf::from("/");
        }
        rest.extend(parts(&target));
    }
    Ok(resolved)
}

/// The names in `path`, the last one first.
fn parts(path: &Path) -> Vec<Box<OsStr>> {
    let name = |part: Component<'_>| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use rustix::process::geteuid;

    use super::*;

    #[test]
    fn links_of_root_and_the_trusted_user_are_followed_in_every_part_of_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        symlink("a/b/..", root.join("relative")).unwrap();
        symlink(root.join("relative"), root.join("absolute")).unwrap();
        symlink("new", root.join("a/file")).unwrap();
        let resolved = resolve(&root.join("absolute/./file"), geteuid()).unwrap();
        assert_eq!(resolved, root.join("a/new"));
        symlink("cycle", root.join("cycle")).unwrap();
        let error = resolve(&root.join("cycle/file"), geteuid()).unwrap_err();
        assert!(matches!(error, LinkError::Failed(_)), "{error:?}");
    }

    #[test]
    fn a_link_of_another_user_or_in_a_directory_of_another_user_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        symlink("target", root.join("link")).unwrap();
        if !geteuid().is_root() {
            return eprintln!("skipped: only root can be another user");
        }
        let own = root.join("own");
        fs::create_dir(&own).unwrap();
        symlink("target", own.join("link")).unwrap();
        chown(&own, Some(65_534), None).unwrap();
        for path in [own.join("link"), own.join("link/below")] {
            let Err(LinkError::Untrusted { link, target }) = resolve(&path, geteuid()) else {
                panic!("{} was followed", path.display())
            };
            assert_eq!((link, target), (own.join("link"), own.join("target")));
        }
        std::os::unix::fs::lchown(root.join("link"), Some(65_534), None).unwrap();
        assert!(resolve(&root.join("link"), geteuid()).is_err());
        assert!(resolve(&root.join("link"), Uid::from_raw(65_534)).is_ok());
    }
}
