//! `kill -9` at every point from the response of a refresh to the stored values.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::tap::Tap;
use super::{server_table, token_table};
use crate::kill::{kill_at, watch};
use crate::observe::{check, is_alive, story, takes};
use crate::scenario::TOKEN;
use crate::servers::{CLIENT, Oidc, Server as _};
use crate::support::{Daemon, Stage, seconds};

/// When the daemon is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// The server has used up the refresh token, and its response is on the way.
    BeforeResponse,
    /// At this change in the folder of the refresh token, counted from 1.
    Refresh(usize),
    /// At this change in the folder of the value.
    Value(usize),
    /// When the renewal is complete.
    Complete,
}

/// What a kill led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    FamilyLives,
    LoggedIn,
}

/// One server and one token with a login.
struct Trial {
    server: Oidc,
    tap: Tap,
    stage: Stage,
    /// The folder that refresh tokens are written to.
    folder: PathBuf,
    /// Whether `folder` is the token's file, so that a stored refresh token can be seen.
    is_file: bool,
}

impl Trial {
    /// `refresh`: the configured source. `folder`: where new refresh tokens go.
    async fn new(refresh: &str, folder: &str) -> Self {
        let server = Oidc::start().await;
        let tap = Tap::start(&server.url()).await;
        let configuration = "[reauth.client]\nlogin = true\n".to_owned()
            + &server_table(&tap.url(), "")
            + &token_table(refresh, "reauth = \"client\"");
        let stage = Stage::new(&configuration);
        stage.write("client-secret", CLIENT.1);
        std::fs::create_dir(stage.path("run")).expect("a folder");
        std::fs::create_dir_all(stage.path("keep")).expect("a folder");
        let (folder, is_file) = (stage.path(folder), folder == "keep");
        Self { server, tap, stage, folder, is_file }
    }

    fn start(&self) -> Daemon {
        self.stage.start_with(&[(
            "CREDENTIALS_DIRECTORY",
            self.stage.path("keep").to_str().expect("UTF-8"),
        )])
    }

    /// Kills a daemon with a new family at this point of a renewal, and starts it again.
    async fn kill(&self, point: Point) -> Outcome {
        let first = self.server.first().await;
        self.stage.replace("keep/app.refresh", &first);
        let daemon = self.start();
        check(&daemon, &self.stage, &["--no-wait", TOKEN]).await;
        let in_use = || {
            let is_used = self.server.refreshes().iter().any(|used| used.token == first);
            is_used && self.stage.read("run/app.token").trim() == self.tap.seen().access
        };
        takes(&daemon, seconds(20), "the new family is in use", in_use).await;

        self.tap.hold();
        let before = self.tap.seen();
        check(&daemon, &self.stage, &["--no-wait", TOKEN]).await;
        let used = || self.tap.seen().refreshes > before.refreshes;
        takes(&daemon, seconds(20), "a refresh waits for its response", used).await;
        let pid = daemon.pid();
        match point {
            Point::BeforeResponse => daemon.signal(Signal::KILL),
            Point::Refresh(nth) => self.release_and_kill(pid, &self.folder, nth).await,
            Point::Value(nth) => self.release_and_kill(pid, &self.stage.path("run"), nth).await,
            Point::Complete => {
                self.tap.release();
                daemon.more(1, "token_checked", TOKEN).await;
                daemon.signal(Signal::KILL);
            }
        }
        daemon.ended().await;
        self.tap.release();
        self.restart(point).await
    }

    /// Lets the response pass, and kills the daemon at the `nth` change in this folder.
    async fn release_and_kill(&self, pid: u32, folder: &Path, nth: usize) {
        let changes = watch(folder);
        let killed = tokio::task::spawn_blocking(move || kill_at(pid, changes, nth));
        self.tap.release();
        killed.await.expect("it is killed");
    }

    async fn restart(&self, point: Point) -> Outcome {
        let (before, uses) = (self.tap.seen(), self.server.refreshes());
        let is_stored = self.stage.read("keep/app.refresh").trim() == before.refresh;
        let daemon = self.start();
        daemon.event("daemon_ready", "").await;
        check(&daemon, &self.stage, &["--no-wait", TOKEN]).await;
        let is_settled = || {
            let now = self.tap.seen();
            (now.refresh != before.refresh || now.logins > before.logins)
                && is_alive(&daemon, TOKEN)
        };
        takes(&daemon, seconds(20), "the token is renewed or replaced", is_settled).await;
        let value = self.stage.read("run/app.token");
        assert_eq!(
            self.server.is_alive(value.trim()).await,
            Some(true),
            "{point:?}: {}",
            story(&daemon)
        );

        let now = self.tap.seen();
        let outcome =
            if now.logins == before.logins { Outcome::FamilyLives } else { Outcome::LoggedIn };
        let accepted = self.server.refreshes()[uses.len()..].iter().all(|used| used.status == 200);
        match outcome {
            Outcome::FamilyLives => assert!(accepted, "{point:?}: {:#?}", self.server.refreshes()),
            Outcome::LoggedIn => {
                assert_eq!(now.logins, before.logins + 1, "{point:?}: {}", story(&daemon));
                assert_eq!(
                    daemon.count("token_rejected", TOKEN),
                    1,
                    "{point:?}: {}",
                    story(&daemon)
                );
                assert_eq!(
                    daemon.count("reauth_succeeded", TOKEN),
                    1,
                    "{point:?}: {}",
                    story(&daemon)
                );
            }
        }
        if self.is_file {
            let expected = if is_stored { Outcome::FamilyLives } else { Outcome::LoggedIn };
            assert_eq!(outcome, expected, "{point:?}: stored: {is_stored}\n{}", story(&daemon));
        }
        daemon.stop().await;
        outcome
    }
}

/// All points, in their order.
fn points(refresh: usize, value: usize) -> Vec<Point> {
    let refresh = (1..=refresh).map(Point::Refresh);
    let value = (1..=value).map(Point::Value);
    [Point::BeforeResponse]
        .into_iter()
        .chain(refresh)
        .chain(value)
        .chain([Point::Complete])
        .collect()
}

async fn kill_at_each(trial: &Trial, points: Vec<Point>) {
    let mut outcomes = Vec::new();
    for point in points {
        let outcome = trial.kill(point).await;
        outcomes.push((point, outcome));
        let possible = match point {
            Point::BeforeResponse => outcome == Outcome::LoggedIn,
            Point::Refresh(_) => true,
            Point::Value(_) | Point::Complete => outcome == Outcome::FamilyLives,
        };
        assert!(possible, "{outcomes:?}");
    }
    println!("profiles: oidc: kill -9 during a refresh: {outcomes:?}");
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn family_in_a_file_survives_every_kill_from_the_first_write_on() {
    let trial = Trial::new("file = \"$DIR/keep/app.refresh\"", "keep").await;
    kill_at_each(&trial, points(5, 5)).await;
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn family_in_the_state_database_survives_every_kill_from_the_first_write_on() {
    let trial = Trial::new("credential = \"app.refresh\"", "state").await;
    kill_at_each(&trial, points(4, 5)).await;
}
