//! The Unix socket: created by the daemon or inherited from systemd (socket activation).

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

use crate::users::gid_of;

/// Mode of the socket file. Every user who can open it may read states.
const SOCKET_MODE: u32 = 0o660;

/// A listening socket. Dropping it removes the file if the daemon created it.
#[derive(Debug)]
pub struct BoundSocket {
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

    /// Whether the path still refers to this socket.
    pub(super) fn exists(&self) -> bool {
        self.id.is_some() && file_id(&self.path) == self.id
    }
}

fn file_id(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    found.file_type().is_socket().then(|| (found.dev(), found.ino()))
}

/// The sockets that systemd passed for `tokenkeep.socket`.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    /// Control sockets.
    pub sockets: Vec<BoundSocket>,
    /// Listeners for dashboard, metrics and health.
    pub listeners: Vec<TcpListener>,
    /// Sentences about passed sockets that cannot be served.
    pub unusable: Vec<String>,
}

/// Reasons why the socket cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process listens on the path.
    #[error("another process listens on {}; give each daemon a control.socket of its own", .0.display())]
    InUse(PathBuf),
    /// The path is another kind of file, which must not be removed.
    #[error("{} exists and is not a socket; set control.socket to another path", .0.display())]
    NotASocket(PathBuf),
    /// The operating system returned an error.
    #[error(
        "{}: {error}; create its directory, or set control.socket to another path",
        path.display()
    )]
    System {
        /// The path of the socket.
        path: PathBuf,
        /// The error.
        #[source]
        error: io::Error,
    },
}

/// Takes the sockets that systemd passed. Must be called before any thread is started, because it
/// removes systemd's variables from the environment.
pub fn inherited() -> InheritedSockets {
    let mut passed = ListenFd::from_env();
    let mut inherited = InheritedSockets::default();
    for index in 0..passed.len() {
        if let Ok(Some(listener)) = passed.take_unix_listener(index)
            && socket_acceptconn(&listener).unwrap_or_default()
        {
            let address = listener.local_addr().ok();
            let path = address.as_ref().and_then(|address| address.as_pathname());
            let file = path.map(|path| SocketFile::new(path, false));
            inherited.sockets.push(BoundSocket { listener, file });
        } else if let Ok(Some(listener)) = passed.take_tcp_listener(index)
            && socket_acceptconn(&listener).unwrap_or_default()
        {
            inherited.listeners.push(listener);
        } else {
            // Close them, so that no reauth command inherits them.
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

/// Creates the socket at `path` atomically, replacing a stale one. Gives it to `group`; if that
/// fails, also returns a warning.
///
/// # Errors
///
/// If another process listens on the path, the path is not a socket, or the system returns an error.
pub fn bind(path: &Path, group: &str) -> Result<(BoundSocket, Option<String>), SocketError> {
    let failed = |error| SocketError::System { path: path.to_owned(), error };
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    for place in [path, &new] {
        let there = fs::symlink_metadata(place);
        if there.is_ok_and(|there| !there.file_type().is_socket()) {
            return Err(SocketError::NotASocket(place.to_owned()));
        }
    }
    if is_listening(path) {
        return Err(SocketError::InUse(path.to_owned()));
    }
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&new).map_err(failed)?;
    let warning = match gid_of(group) {
        None => Some(format!("there is no group {group}; the socket belongs to its owner's group")),
        // The unit's system call filter refuses chown, which is not needed under its Group=.
        Some(gid) if fs::symlink_metadata(&new).map_err(failed)?.gid() == gid => None,
        Some(gid) => chown(&new, None, Some(gid))
            .err()
            .map(|error| format!("the socket cannot be given to the group {group}: {error}")),
    };
    fs::set_permissions(&new, Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)?;
    Ok((BoundSocket { listener, file: Some(SocketFile::new(path, true)) }, warning))
}

/// Whether a process listens on the socket at `path`. Does not block if its backlog is full.
fn is_listening(path: &Path) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let connected = SocketAddrUnix::new(path).and_then(|address| {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &address)
    });
    matches!(connected, Ok(()) | Err(Errno::AGAIN))
}

impl Drop for BoundSocket {
    /// Removes the socket file, unless it was replaced.
    fn drop(&mut self) {
        if let Some(file) = &self.file
            && file.is_own
            && file.exists()
        {
            // The next daemon replaces a stale file.
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
    fn the_socket_is_accessible_to_owner_and_group_and_removed_on_drop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let (bound, _) = bind(&path, "root").unwrap();
        assert_eq!(mode(&path), SOCKET_MODE);
        drop(bound);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_listening_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        let (_bound, _) = bind(&path, "root").unwrap();
        assert!(matches!(bind(&path, "root"), Err(SocketError::InUse(_))));
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn a_file_that_is_not_a_socket_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["quotes.token", "control.sock.new"] {
            let file = folder.path().join(name);
            fs::write(&file, "3f0c1d5e").unwrap();
            let socket = file.with_file_name(name.trim_end_matches(".new"));
            assert!(matches!(bind(&socket, "root"), Err(SocketError::NotASocket(_))), "{name}");
            assert_eq!(fs::read_to_string(&file).unwrap(), "3f0c1d5e");
        }
    }

    #[test]
    fn an_unknown_group_causes_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let (_bound, warning) = bind(&folder.path().join("s"), "no-such-group").unwrap();
        assert!(warning.unwrap().contains("no-such-group"));
    }

    #[test]
    fn the_error_names_a_missing_directory() {
        let error = bind(Path::new("/nonexistent/control.sock"), "root").unwrap_err();
        assert!(error.to_string().contains("/nonexistent/control.sock"), "{error}");
    }
}
