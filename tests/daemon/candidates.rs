//! A value that appears in a source while the old one lives.

use std::time::Duration;

use tokenkeep::simulator::Simulator;

use crate::doubles::{Plan, PlanFaults as _, Trouble};
use crate::support::{Stage, about, seconds, secret, served, server_table, simulator, token_table};

/// Long enough for a loaded machine to start the daemon in.
const LIFE: Duration = seconds(6);

/// A check each second and a half or so.
const OFTEN: &str = "[schedule]\ncheck_after = 0.25\n";

async fn living() -> (Simulator, Stage) {
    let server = simulator().await;
    let stage = Stage::new(
        &[OFTEN, &server_table("sarus", &server, ""), &token_table("quotes", "sarus", "")].concat(),
    );
    server.add_token(&stage.token("quotes"), LIFE);
    (server, stage)
}

#[tokio::test]
async fn verified_candidate_replaces_the_current_value() {
    let (server, stage) = living().await;
    let new = secret("new");
    server.add_token(&new, LIFE);
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    stage.replace("quotes.token", &new);
    served(&server, |requests| requests.len() >= 5).await;
    let ended = daemon.stop().await;
    assert!(ended.story("quotes").is_empty(), "no trouble: {:?}", ended.story("quotes"));
    let requests = server.requests();
    let first = requests
        .iter()
        .position(|request| request.value.as_ref().is_some_and(|value| value.expose() == new));
    let after = &requests[first.expect("the new value was asked about")..];
    assert!(after.iter().all(|request| request.value == after[0].value), "the old one is left");
}

#[tokio::test]
async fn dead_candidate_leaves_the_current_value_in_service() {
    let (server, stage) = living().await;
    let new = secret("dead");
    server.add_token(&new, seconds(60));
    server.expire(&new);
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    stage.replace("quotes.token", &new);
    daemon.event("token_expired", "quotes").await;
    daemon.more(2, "token_checked", "quotes").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.story("quotes"), ["token_expired"]);
    assert_eq!(about(&server, &new).len(), 1);
    assert!(server.remaining(&secret("quotes")).is_some_and(|left| !left.is_zero()));
}

#[tokio::test]
async fn current_value_is_kept_alive_while_the_candidate_is_unverified() {
    let (server, stage) = living().await;
    let new = secret("new");
    server.add_token(&new, seconds(60));
    server.plan_fault(Plan::always(Trouble::Reset).for_token(&new));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    stage.replace("quotes.token", &new);
    daemon.event("check_failed", "quotes").await;
    daemon.more(3, "token_checked", "quotes").await;
    assert!(server.remaining(&secret("quotes")).is_some_and(|left| !left.is_zero()));
    server.clear_faults();
    let before = about(&server, &new).len();
    served(&server, |_| about(&server, &new).len() > before).await;
    daemon.stop().await;
}
