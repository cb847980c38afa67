//! Process group of a command: waits for the command and kills everything that it started.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::process;

/// How long a killed process is awaited. Only a process blocked in the kernel (a dead network file
/// system) takes longer; tokio reaps it whenever it ends.
const REAP_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a command is checked for a stop if a terminal could stop it.
const TERMINAL_CHECK: Duration = Duration::from_millis(500);

/// A running command, leader of its own process group. Dropping it kills the group.
pub(super) struct ProcessGroup {
    child: Child,
    /// Readable once the leader has ended. The leader is reaped only after the rest of the group
    /// was killed: until then its process id cannot be reused, so that the kill cannot hit an
    /// unrelated process.
    leader: AsyncFd<OwnedFd>,
    id: Pid,
    reaped: bool,
    /// The daemon and the group have a controlling terminal; a service never has one.
    has_terminal: bool,
}

impl ProcessGroup {
    /// Starts `command` as the leader of a new group.
    #[expect(
        deprecated,
        reason = "its successor is unsafe for the sake of types that change \
        the descriptor they show; `OwnedFd` never does"
    )]
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let id = child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .ok_or_else(|| io::Error::other("the process has no number"))?;
        process::register_child(id);
        let leader = pidfd_open(id, PidfdFlags::empty())
            .map_err(io::Error::from)
            .and_then(|leader| AsyncFd::with_interest(leader, Interest::READABLE));
        match leader {
            Ok(leader) => {
                let has_terminal = File::open("/dev/tty").is_ok();
                Ok(Self { child, leader, id, reaped: false, has_terminal })
            }
            Err(error) => {
                kill(id);
                process::unregister_child(id);
                Err(error)
            }
        }
    }

    /// Takes the command's standard output.
    pub(super) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Takes the command's standard input.
    pub(super) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Waits until the leader has ended. Cancel-safe.
    ///
    /// Fails if the leader uses the terminal that the daemon was started from: the kernel stops it
    /// for that, and it would never end by itself. A session of its own would prevent the stop, but
    /// only `fork` can create one, which copies the daemon's address space.
    pub(super) async fn leader_ended(&self) -> io::Result<()> {
        loop {
            let ended = self.leader.readable();
            if !self.has_terminal {
                return ended.await.map(|_| ());
            }
            match timeout(TERMINAL_CHECK, ended).await {
                Ok(ended) => return ended.map(|_| ()),
                Err(_) if self.is_stopped_by_terminal() => {
                    return Err(io::Error::other(
                        "it waits for input from the terminal, which a command of tokenkeep cannot \
                         get; it must run without a prompt",
                    ));
                }
                Err(_) => {}
            }
        }
    }

    fn is_stopped_by_terminal(&self) -> bool {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::PidFd(self.leader.get_ref().as_fd()), options);
        let signal = status.ok().flatten().and_then(|status| status.stopping_signal());
        signal.is_some_and(|signal| {
            [Signal::TTIN, Signal::TTOU].map(Signal::as_raw).contains(&signal)
        })
    }

    /// Kills the rest of the group and returns how the leader ended.
    pub(super) async fn end(mut self) -> io::Result<ExitStatus> {
        kill(self.id);
        let status = timeout(REAP_TIMEOUT, self.child.wait()).await;
        self.reaped = matches!(status, Ok(Ok(_)));
        status.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if !self.reaped {
            kill(self.id);
        }
        process::unregister_child(self.id);
    }
}

/// Kills the group `id`, whose leader must not have been reaped.
fn kill(id: Pid) {
    // Fails if no process is left, which is the goal.
    let _ = kill_process_group(id, Signal::KILL);
}
