//! A server's process.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokenkeep::clock;
use tokio::process::{Child, Command};

use crate::support::{PATIENCE, millis};

/// A folder for a server's data and its log.
pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new().prefix("server").tempdir().expect("a folder")
}

/// A process that can be killed and started again. It is killed when this is dropped.
pub(crate) struct Process {
    command: Box<dyn Fn() -> Command + Send + Sync>,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts a process. Its output is added to the file `log`.
    pub(crate) fn start(log: &Path, command: impl Fn() -> Command + Send + Sync + 'static) -> Self {
        let child = spawn(command(), log);
        Self { command: Box::new(command), log: log.to_owned(), child }
    }

    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it runs");
    }

    /// Sends a signal.
    #[allow(dead_code, reason = "the tests of replicas use it")]
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("it runs").cast_signed();
        kill_process(Pid::from_raw(pid).expect("a process"), signal).expect("it runs");
    }

    /// Kills the process, and starts it with the same arguments.
    pub(crate) async fn restart(&mut self) {
        self.kill().await;
        self.start_again();
    }

    /// Starts a killed process with the same arguments.
    pub(crate) fn start_again(&mut self) {
        self.child = spawn((self.command)(), &self.log);
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the server is ready. Fails with its log if the process ends before that.
    pub(crate) async fn until(&mut self, mut ready: impl AsyncFnMut() -> bool) {
        let deadline = clock::now() + PATIENCE;
        while !ready().await {
            let ended = self.child.try_wait().expect("a status");
            let fails = ended.is_some() || clock::now() >= deadline;
            assert!(!fails, "the server does not start: {ended:?}\n{}", self.log());
            tokio::time::sleep(millis(20)).await;
        }
    }
}

fn spawn(mut command: Command, log: &Path) -> Child {
    let open =
        || -> std::io::Result<File> { OpenOptions::new().create(true).append(true).open(log) };
    command
        .stdin(Stdio::null())
        .stdout(open().expect("a log"))
        .stderr(open().expect("a log"))
        .kill_on_drop(true)
        .spawn()
        .expect("the server's program starts")
}
