//! Outages of the whole server, and of a part of its tokens.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokenkeep::clock;
use tokenkeep::simulator::{Behaviour, Simulator};

use crate::doubles::{Plan, PlanFaults as _, Trouble};
use crate::firewall::{self, Verdict};
use crate::namespace::{isolated, report};
use crate::observe::{assert_no_death, is_alive, secs, story, takes, token};
use crate::support::{
    Daemon, Line, Stage, seconds, secret, server_table, simulator_with, token_table,
};

/// The life of the tokens; the outage is longer.
const LIFE: Duration = seconds(20);
const OUTAGE: Duration = seconds(35);

/// How soon every token is alive again after the server's return.
const RECOVERY: Duration = seconds(15);

/// Requests in any second between `server_unavailable` and the server's return. The promise is 5;
/// a busy machine may log two more of them late.
const REQUESTS_A_SECOND: usize = 7;

/// The names of the tokens that are alive before the outage.
const NAMES: &[&str] = &["a", "b", "c"];

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn all_tokens_recover_from_an_outage_that_refuses_connections() {
    isolated(async || outage(Verdict::Reset).await);
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn all_tokens_recover_from_an_outage_that_swallows_packets() {
    isolated(async || outage(Verdict::Drop).await);
}

/// A daemon with a server of its own.
struct Site {
    title: String,
    server: Simulator,
    stage: Stage,
    daemon: Daemon,
    living: &'static [&'static str],
}

impl Site {
    /// A daemon that logs in with an API key, or by a command; `rejected`: one more token, which
    /// the server does not know and which has no `reauth`.
    async fn start(command: bool, living: &'static [&'static str], rejected: bool) -> Self {
        let server = simulator_with(Behaviour {
            api_key: Some(secret("key").into()),
            login_life: Some(LIFE),
            ..Behaviour::default()
        })
        .await;
        let way = if command { "command = [\"$DIR/hook\"]" } else { "api_key_file = \"$DIR/key\"" };
        let mut text = server_table("sarus", &server, "") + &format!("[reauth.login]\n{way}\n");
        for name in living {
            text += &token_table(name, "sarus", "reauth = \"login\"");
        }
        if rejected {
            text += &token_table("rejected", "sarus", "");
        }
        let stage = Stage::new(&text);
        for name in living {
            server.add_token(&stage.token(name), LIFE);
            // What the command prints; nothing renews these values but the daemon's queries.
            server.add_token(&secret(&format!("new-{name}")), seconds(600));
        }
        stage.token("rejected");
        stage.write("key", &secret("key"));
        stage.script("hook", "echo \"S3CR3T/new-$TOKENKEEP_NAME+=\"");
        let daemon = stage.start();
        let way = if command { "command" } else { "API key" };
        let rejected = if rejected { " + 1 rejected" } else { "" };
        let title = format!("{way}, {} tokens{rejected}", living.len());
        Self { title, server, stage, daemon, living }
    }

    fn all_alive(&self) -> bool {
        self.living.iter().all(|name| is_alive(&self.daemon, name))
    }

    /// How long it takes until all tokens are alive, and what happened in between.
    async fn recovers(&self, returned: Timestamp) -> String {
        let Self { title, daemon, .. } = self;
        let what = format!("{title}: all tokens are alive");
        let took = takes(daemon, RECOVERY, &what, || self.all_alive()).await;
        let down = daemon.all("server_unavailable", "");
        assert_eq!(down.len(), 1, "{title}: server_unavailable\n{}", story(daemon));
        let opened = down[0].timestamp();
        let failed = daemon.all("check_failed", "");
        let attempts: Vec<_> = failed
            .iter()
            .map(Line::timestamp)
            .filter(|at| *at > opened && *at < returned)
            .collect();
        let busiest = attempts.iter().enumerate().map(|(n, from)| {
            let within =
                |at: &&Timestamp| at.duration_since(*from) < jiff::SignedDuration::from_secs(1);
            attempts[n..].iter().take_while(within).count()
        });
        let busiest = busiest.max().unwrap_or(0);
        assert!(busiest <= REQUESTS_A_SECOND, "{title}: {busiest} in a second\n{}", story(daemon));
        assert!(!attempts.is_empty(), "{title}: the server was not probed\n{}", story(daemon));
        format!(
            "{title}: {} ({} probes, at most {busiest} in a second)",
            secs(took),
            attempts.len()
        )
    }
}

