//! A family of rotating refresh tokens under three replicas. Each refresh token can be used once, and
//! using one twice kills the family.

use std::time::Duration;

use rustix::process::Signal;
use tokenkeep::clock;

use crate::namespace::report;
use crate::network::{has_firewall, scenario};
use crate::replica::{Replica, name};
use crate::servers::{CLIENT, Oidc, Server as _};
use crate::stage::Cluster;
use crate::support::{PATIENCE, millis, seconds};

const TOKEN: &str = "app";

/// The life of an access token.
const LIFE: Duration = seconds(8);

struct Family {
    server: Oidc,
    cluster: Cluster,
}

#[test]
#[ignore = "needs etcd and oidc: tests/cluster/run"]
fn family_of_refresh_tokens_survives_and_none_is_used_twice() {
    scenario(async || {
        let mut family = Family::new().await;
        family.cluster.join().await;
        family.refreshed(2).await;
        family.kill_the_owner().await;
        family.stop_the_owner().await;
        family.etcd_fails().await;
        if has_firewall() {
            family.cut_off_the_owner().await;
        }
        family.rolling_restart().await;
        family.refreshed(2).await;
        family.judge().await;
    });
}

impl Family {
    async fn new() -> Self {
        let (server, cluster) = (Oidc::start().await, Cluster::new(3, 3, Vec::new()).await);
        let (client, url, first) = (CLIENT.0, server.url(), server.first().await);
        for index in 0..3 {
            let text = cluster.section(index)
                + &format!(
                    "[server.idp]\nurl = \"{url}\"\nprofile = \"oauth2\"\n\
                     with = {{ client_id = \"{client}\", \
                     client_secret = {{ file = \"$DIR/client-secret\" }} }}\n\
                     [token.{TOKEN}]\nserver = \"idp\"\nfile = \"$DIR/app.token\"\n\
                     refresh = {{ file = \"$DIR/app.refresh\" }}\n"
                );
            let stage = &cluster.replicas[index].stage;
            stage.write("client-secret", CLIENT.1);
            stage.write("app.refresh", &first);
            stage.configure(&text);
        }
        Self { server, cluster }
    }

    fn story(&self) -> String {
        format!("{:#?}\n{}", self.server.refreshes(), self.cluster.story())
    }

