//! `[notify.NAME]` in a burst: a thousand tokens are replaced while the command is slow.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokenkeep::clock;
use tokenkeep::simulator::Simulator;

use crate::support::{
    PATIENCE, Stage, get, metric, millis, seconds, secret, server_table, simulator, token_table,
    until_metric, until_within,
};

/// More than may wait.
const TOKENS: usize = 1_200;

/// One event is being delivered, and 1,000 wait.
const DELIVERED: usize = 1_001;

const DROPPED: u64 = (TOKENS - DELIVERED) as u64;

/// A thousand processes are started meanwhile.
const LONG: Duration = seconds(180);

fn value(token: usize, generation: usize) -> String {
    secret(&format!("{generation}-{token}-"))
}

/// Gives each token of the inventory its value of this generation.
fn write_inventory(stage: &Stage, generation: usize) {
    let line = |token| {
        let value = value(token, generation);
        format!("{{\"name\": \"t{token}\", \"token\": \"{value}\"}}\n")
    };
    stage.replace("tokens.jsonl", &(0..TOKENS).map(line).collect::<String>());
}

fn replace_values(stage: &Stage, server: &Simulator, generation: usize) {
    for token in 0..TOKENS {
        server.add_token(&value(token, generation), seconds(3_600));
    }
    write_inventory(stage, generation);
}

#[tokio::test]
async fn burst_is_delivered_in_order_from_a_bounded_queue_and_what_is_dropped_is_counted() {
    let server = simulator().await;
    let stage = Stage::new(&format!(
        "{}[inventory.many]\nserver = \"sarus\"\nfile = \"$DIR/tokens.jsonl\"\n\
         [notify.app]\nevents = [\"token_replaced\"]\ncommand = [\"$DIR/app\"]\n\
         timeout = \"5m\"\n",
        server_table("sarus", &server, "rate_limit = 100000"),
    ));
    stage.script("app", "while [ ! -e $DIR/go ]; do sleep 0.05; done\ncat >> $DIR/events");
    replace_values(&stage, &server, 0);
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    let checks = "tokenkeep_checks_total{server=\"sarus\",outcome=\"alive\"}";
    until_metric(&stage, checks, Some(TOKENS as u64)).await;
    replace_values(&stage, &server, 1);
    let dropped = "tokenkeep_notify_dropped_total{notify=\"app\"}";
    until_metric(&stage, dropped, Some(DROPPED)).await;
    let report = daemon.event("notify_failed", "").await;
    assert_eq!(report.text("notify"), "app");
    stage.write("go", "");
    until_within(LONG, seconds(1), "all that waited are delivered", || {
        stage.lines_in("events") == DELIVERED
    })
    .await;
    assert_eq!(metric(&stage, dropped).await, Some(DROPPED));
    let ended = daemon.stop().await;
    let reported: u64 =
        ended.all("notify_failed", "").iter().map(|line| line.number("dropped")).sum();
    assert_eq!(reported, DROPPED);

    let events = stage.read("events");
    let events: Vec<Value> =
        events.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(events.is_sorted_by_key(|event| event["timestamp"].as_str().map(str::to_owned)));
    // The log leaves most lines out; those that it has are in the same order.
    let logged: Vec<_> =
        ended.all("token_replaced", "").iter().map(|line| &line.0["token"]).collect();
    assert!(logged.len() < DELIVERED, "the log's rate limit applies to the log only");
    let place = |token: &Value| events.iter().position(|event| event["token"] == *token);
    let places: Vec<_> = logged.into_iter().filter_map(place).collect();
    assert!(!places.is_empty() && places.is_sorted(), "{places:?}");
}

/// Lateness of the checks of the server `steady` so far: the number of checks up to each bound, in
/// seconds.
async fn lateness(stage: &Stage) -> Vec<(f64, u64)> {
    let page = get(stage, "/metrics").await.body;
    let buckets = page.lines().filter_map(|line| {
        let (labels, count) = line.rsplit_once(' ')?;
        let labels = labels.strip_prefix("tokenkeep_check_lateness_seconds_bucket")?;
        let bound =
            labels.contains("server=\"steady\"").then(|| labels.split("le=\"").nth(1))??;
        let bound = bound.split('"').next()?.replace("+Inf", "inf");
        Some((bound.parse().expect("a bound"), count.parse().expect("a count")))
    });
    buckets.collect()
}

/// The bound that 99% of the checks between two readings are below.
fn p99(before: &[(f64, u64)], after: &[(f64, u64)]) -> f64 {
    let counts = || before.iter().zip(after).map(|(before, after)| (before.0, after.1 - before.1));
    let all = counts().map(|(_, count)| count).max().expect("buckets");
    assert!(all > 0, "checks were made");
    counts().find(|(_, count)| count * 100 >= all * 99).expect("all are below infinity").0
}

/// The lateness after three more checks of each of the hundred tokens.
async fn after_checks(stage: &Stage, before: &[(f64, u64)]) -> Vec<(f64, u64)> {
    let all = |buckets: &[(f64, u64)]| buckets.iter().map(|(_, count)| *count).max();
    let deadline = clock::now() + PATIENCE;
    loop {
        let now = lateness(stage).await;
        if all(&now) >= all(before).map(|count| count + 300) {
            return now;
        }
        assert!(clock::now() < deadline, "not checked in time: {now:?}");
        tokio::time::sleep(millis(50)).await;
    }
}

#[tokio::test]
async fn burst_for_a_slow_command_makes_checks_no_later() {
    // Less than a retry pause: a loop that waits for the command would be later.
    const BUSY_MACHINE: f64 = 0.5;
    let (server, steady) = (simulator().await, simulator().await);
    let names: Vec<_> = (0..100).map(|n| format!("steady{n}")).collect();
    let tokens: Vec<_> = names.iter().map(|name| token_table(name, "steady", "")).collect();
    let tables = format!(
        "{}{}{}[inventory.many]\nserver = \"sarus\"\nfile = \"$DIR/tokens.jsonl\"\n",
        server_table("sarus", &server, "rate_limit = 100000"),
        server_table("steady", &steady, "schedule.max_interval = \"1s\""),
        tokens.concat(),
    );
    let stage = Stage::new(&tables);
    for name in &names {
        steady.add_token(&stage.token(name), seconds(3_600));
    }
    stage.script("app", "sleep 1");
    replace_values(&stage, &server, 0);
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    let checks = "tokenkeep_checks_total{server=\"sarus\",outcome=\"alive\"}";
    until_metric(&stage, checks, Some(TOKENS as u64)).await;
    let notify = "[notify.app]\nevents = [\"token_replaced\"]\ncommand = [\"$DIR/app\"]\n";
    // The best of several bursts without and with the command: other processes disturb some.
    let mut least = [f64::INFINITY; 2];
    for generation in 1..=6 {
        let with = (generation + 1) % 2;
        stage.configure(&(tables.clone() + ["", notify][with]));
        daemon.signal(Signal::HUP);
        daemon.nth(generation, "config_reloaded", "").await;
        let before = lateness(&stage).await;
        replace_values(&stage, &server, generation);
        until_metric(&stage, checks, Some(((generation + 1) * TOKENS) as u64)).await;
        least[with] = least[with].min(p99(&before, &after_checks(&stage, &before).await));
    }
    assert!(metric(&stage, "tokenkeep_notify_dropped_total{notify=\"app\"}").await > Some(0));
    assert!(least[1] <= least[0].max(BUSY_MACHINE), "without and with the command: {least:?} s");
    daemon.signal(Signal::KILL);
}
