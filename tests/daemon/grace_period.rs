//! The grace period of a shutdown: checks continue while something is waited for.

use rustix::process::Signal;
use tokenkeep::clock;
use tokenkeep::daemon::GRACE;
use tokenkeep::simulator::{Endpoint, Simulator};

use crate::support::{
    Daemon, Stage, about, get, mortal_simulator, post, seconds, secret, server_table, simulator,
    token_table, until,
};

/// What a loaded machine may add to the grace period.
const SLACK: std::time::Duration = seconds(8);

/// Tokens whose lives do not outlast the grace period, or barely.
const HEALTHY: u64 = 54;

/// A stage whose token "dead" has a login that hangs, beside tokens of these tables.
fn beside_a_hanging_login(server: &Simulator, tables: &str) -> Stage {
    let stage = Stage::new(&format!(
        "{}[reauth.relogin]\ncommand = [\"$DIR/hook\"]\n{}{tables}",
        server_table("sarus", server, ""),
        token_table("dead", "sarus", "reauth = \"relogin\""),
    ));
    server.add_token(&stage.token("dead"), seconds(60));
    server.expire(&secret("dead"));
    stage.script("hook", "echo > $DIR/begun; exec sleep 300");
    stage
}

/// The number of the checks of `value` so far.
fn checks(server: &Simulator, value: &str) -> usize {
    about(server, value).len()
}

/// Starts it, and asks it to stop once the login hangs.
async fn stopping(stage: &Stage) -> Daemon {
    let daemon = stage.start();
    until("the login hangs", || stage.lines_in("begun") == 1).await;
    daemon
}

#[tokio::test]
async fn tokens_of_short_life_survive_a_restart_beside_a_hanging_login() {
    let server = simulator().await;
    let names: Vec<_> = (0..HEALTHY).map(|n| format!("t{n}")).collect();
    let tables: String = names.iter().map(|name| token_table(name, "sarus", "")).collect();
    let stage = beside_a_hanging_login(&server, &tables);
    for (n, name) in (0..).zip(&names) {
        server.add_token(&stage.token(name), seconds(8 + n % 13));
    }
    let daemon = stopping(&stage).await;
    until("all are checked", || names.iter().all(|name| checks(&server, &secret(name)) > 0)).await;
    let before = checks(&server, &secret("t0"));
    let asked_to_stop = clock::now();
    daemon.signal(Signal::TERM);
    let ended = daemon.ended().await;
    let took = clock::now().since(asked_to_stop);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(took >= GRACE / 2 && took < GRACE + SLACK, "{took:?}");
    assert!(checks(&server, &secret("t0")) > before, "checks continue");
    let dead = |name: &&String| server.remaining(&secret(name)).is_none_or(|left| left.is_zero());
    assert_eq!(names.iter().filter(dead).count(), 0, "tokens that died");

    stage.script("hook", "exit 1");
    let before: Vec<_> = names.iter().map(|name| checks(&server, &secret(name))).collect();
    let daemon = stage.start();
    let again = || names.iter().zip(&before).all(|(name, n)| checks(&server, &secret(name)) > *n);
    until("all are checked again", again).await;
    assert_eq!(names.iter().filter(dead).count(), 0, "tokens that died");
    let ended = daemon.stop().await;
    assert_eq!(ended.lines.iter().filter(|line| line.is("token_expired", "t0")).count(), 0);
}

#[tokio::test]
async fn renewals_do_not_prolong_the_grace_period() {
    let server = simulator().await;
    let often = "schedule = { check_after = 0.01, min_interval = \"20ms\" }";
    let stage = beside_a_hanging_login(&server, &token_table("often", "sarus", often));
    stage.script("hook", "echo > $DIR/begun; while [ ! -e $DIR/go ]; do sleep 0.05; done; exit 1");
    server.add_token(&stage.token("often"), seconds(4));
    let daemon = stopping(&stage).await;
    let begun = checks(&server, &secret("often"));
    daemon.signal(Signal::TERM);
    daemon.event("daemon_stopping", "").await;
    until("checks continue", || checks(&server, &secret("often")) > begun + 20).await;
    let released = clock::now();
    stage.write("go", "");
    let ended = daemon.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let took = clock::now().since(released);
    assert!(took < GRACE / 2, "it ends with the login: {took:?}");
}

#[tokio::test]
async fn token_that_is_revoked_at_shutdown_is_not_checked_any_more() {
    let server = simulator().await;
    let table = token_table(
        "session",
        "sarus",
        "revoke_on_shutdown = true\nschedule = { check_after = 0.01, min_interval = \"20ms\" }",
    );
    let stage = beside_a_hanging_login(&server, &table);
    let session = stage.token("session");
    server.add_token(&session, seconds(4));
    let daemon = stopping(&stage).await;
    daemon.signal(Signal::TERM);
    let revoked = daemon.event("token_revoked", "session").await;
    assert_eq!(revoked.0["level"], "info", "{revoked:?}");
    daemon.signal(Signal::TERM);
    daemon.ended().await;
    let requests = about(&server, &session);
    let revocation =
        |request: &tokenkeep::simulator::Recorded| request.endpoint == Some(Endpoint::Revoke);
    let first = requests.iter().position(revocation).expect("a revocation");
    // A check that was in flight may be answered after it, none is sent.
    assert!(requests.len() <= first + 2, "{requests:?}");
}

#[tokio::test]
async fn control_socket_responds_during_the_grace_period_and_starts_nothing() {
    let server = mortal_simulator().await;
    let stage = beside_a_hanging_login(&server, "");
    let daemon = stopping(&stage).await;
    daemon.signal(Signal::TERM);
    daemon.event("daemon_stopping", "").await;
    assert_eq!(get(&stage, "/v1/tokens/dead").await.status, 200);
    let refused = post(&stage, "/v1/reload").await;
    assert_eq!(refused.status, 409, "{refused:?}");
    daemon.signal(Signal::HUP);
    daemon.signal(Signal::INT);
    let ended = daemon.ended().await;
    assert_eq!(ended.count("config_reloaded", ""), 0);
}
