//! A running daemon: its lines as they come, and its end.

use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{ISSUED, Line, MARK, PATIENCE};

/// The program, started with `run`. It is killed when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    log: watch::Receiver<Vec<Line>>,
    stderr: JoinHandle<String>,
}

/// A daemon that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) lines: Vec<Line>,
    pub(crate) stderr: String,
}

impl Daemon {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = child.stdout.take().expect("a pipe");
        let mut errors = child.stderr.take().expect("a pipe");
        let (sender, log) = watch::channel(Vec::new());
        tokio::spawn(collect(stdout, sender));
        let stderr = tokio::spawn(async move {
            let mut text = String::new();
            errors.read_to_string(&mut text).await.expect("text");
            text
        });
        Self { child, log, stderr }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it has not been waited for")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a process");
        kill_process(pid, signal).expect("it runs");
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.log.borrow().clone()
    }

    /// The lines so far with this event, of this token (an empty name: of any).
    pub(crate) fn all(&self, event: &str, token: &str) -> Vec<Line> {
        self.log.borrow().iter().filter(|line| line.is(event, token)).cloned().collect()
    }

    pub(crate) fn count(&self, event: &str, token: &str) -> usize {
        self.all(event, token).len()
    }

    /// Waits for the first line with this event of this token.
    pub(crate) async fn event(&self, event: &str, token: &str) -> Line {
        self.nth(1, event, token).await
    }

    /// Waits for the `n`th line with this event of this token, counted from 1.
    pub(crate) async fn nth(&self, n: usize, event: &str, token: &str) -> Line {
        let enough =
            |lines: &[Line]| lines.iter().filter(|line| line.is(event, token)).count() >= n;
        self.until(&format!("{n} lines with {event} of {token:?}"), enough).await;
        self.all(event, token).swap_remove(n - 1)
    }

    /// Waits for `more` further lines with this event of this token.
    pub(crate) async fn more(&self, more: usize, event: &str, token: &str) -> Line {
        self.nth(self.count(event, token) + more, event, token).await
    }

    /// Waits until the lines so far satisfy `condition`.
    pub(crate) async fn until(&self, what: &str, mut condition: impl FnMut(&[Line]) -> bool) {
        let mut log = self.log.clone();
        let met = timeout(PATIENCE, log.wait_for(|lines| condition(lines))).await;
        if !matches!(met, Ok(Ok(_))) {
            let outcome = if met.is_ok() { "the log ended" } else { "out of patience" };
            panic!("{outcome} before: {what}\n{:#?}", self.lines());
        }
    }

    /// Waits for the end.
    pub(crate) async fn ended(mut self) -> Ended {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("status");
        let closed = timeout(PATIENCE, self.log.wait_for(|_| false)).await.map(|end| end.is_err());
        assert_eq!(closed, Ok(true), "standard output is closed at the end");
        let stderr = timeout(PATIENCE, &mut self.stderr).await.expect("closed").expect("read");
        let ended = Ended { status, lines: self.lines(), stderr };
        ended.holds_no_secret();
        ended
    }

    /// Ends it as systemd does, and sees that it ends well.
    pub(crate) async fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        let ended = self.ended().await;
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        assert_eq!(ended.lines.last().map(Line::event), Some("daemon_stopped"));
        ended
    }
}

impl Ended {
    pub(crate) fn all(&self, event: &str, token: &str) -> Vec<&Line> {
        self.lines.iter().filter(|line| line.is(event, token)).collect()
    }

    pub(crate) fn count(&self, event: &str, token: &str) -> usize {
        self.all(event, token).len()
    }

    /// The events of a token in their order, without the routine ones, and without
    /// `token_replaced`, which follows from the others.
    pub(crate) fn story(&self, token: &str) -> Vec<&str> {
        let ours = self.lines.iter().filter(|line| line.0["token"] == token);
        let routine = ["token_checked", "token_replaced"];
        ours.map(Line::event).filter(|event| !routine.contains(event)).collect()
    }

    fn holds_no_secret(&self) {
        let lines = self.lines.iter().map(|line| line.0.to_string());
        for text in lines.chain([self.stderr.clone()]) {
            assert!(!text.contains(MARK) && !text.contains(ISSUED), "a secret in: {text}");
        }
    }
}

async fn collect(stdout: ChildStdout, lines: watch::Sender<Vec<Line>>) {
    let mut texts = BufReader::new(stdout).lines();
    while let Some(text) = texts.next_line().await.expect("text") {
        lines.send_modify(|lines| lines.push(Line::parse(&text)));
    }
}
