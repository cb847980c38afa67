//! Connections that die in silence, belong to a bad backend or lead to the wrong host.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokenkeep::simulator::{Behaviour, Simulator};

use crate::doubles::{Plan, PlanFaults as _, Trouble};
use crate::firewall::{self, Verdict};
use crate::namespace::{bind_mount, isolated, report};
use crate::observe::{assert_no_death, secs, settled, story, takes};
use crate::scripted::{DENIED, Reaction, Scripted};
use crate::support::{Stage, seconds, secret, token_table};

/// The life of a token that needs no check during a scenario.
const DAY: Duration = seconds(24 * 3600);

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn http1_connections_dropped_in_silence_cost_no_token() {
    isolated(async || dropped(false, Verdict::Drop).await);
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn http1_connections_reset_by_the_firewall_cost_no_token() {
    isolated(async || dropped(false, Verdict::Reset).await);
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn an_http2_connection_dropped_in_silence_costs_no_token() {
    isolated(async || dropped(true, Verdict::Drop).await);
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn an_http2_connection_reset_by_the_firewall_costs_no_token() {
    isolated(async || dropped(true, Verdict::Reset).await);
}

/// Tokens whose connections are dropped: one of 30 s, the others of 24 h.
const TOKENS: usize = 41;

/// 40 tokens of 24 h and one of 30 s; the firewall loses the state of all connections.
async fn dropped(http2: bool, verdict: Verdict) {
    firewall::prepare();
    // The first checks wait for one another, so that each takes a connection of its own.
    let serve = |_, _| Reaction::ApiAfter(TOKENS);
    let server = if http2 { Scripted::http2(serve).await } else { Scripted::http1(serve).await };
    let stage = Stage::new("");
    let mut text = server.table("sarus") + &token_table("short", "sarus", "");
    for n in 0..TOKENS - 1 {
        text += &token_table(&format!("long{n}"), "sarus", "");
        server.add_token(&stage.token(&format!("long{n}")), DAY);
    }
    let short = stage.token("short");
    server.add_token(&short, seconds(30));
    stage.configure(&text);

    let daemon = stage.start();
    takes(&daemon, seconds(20), "all tokens are checked", || {
        daemon.count("token_checked", "") >= TOKENS
    })
    .await;
    let before = server.connections();
    firewall::drop_established(verdict);
    let dropped = server.now();
    // The check is due after two thirds of the life at the latest.
    takes(&daemon, seconds(40), "the short token is renewed", || {
        !server.served(&short, dropped).is_empty()
    })
    .await;
    let renewed = server.served(&short, dropped)[0].at.saturating_sub(dropped);
    // The next check uses the new connection, and shows that nothing is retried on the old ones.
    takes(&daemon, seconds(40), "the short token is renewed again", || {
        server.served(&short, dropped).len() >= 2
    })
    .await;
    assert_no_death(&daemon, |_| true);
    let opened = server.connections() - before;
    assert!(opened >= 1, "only a new connection can have carried the request");
    let failed = daemon.count("check_failed", "");
    // A request whose reused connection is reset is resent in silence.
    assert!(verdict == Verdict::Drop || failed == 0, "{failed} failures\n{}", story(&daemon));
    report(
        &format!(
            "established {} connections, {verdict:?}",
            if http2 { "HTTP/2" } else { "HTTP/1.1" }
        ),
        &format!(
            "{before} connections dropped; short token renewed after {} (due within 20.1 s), \
             {opened} new connections, {failed} check_failed, no death",
            secs(renewed)
        ),
    );
    daemon.stop().await;
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn frozen_http2_connections_cost_no_token() {
    isolated(async || {
        // Connection 1 serves one request and swallows the others, while it answers PINGs.
        let mut text = String::new();
        let mut servers = Vec::new();
        for life in [10, 30, 40] {
            let script = move |connection, nth| match (connection, nth) {
                (1, 2..) => Reaction::Swallow,
                _ => Reaction::Api,
            };
            let server = Scripted::http2(script).await;
            let name = format!("life{life}");
            text += &server.table(&name);
            text += &token_table(&name, &name, "");
            server.add_token(&secret(&name), seconds(life));
            servers.push((name, server));
        }
        let stage = Stage::new(&text);
        for (name, _) in &servers {
            stage.token(name);
        }
        let daemon = stage.start();
        let is_renewed = |(name, server): &(String, Scripted)| {
            server.asked().iter().any(|asked| asked.served && asked.connection > 1)
                && server.served(&secret(name), Duration::ZERO).len() >= 2
        };
        settled(seconds(60), || servers.iter().all(is_renewed)).await;
        assert_no_death(&daemon, |_| true);
        let stuck: Vec<_> = servers.iter().filter(|site| !is_renewed(site)).map(|s| &s.0).collect();
        assert!(stuck.is_empty(), "not renewed over a second connection: {stuck:?}");
        let figures = servers.iter().map(|(name, server)| {
            let asked = server.asked();
            let stuck = asked.iter().find(|asked| !asked.served).map_or(Duration::ZERO, |a| a.at);
            let served = asked.iter().find(|asked| asked.served && asked.at > stuck);
            let after = served.map_or(Duration::ZERO, |served| served.at.saturating_sub(stuck));
            format!("{name} {} after the stuck request", secs(after))
        });
        report("frozen HTTP/2 connections", &figures.collect::<Vec<_>>().join(", "));
        daemon.stop().await;
    });
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn a_connection_to_a_bad_backend_is_left() {
    isolated(async || {
        const HTML: &str = "<html><title>maintenance</title></html>";
        let kinds = [
            ("b503", Reaction::Say(503, HTML)),
            ("b502", Reaction::Say(502, HTML)),
            ("b421", Reaction::Say(421, "")),
            ("html", Reaction::Say(200, HTML)),
            ("e500", Reaction::Say(200, r#"{"Errors":{"Status":500,"Detail":"down"}}"#)),
            ("e401", Reaction::Say(401, DENIED)),
        ];
        let stage = Stage::new("");
        let mut text = String::new();
        let mut servers = Vec::new();
        for (name, reaction) in kinds {
            let script = move |connection, nth| match (connection, nth) {
                (1, 2..) => reaction.clone(),
                _ => Reaction::Api,
            };
            let server = Scripted::http1(script).await;
            text += &server.table(name);
            text += &token_table(name, name, "");
            server.add_token(&stage.token(name), seconds(12));
            servers.push((name, server));
        }
        stage.configure(&text);
        let daemon = stage.start();
        // Two lives: who was not renewed is dead by then. A failure shows every kind that fails.
        settled(seconds(30), || {
            servers
                .iter()
                .all(|(name, server)| !server.served(&secret(name), seconds(24)).is_empty())
        })
        .await;
        assert_no_death(&daemon, |_| true);
        for (name, server) in &servers {
            assert!(!server.served(&secret(name), seconds(12)).is_empty(), "{name} is not renewed");
        }
        let figures = servers.iter().map(|(name, server)| {
            let bad = server.asked().iter().filter(|asked| !asked.served).count();
            format!("{name}: {bad} bad responses, {} connections", server.connections())
        });
        report("sticky bad backends, life 12 s", &figures.collect::<Vec<_>>().join("; "));
        daemon.stop().await;
    });
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn a_moved_name_is_looked_up_again() {
    isolated(async || {
        let stage = Stage::new("");
        let hosts = stage.write("hosts", "127.0.0.2 api.test\n");
        bind_mount(&hosts, Path::new("/etc/hosts"));
        let start = async |host: &str| {
            let address = format!("{host}:20080").parse().expect("an address");
            Simulator::start_on(address, Behaviour::default()).await.expect("a free port")
        };
        let (old, new) = (start("127.0.0.2").await, start("127.0.0.3").await);
        let mut text =
            "[server.sarus]\nurl = \"http://api.test:20080\"\nallow_http = true\n".to_owned();
        let mut values = Vec::new();
        for (n, life) in [15, 20, 30].into_iter().chain([3600; 5]).enumerate() {
            let name = format!("t{n}");
            text += &token_table(&name, "sarus", "");
            let value = stage.token(&name);
            old.add_token(&value, seconds(life));
            values.push((value, life));
        }
        stage.configure(&text);
        let daemon = stage.start();
        takes(&daemon, seconds(20), "all tokens are checked", || {
            daemon.count("token_checked", "") >= values.len()
        })
        .await;

        // The name moves; the old host still accepts connections and answers with 503.
        fs::write(&hosts, "127.0.0.3 api.test\n").expect("room");
        old.plan_fault(Plan::always(Trouble::Html { status: 503 }));
        for (value, life) in &values {
            new.add_token(value, seconds(*life));
        }
        let bad = old.requests().len();
        let first =
            takes(&daemon, seconds(25), "the new host is asked", || !new.requests().is_empty())
                .await;
        takes(&daemon, seconds(45), "every short token is renewed there", || {
            values[..3].iter().all(|(value, life)| {
                new.remaining(value).is_some_and(|left| left > seconds(*life) / 5)
                    && crate::support::about(&new, value).len() >= 2
            })
        })
        .await;
        assert_no_death(&daemon, |_| true);
        let bad = old.requests().len() - bad;
        report(
            "the server's name moves, the old host answers 503",
            &format!(
                "{bad} requests to the old host, the new one asked after {} (first check due within 10.1 s), no death",
                secs(first)
            ),
        );
        daemon.stop().await;
    });
}
