//! Who asks, what people see of it, and what holds for the whole cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::ledger::Ledger;
use crate::namespace::report;
use crate::network::{has_firewall, scenario};
use crate::replica::name;
use crate::stage::{Cluster, FAILOVER, Token};
use crate::support::{millis, seconds, until_within};

const UNAVAILABLE: Option<i32> = Some(69);

fn eternal(count: usize) -> Vec<Token> {
    (0..count).map(|number| Token::eternal(format!("eternal-{number}"))).collect()
}

/// Waits until all replicas agree who asks about a token, and returns who.
async fn asker(cluster: &Cluster, token: &str) -> usize {
    let replicas = &cluster.replicas;
    let deadline = tokenkeep::clock::now() + seconds(30);
    loop {
        let mut seen = Vec::new();
        for replica in replicas {
            let token = replica.token(token).await;
            let own = token["replica"] == name(replica.index);
            let consistent = own == (token["state"] != "elsewhere");
            seen.push((token["replica"].clone(), consistent));
        }
        let agreed = seen.iter().all(|(by, consistent)| *consistent && *by == seen[0].0);
        if let Some(asker) = agreed.then(|| (0..3).find(|index| seen[0].0 == name(*index))) {
            return asker.unwrap_or_else(|| panic!("no replica asks: {seen:?}"));
        }
        assert!(tokenkeep::clock::now() < deadline, "{seen:?}\n{}", cluster.story());
        tokio::time::sleep(millis(50)).await;
    }
}

/// Waits until all of these tokens are checked, each by one replica.
async fn divided(cluster: &Cluster, tokens: u64) {
    let deadline = tokenkeep::clock::now() + seconds(30);
    loop {
        let mut asked = Vec::new();
        for replica in &cluster.replicas {
            asked.extend(replica.tokens().await["cluster"]["asked"].as_u64());
        }
        if asked.len() == cluster.replicas.len() && asked.iter().sum::<u64>() == tokens {
            return;
        }
        assert!(tokenkeep::clock::now() < deadline, "{asked:?}\n{}", cluster.story());
        tokio::time::sleep(millis(50)).await;
    }
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn status_names_the_replica_and_commands_for_its_tokens_exit_with_69() {
    scenario(async || {
        let mut tokens = eternal(12);
        tokens.push(Token { keys: "", ..Token::mortal("app") });
        tokens[12].rules.life = seconds(600)..seconds(600);
        let mut cluster = Cluster::new(1, 3, tokens).await;
        cluster.join().await;
        // Their parts are the whole.
        divided(&cluster, 13).await;
        let owner = asker(&cluster, "app").await;
        let other = &cluster.replicas[(owner + 1) % 3];
        for action in ["check", "reauth", "revoke"] {
            let output = other.command(action, &["app"]).await;
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), UNAVAILABLE, "{action}: {output:?}");
            assert!(text.contains(name(owner)), "{action}: {text}");
        }
        let output = cluster.replicas[owner].command("check", &["app"]).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        for replica in &cluster.replicas {
            let output = replica.command("status", &[]).await;
            let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            assert!(text.contains("replica"), "no column: {text}");
            assert!(text.contains("elsewhere"), "{text}");
            assert!((0..3).all(|index| text.contains(name(index))), "a replica is missing: {text}");
            let tokens = replica.tokens().await;
            assert_eq!(tokens["cluster"]["name"], name(replica.index), "{}", tokens["cluster"]);
            assert_eq!(tokens["cluster"]["reachable"], true, "{}", tokens["cluster"]);
            let members = tokens["cluster"]["members"].as_array().map(Vec::len);
            assert_eq!(members, Some(3), "{}", tokens["cluster"]);
        }
        report("status", "13 tokens in three parts");
    });
}

