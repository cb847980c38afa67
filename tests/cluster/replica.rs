//! One replica: a daemon that is killed, stopped and started again.

use std::process::Output;

use rustix::process::Signal;
use serde_json::Value;
use tokenkeep::clock;

use crate::etcd::write_pair;
use crate::network::join_pair;
use crate::support::tls::Pair;
use crate::support::{Daemon, Line, PATIENCE, Stage, get, millis};

/// A replica with a folder of its own, and its log over all of its runs.
pub(crate) struct Replica {
    pub(crate) index: usize,
    pub(crate) stage: Stage,
    /// Environment variables of each run.
    pub(crate) variables: Vec<(&'static str, &'static str)>,
    daemon: Option<Daemon>,
    past: Vec<Line>,
}

/// The name of a replica, counted from 0.
pub(crate) fn name(index: usize) -> &'static str {
    [
        "keeper-a", "keeper-b", "keeper-c", "keeper-d", "keeper-e", "keeper-f", "keeper-g",
        "keeper-h", "keeper-i", "keeper-j",
    ][index]
}

impl Replica {
    pub(crate) fn new(index: usize, stage: Stage) -> Self {
        Self { index, stage, variables: Vec::new(), daemon: None, past: Vec::new() }
    }

    pub(crate) fn start(&mut self) {
        let mut command = self.stage.command("run");
        command.envs(self.variables.iter().copied());
        join_pair(&mut command, self.index);
        self.daemon = Some(Daemon::start(command));
    }

    /// Starts it, and waits until it has joined the cluster.
    pub(crate) async fn join(&mut self) {
        self.start();
        self.daemon().event("cluster_joined", "").await;
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.daemon().signal(signal);
    }

    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        let ended = self.daemon.take().expect("it runs").ended().await;
        self.past.extend(ended.lines);
    }

    /// Ends it as systemd does.
    pub(crate) async fn stop(&mut self) {
        let ended = self.daemon.take().expect("it runs").stop().await;
        self.past.extend(ended.lines);
    }

    /// Waits until it ends by itself, and returns its exit status.
    pub(crate) async fn ends(&mut self) -> Option<i32> {
        let ended = self.daemon.take().expect("it runs").ended().await;
        self.past.extend(ended.lines);
        ended.status.code()
    }

    /// Replaces its client certificate, unnoticed by the daemon.
    pub(crate) fn renew(&self, pair: &Pair) {
        write_pair(&self.stage.path("."), "client", pair);
    }

    /// All lines of all runs.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let running = self.daemon.as_ref().map(Daemon::lines).unwrap_or_default();
        self.past.iter().cloned().chain(running).collect()
    }

    /// How many lines of all runs have this event of this token (an empty name: of any).
    pub(crate) fn count(&self, event: &str, token: &str) -> usize {
        self.lines().iter().filter(|line| line.is(event, token)).count()
    }

    /// Runs a command of the program.
    pub(crate) async fn command(&self, subcommand: &str, arguments: &[&str]) -> Output {
        let mut command = self.stage.command(subcommand);
        command.args(arguments).output().await.expect("it runs")
    }

    /// `GET /v1/tokens`.
    pub(crate) async fn tokens(&self) -> Value {
        get(&self.stage, "/v1/tokens").await.json()
    }

    /// What the status says about one token.
    pub(crate) async fn token(&self, name: &str) -> Value {
        let tokens = self.tokens().await;
        let mut tokens = tokens["tokens"].as_array().expect("tokens").iter();
        tokens.find(|token| token["name"] == name).expect("the token").clone()
    }

    /// Waits until the status about one token satisfies `condition`.
    pub(crate) async fn until(&self, name: &str, what: &str, condition: impl Fn(&Value) -> bool) {
        let deadline = clock::now() + PATIENCE;
        loop {
            let token = self.token(name).await;
            if condition(&token) {
                return;
            }
            assert!(clock::now() < deadline, "not so in time: {what}: {token}\n{}", self.story());
            tokio::time::sleep(millis(20)).await;
        }
    }

    /// Its log without routine lines, for the message of a failure.
    pub(crate) fn story(&self) -> String {
        const AT_MOST: usize = 80;
        let lines = self.lines();
        let told: Vec<_> = lines.iter().filter(|line| line.event() != "token_checked").collect();
        let shown = told[told.len().saturating_sub(AT_MOST)..].iter();
        let shown: Vec<_> = shown.map(|line| format!("  {}", line.0)).collect();
        format!("--- {}\n{}\n", name(self.index), shown.join("\n"))
    }
}
