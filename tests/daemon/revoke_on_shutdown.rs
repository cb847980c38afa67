//! Tokens that are revoked when the daemon stops.

use std::time::Duration;

use tokenkeep::clock;
use tokenkeep::daemon::GRACE;
use tokenkeep::simulator::{Endpoint, Simulator};

use crate::doubles::{Plan, PlanFaults as _, RetryAfter, Trouble};
use crate::support::{Stage, calls, millis, seconds, secret, simulator};

/// `count` tokens that are not to outlive the daemon, on a server with more `keys`.
async fn doomed(count: usize, keys: &str) -> (Simulator, Stage) {
    let server = simulator().await;
    let mut text = format!("[server.sarus]\nurl = \"{}\"\n{keys}\n", server.url());
    for i in 0..count {
        text += &format!(
            "[token.t{i}]\nserver = \"sarus\"\nfile = \"$DIR/t{i}.token\"\nrevoke_on_shutdown = true\n"
        );
    }
    let stage = Stage::new(&text);
    for i in 0..count {
        server.add_token(&stage.token(&format!("t{i}")), seconds(60));
    }
    (server, stage)
}

fn revocations(server: &Simulator) -> Vec<Duration> {
    let requests = server.requests().into_iter();
    requests
        .filter(|request| request.endpoint == Some(Endpoint::Revoke))
        .map(|request| request.at)
        .collect()
}

#[tokio::test]
async fn revocations_at_shutdown_respect_the_rate_limit() {
    let (server, stage) = doomed(6, "rate_limit = 5").await;
    let daemon = stage.start();
    daemon.nth(6, "token_checked", "").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("token_revoked", ""), 6);
    let times = revocations(&server);
    for later in &times[1..] {
        assert!(*later >= times[0] + millis(150), "{times:?}");
    }
    assert!(times[5] >= times[0] + millis(950), "five gaps of a fifth of a second: {times:?}");
}

#[tokio::test]
async fn revocation_without_a_response_is_logged_and_delays_no_other() {
    let (server, stage) = doomed(2, "").await;
    server.plan_fault(Plan::always(Trouble::Silence).for_token(&secret("t0")).at(Endpoint::Revoke));
    let daemon = stage.start();
    daemon.nth(2, "token_checked", "").await;
    let asked_to_stop = clock::now();
    let ended = daemon.stop().await;
    assert!(clock::now().since(asked_to_stop) < GRACE + seconds(5));
    let level = |token| ended.all("token_revoked", token)[0].text("level").to_lowercase();
    assert_eq!((level("t0"), level("t1")), ("warn".to_owned(), "info".to_owned()));
    assert!(server.remaining(&secret("t1")).is_none());
}

#[tokio::test]
async fn throttling_is_respected_during_shutdown() {
    let (server, stage) = doomed(2, "").await;
    let quiet = Trouble::Quiet { status: 429, retry_after: RetryAfter::Seconds(3) };
    server.plan_fault(Plan::once(quiet).for_token(&secret("t0")));
    let daemon = stage.start();
    daemon.event("check_failed", "t0").await;
    let wished = server.requests().iter().find(|request| request.status == Some(429)).unwrap().at;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("token_revoked", ""), 2);
    for time in revocations(&server) {
        assert!(time >= wished + seconds(3), "{time:?} after {wished:?}");
    }
    assert_eq!(calls(&server, Endpoint::Revoke), 2);
}
