//! An etcd that a replica may not use, cannot read or must not trust: it says so, continues to check
//! about everything, and does not log in.

use crate::etcd::PREFIX;
use crate::namespace::report;
use crate::network::scenario;
use crate::replica::Replica;
use crate::stage::{Cluster, KEY, NEW_KEY, Token};
use crate::support::{Line, seconds};

/// An eternal token, and one that logs in all the time.
fn tokens() -> Vec<Token> {
    vec![Token::eternal("eternal"), Token::mortal("mortal")]
}

/// Waits until the replica says that it cannot use etcd, and returns the reason.
pub(crate) async fn refused(replica: &Replica, nth: usize) -> String {
    let line: Line = replica.daemon().nth(nth, "cluster_unreachable", "").await;
    assert_eq!(line.text("level"), "error");
    line.text("error").to_owned()
}

/// Sees that the replica checks the eternal token for longer than its life, and never logs in.
pub(crate) async fn asks_and_does_not_log_in(cluster: &Cluster, replica: usize) {
    let since = cluster.api.now();
    let logins = |ledger: &crate::ledger::Ledger| {
        ledger.logins.iter().filter(|login| login.replica == replica && login.began > since).count()
    };
    let checked = |ledger: &crate::ledger::Ledger| {
        let checks = ledger.checks.iter().filter(|check| check.at > since + seconds(8));
        checks.filter(|check| check.replica == replica && check.token == "eternal").count() >= 2
    };
    cluster.api.until("the token is checked", checked).await;
    assert_eq!(cluster.api.see(logins), 0, "{}", cluster.story());
    let dead = cluster.api.see(|ledger| ledger.dead(|token| token == "eternal"));
    assert!(dead.is_empty(), "{dead:?}\n{}", cluster.story());
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn replica_with_another_key_says_so_and_takes_nothing() {
    scenario(async || {
        let mut cluster = Cluster::new(1, 2, tokens()).await;
        cluster.replicas[0].join().await;
        cluster.api.more_logins(2).await;
        cluster.replicas[1].stage.write("cluster.key", NEW_KEY);
        cluster.replicas[1].start();
        let reason = refused(&cluster.replicas[1], 1).await;
        assert!(reason.contains("key"), "{reason}");
        assert!(!reason.contains(KEY) && !reason.contains(NEW_KEY));
        asks_and_does_not_log_in(&cluster, 1).await;
        // The remedy.
        cluster.replicas[1].stage.write("cluster.key", KEY);
        let output = cluster.replicas[1].command("reload", &["--wait"]).await;
        assert!(output.status.success(), "{output:?}");
        cluster.replicas[1].daemon().event("cluster_joined", "").await;
        report("another key", &reason);
    });
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn etcd_with_another_format_is_left_alone() {
    scenario(async || {
        let mut cluster = Cluster::new(1, 2, tokens()).await;
        cluster.replicas[0].join().await;
        cluster.api.more_logins(2).await;
        cluster.replicas[0].stop().await;
        let keys = cluster.etcd.dump().await;
        let meta = format!("{PREFIX}/meta");
        let meta = &keys.iter().find(|(key, _)| *key == meta).expect("meta").1;
        let mut meta: serde_json::Value = serde_json::from_slice(meta).expect("JSON");
        assert_eq!(meta["format"], 1);
        meta["format"] = 99.into();
        cluster.etcd.put("meta", meta.to_string().as_bytes()).await;
        let before = cluster.etcd.dump().await;
        cluster.replicas[1].start();
        let reason = refused(&cluster.replicas[1], 1).await;
        assert!(reason.contains("format") && reason.contains("99"), "{reason}");
        asks_and_does_not_log_in(&cluster, 1).await;
        let after = cluster.etcd.dump().await;
        assert_eq!(before, after, "something was written");
        report("another format", &reason);
    });
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn prefix_without_rights_is_reported_and_joined_once_there_are() {
    scenario(async || {
        let mut cluster = Cluster::new(1, 1, tokens()).await;
        cluster.etcd.revoke().await;
        cluster.replicas[0].start();
        let reason = refused(&cluster.replicas[0], 1).await;
        assert!(reason.contains("right") || reason.contains("permission"), "{reason}");
        asks_and_does_not_log_in(&cluster, 0).await;
        cluster.etcd.grant(PREFIX).await;
        cluster.replicas[0].daemon().event("cluster_joined", "").await;
        cluster.api.more_logins(2).await;
        // And taken while it runs.
        cluster.etcd.revoke().await;
        let count = cluster.replicas[0].daemon().count("cluster_unreachable", "");
        refused(&cluster.replicas[0], count.max(1) + 1).await;
        asks_and_does_not_log_in(&cluster, 0).await;
        let recovered = cluster.replicas[0].daemon().count("cluster_recovered", "");
        cluster.etcd.grant(PREFIX).await;
        cluster.replicas[0].daemon().nth(recovered + 1, "cluster_recovered", "").await;
        cluster.api.more_logins(2).await;
        report("no rights", &reason);
    });
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn wrong_password_is_reported_and_never_shown() {
    scenario(async || {
        let mut cluster = Cluster::new(1, 1, tokens()).await;
        cluster.replicas[0].stage.write("etcd.password", "wrong-S3CR3T");
        cluster.replicas[0].start();
        let reason = refused(&cluster.replicas[0], 1).await;
        assert!(reason.contains("password"), "{reason}");
        assert!(!reason.contains("S3CR3T"), "{reason}");
        asks_and_does_not_log_in(&cluster, 0).await;
        cluster.replicas[0].stage.write("etcd.password", crate::etcd::KEEPER.1);
        let output = cluster.replicas[0].command("reload", &["--wait"]).await;
        assert!(output.status.success(), "{output:?}");
        cluster.replicas[0].daemon().event("cluster_joined", "").await;
        cluster.api.more_logins(2).await;
        report("wrong password", &reason);
    });
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn wrong_password_of_a_half_written_file_needs_no_reload() {
    scenario(async || {
        let mut cluster = Cluster::new(1, 1, tokens()).await;
        let password = crate::etcd::KEEPER.1;
        cluster.replicas[0].stage.write("etcd.password", &password[..password.len() / 2]);
        cluster.replicas[0].start();
        let reason = refused(&cluster.replicas[0], 1).await;
        assert!(reason.contains("password"), "{reason}");
        cluster.replicas[0].stage.write("etcd.password", password);
        let written = cluster.api.now();
        cluster.replicas[0].daemon().event("cluster_joined", "").await;
        let took = cluster.api.since(written);
        cluster.api.more_logins(2).await;
        assert_eq!(cluster.replicas[0].count("config_reloaded", ""), 0, "{}", cluster.story());
        report("half a password", &format!("joined {:.1} s later", took.as_secs_f64()));
    });
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn restored_etcd_is_not_trusted_before_a_reload() {
    scenario(async || {
        let mut cluster = Cluster::new(1, 2, tokens()).await;
        cluster.join().await;
        cluster.api.more_logins(2).await;
        let backup = cluster.etcd.back_up().await;
        cluster.api.more_logins(5).await;
        cluster.etcd.restore(&backup).await;
        distrusted_until_a_reload(&cluster, "restored").await;
    });
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn another_etcd_is_not_trusted_before_a_reload() {
    scenario(async || {
        let mut cluster = Cluster::new(1, 2, tokens()).await;
        cluster.join().await;
        cluster.api.more_logins(5).await;
        cluster.etcd.replace().await;
        distrusted_until_a_reload(&cluster, "another etcd").await;
    });
}

async fn distrusted_until_a_reload(cluster: &Cluster, what: &str) {
    for replica in &cluster.replicas {
        // The outage itself may have been reported before.
        let told = |lines: &[Line]| {
            let mut told = lines.iter().filter(|line| line.is("cluster_unreachable", ""));
            told.any(|line| line.text("error").contains("reload"))
        };
        replica.daemon().until("it distrusts etcd", told).await;
    }
    asks_and_does_not_log_in(cluster, 0).await;
    asks_and_does_not_log_in(cluster, 1).await;
    let recovered: Vec<_> = cluster
        .replicas
        .iter()
        .map(|replica| replica.daemon().count("cluster_recovered", ""))
        .collect();
    for replica in &cluster.replicas {
        let output = replica.command("reload", &["--wait"]).await;
        assert!(output.status.success(), "{output:?}");
    }
    for (replica, recovered) in cluster.replicas.iter().zip(recovered) {
        replica.daemon().nth(recovered + 1, "cluster_recovered", "").await;
    }
    cluster.api.more_logins(5).await;
    let double =
        cluster.api.see(|ledger| ledger.logins.iter().filter(|it| it.double.is_some()).count());
    assert_eq!(double, 0, "{}", cluster.story());
    let line = cluster.replicas[0].lines();
    let mut line = line.iter().filter(|line| line.is("cluster_unreachable", ""));
    report(what, line.next_back().expect("a line").text("error"));
}
