//! Short-lived tokens while replicas, nodes of etcd and the network fail.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use tokenkeep::clock;

use crate::history;
use crate::ledger::{Double, Ledger, Login};
use crate::namespace::report;
use crate::network::{has_firewall, scenario};
use crate::replica::{Replica, name};
use crate::stage::{Cluster, FAILOVER, KEY, NEW_KEY, Token};
use crate::support::{PATIENCE, seconds, until_within};

/// Logins that the scenario must see.
const LOGINS: usize = 500;

/// Eternal tokens are checked every second. Longer ago is not recent.
const RECENTLY: Duration = Duration::from_millis(2_500);

/// Within this time after the death of a replica, others check its tokens.
const TAKE_OVER: Duration = FAILOVER.saturating_add(seconds(3));

/// The default of `max_attempts`.
const MAX_ATTEMPTS: usize = 5;

/// A cluster, and what has happened to it.
struct Chaos {
    cluster: Cluster,
    /// Replicas (`None`: all) that could not work as usual, from when until when.
    troubles: Vec<(Option<usize>, Duration, Duration)>,
    figures: Vec<String>,
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn no_login_is_double_and_no_token_dies_while_everything_fails() {
    scenario(async || {
        let mut chaos = Chaos::new().await;
        chaos.cluster.join().await;
        chaos.settled().await;
        chaos.cluster.api.more_logins(40).await;
        chaos.kill_a_replica().await;
        // It stays stopped while nodes of etcd fail, until its claims have been stolen.
        let stopped = chaos.stop_a_replica().await;
        chaos.nodes_of_etcd_fail().await;
        chaos.resume(stopped).await;
        chaos.quorum_is_lost().await;
        if has_firewall() {
            chaos.partitions().await;
        }
        chaos.rolling_restart().await;
        chaos.one_reloads_before_the_others().await;
        chaos.keys_are_rotated().await;
        let logins = chaos.cluster.api.see(|ledger| ledger.logins.len());
        chaos.cluster.api.more_logins(LOGINS.saturating_sub(logins).max(40)).await;
        chaos.settled().await;
        chaos.judge().await;
    });
}

impl Chaos {
    async fn new() -> Self {
        let eternal = (0..45).map(|number| Token::eternal(format!("eternal-{number}")));
        let mortal = (0..45).map(|number| Token::mortal(format!("mortal-{number}")));
        let refused = (0..3).map(|number| {
            let mut token = Token::mortal(format!("refused-{number}"));
            token.rules.refuses = true;
            token
        });
        let tokens = eternal.chain(mortal).chain(refused).collect();
        let cluster = Cluster::new(3, 3, tokens).await;
        Self { cluster, troubles: Vec::new(), figures: Vec::new() }
    }

    fn story(&self) -> String {
        self.cluster.story()
    }

    /// Waits until each eternal token is checked by exactly one replica, and each replica checks some.
    async fn settled(&self) {
        let api = &self.cluster.api;
        let all = self.cluster.tokens.iter().filter(|token| token.rules.renews).count();
        let settled = || {
            let now = api.now();
            let askers = api.see(|ledger| ledger.askers(now, RECENTLY));
            let askers = askers.iter().filter(|(token, _)| is_eternal(token));
            let single: Vec<_> = askers.filter(|(_, by)| by.len() == 1).collect();
            let replicas: BTreeSet<_> = single.iter().flat_map(|(_, by)| by.iter()).collect();
            single.len() == all && replicas.len() == self.cluster.replicas.len()
        };
        let within = seconds(20);
        until_within(within, Duration::from_millis(50), "each token has one asker", settled).await;
    }

    /// The eternal tokens that only this replica checks.
    fn tokens_of(&self, replica: usize) -> BTreeSet<String> {
        let now = self.cluster.api.now();
        let askers = self.cluster.api.see(|ledger| ledger.askers(now, RECENTLY));
        let own = askers
            .into_iter()
            .filter(|(token, by)| is_eternal(token) && by.len() == 1 && by.contains(&replica));
        let own: BTreeSet<_> = own.map(|(token, _)| token).collect();
        assert!(!own.is_empty(), "{} asks about nothing\n{}", name(replica), self.story());
        own
    }

