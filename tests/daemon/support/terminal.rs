//! Terminals for commands to run on.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::PATIENCE;

/// Everything that a command writes to a terminal of this width.
pub(crate) async fn on_a_terminal(mut command: Command, columns: u16, colours: bool) -> String {
    let (ours, theirs) = pair(columns);
    command
        .env("TERM", "xterm")
        .stdout(Stdio::from(theirs.try_clone().expect("a copy")))
        .stderr(theirs);
    if !colours {
        command.env("NO_COLOR", "1");
    }
    let mut child = command.spawn().expect("it runs");
    // The command holds copies of the terminal's other end until it is dropped.
    drop(command);
    let text = spawn_blocking(move || {
        let mut all = Vec::new();
        read_to_end(&ours, |some| all.extend_from_slice(some));
        String::from_utf8(all).expect("UTF-8")
    });
    let text = timeout(PATIENCE, text).await.expect("an end").expect("read");
    child.wait().await.expect("a status");
    text
}

/// A command that is typed into. It is killed when this is dropped.
pub(crate) struct Terminal {
    ours: Arc<OwnedFd>,
    written: watch::Receiver<String>,
    child: Child,
}

impl Terminal {
    /// A terminal that is so wide that nothing is wrapped.
    pub(crate) fn start(command: Command) -> Self {
        Self::sized(command, 1_000)
    }

    /// A terminal with this number of columns and 24 lines.
    pub(crate) fn sized(mut command: Command, columns: u16) -> Self {
        let (ours, theirs) = pair(columns);
        command
            .stdin(Stdio::from(theirs.try_clone().expect("a copy")))
            .stdout(Stdio::from(theirs.try_clone().expect("a copy")))
            .stderr(theirs)
            .kill_on_drop(true);
        let child = command.spawn().expect("it runs");
        drop(command);
        let (sender, written) = watch::channel(String::new());
        let ours = Arc::new(ours);
        let terminal = Arc::clone(&ours);
        spawn_blocking(move || {
            read_to_end(&terminal, |some| {
                sender.send_modify(|all| all.push_str(&String::from_utf8_lossy(some)));
            });
        });
        Self { ours, written, child }
    }

    pub(crate) fn write(&self, text: &str) {
        let written = rustix::io::write(&*self.ours, text.as_bytes());
        assert_eq!(written, Ok(text.len()), "it fits into the terminal's buffer");
    }

    /// Whether the terminal shows what is typed.
    pub(crate) fn echoes(&self) -> bool {
        tcgetattr(&*self.ours).expect("modes").local_modes.contains(LocalModes::ECHO)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("it has not been waited for");
        kill_process(Pid::from_raw(pid.cast_signed()).expect("a process"), signal)
            .expect("it runs");
    }

    /// Waits for the end of the command. Returns its status and everything that it has written.
    pub(crate) async fn ended(mut self) -> (ExitStatus, String) {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("status");
        let closed = timeout(PATIENCE, self.written.wait_for(|_| false)).await;
        assert!(closed.expect("closed").is_err(), "the terminal is closed at the end");
        (status, self.written())
    }

    /// What the command has written so far, and what was typed where that is shown.
    pub(crate) fn written(&self) -> String {
        self.written.borrow().clone()
    }

    /// Waits until that satisfies `condition`.
    pub(crate) async fn until(&self, condition: impl Fn(&str) -> bool) {
        let mut written = self.written.clone();
        let met = timeout(PATIENCE, written.wait_for(|text| condition(text))).await;
        assert!(matches!(met, Ok(Ok(_))), "not so in time:\n{}", self.written());
    }
}

/// Both ends of a terminal: ours, and the command's.
fn pair(columns: u16) -> (OwnedFd, OwnedFd) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&ours).expect("granted");
    unlockpt(&ours).expect("unlocked");
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&ours, size).expect("a size");
    let name = ptsname(&ours, Vec::new()).expect("a name");
    let theirs = File::options().read(true).write(true).open(name.to_str().expect("UTF-8"));
    (ours, OwnedFd::from(theirs.expect("the other end")))
}

/// Reads until nobody has the other end open.
fn read_to_end(terminal: &OwnedFd, mut take: impl FnMut(&[u8])) {
    let mut some = [0; 4096];
    loop {
        match rustix::io::read(terminal, &mut some) {
            Ok(0) | Err(Errno::IO) => return,
            Ok(read) => take(&some[..read]),
            Err(Errno::INTR) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
