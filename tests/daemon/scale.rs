//! Many tokens: what they cost in time, threads and descriptors.

use std::collections::HashSet;

use tokenkeep::simulator::Simulator;
use tokio::time::timeout;

use crate::support::{
    Line, PATIENCE, Stage, descriptors, get, millis, seconds, secret, served, server_table,
    simulator, threads, token_table, until_within,
};

/// Checks a second.
const RATE: usize = 2_000;

/// Tokens in a file of `conf.d`.
const IN_A_FILE: usize = 500;

/// Requests, and so connections, at once.
const IN_FLIGHT: usize = 8;

/// A server and a stage with so many tokens in `conf.d`.
async fn crowd(count: usize) -> (Simulator, Stage) {
    let server = simulator().await;
    let keys = format!("rate_limit = {RATE}\nmax_in_flight = {IN_FLIGHT}");
    let stage = Stage::new(&server_table("sarus", &server, &keys));
    for (file, first) in (0..count).step_by(IN_A_FILE).enumerate() {
        let names = (first..count.min(first + IN_A_FILE)).map(|n| format!("t{n}"));
        let tables = names.clone().map(|name| token_table(&name, "sarus", ""));
        stage.write(&format!("conf.d/{file:02}.toml"), &tables.collect::<String>());
        for name in names {
            server.add_token(&stage.token(&name), seconds(600));
        }
    }
    (server, stage)
}

/// Runs a crowd until every token is known to live; what it holds then, in threads and
/// descriptors.
async fn cost(count: usize) -> (usize, usize) {
    let (server, stage) = crowd(count).await;
    let daemon = stage.start();
    served(&server, |requests| requests.len() >= count).await;
    // Answers are still being read.
    let all_alive = async {
        while get(&stage, "/v1/health").await.json()["counts"]["alive"] != count {
            tokio::time::sleep(millis(10)).await;
        }
    };
    timeout(PATIENCE, all_alive).await.expect("every answer is taken");
    let held = (threads(daemon.pid()), descriptors(daemon.pid()));
    let ended = daemon.stop().await;

    let trouble = ended
        .lines
        .iter()
        .find(|line| line.0["level"] != "info" && line.event() != "events_suppressed");
    assert!(trouble.is_none(), "{trouble:?}");
    let written: u64 = ended.count("token_checked", "").try_into().expect("few");
    let left_out = |line: &Line| line.0["suppressed"].as_u64().unwrap_or(0);
    let suppressed: u64 = ended.lines.iter().map(left_out).sum();
    assert_eq!(written + suppressed, count as u64, "every check is said, or counted");
    let values: HashSet<_> = server
        .requests()
        .iter()
        .filter_map(|request| Some(request.value.as_ref()?.expose().to_owned()))
        .collect();
    assert_eq!((values.len(), server.requests().len()), (count, count), "each once");
    held
}

#[tokio::test]
async fn ten_thousand_tokens_need_no_more_threads_or_descriptors_than_ten() {
    let (few_threads, few_descriptors) = cost(10).await;
    let (many_threads, many_descriptors) = cost(10_000).await;
    // One thread compares the files of what is checked, for however many tokens.
    let comparing = 1;
    assert!(many_threads <= few_threads + comparing, "threads: {few_threads}, then {many_threads}");
    // Ten tokens need not have used every connection that is permitted.
    let spread = IN_FLIGHT;
    assert!(
        many_descriptors <= few_descriptors + spread,
        "descriptors: {few_descriptors}, then {many_descriptors}"
    );
}

/// Tokens that are always due, far more of them than [`BUSY_RATE`] lets be asked about.
const BUSY: usize = 2_000;

/// Their checks a second: more than have a line each.
const BUSY_RATE: usize = 400;

/// Checks that the log accounts for so far: those with a line, and those that a line counts.
fn told(lines: &[Line]) -> usize {
    let checks = lines.iter().filter(|line| line.is("token_checked", ""));
    let counted: u64 = lines.iter().filter_map(|line| line.0["suppressed"].as_u64()).sum();
    checks.count() + usize::try_from(counted).expect("few")
}

#[tokio::test]
async fn very_many_checks_are_summarised() {
    let server = simulator().await;
    let stage = Stage::new(&format!(
        "[schedule]\nmax_interval = \"1s\"\n{}[inventory.crowd]\nserver = \"sarus\"\n\
         file = \"$DIR/tokens.jsonl\"\n",
        server_table("sarus", &server, &format!("rate_limit = {BUSY_RATE}"))
    ));
    let mut lines = String::new();
    for n in 0..BUSY {
        let value = secret(&format!("t{n}"));
        server.add_token(&value, seconds(600));
        lines += &format!("{{\"name\": \"t{n}\", \"token\": \"{value}\"}}\n");
    }
    stage.write("tokens.jsonl", &lines);
    let daemon = stage.start();
    // As long as checks have lines, each second's first counts what the second before left out.
    let untold = || server.requests().len().saturating_sub(told(&daemon.lines()));
    until_within(PATIENCE, millis(200), "checks are summed up", || untold() >= 4 * BUSY_RATE).await;
    let ended = daemon.stop().await;

    let summary = ended.all("checks_summary", "").pop().expect("a summary");
    let number = |key: &str| summary.number(key);
    assert!(number("checks") > 0 && number("failures") == 0, "{}", summary.0);
    let lateness = ["p50", "p99", "max"].map(|part| number(&format!("lateness_{part}_ms")));
    assert!(lateness.is_sorted(), "{}", summary.0);
    // Its histogram keeps two digits.
    assert!((1..=610_000).contains(&number("life_left_p1_ms")), "{}", summary.0);
    assert!(number("suppressed") > 0, "{}", summary.0);
    let requests = server.requests().iter().filter(|one| one.status == Some(200)).count();
    let untold = requests - told(&ended.lines);
    assert!(untold <= DEFAULT_IN_FLIGHT, "{untold} checks are neither said nor counted");
}

/// Answers that may be on their way when the daemon stops: the default of `max_in_flight`.
const DEFAULT_IN_FLIGHT: usize = 64;