    /// Waits until other replicas check these tokens, and notes how long that took since `at`.
    async fn taken_over(
        &mut self,
        what: &str,
        tokens: &BTreeSet<String>,
        replica: usize,
        at: Duration,
        within: Duration,
    ) {
        let taken = |ledger: &Ledger| ledger.taken_over(tokens, replica, at);
        self.cluster.api.until("take-over", |ledger| taken(ledger).is_some()).await;
        let took = self.cluster.api.see(taken).expect("taken over").saturating_sub(at);
        assert!(took <= within, "{what}: take-over after {took:?}\n{}", self.story());
        self.figures.push(format!("{what} {:.1} s", took.as_secs_f64()));
    }

    async fn kill_a_replica(&mut self) {
        let (replica, at) = (0, self.cluster.api.now());
        // In the middle of a login: its value is lost.
        until_within(seconds(20), Duration::from_millis(5), "a login", || {
            self.cluster.api.logging_in(replica)
        })
        .await;
        let tokens = self.tokens_of(replica);
        let killed = self.cluster.api.now();
        self.cluster.replicas[replica].kill().await;
        self.taken_over("killed", &tokens, replica, killed, TAKE_OVER).await;
        self.cluster.replicas[replica].join().await;
        self.troubles.push((Some(replica), at, self.cluster.api.now()));
        self.cluster.api.more_logins(30).await;
        self.settled().await;
    }

    /// Stops a replica in the middle of a login, and returns it with the time.
    async fn stop_a_replica(&mut self) -> (usize, Duration) {
        let (replica, at) = (1, self.cluster.api.now());
        until_within(seconds(20), Duration::from_millis(5), "a login", || {
            self.cluster.api.logging_in(replica)
        })
        .await;
        let tokens = self.tokens_of(replica);
        let stopped = self.cluster.api.now();
        self.cluster.replicas[replica].signal(Signal::STOP);
        self.taken_over("stopped", &tokens, replica, stopped, TAKE_OVER).await;
        self.cluster.api.more_logins(20).await;
        (replica, at)
    }

    async fn resume(&mut self, (replica, at): (usize, Duration)) {
        self.cluster.replicas[replica].signal(Signal::CONT);
        let before = self.cluster.api.now();
        self.cluster
            .api
            .until("it checks again", |ledger| {
                ledger.checks.iter().any(|check| check.replica == replica && check.at > before)
            })
            .await;
        self.cluster.api.more_logins(30).await;
        self.settled().await;
        self.troubles.push((Some(replica), at, self.cluster.api.now()));
    }

    async fn nodes_of_etcd_fail(&mut self) {
        let at = self.cluster.api.now();
        let all = [0, 1, 2];
        let leader = self.cluster.etcd.leader(&all).await;
        let follower = (leader + 1) % 3;
        for node in [follower, leader] {
            self.cluster.etcd.kill(node).await;
            self.cluster.api.more_logins(20).await;
            self.cluster.etcd.restart(node);
            self.cluster.etcd.healthy().await;
        }
        let leader = self.cluster.etcd.leader(&all).await;
        let follower = (leader + 1) % 3;
        for node in [follower, leader] {
            self.cluster.etcd.signal(node, Signal::STOP);
            self.cluster.api.more_logins(20).await;
            self.cluster.etcd.signal(node, Signal::CONT);
            self.cluster.etcd.healthy().await;
        }
        self.troubles.push((None, at, self.cluster.api.now()));
    }

    async fn quorum_is_lost(&mut self) {
        for kills in [true, false] {
            let at = self.cluster.api.now();
            let before = self.counts("cluster_unreachable");
            for node in [0, 1] {
                if kills {
                    self.cluster.etcd.kill(node).await;
                } else {
                    self.cluster.etcd.signal(node, Signal::STOP);
                }
            }
            self.counted("cluster_unreachable", &before).await;
            // No replica logs in, and all check.
            let logins = self.cluster.api.see(|ledger| ledger.logins.len());
            let since = self.cluster.api.now();
            let eternal = self.cluster.tokens.iter().filter(|token| token.rules.renews).count();
            let all_checked = |ledger: &Ledger| {
                let checks = ledger.checks.iter().rev().take_while(|check| check.at > since);
                let checked: BTreeSet<_> =
                    checks.filter(|check| is_eternal(&check.token)).map(|it| &it.token).collect();
                checked.len() == eternal
            };
            self.cluster.api.until("all are checked without etcd", all_checked).await;
            let more = self.cluster.api.see(|ledger| ledger.logins[logins..].to_vec());
            assert!(more.is_empty(), "logins without etcd: {more:#?}\n{}", self.story());
            let before = self.counts("cluster_recovered");
            for node in [0, 1] {
                if kills {
                    self.cluster.etcd.restart(node);
                } else {
                    self.cluster.etcd.signal(node, Signal::CONT);
                }
            }
            self.counted("cluster_recovered", &before).await;
            self.cluster.etcd.healthy().await;
            self.cluster.api.more_logins(30).await;
            self.settled().await;
            self.troubles.push((None, at, self.cluster.api.now()));
        }
    }

