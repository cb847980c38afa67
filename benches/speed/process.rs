//! Processes under measurement: starts them, and reads their CPU time and memory from the kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

/// A tick of the CPU times in `/proc`: a hundredth of a second on every Linux of today.
const TICK: Duration = Duration::from_millis(10);

/// The core of the server, and the core of its client. Pinning reduces the variation between runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Core {
    Server = 0,
    Client = 1,
}

/// `program`, on its core where `pinned`.
pub(super) fn command(program: &Path, core: Core, pinned: bool) -> Command {
    if !pinned {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.arg("-c").arg((core as u8).to_string()).arg(program);
    command
}

/// Whether `program` is installed on this machine.
pub(super) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The present.
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
pub(super) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock of this age")
}

/// Sleeps for the duration of a measurement.
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A child process that is measured, and terminated at the end.
#[derive(Debug)]
pub(super) struct Process(pub(super) Child);

impl Process {
    /// CPU time of all its threads, including ended ones.
    pub(super) fn cpu(&self) -> Duration {
        cpu_fields(&format!("/proc/{}/stat", self.0.id()), 11)
    }

    /// CPU time of its living threads, exact to the nanosecond.
    pub(super) fn exact_cpu(&self) -> Duration {
        let of = |path: &Path| {
            let text = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
        };
        Duration::from_nanos(self.threads().map(|thread| of(&thread)).sum())
    }

    /// Number of its threads.
    pub(super) fn thread_count(&self) -> f64 {
        self.status("Threads:")
    }

    /// Resident bytes.
    pub(super) fn resident(&self) -> f64 {
        self.status("VmRSS:") * 1024.0
    }

    /// Resident bytes without file-backed pages: the kernel may drop and reload the program's code at
    /// any time, which would distort the memory for a token.
    pub(super) fn own_memory(&self) -> f64 {
        self.status("RssAnon:") * 1024.0
    }

    /// Context switches of all its threads.
    pub(super) fn switches(&self) -> f64 {
        let of = |thread: &Path| {
            let text = fs::read_to_string(thread.join("status")).unwrap_or_default();
            field(&text, "voluntary_ctxt_switches:") + field(&text, "nonvoluntary_ctxt_switches:")
        };
        self.threads().map(|thread| of(&thread)).sum()
    }

    /// Where `/proc` describes each thread.
    fn threads(&self) -> impl Iterator<Item = PathBuf> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0.id())).expect("a process");
        threads.filter_map(Result::ok).map(|thread| thread.path())
    }

    fn status(&self, key: &str) -> f64 {
        let path = format!("/proc/{}/status", self.0.id());
        field(&fs::read_to_string(path).expect("a process"), key)
    }

    /// Kills it, like a crash.
    pub(super) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    /// Lets it end by itself: a program that was built to count what it executes writes the counts
    /// then.
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// The output of `command`, and the CPU time that it took with all its children.
pub(super) fn measured(command: &mut Command) -> (String, Duration) {
    let before = cpu_fields("/proc/self/stat", 13);
    let output = command.output().expect("a program that starts");
    let spent = cpu_fields("/proc/self/stat", 13).saturating_sub(before);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8_lossy(&output.stdout).into_owned(), spent)
}

/// Two neighbouring CPU times (user and system), counted from the field after the name.
fn cpu_fields(path: &str, first: usize) -> Duration {
    let text = fs::read_to_string(path).expect("a process");
    let (_, fields) = text.rsplit_once(") ").expect("the form of stat");
    let ticks = fields.split(' ').skip(first).take(2).map(|ticks| ticks.parse().unwrap_or(0));
    TICK * ticks.sum::<u32>()
}

fn field(text: &str, key: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0.0)
}
