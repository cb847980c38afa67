//! The Unix socket: made by the daemon, or handed over by systemd.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;

use super::peer::gid_of;

/// For the owner and the group: whoever may open it may look.
const MODE: u32 = 0o660;

/// A socket that is listened on. One that the daemon has made goes with it.
#[derive(Debug)]
pub struct Bound {
    pub(super) listener: UnixListener,
    path: Option<(PathBuf, u64)>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketFault {
    /// Somebody else answers there.
    #[error("another process listens on {}; give each daemon a control.socket of its own", .0.display())]
    Taken(PathBuf),
    /// Something else is there, which nobody may lose.
    #[error("{} is there and is no socket; name another place in control.socket", .0.display())]
    NoSocket(PathBuf),
    /// The system refuses it.
    #[error(
        "{}: {error}; make its folder, or name another place in control.socket",
        path.display()
    )]
    System {
        /// Where it was to be.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

/// The socket that systemd has opened for `tokenkeep.socket`, if it has. To be called before
/// there are threads: it takes systemd's words out of the environment.
pub fn inherited() -> Option<Bound> {
    let mut passed = ListenFd::from_env();
    let found = (0..passed.len()).find_map(|index| passed.take_unix_listener(index).ok()?);
    found.map(|listener| Bound { listener, path: None })
}

/// Makes the socket at `path`, in one step and in the place of one that nobody answers on any
/// more. It belongs to `group` where there is one; else that is told beside it.
///
/// # Errors
///
/// When somebody else listens there, or the system refuses it.
pub fn bind(path: &Path, group: &str) -> Result<(Bound, Option<String>), SocketFault> {
    let failed = |error| SocketFault::System { path: path.to_owned(), error };
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    for place in [path, &new] {
        let there = fs::symlink_metadata(place);
        if there.is_ok_and(|there| !there.file_type().is_socket()) {
            return Err(SocketFault::NoSocket(place.to_owned()));
        }
    }
    if UnixStream::connect(path).is_ok() {
        return Err(SocketFault::Taken(path.to_owned()));
    }
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&new).map_err(failed)?;
    let remark = match gid_of(group) {
        None => Some(format!("there is no group {group}: the socket is for its owner's group")),
        // The unit's system call filter refuses chown, which is not needed under its Group=.
        Some(gid) if fs::symlink_metadata(&new).map_err(failed)?.gid() == gid => None,
        Some(gid) => chown(&new, None, Some(gid))
            .err()
            .map(|error| format!("the socket cannot be given to the group {group}: {error}")),
    };
    fs::set_permissions(&new, Permissions::from_mode(MODE)).map_err(failed)?;
    let inode = fs::metadata(&new).map_err(failed)?.ino();
    fs::rename(&new, path).map_err(failed)?;
    Ok((Bound { listener, path: Some((path.to_owned(), inode)) }, remark))
}

impl Drop for Bound {
    /// Removes the socket, unless another daemon's is there by now.
    fn drop(&mut self) {
        if let Some((path, inode)) = &self.path
            && fs::metadata(path).is_ok_and(|there| there.ino() == *inode)
        {
            // What is left of it is replaced by the next one.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_socket_is_for_owner_and_group_and_goes_with_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let (bound, _) = bind(&path, "root").unwrap();
        assert_eq!(mode(&path), MODE);
        drop(bound);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_that_nobody_answers_on_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        let (_bound, _) = bind(&path, "root").unwrap();
        assert!(matches!(bind(&path, "root"), Err(SocketFault::Taken(_))));
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["quotes.token", "control.sock.new"] {
            let file = folder.path().join(name);
            fs::write(&file, "3f0c1d5e").unwrap();
            let socket = file.with_file_name(name.trim_end_matches(".new"));
            assert!(matches!(bind(&socket, "root"), Err(SocketFault::NoSocket(_))), "{name}");
            assert_eq!(fs::read_to_string(&file).unwrap(), "3f0c1d5e");
        }
    }

    #[test]
    fn a_group_that_is_not_there_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let (_bound, remark) = bind(&folder.path().join("s"), "no-such-group").unwrap();
        assert!(remark.unwrap().contains("no-such-group"));
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let fault = bind(Path::new("/nonexistent/control.sock"), "root").unwrap_err();
        assert!(fault.to_string().contains("/nonexistent/control.sock"), "{fault}");
    }
}
