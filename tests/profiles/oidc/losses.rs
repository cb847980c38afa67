//! Refreshes whose response does not arrive.

use rustix::process::Signal;
use tokenkeep::clock::Stopwatch;

use super::tap::Tap;
use super::{server_table, token_table};
use crate::observe::{check, is_alive, story, takes};
use crate::scenario::TOKEN;
use crate::servers::{CLIENT, Oidc, Server as _};
use crate::support::{Daemon, Stage, millis, seconds};

/// A server behind a proxy, and a daemon whose token has been renewed once. `keys` are more keys of
/// the token.
pub(super) async fn renewed_once(server_keys: &str, keys: &str) -> (Oidc, Tap, Stage, Daemon) {
    let server = Oidc::start().await;
    let tap = Tap::start(&server.url()).await;
    let configuration = "[reauth.client]\nlogin = true\n".to_owned()
        + &server_table(&tap.url(), server_keys)
        + &token_table("file = \"$DIR/app.refresh\"", keys);
    let stage = Stage::new(&configuration);
    stage.write("client-secret", CLIENT.1);
    stage.write("app.refresh", &server.first().await);
    std::fs::create_dir(stage.path("run")).expect("a folder");
    let daemon = stage.start();
    takes(&daemon, seconds(20), "the token is alive", || is_alive(&daemon, TOKEN)).await;
    (server, tap, stage, daemon)
}

/// Has the token refreshed, and keeps the response. The access token has most of its 8 s left.
pub(super) async fn hold_a_refresh(tap: &Tap, stage: &Stage, daemon: &Daemon) {
    tap.hold();
    let before = tap.seen().refreshes;
    check(daemon, stage, &["--no-wait", TOKEN]).await;
    let what = "a refresh waits for its response";
    takes(daemon, seconds(15), what, || tap.seen().refreshes > before).await;
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn refresh_whose_response_is_lost_is_not_repeated_while_a_login_is_possible() {
    let (server, tap, stage, daemon) =
        renewed_once("timeout = \"2s\"", "reauth = \"client\"").await;
    hold_a_refresh(&tap, &stage, &daemon).await;
    let old = stage.read("run/app.token");
    let what = "a login replaces the access token";
    takes(&daemon, seconds(10), what, || stage.read("run/app.token") != old).await;
    // The old value was in service for as long as it took.
    assert_eq!(server.is_alive(old.trim()).await, Some(true), "{}", story(&daemon));
    assert_eq!(server.is_alive(stage.read("run/app.token").trim()).await, Some(true));
    server.assert_each_used_once();
    assert_eq!(daemon.count("token_rejected", TOKEN), 0, "{}", story(&daemon));
    daemon.stop().await;
    server.assert_each_used_once();
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn refresh_whose_response_is_lost_is_repeated_only_shortly_before_the_expiry() {
    let (server, tap, stage, daemon) = renewed_once("timeout = \"2s\"", "").await;
    let (before, expiry) = (tap.seen(), Stopwatch::start());
    hold_a_refresh(&tap, &stage, &daemon).await;
    let value = stage.read("run/app.token");
    let what = "the refresh token is used again";
    takes(&daemon, seconds(15), what, || tap.seen().refreshes > before.refreshes + 1).await;
    // A replay kills the access token, whose 8 s began at most a moment before the stopwatch.
    let after = expiry.elapsed();
    println!(
        "profiles: oidc: a lost refresh was repeated after {:.1} s of 8 s",
        after.as_secs_f64()
    );
    assert!(after > seconds(6), "a replay after {after:?} of 8 s\n{}", story(&daemon));
    assert_eq!(stage.read("run/app.token"), value, "in service until then");
    tap.release();
    daemon.event("token_rejected", TOKEN).await;
    assert_eq!(server.refreshes().first().map(|used| used.status), Some(200));
    daemon.signal(Signal::KILL);
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn stop_waits_for_the_response_of_a_refresh() {
    let (server, tap, stage, daemon) = renewed_once("", "").await;
    hold_a_refresh(&tap, &stage, &daemon).await;
    daemon.signal(Signal::TERM);
    daemon.event("daemon_stopping", "").await;
    tokio::time::sleep(millis(500)).await; // the response is slow
    tap.release();
    let ended = daemon.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(stage.read("app.refresh").trim(), tap.seen().refresh);
    assert_eq!(stage.read("run/app.token").trim(), tap.seen().access);
    let daemon = stage.start();
    takes(&daemon, seconds(20), "the token is alive", || is_alive(&daemon, TOKEN)).await;
    let renewals = tap.seen().refreshes;
    let what = "the family lives";
    takes(&daemon, seconds(20), what, || tap.seen().refreshes > renewals).await;
    server.assert_each_used_once();
    daemon.stop().await;
}
