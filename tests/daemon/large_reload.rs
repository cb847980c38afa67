//! A reload of very many `[token]` tables: it is applied between checks, so that none is late.

use std::time::Duration;

use rustix::process::Signal;
use tokenkeep::clock;
use tokenkeep::simulator::Simulator;

use crate::support::{
    Daemon, Stage, about, get, millis, seconds, secret, server_table, simulator, token_table,
    until_within,
};

/// Tokens that a reload renames.
const CROWD: usize = 12_000;

/// What a reload of so many tables may take where a dozen tests share two cores.
const PATIENCE: Duration = seconds(120);

/// The tables of so many tokens under these names; the files stay the same.
fn crowd(prefix: char, count: usize) -> String {
    let table = |n| format!("[token.{prefix}{n}]\nserver = \"crowd\"\nfile = \"$DIR/crowd/{n}\"\n");
    (0..count).map(table).collect()
}

/// A running daemon with so many tokens, and one of another server that is checked all the time.
async fn started([busy, slow]: &[Simulator; 2], count: usize) -> (Stage, Daemon) {
    let often = "schedule = { check_after = 0.001, min_interval = \"10ms\" }";
    let stage = Stage::new(
        &(server_table("busy", busy, "")
            + &server_table("crowd", slow, "rate_limit = 20")
            + &token_table("often", "busy", often)),
    );
    for n in 0..count {
        let value = secret(&format!("crowd-{n}"));
        slow.add_token(&value, seconds(3600));
        stage.write(&format!("crowd/{n}"), &value);
    }
    stage.write("conf.d/crowd.toml", &crowd('a', count));
    busy.add_token(&stage.token("often"), seconds(20));
    let daemon = stage.start();
    let checked = || about(busy, &secret("often")).len() > 3;
    until_within(PATIENCE, millis(50), "the first checks", checked).await;
    (stage, daemon)
}

async fn reloaded(daemon: &Daemon, n: usize) {
    let is_applied = || daemon.count("config_reloaded", "") >= n;
    until_within(PATIENCE, millis(20), "the reload is applied", is_applied).await;
}

#[tokio::test]
async fn checks_continue_while_a_reload_renames_very_many_tokens() {
    let servers = [simulator().await, simulator().await];
    let (stage, daemon) = started(&servers, CROWD).await;
    stage.replace("conf.d/crowd.toml", &crowd('b', CROWD));
    daemon.signal(Signal::HUP);
    // How many checks had been made each time that the reload was found in the middle.
    let mut in_the_middle = Vec::new();
    let end = clock::now() + PATIENCE;
    while daemon.count("config_reloaded", "") == 0 {
        assert!(clock::now() < end, "the reload is applied");
        let health = get(&stage, "/v1/health").await.json();
        if health["counts"]["total"] != CROWD + 1 {
            in_the_middle.push(about(&servers[0], &secret("often")).len());
        }
        tokio::time::sleep(millis(2)).await;
    }
    let line = daemon.event("config_reloaded", "").await;
    let more = format!("and {} more", CROWD - 20);
    assert!(line.text("added").ends_with(&more) && line.text("removed").ends_with(&more));
    assert!(!line.has("changed"), "{line:?}");
    let checks = in_the_middle.last().zip(in_the_middle.first()).map(|(last, first)| last - first);
    assert!(checks > Some(0), "checks in the middle of the reload: {in_the_middle:?}");
    // What has the new names is read and watched: no file is missing, until one is removed.
    let health = get(&stage, "/v1/health").await.json();
    assert_eq!(health["counts"]["total"], CROWD + 1);
    assert_eq!(daemon.count("token_missing", ""), 0);
    std::fs::remove_file(stage.path("crowd/7")).expect("removed");
    let missing = || daemon.count("token_missing", "") == 1;
    until_within(PATIENCE, millis(20), "the removed file is noticed", missing).await;
    daemon.stop().await;
}

#[tokio::test]
async fn shutdown_and_another_reload_in_the_middle_of_a_reload_are_safe() {
    let count = CROWD / 6;
    let servers = [simulator().await, simulator().await];
    let (stage, daemon) = started(&servers, count).await;
    stage.replace("conf.d/crowd.toml", &crowd('b', count));
    daemon.signal(Signal::HUP);
    daemon.signal(Signal::HUP);
    reloaded(&daemon, 1).await;
    stage.replace("conf.d/crowd.toml", &crowd('c', count));
    daemon.signal(Signal::HUP);
    reloaded(&daemon, 2).await;
    stage.replace("conf.d/crowd.toml", &crowd('d', count));
    daemon.signal(Signal::HUP);
    let asked_to_stop = clock::now();
    daemon.signal(Signal::TERM);
    let ended = daemon.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let took = clock::now().since(asked_to_stop);
    assert!(took < seconds(20), "{took:?}");
}
