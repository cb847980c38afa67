//! What is said to systemd: readiness, reloads, a status line, the watchdog's pings.
//!
//! Without `NOTIFY_SOCKET` everything here does nothing and succeeds. The variable is never
//! taken out of the environment (that is unsound once there are threads); hooks start from an
//! empty environment and so cannot speak for the daemon.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::fstat;
use sd_notify::{NotifyState, notify};

use crate::text::printable;

/// The socket to systemd, if it was opened at the start.
static SOCKET: OnceLock<UnixDatagram> = OnceLock::new();

/// Opens the socket to systemd, so that a message needs no free descriptor later. Without this, or
/// where it fails, a socket is opened for each message.
pub fn connect() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let connected = UnixDatagram::unbound().and_then(|socket| {
        match path.as_bytes().strip_prefix(b"@") {
            Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
            None => socket.connect(&path)?,
        }
        Ok(socket)
    });
    if let Ok(socket) = connected {
        // It is there already if this is called twice.
        let _ = SOCKET.set(socket);
    }
}

fn send(state: &[NotifyState<'_>]) -> io::Result<()> {
    let Some(socket) = SOCKET.get() else { return notify(state) };
    let message =
        state.iter().fold(String::new(), |message, state| message + &format!("{state}\n"));
    // A manager that was replaced listens on another socket under the same name.
    socket.send(message.as_bytes()).map(drop).or_else(|_| notify(state))
}

/// `READY=1` with a status line: the configuration holds and the first checks are under way.
/// Also ends what [`reloading`] began.
///
/// # Errors
///
/// As for [`stopping`].
pub fn ready(status: &str) -> io::Result<()> {
    send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))])
}

/// `RELOADING=1`: a reload begins; [`ready`] ends it, whether the new configuration was taken
/// or not.
///
/// # Errors
///
/// As for [`stopping`].
pub fn reloading() -> io::Result<()> {
    // systemd 253 and later ask for the instant, to tell this reload from an earlier one.
    send(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
}

/// `STATUS=`: one line for `systemctl status`.
///
/// # Errors
///
/// As for [`stopping`].
pub fn status(line: &str) -> io::Result<()> {
    send(&[NotifyState::Status(&one_line(line))])
}

/// `STOPPING=1`: the daemon winds down.
///
/// # Errors
///
/// When `NOTIFY_SOCKET` names a socket that cannot be spoken to. Nothing needs to be done
/// about it: systemd draws its own conclusions, such as a start that timed out.
pub fn stopping() -> io::Result<()> {
    send(&[NotifyState::Stopping])
}

/// `WATCHDOG=1`: the loop that does the work goes round. To be called from that loop.
///
/// # Errors
///
/// As for [`stopping`].
pub fn watchdog() -> io::Result<()> {
    send(&[NotifyState::Watchdog])
}

/// How often [`watchdog`] is to be called: half of what the unit's `WatchdogSec` allows, as
/// systemd advises; `None` without one.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// `EXTEND_TIMEOUT_USEC=`: starting or stopping will take up to `by` from now on; at most some
/// 71 minutes, the most that can be said.
///
/// # Errors
///
/// As for [`stopping`].
pub fn extend_timeout(by: Duration) -> io::Result<()> {
    let micros = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
    send(&[NotifyState::ExtendTimeoutUsec(micros)])
}

/// Whether standard output is a stream to the journal: whether `journal_stream`, the value of
/// `$JOURNAL_STREAM`, names the very file that standard output is.
///
/// The variable alone proves nothing: it is inherited by what a user starts from a service.
pub fn stdout_is_journal(journal_stream: Option<&str>) -> bool {
    let Some(named) = journal_stream.and_then(device_and_inode) else { return false };
    fstat(io::stdout()).is_ok_and(|stdout| named == (stdout.st_dev, stdout.st_ino))
}

/// Whether systemd runs this process as a service, so that advice about "the unit" is of use.
///
/// `$INVOCATION_ID` alone does not prove that: a terminal of a desktop passes on its own. Such a
/// process is in the control group of a scope.
pub fn is_service() -> bool {
    static IS_SERVICE: OnceLock<bool> = OnceLock::new();
    *IS_SERVICE.get_or_init(|| {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        std::env::var_os("INVOCATION_ID").is_some() && !is_in_scope(&groups)
    })
}

/// Whether a process with these lines in `/proc/PID/cgroup` belongs to a scope: a login session,
/// or a program that a desktop has started.
fn is_in_scope(groups: &str) -> bool {
    groups.lines().any(|line| {
        let is_systemd = line.starts_with("0::") || line.contains(":name=systemd:");
        is_systemd && line.rsplit_once('.').is_some_and(|(_, kind)| kind == "scope")
    })
}

/// `remedy` if a unit of systemd can follow it; `otherwise` for other processes.
pub(crate) fn advice<'a>(remedy: &'a str, otherwise: &'a str) -> &'a str {
    if is_service() { remedy } else { otherwise }
}

/// The parts of `DEVICE:INODE`, both decimal.
fn device_and_inode(text: &str) -> Option<(u64, u64)> {
    let (device, inode) = text.split_once(':')?;
    Some((device.parse().ok()?, inode.parse().ok()?))
}

/// `text` on one line: what follows a line break would be an assignment of its own.
fn one_line(text: &str) -> String {
    printable(&text.replace(char::is_control, " ")).into_owned()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Not a test of its own: says everything once, where the test below has set the socket.
    #[test]
    fn everything_is_said_or_nothing_at_all() {
        ready("4 tokens").unwrap();
        reloading().unwrap();
        status("one\nREADY=1").unwrap();
        extend_timeout(Duration::from_millis(1500)).unwrap();
        extend_timeout(Duration::MAX).unwrap();
        watchdog().unwrap();
        stopping().unwrap();
    }

    #[test]
    fn systemd_reads_what_was_said_in_its_own_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        // The environment of this process stays as it is: another one says it.
        let speaker = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "systemd::tests::everything_is_said_or_nothing_at_all"])
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
    fn standard_output_is_the_journal_where_device_and_inode_are_its_own() {
        let stdout = fstat(io::stdout()).unwrap();
        let (device, inode) = (stdout.st_dev, stdout.st_ino);
        assert!(stdout_is_journal(Some(&format!("{device}:{inode}"))));
        assert!(!stdout_is_journal(Some(&format!("{device}:{}", inode + 1))));
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
    fn a_variable_that_is_missing_or_garbled_names_no_journal() {
        for text in [None, Some(""), Some("8"), Some("a:b"), Some("1:2:3")] {
            assert!(!stdout_is_journal(text), "{text:?}");
        }
    }
}
