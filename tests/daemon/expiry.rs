//! Tokens that die: what counts as a death, and how often it is said.

use tokenkeep::simulator::Simulator;

use crate::doubles::{Plan, PlanFaults as _, Trouble};
use crate::support::{
    Daemon, Ended, Stage, about, millis, mortal_simulator, seconds, secret, server_table,
    simulator, token_table,
};

/// One token without re-auth.
fn configuration(server: &Simulator) -> String {
    [server_table("sarus", server, ""), token_table("quotes", "sarus", "")].concat()
}

fn error(status: u16) -> Trouble {
    Trouble::Error { status, detail: "as planned".to_owned() }
}

/// The time in milliseconds from `since` until the daemon says that the token has recovered.
async fn recovery(daemon: &Daemon, since: jiff::Timestamp) -> i128 {
    let line = daemon.event("token_recovered", "quotes").await;
    line.timestamp().duration_since(since).as_millis()
}

#[tokio::test]
async fn expiry_is_logged_once_and_ends_the_checks() {
    let server = mortal_simulator().await;
    let stage = Stage::new(&configuration(&server));
    let value = stage.token("quotes");
    server.add_token(&value, millis(800));

    let daemon = stage.start();
    let line = daemon.event("token_expired", "quotes").await;
    let asked = about(&server, &value).len();
    assert_eq!((line.text("level"), line.number("status")), ("error", 410));
    assert!(!line.text("detail").is_empty() && !line.text("error").is_empty());
    // Longer than the longest pause between checks of such a life.
    tokio::time::sleep(seconds(2)).await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("token_expired", "quotes"), 1);
    assert_eq!(about(&server, &value).len(), asked, "a dead token is not asked about");
}

#[tokio::test]
async fn single_401_does_not_reject_a_token() {
    let server = simulator().await;
    let stage = Stage::new(&configuration(&server));
    let value = stage.token("quotes");
    server.add_token(&value, seconds(4));
    server.plan_fault(Plan::once(error(401)));

    let daemon = stage.start();
    let failed = daemon.event("check_failed", "quotes").await;
    assert_eq!((failed.number("status"), failed.number("attempt")), (401, 1));
    daemon.event("token_recovered", "quotes").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.story("quotes"), ["check_failed", "token_recovered"]);
}

#[tokio::test]
async fn two_401s_reject_a_token_and_are_logged_once() {
    let server = simulator().await;
    let stage = Stage::new(&configuration(&server));
    let value = stage.token("quotes");

    let daemon = stage.start();
    let line = daemon.event("token_rejected", "quotes").await;
    assert_eq!((line.text("level"), line.number("status")), ("error", 401));
    assert_eq!(about(&server, &value).len(), 2);
    tokio::time::sleep(seconds(2)).await;
    let ended = daemon.stop().await;
    assert_eq!(ended.story("quotes"), ["check_failed", "token_rejected"]);
    assert_eq!(about(&server, &value).len(), 2, "a dead token is not asked about");
}

#[tokio::test]
async fn operators_new_value_is_used_within_two_seconds_however_it_is_written() {
    for in_one_step in [true, false] {
        let server = mortal_simulator().await;
        let stage = Stage::new(&configuration(&server));
        server.add_token(&stage.token("quotes"), millis(500));
        let new = secret("new");
        server.add_token(&new, seconds(60));

        let daemon = stage.start();
        daemon.event("token_expired", "quotes").await;
        let written = tokenkeep::clock::wall_clock();
        if in_one_step {
            stage.replace("quotes.token", &new);
        } else {
            stage.write("quotes.token", &new);
        }
        let took = recovery(&daemon, written).await;
        assert!(took < 2_000, "{took} ms, in one step: {in_one_step}");
        let ended: Ended = daemon.stop().await;
        assert_eq!(ended.story("quotes").last(), Some(&"token_recovered"));
    }
}
