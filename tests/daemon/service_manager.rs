//! What the daemon says to a service manager, and when.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tokenkeep::simulator::Simulator;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::support::{PATIENCE, Stage, seconds, simulator, token_table};

/// The manager's end of the socket.
pub(crate) struct Manager(UnixDatagram);

impl Manager {
    pub(crate) fn listening_at(path: &Path) -> Self {
        Self(UnixDatagram::bind(path).expect("a socket"))
    }

    /// Everything that is said, up to the first message with this assignment.
    pub(crate) async fn hears(&self, assignment: &str) -> Vec<String> {
        self.hears_line(assignment, |line| line == assignment).await
    }

    /// Everything that is said, up to the first message with such a line.
    pub(crate) async fn hears_line(
        &self,
        what: &str,
        mut is_it: impl FnMut(&str) -> bool,
    ) -> Vec<String> {
        let mut said = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            let received = timeout(PATIENCE, self.0.recv(&mut buffer)).await;
            let Ok(Ok(length)) = received else { panic!("no {what} after {said:?}") };
            said.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            if said.last().is_some_and(|text| text.lines().any(&mut is_it)) {
                return said;
            }
        }
    }
}

/// A configuration with the token `quotes`, which has this life.
fn stage_with_quotes(server: &Simulator, life: Duration) -> Stage {
    let token = token_table("quotes", "sarus", "");
    let stage = Stage::new(&format!("[server.sarus]\nurl = \"{}\"\n{token}", server.url()));
    server.add_token(&stage.token("quotes"), life);
    stage
}

#[tokio::test]
async fn service_manager_is_notified_of_readiness_reload_watchdog_and_stop() {
    let server = simulator().await;
    let stage = stage_with_quotes(&server, seconds(3600));
    let path = stage.path("notify");
    let manager = Manager::listening_at(&path);
    let socket = path.to_str().expect("UTF-8");
    let daemon = stage.start_with(&[("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "400000")]);

    manager.hears("READY=1").await;
    // Nothing is due for the token within the hour: these come of the watchdog alone.
    for _ in 0..5 {
        manager.hears("WATCHDOG=1").await;
    }
    daemon.signal(Signal::HUP);
    let before = manager.hears("RELOADING=1").await;
    assert!(before.last().is_some_and(|text| text.contains("MONOTONIC_USEC=")), "{before:?}");
    manager.hears("READY=1").await;
    daemon.signal(Signal::TERM);
    manager.hears("STOPPING=1").await;
    // The grace of 10 s, 2 s for the last write to the store, and a second for the rest.
    manager.hears("EXTEND_TIMEOUT_USEC=13000000").await;
    daemon.ended().await;
}

#[tokio::test]
async fn service_manager_without_a_watchdog_gets_no_pings() {
    let server = simulator().await;
    let stage = stage_with_quotes(&server, seconds(3));
    let path = stage.path("notify");
    let manager = Manager::listening_at(&path);
    let daemon = stage.start_with(&[("NOTIFY_SOCKET", path.to_str().expect("UTF-8"))]);
    daemon.nth(3, "token_checked", "quotes").await;
    daemon.signal(Signal::TERM);
    let said = manager.hears("STOPPING=1").await;
    assert!(said.iter().all(|text| !text.contains("WATCHDOG")), "{said:?}");
    daemon.ended().await;
}

/// Fills the queue of the socket at `path`, which is not read meanwhile.
fn fill_queue(path: &Path) {
    loop {
        // A sender has a limit of its own, so each message has a sender.
        let sender = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
        sender.set_nonblocking(true).expect("own socket");
        sender.connect(path).expect("a listener");
        match sender.send(b"STATUS=") {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                return;
            }
        }
    }
}

#[tokio::test]
async fn service_manager_that_reads_late_learns_that_the_daemon_is_ready() {
    let server = simulator().await;
    let stage = Stage::new(&format!("[server.sarus]\nurl = \"{}\"\n", server.url()));
    let path = stage.path("notify");
    let manager = Manager::listening_at(&path);
    fill_queue(&path);
    let socket = path.to_str().expect("UTF-8");
    let daemon = stage.start_with(&[("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "20000")]);
    daemon.event("daemon_ready", "").await;
    manager.hears("READY=1").await;
    daemon.stop().await;
}

#[tokio::test]
async fn service_manager_that_does_not_read_delays_no_check_and_no_stop() {
    let server = simulator().await;
    let stage = stage_with_quotes(&server, seconds(3));
    let path = stage.path("notify");
    let manager = Manager::listening_at(&path);
    let socket = path.to_str().expect("UTF-8");
    // A ping every 10 ms: long before the second check, one is sent to the full queue.
    let daemon = stage.start_with(&[("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "20000")]);
    daemon.event("daemon_ready", "").await;
    fill_queue(&path);
    daemon.more(2, "token_checked", "quotes").await;
    daemon.stop().await;
    // READY was sent before the queue was full, and arrives when the manager reads again.
    manager.hears("READY=1").await;
}
