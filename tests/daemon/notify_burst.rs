//! `[notify.NAME]` in a burst: a thousand tokens are replaced while the command is slow.

use std::time::Duration;

use serde_json::Value;
use tokenkeep::simulator::Simulator;

use crate::support::{
    Stage, metric, seconds, secret, server_table, simulator, until_metric, until_within,
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