    async fn partitions(&mut self) {
        let (replica, at) = (2, self.cluster.api.now());
        let tokens = self.tokens_of(replica);
        let before = self.counts("cluster_unreachable")[replica];
        let recovered = self.counts("cluster_recovered")[replica];
        let began = self.cluster.api.now();
        let cut = self.cluster.etcd.cut_replica(replica);
        self.taken_over("cut off", &tokens, replica, began, TAKE_OVER).await;
        self.cluster.replicas[replica].daemon().nth(before + 1, "cluster_unreachable", "").await;
        // It continues to check, and does not log in.
        let (since, logins) = (self.cluster.api.now(), self.logins_by(replica));
        let own = |ledger: &Ledger| {
            let checks = ledger.checks.iter().rev().take_while(|check| check.at > since);
            let checks = checks.filter(|check| check.replica == replica);
            let checked: BTreeSet<_> = checks.map(|check| check.token.clone()).collect();
            checked.is_superset(&tokens)
        };
        self.cluster.api.until("a replica without etcd asks about its part", own).await;
        self.cluster.api.more_logins(20).await;
        assert_eq!(self.logins_by(replica), logins, "logins without etcd\n{}", self.story());
        drop(cut);
        self.cluster.replicas[replica].daemon().nth(recovered + 1, "cluster_recovered", "").await;
        self.settled().await;
        self.troubles.push((Some(replica), at, self.cluster.api.now()));

        let at = self.cluster.api.now();
        let leader = self.cluster.etcd.leader(&[0, 1, 2]).await;
        for node in [leader, (leader + 1) % 3] {
            let cut = self.cluster.etcd.cut_node(node);
            self.cluster.api.more_logins(30).await;
            drop(cut);
            self.cluster.etcd.healthy().await;
        }
        self.cluster.api.more_logins(20).await;
        self.settled().await;
        self.troubles.push((None, at, self.cluster.api.now()));
    }

    async fn rolling_restart(&mut self) {
        for replica in 0..3 {
            let tokens = self.tokens_of(replica);
            let at = self.cluster.api.now();
            self.cluster.replicas[replica].stop().await;
            self.taken_over("SIGTERM", &tokens, replica, at, FAILOVER).await;
            self.cluster.replicas[replica].join().await;
            self.cluster.api.more_logins(10).await;
            self.settled().await;
        }
    }

    /// A new token is in the configuration of one replica only for a while.
    async fn one_reloads_before_the_others(&mut self) {
        for (eternal, number) in [(true, 90), (false, 91)] {
            let kind = if eternal { "eternal" } else { "mortal" };
            let token = format!("{kind}-{number}");
            let new = if eternal { Token::eternal(&*token) } else { Token::mortal(&*token) };
            self.cluster.add_on(0, new);
            self.reload(0).await;
            let checked = |ledger: &Ledger| ledger.checks.iter().any(|it| it.token == token);
            self.cluster.api.until("the new token is checked", checked).await;
            if !eternal {
                let logs_in = |ledger: &Ledger| ledger.logins_of(&token) >= 2;
                self.cluster.api.until("the new token logs in", logs_in).await;
            }
            for replica in [1, 2] {
                self.cluster.configure(replica);
                self.reload(replica).await;
            }
        }
        self.settled().await;
    }

    async fn keys_are_rotated(&mut self) {
        let old_key = "old_key = { file = \"$DIR/cluster.old\" }\n";
        for (index, replica) in self.cluster.replicas.iter().enumerate() {
            replica.stage.write("cluster.old", KEY);
            replica.stage.write("cluster.key", NEW_KEY);
            self.cluster.configure_with(index, &(self.cluster.section(index) + old_key));
            self.reload(index).await;
        }
        self.rekey(1).await;
        for index in 0..3 {
            self.cluster.configure(index);
            self.reload(index).await;
        }
        let dump = self.cluster.etcd.dump().await;
        let dump =
            dump.into_iter().map(|(key, content)| history::Write { key, content: Some(content) });
        let values = history::values(&dump.collect::<Vec<_>>(), &[NEW_KEY]);
        assert!(!values.is_empty(), "no value is in etcd");
        self.cluster.api.more_logins(40).await;
    }

