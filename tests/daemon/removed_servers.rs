//! What a reload takes out of the configuration is released: connections, descriptors, memory.

use rustix::process::Signal;
use tokenkeep::simulator::Simulator;

use crate::support::{
    Daemon, Stage, descriptors, of_process, seconds, served, server_table, simulator, token_table,
    until,
};

/// Descriptors more or less that say nothing: a connection that is just being closed.
const SOME: usize = 4;

/// Reloads after which memory that is kept for later use has been claimed.
const WARM: usize = 20;

/// KiB that memory may grow by after that: allocators keep some. A server that is not released
/// takes 36.
const GROWTH: u64 = 2_500;

/// KiB of memory that a process uses.
fn memory(daemon: &Daemon) -> u64 {
    let status = of_process(daemon.pid(), "status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// Reloads these configurations one after the other; each leads to a check at its server.
async fn reload_all<'a>(
    daemon: &Daemon,
    stage: &Stage,
    configurations: impl Iterator<Item = (String, &'a Simulator)>,
) {
    for (configuration, server) in configurations {
        let before = server.requests().len();
        stage.configure(&configuration);
        daemon.signal(Signal::HUP);
        served(server, |requests| requests.len() > before).await;
    }
}

#[tokio::test]
async fn server_that_a_reload_renames_is_released() {
    let server = simulator().await;
    let named = |n: usize| {
        let name = format!("s{n}");
        (server_table(&name, &server, "") + &token_table("quotes", &name, ""), &server)
    };
    let stage = Stage::new(&named(0).0);
    server.add_token(&stage.token("quotes"), seconds(600));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    let open = descriptors(daemon.pid());
    reload_all(&daemon, &stage, (1..=WARM).map(named)).await;
    let used = memory(&daemon);
    reload_all(&daemon, &stage, (WARM + 1..=200).map(named)).await;
    until("connections are closed", || descriptors(daemon.pid()) <= open + SOME).await;
    let grown = memory(&daemon).saturating_sub(used);
    assert!(grown < GROWTH, "{used} KiB have grown by {grown}");
    daemon.stop().await;
}

#[tokio::test]
async fn server_whose_url_a_reload_changes_is_released() {
    let servers = [simulator().await, simulator().await];
    let at = |n: usize| {
        let server = &servers[n % 2];
        (server_table("sarus", server, "") + &token_table("quotes", "sarus", ""), server)
    };
    let stage = Stage::new(&at(0).0);
    let value = stage.token("quotes");
    for server in &servers {
        server.add_token(&value, seconds(600));
    }
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    let open = descriptors(daemon.pid());
    reload_all(&daemon, &stage, (1..=60).map(at)).await;
    until("connections are closed", || descriptors(daemon.pid()) <= open + SOME).await;
    daemon.stop().await;
}

#[tokio::test]
async fn server_whose_limits_change_keeps_its_state() {
    let server = simulator().await;
    let limited = |limit: usize| {
        let keys = format!("rate_limit = {limit}");
        server_table("sarus", &server, &keys) + &token_table("quotes", "sarus", "")
    };
    let stage = Stage::new(&limited(100));
    server.add_token(&stage.token("quotes"), seconds(600));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    let before = server.requests().len();
    for n in 1..=3 {
        stage.configure(&limited(100 + n));
        daemon.signal(Signal::HUP);
        daemon.nth(n, "config_reloaded", "").await;
    }
    assert_eq!(server.requests().len(), before, "nothing is asked again");
    daemon.stop().await;
}