/// The tokens that each replica alone has checked in the last 2.5 s; `None` while a token has several.
fn parts(ledger: &Ledger, now: Duration, tokens: usize) -> Option<[BTreeSet<String>; 3]> {
    let askers = ledger.askers(now, millis(2_500));
    let mut parts = [const { BTreeSet::new() }; 3];
    for (token, by) in &askers {
        let only = by.first().filter(|_| by.len() == 1)?;
        parts[*only].insert(token.clone());
    }
    (askers.len() == tokens && parts.iter().all(|part| !part.is_empty())).then_some(parts)
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn tokens_of_a_replica_that_cannot_reach_the_api_are_kept_alive_by_the_others() {
    scenario(async || {
        if !has_firewall() {
            return report("cut off from the API", "skipped: no firewall");
        }
        let tokens = eternal(24);
        let (count, life) = (tokens.len(), tokens[0].rules.life.end);
        let mut cluster = Cluster::new(1, 3, tokens).await;
        cluster.join().await;
        let api = &cluster.api;
        api.until("three parts", |ledger| parts(ledger, api.now(), count).is_some()).await;
        let own =
            api.see(|ledger| parts(ledger, api.now(), count)).expect("three parts")[0].clone();
        let at = api.now();
        let cut = api.cut(0);
        api.until("take-over", |ledger| ledger.taken_over(&own, 0, at).is_some()).await;
        let taken = api.see(|ledger| ledger.taken_over(&own, 0, at)).expect("taken over");
        // Longer than they would live without a check.
        let kept = |ledger: &Ledger| ledger.taken_over(&own, 0, at + life).is_some();
        until_within(life + seconds(10), millis(50), "kept alive", || api.see(kept)).await;
        let output = cluster.replicas[1].command("cluster", &["status"]).await;
        let status = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(status.contains("cannot reach eternal"), "{status}");
        drop(cut);
        let is_back = |parts: [BTreeSet<String>; 3]| parts[0] == own;
        api.until("its own part", |it| parts(it, api.now(), count).is_some_and(is_back)).await;
        let dead = api.see(|ledger| ledger.dead(|_| true));
        assert!(dead.is_empty(), "{dead:?}\n{}", cluster.story());
        let took = taken.saturating_sub(at).as_secs_f64();
        report(
            "cut off from the API",
            &format!("{} tokens taken over after {took:.1} s", own.len()),
        );
    });
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn pause_and_resume_hold_for_the_whole_cluster() {
    scenario(async || {
        let mut cluster = Cluster::new(1, 3, eternal(3)).await;
        cluster.join().await;
        let token = "eternal-0";
        let owner = asker(&cluster, token).await;
        // Paused on one that does not ask, and resumed on a third one.
        let (pauses, resumes) = (&cluster.replicas[(owner + 1) % 3], (owner + 2) % 3);
        let output = pauses.command("pause", &[token]).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        for replica in &cluster.replicas {
            replica.until(token, "it is paused", |token| token["state"] == "paused").await;
        }
        // A replica that starts later knows it too.
        let late = (owner + 2) % 3;
        cluster.replicas[late].stop().await;
        cluster.replicas[late].join().await;
        cluster.replicas[late].until(token, "it is paused", |it| it["state"] == "paused").await;
        let since = cluster.api.now();
        let others = |ledger: &crate::ledger::Ledger| {
            let checks = ledger.checks.iter().filter(|check| check.at > since + seconds(2));
            checks.filter(|check| check.token == "eternal-1").count() >= 2
        };
        cluster.api.until("others are checked", others).await;
        let paused = cluster.api.see(|ledger| {
            ledger.checks.iter().all(|check| check.at < since || check.token != token)
        });
        assert!(paused, "a paused token is checked\n{}", cluster.story());
        let output = cluster.replicas[resumes].command("resume", &[token]).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        for replica in &cluster.replicas {
            let resumed =
                |token: &Value| token["state"] == "alive" || token["state"] == "elsewhere";
            replica.until(token, "it is resumed", resumed).await;
        }
        report("pause", "on all replicas");
    });
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn second_replica_with_one_name_exits_with_69_and_a_restart_within_failover_works() {
    scenario(async || {
        let mut cluster = Cluster::new(1, 2, eternal(4)).await;
        cluster.replicas[0].join().await;
        let section = cluster.section(0);
        cluster.configure_with(1, &section);
        cluster.replicas[1].start();
        assert_eq!(cluster.replicas[1].ends().await, UNAVAILABLE, "{}", cluster.story());
        let said = cluster.replicas[1].lines();
        let said = said
            .iter()
            .any(|line| line.0["level"] == "error" && line.0.to_string().contains(name(0)));
        assert!(said, "{}", cluster.story());
        let beats = cluster.replicas[0].count("cluster_unreachable", "");
        assert_eq!(beats, 0, "{}", cluster.story());
        // Killed, so that its record is still there.
        cluster.replicas[0].kill().await;
        let killed = cluster.api.now();
        cluster.replicas[0].join().await;
        let took = cluster.api.since(killed);
        assert!(took < FAILOVER * 4, "joined after {took:?}\n{}", cluster.story());
        report("names", &format!("a killed replica joins again after {:.1} s", took.as_secs_f64()));
    });
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn token_that_two_of_three_replicas_have_is_always_checked() {
    scenario(async || {
        let mut cluster = Cluster::new(1, 3, eternal(6)).await;
        // The third replica has only the first three.
        let text = cluster.section(2) + &cluster.tables(2, &cluster.tokens[..3]);
        cluster.replicas[2].stage.configure(&text);
        cluster.join().await;
        let since = cluster.api.now();
        let all = |ledger: &crate::ledger::Ledger, since: std::time::Duration| {
            cluster.tokens.iter().all(|token| {
                let mut checks = ledger.checks.iter().rev().take_while(|check| check.at > since);
                checks.any(|check| check.token == token.name)
            })
        };
        // Longer than a replica keeps checking a lost slot.
        let later = since + FAILOVER * 2;
        cluster.api.until("all are checked", |ledger| all(ledger, later)).await;
        cluster.replicas[0].signal(Signal::KILL);
        let killed = cluster.api.now() + FAILOVER * 2;
        cluster.api.until("all are checked by two", |ledger| all(ledger, killed)).await;
        let dead = cluster.api.see(|ledger| ledger.dead(|_| true));
        assert!(dead.is_empty(), "{dead:?}\n{}", cluster.story());
        report("two configurations", "all tokens are checked");
    });
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn stopped_replica_leaves_at_once() {
    scenario(async || {
        let mut cluster = Cluster::new(1, 3, eternal(30)).await;
        cluster.join().await;
        let (api, recently) = (&cluster.api, millis(2_500));
        let own = || {
            let now = api.now();
            let askers = api.see(|ledger| ledger.askers(now, recently));
            let single = askers.iter().filter(|(_, by)| by.len() == 1).count();
            let own = askers.into_iter().filter(|(_, by)| by.len() == 1 && by.contains(&0));
            (single, own.map(|(token, _)| token).collect::<std::collections::BTreeSet<_>>())
        };
        let settled = || own().0 == 30 && !own().1.is_empty();
        until_within(seconds(30), millis(50), "each has one asker", settled).await;
        let (tokens, at) = (own().1, api.now());
        cluster.replicas[0].stop().await;
        let taken = |ledger: &crate::ledger::Ledger| ledger.taken_over(&tokens, 0, at);
        cluster.api.until("take-over", |ledger| taken(ledger).is_some()).await;
        let took = cluster.api.see(taken).expect("taken over").saturating_sub(at);
        assert!(took < FAILOVER, "{took:?}\n{}", cluster.story());
        for replica in &cluster.replicas[1..] {
            let line = replica.daemon().event("replica_left", "").await;
            assert_eq!(line.text("replica"), name(0));
        }
        report("SIGTERM", &format!("{} tokens after {:.1} s", tokens.len(), took.as_secs_f64()));
    });
}
