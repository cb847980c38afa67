//! What comes while a refresh waits for its response must not cause a second one.

use rustix::process::Signal;

use super::losses::{hold_a_refresh, renewed_once};
use super::{server_table, token_table};
use crate::observe::{check, is_alive, story, takes};
use crate::scenario::TOKEN;
use crate::servers::{CLIENT, Oidc, Server as _};
use crate::support::{Stage, seconds};

/// The configuration of `renewed_once`, with another name of the token.
fn renamed(url: &str) -> String {
    let tables = server_table(url, "") + &token_table("file = \"$DIR/app.refresh\"", "");
    "[reauth.client]\nlogin = true\n".to_owned() + &tables.replace("[token.app]", "[token.other]")
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn commands_do_not_repeat_a_refresh_that_waits_for_its_response() {
    let (server, tap, stage, daemon) = renewed_once("", "").await;
    hold_a_refresh(&tap, &stage, &daemon).await;
    for _ in 0..3 {
        check(&daemon, &stage, &["--no-wait", TOKEN]).await;
    }
    for command in ["pause", "resume"] {
        let status = stage.command(command).arg(TOKEN).status().await.expect("it runs");
        assert!(status.success(), "{command}: {}", story(&daemon));
    }
    tap.release();
    let in_use = || stage.read("run/app.token").trim() == tap.seen().access;
    takes(&daemon, seconds(15), "the response is used", in_use).await;
    let renewals = tap.seen().refreshes;
    takes(&daemon, seconds(15), "the family lives", || tap.seen().refreshes > renewals).await;
    daemon.stop().await;
    server.assert_each_used_once();
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn token_renamed_by_a_reload_waits_for_the_refresh_under_its_old_name() {
    let (server, tap, stage, daemon) = renewed_once("", "").await;
    hold_a_refresh(&tap, &stage, &daemon).await;
    let held = tap.seen().refreshes;
    stage.configure(&renamed(&tap.url()));
    daemon.signal(Signal::HUP);
    daemon.event("config_reloaded", "").await;
    check(&daemon, &stage, &["--no-wait", "other"]).await;
    // The token under its new name is due, and would have sent the same refresh token by now.
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(tap.seen().refreshes, held, "{}", story(&daemon));
    tap.release();
    let renewals = tap.seen().refreshes;
    let what = "the family lives under its new name";
    let lives = || tap.seen().refreshes > renewals && is_alive(&daemon, "other");
    takes(&daemon, seconds(15), what, lives).await;
    daemon.stop().await;
    server.assert_each_used_once();
    assert_eq!(stage.read("app.refresh").trim(), tap.seen().refresh);
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn family_of_an_inventory_survives_kills() {
    let server = Oidc::start().await;
    let configuration = server_table(&server.url(), "")
        + "[inventory.people]\nserver = \"idp\"\nfile = \"$DIR/people\"\n";
    let stage = Stage::new(&configuration);
    stage.write("client-secret", CLIENT.1);
    let pair = server.refresh(&server.first().await).await.expect("a new family");
    let line = serde_json::json!({"name": TOKEN, "token": pair.access, "refresh": pair.refresh});
    stage.write("people", &format!("{line}\n"));
    for _ in 0..3 {
        let daemon = stage.start();
        let uses = server.refreshes().len();
        let what = "two more refreshes";
        takes(&daemon, seconds(25), what, || server.refreshes().len() >= uses + 2).await;
        daemon.more(1, "token_checked", TOKEN).await;
        daemon.signal(Signal::KILL);
        let ended = daemon.ended().await;
        assert_eq!(ended.count("token_rejected", TOKEN), 0, "{:#?}", ended.lines);
    }
    server.assert_each_used_once();
}