    /// Re-encrypts all values, as soon as the replica knows that all others have the new key.
    async fn rekey(&self, replica: usize) {
        let deadline = clock::now() + PATIENCE;
        loop {
            let output = self.cluster.replicas[replica].command("cluster", &["rekey"]).await;
            if output.status.success() {
                return;
            }
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            // A reload is not known to the others yet, or a login has come in between.
            let again = ["does not have the new key", "run the command again"];
            let again = again.iter().any(|reason| text.contains(reason));
            assert!(again && clock::now() < deadline, "{text}\n{}", self.story());
        }
    }

    async fn reload(&self, replica: usize) {
        let output = self.cluster.replicas[replica].command("reload", &["--wait"]).await;
        assert!(output.status.success(), "{output:?}\n{}", self.story());
    }

    /// How many lines of each replica have this event.
    fn counts(&self, event: &str) -> Vec<usize> {
        let replicas = self.cluster.replicas.iter();
        replicas.map(|replica| replica.daemon().count(event, "")).collect()
    }

    /// Waits for one more line with this event at each replica.
    async fn counted(&self, event: &str, before: &[usize]) {
        for (replica, before) in self.cluster.replicas.iter().zip(before) {
            replica.daemon().nth(before + 1, event, "").await;
        }
    }

    fn logins_by(&self, replica: usize) -> usize {
        let by =
            |ledger: &Ledger| ledger.logins.iter().filter(|login| login.replica == replica).count();
        self.cluster.api.see(by)
    }

    /// Stops all, and judges what the API has seen and what etcd has stored.
    async fn judge(mut self) {
        for replica in &mut self.cluster.replicas {
            replica.stop().await;
        }
        let writes = history::read(&self.cluster.etcd).await;
        history::assert_sealed(&writes);
        let stored = history::values(&writes, &[KEY, NEW_KEY]);
        let ledger = self.cluster.api.ledger();
        let verdict = ledger.judge(&stored);
        report(
            "chaos",
            &format!(
                "{} logins, {} double, {} second ones after a lost value; take-over: {}",
                verdict.logins,
                verdict.double.len(),
                verdict.lost.len(),
                self.figures.join(", "),
            ),
        );
        if let Some(login) = verdict.double.first() {
            let story = self.cluster.story_of(&login.token);
            panic!("{} double logins, such as {login:#?}\n{story}", verdict.double.len());
        }
        // Only logins that were under way when a replica was killed or stopped can lose their value.
        let few = verdict.lost.len() * 100 <= verdict.logins;
        assert!(few, "{} of {} values lost", verdict.lost.len(), verdict.logins);
        for login in &verdict.lost {
            let is_excused = self.is_excused(&ledger, login);
            assert!(is_excused, "{login:#?}\n{}", self.cluster.story_of(&login.token));
        }
        let dead = ledger.dead(is_eternal);
        assert!(dead.is_empty(), "died although they could have lived: {dead:?}\n{}", self.story());
        for token in self.cluster.tokens.iter().filter(|token| token.rules.refuses) {
            let logins = ledger.logins_of(&token.name);
            let counted = (1..=MAX_ATTEMPTS).contains(&logins);
            assert!(counted, "{}: {logins} logins\n{}", token.name, self.story());
        }
        let lines = self.cluster.replicas.iter().flat_map(Replica::lines);
        let mut exhausted = lines.filter(|line| line.is("reauth_exhausted", ""));
        let given_up = exhausted.find(|line| !line.text("token").starts_with("refused"));
        if let Some(line) = given_up {
            panic!("a token is given up\n{}", self.cluster.story_of(line.text("token")));
        }
    }

    /// Whether the login whose value was lost was under way when its replica could not store it.
    fn is_excused(&self, ledger: &Ledger, second: &Login) -> bool {
        let Some(Double::Alive(value)) = &second.double else { return false };
        let first = ledger.logins.iter().find(|login| login.value.as_ref() == Some(value));
        let Some(first) = first else { return false };
        self.troubles.iter().any(|(replica, from, to)| {
            replica.is_none_or(|replica| replica == first.replica)
                && first.began <= *to
                && second.began >= *from
        })
    }
}

fn is_eternal(token: &str) -> bool {
    token.starts_with("eternal")
}
