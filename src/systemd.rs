//! Notifies systemd: readiness, reloads, status line, watchdog. This is the protocol only: what the
//! status line says, and when the watchdog is pinged, is in `daemon::service_manager`.
//!
//! Without `NOTIFY_SOCKET`, all functions succeed and do nothing. The variable is never removed,
//! because that is unsound with several threads. Commands start with an empty environment, so they
//! cannot send notifications.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::fstat;
use sd_notify::NotifyState;

use crate::text::printable;

/// The socket to systemd, if [`connect`] opened it.
static SOCKET: OnceLock<UnixDatagram> = OnceLock::new();

/// Whether a [`ready`] was dropped and not sent since.
static READY_DROPPED: AtomicBool = AtomicBool::new(false);

/// Opens the socket to systemd, so that notifications need no free descriptor later. Without it,
/// each notification opens a socket.
pub fn connect() {
    if let Ok(Some(socket)) = open() {
        // Already set if this is called twice.
        let _ = SOCKET.set(socket);
    }
}

/// Opens the socket in `NOTIFY_SOCKET`; `None` without the variable. Sends never wait: if systemd
/// does not read, they would stop the main loop, and with it all checks.
fn open() -> io::Result<Option<UnixDatagram>> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(None) };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(&path)?,
    }
    Ok(Some(socket))
}

