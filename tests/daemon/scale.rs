//! Many tokens: what they cost in time, threads and descriptors.

use std::collections::HashSet;

use tokenkeep::clock;
use tokenkeep::simulator::Simulator;

use crate::support::{
    Line, Stage, descriptors, seconds, secret, served, server_table, simulator, threads,
    token_table,
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

/// Runs a crowd until every token was checked; what it holds then, in threads and descriptors.
async fn cost(count: usize) -> (usize, usize) {
    let (server, stage) = crowd(count).await;
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    let ready = clock::now();
    served(&server, |requests| requests.len() >= count).await;
    let took = clock::now().since(ready);
    let least = seconds(u64::try_from(count / RATE).expect("few"));
    assert!(took < least * 2 + seconds(5), "{took:?} for {count} tokens");
    // The last answers are still being read.
    daemon.until("a line", |lines| lines.iter().any(|line| line.is("token_checked", ""))).await;
    tokio::time::sleep(seconds(1)).await;
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
async fn ten_thousand_tokens_take_no_more_threads_or_descriptors_than_ten() {
    let (few_threads, few_descriptors) = cost(10).await;
    let (many_threads, many_descriptors) = cost(10_000).await;
    assert!(many_threads <= few_threads, "threads: {few_threads}, then {many_threads}");
    // Ten tokens need not have used every connection that is permitted.
    let spread = IN_FLIGHT;
    assert!(
        many_descriptors <= few_descriptors + spread,
        "descriptors: {few_descriptors}, then {many_descriptors}"
    );
}

/// Tokens that are asked about every second or so.
const BUSY: usize = 300;

#[tokio::test]
async fn checks_that_are_too_many_for_a_line_of_each_are_summed_up() {
    let server = simulator().await;
    let stage = Stage::new(&format!(
        "[schedule]\ncheck_after = 0.5\n{}[inventory.crowd]\nserver = \"sarus\"\n\
         file = \"$DIR/tokens.jsonl\"\n",
        server_table("sarus", &server, "rate_limit = 1000")
    ));
    let mut lines = String::new();
    for n in 0..BUSY {
        let value = secret(&format!("t{n}"));
        server.add_token(&value, seconds(2));
        lines += &format!("{{\"name\": \"t{n}\", \"token\": \"{value}\"}}\n");
    }
    stage.write("tokens.jsonl", &lines);
    let daemon = stage.start();
    // Ten crowded seconds in a row have checks summed up; the first few may be uneven, as all
    // begin at once. No second can bring many more than one check of each.
    served(&server, |requests| requests.len() >= 18 * BUSY).await;
    let ended = daemon.stop().await;

    let summary = ended.all("checks_summary", "").pop().expect("a summary");
    let number = |key: &str| summary.number(key);
    assert!(number("checks") > 0 && number("failures") == 0, "{}", summary.0);
    let lateness = ["p50", "p99", "max"].map(|part| number(&format!("lateness_{part}_ms")));
    assert!(lateness.is_sorted(), "{}", summary.0);
    assert!((1..2_000).contains(&number("life_left_p1_ms")), "{}", summary.0);
    let left_out = |line: &Line| line.0["suppressed"].as_u64().unwrap_or(0);
    let suppressed: u64 = ended.lines.iter().map(left_out).sum();
    let written = ended.count("token_checked", "") as u64;
    let requests = server.requests().iter().filter(|one| one.status == Some(200)).count() as u64;
    assert!(requests.abs_diff(written + suppressed) <= BUSY as u64, "each is said, or counted");
    assert!(number("suppressed") > 0, "{}", summary.0);
}