    async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = clock::now() + PATIENCE;
        while !condition() {
            assert!(clock::now() < deadline, "not so in time: {what}\n{}", self.story());
            tokio::time::sleep(millis(20)).await;
        }
    }

    /// Waits for this many further refreshes.
    async fn refreshed(&self, more: usize) {
        let enough = self.server.refreshes().len() + more;
        self.until("further refreshes", || self.server.refreshes().len() >= enough).await;
    }

    /// Waits until a refresh has just reached all replicas: the next one is seconds away.
    async fn quiet(&self) {
        let before = self.value(0);
        self.until("a value reaches all replicas", || {
            let values = [0, 1, 2].map(|index| self.value(index));
            values[0] != before && values.iter().all(|value| *value == values[0])
        })
        .await;
        // The file of the refresh token, too.
        let refresh =
            || [0, 1, 2].map(|index| self.cluster.replicas[index].stage.read("app.refresh"));
        self.until("a refresh token reaches all replicas", || {
            let tokens = refresh();
            let used = self.server.refreshes();
            let is_new = used.iter().all(|used| used.token != tokens[0].trim());
            is_new && tokens.iter().all(|token| *token == tokens[0])
        })
        .await;
    }

    fn value(&self, index: usize) -> String {
        self.cluster.replicas[index].stage.read("app.token")
    }

    /// The replica that asks, as this one sees it.
    async fn owner(&self) -> usize {
        let deadline = clock::now() + PATIENCE;
        loop {
            let token = self.cluster.replicas[0].token(TOKEN).await;
            if let Some(owner) = (0..3).find(|index| token["replica"] == name(*index)) {
                let own = self.cluster.replicas[owner].token(TOKEN).await;
                if own["state"] == "alive" {
                    return owner;
                }
            }
            assert!(clock::now() < deadline, "no replica checks it: {token}\n{}", self.story());
            tokio::time::sleep(millis(50)).await;
        }
    }

    async fn kill_the_owner(&mut self) {
        let owner = self.owner().await;
        self.quiet().await;
        self.cluster.replicas[owner].kill().await;
        self.refreshed(2).await;
        self.cluster.replicas[owner].join().await;
        self.refreshed(1).await;
    }

    async fn stop_the_owner(&mut self) {
        let owner = self.owner().await;
        self.quiet().await;
        self.cluster.replicas[owner].signal(Signal::STOP);
        self.refreshed(2).await;
        self.cluster.replicas[owner].signal(Signal::CONT);
        self.refreshed(2).await;
    }

    /// One node, and then two until the access token has expired.
    async fn etcd_fails(&mut self) {
        let leader = self.cluster.etcd.leader(&[0, 1, 2]).await;
        self.cluster.etcd.kill(leader).await;
        self.refreshed(2).await;
        self.cluster.etcd.restart(leader);
        self.cluster.etcd.healthy().await;
        for node in [0, 1] {
            self.cluster.etcd.signal(node, Signal::STOP);
        }
        let before = self.server.refreshes().len();
        let stopped = clock::now();
        let owner = self.cluster.replicas.iter().map(|replica| replica.count("token_expired", ""));
        let before_expired: usize = owner.sum();
        self.until("the access token expires without etcd", || {
            let replicas = self.cluster.replicas.iter();
            let expired: usize = replicas.map(|it| it.count("token_expired", "")).sum();
            expired > before_expired || clock::now() > stopped + LIFE * 2
        })
        .await;
        let used = self.server.refreshes().len();
        // One may have been under way.
        assert!(used <= before + 1, "{used} and {before}\n{}", self.story());
        for node in [0, 1] {
            self.cluster.etcd.signal(node, Signal::CONT);
        }
        self.cluster.etcd.healthy().await;
        self.refreshed(2).await;
    }

    async fn cut_off_the_owner(&mut self) {
        let owner = self.owner().await;
        self.quiet().await;
        let cut = self.cluster.etcd.cut_replica(owner);
        self.refreshed(2).await;
        let recovered = self.cluster.replicas[owner].daemon().count("cluster_recovered", "");
        drop(cut);
        if self.cluster.replicas[owner].daemon().count("cluster_unreachable", "") > recovered {
            self.cluster.replicas[owner].daemon().nth(recovered + 1, "cluster_recovered", "").await;
        }
        self.refreshed(1).await;
    }

    async fn rolling_restart(&mut self) {
        for index in 0..3 {
            self.cluster.replicas[index].stop().await;
            self.refreshed(1).await;
            self.cluster.replicas[index].join().await;
        }
    }

    async fn judge(mut self) {
        self.server.assert_each_used_once();
        self.quiet().await;
        let alive = self.server.is_alive(self.value(0).trim()).await;
        assert_eq!(alive, Some(true), "{}", self.story());
        for replica in &mut self.cluster.replicas {
            replica.stop().await;
        }
        let uses = self.server.refreshes();
        let values: Vec<_> = [0, 1, 2].map(|index| self.value(index)).to_vec();
        let secrets = uses.iter().map(|used| used.token.as_str());
        let secrets: Vec<_> = secrets.chain(values.iter().map(|it| it.trim())).collect();
        let lines = self.cluster.replicas.iter().flat_map(Replica::lines);
        for line in lines {
            let text = line.0.to_string();
            assert!(!secrets.iter().any(|secret| text.contains(secret)), "a secret: {text}");
        }
        for (key, content) in self.cluster.etcd.dump().await {
            let text = String::from_utf8_lossy(&content).into_owned();
            assert!(!secrets.iter().any(|secret| text.contains(secret)), "a secret in {key}");
        }
        report("rotation", &format!("{} refreshes, none twice", uses.len()));
    }
}
