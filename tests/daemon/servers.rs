//! What one server is spared, and what the others must not feel of it.

use std::time::Duration;

use tokenkeep::simulator::{Behaviour, Recorded, Simulator};

use crate::doubles::{Plan, PlanFaults as _, RetryAfter, Trouble};
use crate::support::{
    Stage, about, millis, seconds, served, server_table, simulator, simulator_with, token_table,
};

/// A server's table and `count` tokens of it, whose names begin with the server's.
fn tables(name: &str, server: &Simulator, keys: &str, count: usize) -> String {
    let tokens = (0..count).map(|n| token_table(&format!("{name}-{n}"), name, ""));
    server_table(name, server, keys) + &tokens.collect::<String>()
}

fn add_tokens(stage: &Stage, name: &str, server: &Simulator, count: usize, life: Duration) {
    (0..count).for_each(|n| server.add_token(&stage.token(&format!("{name}-{n}")), life));
}

#[tokio::test]
async fn a_server_that_fails_does_not_delay_the_tokens_of_another() {
    let (well, silent) = (simulator().await, simulator().await);
    let mut down = Simulator::start_lasting(Behaviour::default()).await.expect("a port");
    let stage = Stage::new(
        &[
            tables("well", &well, "", 1),
            tables("down", &down, "", 40),
            tables("silent", &silent, "", 40),
        ]
        .concat(),
    );
    add_tokens(&stage, "well", &well, 1, seconds(6));
    add_tokens(&stage, "down", &down, 40, seconds(5));
    add_tokens(&stage, "silent", &silent, 40, seconds(5));
    silent.plan_fault(Plan::always(Trouble::Silence));
    down.go_down().await;

    let daemon = stage.start();
    daemon.nth(4, "token_checked", "well-0").await;
    let lines = daemon.all("server_unavailable", "");
    assert!(lines.iter().any(|line| line.text("server") == "down" && line.number("tokens") == 40));
    down.come_back().await.expect("the port is still free");
    let line = daemon.event("server_recovered", "").await;
    assert_eq!((line.text("server"), line.number("tokens")), ("down", 40));
    let ended = daemon.stop().await;
    // No failure, and no warning that a check is late.
    assert!(ended.story("well-0").is_empty(), "{:?}", ended.story("well-0"));
}

#[tokio::test]
async fn unavailable_server_is_probed_without_a_storm() {
    let server = simulator().await;
    let stage = Stage::new(&tables("main", &server, "", 100));
    add_tokens(&stage, "main", &server, 100, seconds(60));
    server.plan_fault(Plan::always(Trouble::Html { status: 502 }));
    let daemon = stage.start();
    daemon.event("server_unavailable", "").await;
    tokio::time::sleep(seconds(3)).await;
    let first = server.requests().len();
    assert!(first <= 64 + 3 * 5 + 5, "{first} requests");
    server.clear_faults();
    daemon.event("server_recovered", "").await;
    served(&server, |requests| alive(requests) >= 100).await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("server_unavailable", ""), 1);
}

fn alive(requests: &[Recorded]) -> usize {
    requests.iter().filter(|request| request.status == Some(200)).count()
}

#[tokio::test]
async fn throttling_pauses_the_whole_server_in_both_forms() {
    let cases = [
        ("number", 429, RetryAfter::Seconds(2)),
        ("maintenance", 503, RetryAfter::Seconds(2)),
        ("date", 429, RetryAfter::Date(seconds(3))),
    ];
    let mut servers = Vec::new();
    for _ in &cases {
        servers.push(simulator().await);
    }
    let early = "schedule = { check_after = 0.25 }";
    let tables =
        cases.iter().zip(&servers).map(|((name, ..), server)| tables(name, server, early, 4));
    let stage = Stage::new(&tables.collect::<String>());
    for ((name, ..), server) in cases.iter().zip(&servers) {
        add_tokens(&stage, name, server, 4, seconds(6));
    }
    let daemon = stage.start();
    daemon.nth(12, "token_checked", "").await;
    for ((_, status, retry_after), server) in cases.iter().zip(&servers) {
        server
            .plan_fault(Plan::once(Trouble::Quiet { status: *status, retry_after: *retry_after }));
    }
    for server in &servers {
        served(server, |requests| alive(requests) >= 9).await;
    }
    let ended = daemon.stop().await;
    assert_eq!(ended.count("check_failed", ""), 3, "one for each server");
    for ((name, status, _), server) in cases.iter().zip(&servers) {
        let requests = server.requests();
        let asked = requests.iter().find(|request| request.status == Some(*status));
        let asked = asked.expect("it was asked for").at;
        // What was under way when the answer came could not know of it.
        let gaps = requests.iter().filter_map(|request| request.at.checked_sub(asked));
        let gap = gaps.filter(|gap| *gap > millis(200)).min().expect("a request after it");
        assert!(gap >= millis(1_950), "{name}: asked again after {gap:?}");
    }
}

#[tokio::test]
async fn startup_never_exceeds_the_rate_limit() {
    let server = simulator().await;
    let stage = Stage::new(&tables("main", &server, "rate_limit = 100", 300));
    add_tokens(&stage, "main", &server, 300, seconds(60));
    let daemon = stage.start();
    served(&server, |requests| requests.len() >= 300).await;
    daemon.stop().await;
    let requests = server.requests();
    let busiest = requests
        .iter()
        .map(|first| {
            let within = |at: Duration| at >= first.at && at < first.at + seconds(1);
            requests.iter().filter(|request| within(request.at)).count()
        })
        .max();
    // Requests are counted where they arrive, and some of them travel longer than others.
    assert!(busiest <= Some(110), "{busiest:?} requests in a second");
}

#[tokio::test]
async fn requests_in_flight_never_exceed_the_limit() {
    let latency = millis(100);
    let server = simulator_with(Behaviour { latency, ..Behaviour::default() }).await;
    let stage = Stage::new(&tables("main", &server, "max_in_flight = 10", 150));
    add_tokens(&stage, "main", &server, 150, seconds(60));
    let daemon = stage.start();
    served(&server, |requests| requests.len() >= 150).await;
    daemon.stop().await;
    let requests = server.requests();
    let most = requests
        .iter()
        .map(|request| {
            let under_way =
                |other: &&Recorded| other.at <= request.at && request.at < other.at + latency;
            requests.iter().filter(under_way).count()
        })
        .max();
    assert!(most.is_some_and(|most| (2..=10).contains(&most)), "{most:?} at once");
    assert!(server.connections() <= 10, "{} connections", server.connections());
    assert!(requests.iter().all(|request| {
        request.value.as_ref().is_some_and(|value| about(&server, value.expose()).len() == 1)
    }));
}