/// Every server is out of reach for longer than a life: 1 token, 3 tokens, and 2 beside a
/// rejected one; with an API key and with a command.
async fn outage(verdict: Verdict) {
    let mut sites = Vec::new();
    for command in [false, true] {
        sites.push(Site::start(command, &NAMES[..1], false).await);
        sites.push(Site::start(command, NAMES, false).await);
        sites.push(Site::start(command, &NAMES[..2], true).await);
    }
    for site in &sites {
        takes(&site.daemon, seconds(20), "all tokens are checked", || site.all_alive()).await;
        if site.title.contains("rejected") {
            site.daemon.event("token_rejected", "rejected").await;
        }
    }
    let ports = sites.iter().map(|site| site.server.address().port());
    ports.clone().for_each(|port| firewall::cut_off(port, verdict));
    tokio::time::sleep(OUTAGE).await;
    ports.for_each(|port| firewall::restore(port, verdict));
    let returned = clock::wall_clock();
    let figures = join_all(sites.iter().map(|site| site.recovers(returned))).await;

    // Not a wait for something: the outage must not be announced a second time.
    tokio::time::sleep(seconds(5)).await;
    for Site { title, daemon, .. } in &sites {
        for event in ["server_unavailable", "server_recovered"] {
            assert_eq!(daemon.count(event, ""), 1, "{title}: {event}\n{}", story(daemon));
        }
        assert_eq!(daemon.count("reauth_exhausted", ""), 0, "{title}\n{}", story(daemon));
    }
    report(
        &format!("everything down for 35 s ({verdict:?}), life 20 s, alive again after"),
        &figures.join("; "),
    );
    for Site { daemon, stage, .. } in sites {
        daemon.stop().await;
        drop(stage);
    }
}

/// Which tokens are healthy, by their place in the order of names.
type IsHealthy = fn(usize) -> bool;

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn healthy_tokens_survive_beside_failing_ones() {
    isolated(async || {
        // Failing tokens first, healthy tokens first, both in turn; and with short retries.
        let orders: [(&str, IsHealthy, &str); 4] = [
            ("failing first", |n| n >= 50, ""),
            ("healthy first", |n| n < 10, ""),
            ("mixed", |n| n % 6 == 5, ""),
            ("mixed, retry_max 1 s", |n| n % 6 == 2, "[schedule]\nretry_max = \"1s\"\n"),
        ];
        let mut sites = Vec::new();
        for (title, is_healthy, schedule) in orders {
            let server = simulator_with(Behaviour::default()).await;
            let mut text = schedule.to_owned() + &server_table("sarus", &server, "");
            let mut values = Vec::new();
            let stage = Stage::new("");
            for n in 0..60 {
                let name = format!("t{n:02}-{}", if is_healthy(n) { "healthy" } else { "failing" });
                text += &token_table(&name, "sarus", "");
                let value = stage.token(&name);
                server.add_token(&value, seconds(30));
                if is_healthy(n) {
                    values.push(value);
                } else {
                    let trouble = Trouble::Error { status: 500, detail: "maintenance".to_owned() };
                    server.plan_fault(Plan::always(trouble).for_token(&value));
                }
            }
            stage.configure(&text);
            let daemon = stage.start();
            sites.push((title, server, values, stage, daemon));
        }
        // One and a half lives: who was never asked is dead by then.
        let until = clock::now() + seconds(45);
        while clock::now() < until {
            for (title, server, values, _, daemon) in &sites {
                assert_no_death(daemon, |name| name.contains("healthy"));
                for value in values {
                    let left = server.remaining(value);
                    let what = format!("{title}: a healthy token died\n{}", story(daemon));
                    assert!(left.is_some_and(|left| !left.is_zero()), "{what}");
                }
            }
            tokio::time::sleep(seconds(1)).await;
        }
        let mut figures = Vec::new();
        for (title, server, values, _, daemon) in &sites {
            let [down, up] =
                ["server_unavailable", "server_recovered"].map(|e| daemon.count(e, ""));
            assert!(
                down <= 1 && up <= 1,
                "{title}: {down} outages, {up} recoveries\n{}",
                story(daemon)
            );
            let lines = daemon.all("token_checked", "");
            let checked = lines.iter().filter(|line| token(line).contains("healthy")).count();
            assert!(checked >= 2 * values.len(), "{title}: {checked} checks");
            figures.push(format!("{title}: {down} outage, {} requests", server.requests().len()));
        }
        report(
            "50 tokens that get 500 beside 10 healthy ones of 30 s, no death",
            &figures.join("; "),
        );
        for (_, _, _, _, daemon) in sites {
            daemon.stop().await;
        }
    });
}
