//! A reload of very many `[token]` tables: it is applied between checks, so that none is late.

use std::time::Duration;

use rustix::process::Signal;
use tokenkeep::clock;
use tokenkeep::simulator::Simulator;

use crate::support::{
    Daemon, Stage, about, get, millis, seconds, secret, server_table, simulator, token_table,
    until_within,
};

/// Tokens that a reload renames. In a build for tests a loop that applies all of them at once
/// stands still for a second.
const CROWD: usize = 12_000;

/// A token of 1 s life outlives a loop that stands still for so long.
const PAUSE: Duration = millis(400);

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
    let mut pauses = Vec::new();
    // A machine that is busy with other tests may hold up one of them, or two.
    for (n, prefix) in (1..).zip(['b', 'c', 'd']) {
        let before = servers[0].requests().len();
        stage.replace("conf.d/crowd.toml", &crowd(prefix, CROWD));
        daemon.signal(Signal::HUP);
        reloaded(&daemon, n).await;
        let line = daemon.all("config_reloaded", "").swap_remove(n - 1);
        let more = format!("and {} more", CROWD - 20);
        assert!(line.text("added").ends_with(&more) && line.text("removed").ends_with(&more));
        assert!(!line.has("changed"), "{line:?}");
        let requests = servers[0].requests().split_off(before);
        let pause = requests.windows(2).map(|pair| pair[1].at.saturating_sub(pair[0].at)).max();
        pauses.extend(pause);
        if pause < Some(PAUSE) {
            break;
        }
    }
    let shortest = pauses.iter().min().expect("a reload");
    assert!(*shortest < PAUSE, "longest pauses between two checks: {pauses:?}");
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