/// Sends one message, or drops it with [`io::ErrorKind::WouldBlock`] if systemd does not read.
fn send(state: &[NotifyState<'_>]) -> io::Result<()> {
    let message =
        state.iter().fold(String::new(), |message, state| message + &format!("{state}\n"));
    let sent = SOCKET.get().map(|socket| socket.send(message.as_bytes()));
    match sent {
        Some(Ok(_)) => return Ok(()),
        Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
        // A restarted manager listens on another socket under the same name.
        Some(Err(_)) | None => {}
    }
    match open()? {
        Some(socket) => socket.send(message.as_bytes()).map(drop),
        None => Ok(()),
    }
}

/// `READY=1` with a status line: the configuration is valid and the first checks have started. Also
/// ends [`reloading`].
///
/// # Errors
///
/// See [`stopping`].
pub fn ready(status: &str) -> io::Result<()> {
    let sent = send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    let is_dropped = sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    READY_DROPPED.store(is_dropped, Ordering::Relaxed);
    sent
}

/// Sends `state`, after a `READY=1` that was dropped: without it systemd would end the daemon.
fn send_behind_ready(state: NotifyState<'_>) -> io::Result<()> {
    if READY_DROPPED.load(Ordering::Relaxed) {
        send(&[NotifyState::Ready])?;
        READY_DROPPED.store(false, Ordering::Relaxed);
    }
    send(&[state])
}

/// `RELOADING=1`: a reload begins. [`ready`] ends it, whether the reload succeeded or not.
///
/// # Errors
///
/// See [`stopping`].
pub fn reloading() -> io::Result<()> {
    READY_DROPPED.store(false, Ordering::Relaxed);
    // systemd 253 and later require the time, to distinguish reloads.
    send(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
}

/// `STATUS=`: one line for `systemctl status`.
///
/// # Errors
///
/// See [`stopping`].
pub fn status(line: &str) -> io::Result<()> {
    send_behind_ready(NotifyState::Status(&one_line(line)))
}

/// `STOPPING=1`: the daemon is shutting down.
///
/// # Errors
///
/// The socket in `NOTIFY_SOCKET` is not reachable, or systemd does not read it: the notification is
/// dropped. Callers can ignore this: a [`ready`] that was dropped is sent again before the next
/// [`status`] or [`watchdog`], and systemd handles other missing ones.
pub fn stopping() -> io::Result<()> {
    send(&[NotifyState::Stopping])
}

/// `WATCHDOG=1`: the main loop is running. Must be called from the main loop.
///
/// # Errors
///
/// See [`stopping`].
pub fn watchdog() -> io::Result<()> {
    send_behind_ready(NotifyState::Watchdog)
}

/// Interval for [`watchdog`]: half of `WatchdogSec`, as systemd recommends; `None` without a
/// watchdog.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// `EXTEND_TIMEOUT_USEC=`: startup or shutdown takes up to `by` from now on. The maximum is about
/// 71 minutes.
///
/// # Errors
///
/// See [`stopping`].
pub fn extend_timeout(by: Duration) -> io::Result<()> {
    let micros = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
    send(&[NotifyState::ExtendTimeoutUsec(micros)])
}

/// Whether standard output is connected to the journal: whether `journal_stream`, the value of
/// `$JOURNAL_STREAM`, identifies the file of standard output.
///
/// The variable alone is no proof, because processes that a user starts from a service inherit it.
pub fn stdout_is_journal(journal_stream: &str) -> bool {
    fstat(io::stdout())
        .is_ok_and(|stdout| journal_stream == format!("{}:{}", stdout.st_dev, stdout.st_ino))
}

/// Whether systemd runs this process as a service, so that remedies can refer to the unit.
///
/// `$INVOCATION_ID` alone is no proof: a desktop terminal passes on its own. Such a process is in
/// the control group of a scope.
pub fn is_service() -> bool {
    static IS_SERVICE: OnceLock<bool> = OnceLock::new();
    *IS_SERVICE.get_or_init(|| {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        std::env::var_os("INVOCATION_ID").is_some() && !is_in_scope(&groups)
    })
}

/// Whether the system's manager runs this process as a service, whose sandbox may hide directories. A
/// user's manager, which sets `$MANAGERPID`, cannot hide any in the shipped unit.
pub(crate) fn is_system_service() -> bool {
    is_service() && std::env::var_os("MANAGERPID").is_none()
}

/// Whether a process with these lines in `/proc/PID/cgroup` belongs to a scope: a login session,
/// or a program that a desktop has started.
fn is_in_scope(groups: &str) -> bool {
    groups.lines().any(|line| {
        let is_systemd = line.starts_with("0::") || line.contains(":name=systemd:");
        is_systemd && line.rsplit_once('.').is_some_and(|(_, kind)| kind == "scope")
    })
}

/// Returns `remedy` in a systemd service, `otherwise` in other processes.
pub(crate) fn advice<'a>(remedy: &'a str, otherwise: &'a str) -> &'a str {
    if is_service() { remedy } else { otherwise }
}

/// Returns `remedy` in a service of the system, where a directory may be hidden or read-only.
pub(crate) fn sandbox_advice(remedy: &'static str) -> &'static str {
    if is_system_service() { remedy } else { "" }
}

/// `text` on one line. Text after a line break would be another assignment.
fn one_line(text: &str) -> String {
    printable(&text.replace(char::is_control, " ")).into_owned()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Sends all notifications. Does nothing unless the test below has set the socket.
    #[test]
    fn all_notifications_succeed_with_or_without_a_socket() {
        ready("4 tokens").unwrap();
        reloading().unwrap();
        status("one\nREADY=1").unwrap();
        extend_timeout(Duration::from_millis(1500)).unwrap();
        extend_timeout(Duration::MAX).unwrap();
        watchdog().unwrap();
        stopping().unwrap();
    }

    #[test]
    fn notifications_have_the_format_of_systemd() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        // A child process sends, so that the environment of this process is unchanged.
        let speaker = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "systemd::tests::all_notifications_succeed_with_or_without_a_socket"])
            .env("NOTIFY_SOCKET", &path)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(speaker.success());

        socket.set_nonblocking(true).unwrap();
        let mut said = Vec::new();
        let mut message = [0; 512];
        while let Ok(length) = socket.recv(&mut message) {
            said.push(String::from_utf8_lossy(&message[..length]).into_owned());
        }
        let instant = said[1].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(instant.trim().parse::<u64>().is_ok(), "{instant}");
        said.remove(1);
        assert_eq!(
            said,
            [
                "READY=1\nSTATUS=4 tokens\n",
                "STATUS=one READY=1\n",
                "EXTEND_TIMEOUT_USEC=1500000\n",
                "EXTEND_TIMEOUT_USEC=4294967295\n",
                "WATCHDOG=1\n",
                "STOPPING=1\n",
            ]
        );
    }

    #[test]
    fn stdout_is_the_journal_if_device_and_inode_match() {
        let stdout = fstat(io::stdout()).unwrap();
        let (device, inode) = (stdout.st_dev, stdout.st_ino);
        assert!(stdout_is_journal(&format!("{device}:{inode}")));
        assert!(!stdout_is_journal(&format!("{device}:{}", inode + 1)));
    }

    #[test]
    fn process_of_a_login_session_or_a_desktop_is_in_a_scope() {
        for (groups, expected) in [
            ("0::/system.slice/tokenkeep.service\n", false),
            ("0::/user.slice/user-1000.slice/session-2.scope\n", true),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte-1.scope\n", true),
            ("4:memory:/a.scope\n1:name=systemd:/system.slice/tokenkeep.service\n", false),
            ("1:name=systemd:/user.slice/session-2.scope\n0::/\n", true),
            ("0::/\n", false),
            ("", false),
        ] {
            assert_eq!(is_in_scope(groups), expected, "{groups}");
        }
    }

    #[test]
    fn missing_or_invalid_variable_names_no_journal() {
        for text in ["", "8", "a:b", "1:2:3"] {
            assert!(!stdout_is_journal(text), "{text:?}");
        }
    }
}
