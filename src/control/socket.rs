//! The Unix socket: made by the daemon, or handed over by systemd.

use std::fs::{self, Permissions};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use rustix::io::Errno;
use rustix::net::sockopt::socket_acceptconn;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::peer::gid_of;

/// For the owner and the group: whoever may open it may look.
const MODE: u32 = 0o660;

/// A socket that is listened on. One that the daemon has made is removed when this is dropped.
#[derive(Debug)]
pub struct Bound {
    pub(super) listener: UnixListener,
    /// `None` for a socket without a name in the file system.
    pub(super) file: Option<SocketFile>,
}

/// The file of a socket.
#[derive(Debug)]
pub(super) struct SocketFile {
    pub(super) path: PathBuf,
    /// Device and inode; `None` if there was no such file.
    id: Option<(u64, u64)>,
    is_own: bool,
}

impl SocketFile {
    fn new(path: &Path, is_own: bool) -> Self {
        Self { path: path.to_owned(), id: file_id(path), is_own }
    }

    /// Whether the path still leads to this socket.
    pub(super) fn is_there(&self) -> bool {
        self.id.is_some() && file_id(&self.path) == self.id
    }
}

fn file_id(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    found.file_type().is_socket().then(|| (found.dev(), found.ino()))
}

/// The sockets that systemd has handed over for `tokenkeep.socket`.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Control sockets.
    pub sockets: Vec<Bound>,
    /// Listeners for page, metrics and health.
    pub listeners: Vec<TcpListener>,
    /// What else was handed over and cannot be served, in sentences.
    pub unusable: Vec<String>,
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

/// Takes the sockets that systemd has handed over. To be called before there are threads: it
/// removes systemd's variables from the environment.
pub fn inherited() -> Inherited {
    let mut passed = ListenFd::from_env();
    let mut inherited = Inherited::default();
    for index in 0..passed.len() {
        if let Ok(Some(listener)) = passed.take_unix_listener(index)
            && socket_acceptconn(&listener).unwrap_or_default()
        {
            let address = listener.local_addr().ok();
            let path = address.as_ref().and_then(|address| address.as_pathname());
            let file = path.map(|path| SocketFile::new(path, false));
            inherited.sockets.push(Bound { listener, file });
        } else if let Ok(Some(listener)) = passed.take_tcp_listener(index)
            && socket_acceptconn(&listener).unwrap_or_default()
        {
            inherited.listeners.push(listener);
        } else {
            // Closed, so that no re-auth command inherits them.
            drop((passed.take_unix_datagram(index), passed.take_udp_socket(index)));
            let ordinal = index + 1;
            inherited.unusable.push(format!(
                "socket {ordinal} that systemd handed over is neither a listening stream socket in \
                 the file system nor a listening TCP socket; use only ListenStream= and \
                 Accept=no in the socket unit"
            ));
        }
    }
    inherited
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
    if answers(path) {
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
    fs::rename(&new, path).map_err(failed)?;
    Ok((Bound { listener, file: Some(SocketFile::new(path, true)) }, remark))
}

/// Whether a process listens on the socket at `path`. Does not wait where the process is too busy
/// to accept the connection.
fn answers(path: &Path) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let connected = SocketAddrUnix::new(path).and_then(|address| {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &address)
    });
    matches!(connected, Ok(()) | Err(Errno::AGAIN))
}

impl Drop for Bound {
    /// Removes the socket, unless another one is there by now.
    fn drop(&mut self) {
        if let Some(file) = &self.file
            && file.is_own
            && file.is_there()
        {
            // What is left of it is replaced by the next one.
            let _ = fs::remove_file(&file.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

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
