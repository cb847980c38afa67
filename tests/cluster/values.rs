//! A new value reaches every replica, from whichever it comes.

use tokenkeep::clock;

use crate::namespace::report;
use crate::network::scenario;
use crate::stage::{Cluster, Token};
use crate::support::{ISSUED, PATIENCE, millis, seconds, until};

/// A token with a login, whose first value is dead, and that lives for long after a login.
fn token(name: &str) -> Token {
    let mut token = Token::mortal(name);
    token.rules.life = seconds(300)..seconds(300);
    Token { keys: "env_file = \"$DIR/app.env\"\nenv_name = \"APP\"\n", ..token }
}

/// Whether each replica's files have this value.
fn is_everywhere(cluster: &Cluster, value: &str) -> bool {
    cluster.replicas.iter().all(|replica| {
        replica.stage.read("app.token").trim() == value
            && replica.stage.read("app.env").trim() == format!("APP=\"{value}\"")
    })
}

async fn reaches_all(cluster: &Cluster, value: &str) {
    let deadline = clock::now() + PATIENCE;
    while !is_everywhere(cluster, value) {
        let files = cluster.replicas.iter().map(|replica| replica.stage.read("app.token"));
        let files: Vec<_> = files.collect();
        let story = || cluster.story_of("app");
        assert!(clock::now() < deadline, "{value} is not in {files:?}\n{}", story());
        tokio::time::sleep(millis(20)).await;
    }
}

fn newest(cluster: &Cluster) -> String {
    cluster.api.see(|ledger| ledger.newest["app"].clone())
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn value_of_one_login_reaches_file_and_env_file_of_every_replica() {
    scenario(async || {
        let mut cluster = Cluster::new(1, 3, vec![token("app")]).await;
        let first = newest(&cluster);
        cluster.api.expire(&first);
        cluster.join().await;
        cluster.api.until("a login", |ledger| ledger.newest["app"] != first).await;
        let value = newest(&cluster);
        reaches_all(&cluster, &value).await;
        let mut by: Vec<_> = Vec::new();
        for replica in &cluster.replicas {
            let line = replica.daemon().event("token_replaced", "app").await;
            by.push(line.text("by").to_owned());
        }
        by.sort();
        assert_eq!(by, ["reauth", "replica", "replica"], "{}", cluster.story());
        assert_eq!(cluster.api.see(|ledger| ledger.logins.len()), 1, "{}", cluster.story());
        for replica in &cluster.replicas {
            let output = replica.command("token", &["app"]).await;
            let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            assert_eq!(printed, value, "{output:?}\n{}", cluster.story());
        }
        // One after the other, they start with it, and nothing is asked for again.
        for replica in &mut cluster.replicas {
            replica.stop().await;
        }
        cluster.join().await;
        for replica in &cluster.replicas {
            let known = |token: &serde_json::Value| {
                ["alive", "elsewhere"].contains(&token["state"].as_str().unwrap_or_default())
            };
            replica.until("app", "the token lives", known).await;
        }
        assert!(is_everywhere(&cluster, &value), "{}", cluster.story());
        assert_eq!(cluster.api.see(|ledger| ledger.logins.len()), 1, "{}", cluster.story());
        report("values", "one login for three replicas");
    });
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn value_that_an_operator_puts_on_one_host_reaches_the_others() {
    scenario(async || {
        let mut cluster = Cluster::new(1, 3, vec![token("app")]).await;
        cluster.join().await;
        for replica in &cluster.replicas {
            let known = |token: &serde_json::Value| token["state"] != "unverified";
            replica.until("app", "the token is known", known).await;
        }
        // On each host in turn: the one that checks the token, and the others.
        for index in 0..3 {
            let value = cluster.api.issue("app");
            assert!(value.starts_with(ISSUED));
            let began = cluster.api.now();
            cluster.replicas[index].stage.replace("app.token", &value);
            reaches_all(&cluster, &value).await;
            let took = cluster.api.since(began);
            assert!(took < seconds(30), "after {took:?}");
        }
        for replica in &cluster.replicas {
            // The line follows the file.
            replica.daemon().nth(3, "token_replaced", "app").await;
            let lines = replica.lines();
            let by: Vec<_> = lines
                .iter()
                .filter(|line| line.is("token_replaced", "app"))
                .map(|line| line.text("by").to_owned())
                .collect();
            let counts =
                ["replica", "source"].map(|wanted| by.iter().filter(|by| *by == wanted).count());
            assert_eq!(counts, [2, 1], "{by:?}\n{}", cluster.story());
        }
        let logins = cluster.api.see(|ledger| ledger.logins.len());
        assert_eq!(logins, 0, "{}", cluster.story());
        report("operator's values", "three, each on all replicas");
    });
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn value_of_the_cluster_survives_a_start_without_etcd() {
    scenario(async || {
        let mut cluster = Cluster::new(1, 2, vec![token("app")]).await;
        let first = newest(&cluster);
        cluster.api.expire(&first);
        cluster.join().await;
        cluster.api.until("a login", |ledger| ledger.newest["app"] != first).await;
        let value = newest(&cluster);
        reaches_all(&cluster, &value).await;
        for replica in &mut cluster.replicas {
            replica.stop().await;
        }
        cluster.etcd.kill(0).await;
        for replica in &mut cluster.replicas {
            replica.start();
        }
        // Each asks about everything.
        for replica in &cluster.replicas {
            replica.daemon().event("daemon_ready", "").await;
            replica.until("app", "it is alive", |token| token["state"] == "alive").await;
            let line = replica.daemon().event("cluster_unreachable", "").await;
            assert_eq!(line.text("level"), "error");
        }
        cluster.etcd.restart(0);
        cluster.etcd.healthy().await;
        for replica in &cluster.replicas {
            replica.daemon().event("cluster_joined", "").await;
        }
        let mut states = Vec::new();
        for replica in &cluster.replicas {
            let settled = |token: &serde_json::Value| token["replica"].is_string();
            replica.until("app", "it is known who asks", settled).await;
            states.push(replica.token("app").await["state"].as_str().unwrap_or("").to_owned());
        }
        assert!(states.contains(&"alive".to_owned()), "{states:?}\n{}", cluster.story());
        assert!(is_everywhere(&cluster, &value), "{}", cluster.story());
        let logins = cluster.api.see(|ledger| ledger.logins.len());
        assert_eq!(logins, 1, "{}", cluster.story());
        report("start without etcd", "the stored value serves");
    });
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn token_that_is_added_later_gets_the_value_of_the_cluster_instead_of_a_login() {
    scenario(async || {
        let mut cluster = Cluster::new(1, 2, vec![token("app")]).await;
        let first = newest(&cluster);
        cluster.api.expire(&first);
        // The second replica does not have the token yet, but its file, with the dead value.
        let text = cluster.section(1) + &cluster.tables(1, &[]);
        cluster.replicas[1].stage.configure(&text);
        cluster.join().await;
        cluster.api.until("a login", |ledger| ledger.newest["app"] != first).await;
        let value = newest(&cluster);
        until("the value is stored", || {
            cluster.replicas[0].stage.read("app.token").trim() == value
        })
        .await;
        cluster.configure(1);
        let output = cluster.replicas[1].command("reload", &["--wait"]).await;
        assert!(output.status.success(), "{output:?}");
        reaches_all(&cluster, &value).await;
        let logins = cluster.api.see(|ledger| ledger.logins.len());
        assert_eq!(logins, 1, "{}", cluster.story_of("app"));
        report("added later", "one login");
    });
}
