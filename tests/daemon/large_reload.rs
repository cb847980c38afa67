//! A reload of very many `[token]` tables: it is applied between checks, and nothing is late.

use std::time::Duration;

use rustix::process::Signal;
use tokenkeep::clock;
use tokenkeep::simulator::Simulator;

use crate::support::{
    Daemon, Stage, about, get, millis, post, seconds, secret, server_table, simulator, token_table,
    until_within,
};

/// Tokens that a reload renames, and that take seconds to be applied in a build for tests.
const CROWD: usize = 15_000;

/// Tokens of another server, and their life.
const SHORT: usize = 20;
const LIFE: Duration = millis(1_500);

/// What a reload of so many tables may take where a dozen tests share two cores.
const PATIENCE: Duration = seconds(120);

/// The tables of the crowd under these names; the files stay.
fn crowd(prefix: &str) -> String {
    let table = |n| {
        let file = format!("crowd/{n}");
        format!("[token.{prefix}{n}]\nserver = \"crowd\"\nfile = \"$DIR/{file}\"\n")
    };
    (0..CROWD).map(table).collect()
}

fn short() -> impl Iterator<Item = String> {
    (0..SHORT).map(|n| format!("short{n}"))
}

/// A running daemon with all tokens, once those of short life have been checked.
async fn started(servers: &[Simulator; 2]) -> (Stage, Daemon) {
    let [short_server, crowd_server] = servers;
    let tables: String = short().map(|name| token_table(&name, "short", "")).collect();
    let stage = Stage::new(
        &(server_table("short", short_server, "")
            + &server_table("crowd", crowd_server, "rate_limit = 20")
            + &tables),
    );
    for n in 0..CROWD {
        let value = format!("crowd-{n}");
        crowd_server.add_token(&secret(&value), seconds(3600));
        stage.write(&format!("crowd/{n}"), &secret(&value));
    }
    stage.write("conf.d/crowd.toml", &crowd("a"));
    for name in short() {
        short_server.add_token(&stage.token(&name), seconds(3600));
    }
    let daemon = stage.start();
    let checked = |name: &String| !about(short_server, &secret(name)).is_empty();
    until_within(PATIENCE, millis(50), "all are checked", || short().all(|name| checked(&name)))
        .await;
    // From now on they live for a moment only.
    for name in short() {
        short_server.add_token(&secret(&name), LIFE);
        assert_eq!(post(&stage, &format!("/v1/tokens/{name}/check")).await.status, 202);
    }
    (stage, daemon)
}

async fn reloaded(daemon: &Daemon, n: usize) {
    until_within(PATIENCE, millis(20), "the reload is applied", || {
        daemon.count("config_reloaded", "") >= n
    })
    .await;
}

#[tokio::test]
async fn tokens_of_short_life_survive_a_reload_that_renames_very_many() {
    let servers = [simulator().await, simulator().await];
    let (stage, daemon) = started(&servers).await;
    stage.replace("conf.d/crowd.toml", &crowd("b"));
    daemon.signal(Signal::HUP);
    reloaded(&daemon, 1).await;
    let line = daemon.all("config_reloaded", "").swap_remove(0);
    let more = format!("and {} more", CROWD - 20);
    assert!(line.text("added").ends_with(&more) && line.text("removed").ends_with(&more));
    assert!(!line.has("changed"), "{line:?}");
    let health = get(&stage, "/v1/health").await.json();
    assert_eq!(health["counts"]["total"], CROWD + SHORT);
    // What has the new names is read and watched: no file is missing, until one is removed.
    assert_eq!(daemon.count("token_missing", ""), 0);
    std::fs::remove_file(stage.path("crowd/7")).expect("removed");
    daemon.event("token_missing", "b7").await;
    let dead = |name: &String| {
        servers[0].remaining(&secret(name)).is_none_or(|left| left.is_zero())
            || daemon.count("token_expired", name) > 0
    };
    assert_eq!(short().filter(dead).count(), 0, "tokens that died");
    daemon.stop().await;
}

#[tokio::test]
async fn shutdown_and_another_reload_in_the_middle_of_a_reload_are_safe() {
    let servers = [simulator().await, simulator().await];
    let (stage, daemon) = started(&servers).await;
    stage.replace("conf.d/crowd.toml", &crowd("b"));
    daemon.signal(Signal::HUP);
    daemon.signal(Signal::HUP);
    reloaded(&daemon, 1).await;
    stage.replace("conf.d/crowd.toml", &crowd("c"));
    daemon.signal(Signal::HUP);
    reloaded(&daemon, 2).await;
    let asked_to_stop = clock::now();
    daemon.signal(Signal::TERM);
    let ended = daemon.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let took = clock::now().since(asked_to_stop);
    assert!(took < seconds(20), "{took:?}");
}
