//! A daemon whose loop can be stalled, and what the watchdog makes of it.
//!
//! The loop is the library's own; what stalls it is the future by which it may be stopped.
//! The rest of the process goes on, as it would if the loop met a bug.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokenkeep::clock;
use tokenkeep::daemon::Daemon;
use tokenkeep::event_log::{self, StdoutKind};
use tokenkeep::settings::{self, DEFAULT_PATH};
use tokenkeep::time::Moment;

use crate::machine::{Machine, drop_in, entries, number, restarted, systemctl, until};

/// Names the file that stalls the loop once it is there.
const STALL: &str = "TOKENKEEP_TEST_STALL";

/// The limit that the tests set: long for a busy machine to keep, short to wait for.
const LIMIT: Duration = Duration::from_secs(3);

/// From the stall to the next start: the limit, `RestartSec`, and the start itself.
const AT_MOST: Duration = Duration::from_secs(3 + 1 + 3);

/// Not a test: the daemon that the test below puts in the place of the real one.
#[tokio::test(flavor = "current_thread")]
async fn stalls_when_told() {
    let Some(path) = std::env::var_os(STALL) else { return };
    let load = || settings::load(Path::new(DEFAULT_PATH), std::iter::empty());
    let loaded = load().expect("a configuration");
    let log = event_log::init(&loaded.settings.log, StdoutKind::detect()).expect("a log");
    let daemon = Daemon::new(loaded.settings, Arc::new(load), Some(log)).expect("a daemon");
    let stall = async move {
        while !Path::new(&path).exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The next process is not to stall as well.
        fs::remove_file(path).expect("removed");
        loop {
            std::thread::park();
        }
    };
    daemon.run(stall).await.expect("it runs");
}

async fn with_watchdog(more: &str) -> Machine {
    drop_in("watchdog", &format!("[Service]\nWatchdogSec={}s\n{more}", LIMIT.as_secs()));
    let machine = Machine::keeping().await;
    // It is vouched for beyond the first limit, or the rest would prove nothing.
    let started = number("ActiveEnterTimestampMonotonic").await;
    let enough = started + u64::try_from(LIMIT.as_micros()).expect("short");
    until("pings keep the service alive", async || {
        number("WatchdogTimestampMonotonic").await > enough
    })
    .await;
    assert_eq!(number("NRestarts").await, 0);
    machine
}

/// The service was killed for its silence and is back, in time, with all its tokens.
async fn is_restarted(machine: &Machine, process: u64, stalled_at: Moment) {
    restarted(process).await;
    let took = clock::now().since(stalled_at);
    assert!(took < AT_MOST, "{took:?}");
    assert_eq!(number("NRestarts").await, 1);
    machine.checked_again().await;
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn a_process_that_stands_still_is_restarted_and_no_token_dies() {
    let machine = with_watchdog("").await;
    let process = number("MainPID").await;
    let stalled_at = clock::now();
    systemctl(&["kill", "--signal=SIGSTOP", "--kill-whom=main", "tokenkeep"]).await;
    is_restarted(&machine, process, stalled_at).await;
}

#[tokio::test]
#[ignore = "needs a machine of its own: tests/systemd/run"]
async fn a_loop_that_stalls_alone_is_restarted_and_no_token_dies() {
    let program = "/usr/local/libexec/stalling-tokenkeep";
    let file = "/run/tokenkeep/stall";
    fs::create_dir_all("/usr/local/libexec").expect("a folder");
    fs::copy(std::env::current_exe().expect("a program"), program).expect("room");
    let machine = with_watchdog(&format!(
        "ExecStart=\nExecStart={program} --exact stall::stalls_when_told --nocapture\n\
         Environment={STALL}={file}\n"
    ))
    .await;
    let process = number("MainPID").await;
    let stalled_at = clock::now();
    fs::write(file, "").expect("room");
    is_restarted(&machine, process, stalled_at).await;
    assert_eq!(entries("daemon_started").await.len(), 3, "the empty one, and ours twice");
}
