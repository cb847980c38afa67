//! Restarts: what goes on where it was, what is kept, and what a useless store costs.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tokenkeep::simulator::{Recorded, Simulator};

use crate::support::{Line, Stage, about, millis, seconds, secret, simulator, until};

/// A stage with so many tokens of that life, each in a file. They are asked slowly enough that
/// every check is told of.
fn crowd(server: &Simulator, count: usize, life: Duration) -> Stage {
    let mut text = format!(
        "[schedule]\ncheck_after = 0.5\n[server.sarus]\nurl = \"{}\"\nrate_limit = 90\n",
        server.url()
    );
    for n in 0..count {
        text += &format!("[token.t{n}]\nserver = \"sarus\"\nfile = \"$DIR/t{n}.token\"\n");
    }
    let stage = Stage::new(&text);
    for n in 0..count {
        server.add_token(&stage.token(&format!("t{n}")), life);
    }
    stage
}

/// How many tokens the requests are about.
fn tokens(requests: &[Recorded]) -> usize {
    let values: HashSet<_> =
        requests.iter().filter_map(|request| Some(request.value.as_ref()?.expose())).collect();
    values.len()
}

fn is_answered(request: &Recorded) -> bool {
    request.status == Some(200)
}

fn database(stage: &Stage) -> PathBuf {
    stage.path("state/tokenkeep.db")
}

#[tokio::test]
async fn restart_restores_the_schedule() {
    let server = simulator().await;
    let stage = crowd(&server, 200, seconds(60));
    let daemon = stage.start();
    daemon.until("all alive", |lines| alive(lines) >= 200).await;
    daemon.stop().await;

    let before = server.requests().len();
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    // Not a wait for something: what is looked at is that nothing comes.
    tokio::time::sleep(seconds(4)).await;
    let asked = server.requests().len() - before;
    assert!((1..10).contains(&asked), "a spot check, and no more: {asked} of 200");

    until("all are asked again in their time", || tokens(&server.requests()[before..]) == 200)
        .await;
    let ended = daemon.stop().await;
    let trouble = ended.lines.iter().find(|line| line.0["level"] != "info");
    assert!(trouble.is_none(), "{trouble:?}");
    for n in 0..200 {
        assert!(server.remaining(&secret(&format!("t{n}"))).is_some(), "t{n} lives");
    }
}

/// Tokens that were found alive.
fn alive(lines: &[Line]) -> usize {
    let checked = lines.iter().filter(|line| line.is("token_checked", ""));
    checked.map(|line| line.text("token")).collect::<HashSet<_>>().len()
}

#[tokio::test]
async fn kill_loses_at_most_the_state_of_the_last_second() {
    let server = simulator().await;
    let stage = crowd(&server, 50, seconds(60));
    let daemon = stage.start();
    daemon.until("all alive", |lines| alive(lines) >= 50).await;
    // A second behind at the most; what is waited for is that second.
    tokio::time::sleep(millis(1_500)).await;
    daemon.signal(Signal::KILL);
    daemon.ended().await;

    let before = server.requests().len();
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    tokio::time::sleep(seconds(2)).await;
    let asked = server.requests().len() - before;
    assert!((1..5).contains(&asked), "{asked} of 50");
    daemon.stop().await;
}

#[tokio::test]
async fn failed_spot_check_causes_a_check_of_every_token() {
    let server = simulator().await;
    let stage = crowd(&server, 20, seconds(60));
    let daemon = stage.start();
    daemon.until("all alive", |lines| alive(lines) >= 20).await;
    daemon.stop().await;

    (0..20).for_each(|n| server.expire(&secret(&format!("t{n}"))));
    let daemon = stage.start();
    for n in 0..20 {
        daemon.event("token_expired", &format!("t{n}")).await;
    }
    daemon.stop().await;
}

#[tokio::test]
async fn token_whose_value_changed_during_the_restart_is_checked_at_once() {
    let server = simulator().await;
    let stage = crowd(&server, 5, seconds(60));
    let daemon = stage.start();
    daemon.until("all alive", |lines| alive(lines) >= 5).await;
    daemon.stop().await;

    server.add_token(&secret("changed"), seconds(60));
    stage.replace("t3.token", &secret("changed"));
    let daemon = stage.start();
    daemon.event("token_checked", "t3").await;
    daemon.stop().await;
}

#[tokio::test]
async fn schedule_of_an_expired_token_is_not_restored() {
    let server = simulator().await;
    let stage = crowd(&server, 1, seconds(3));
    let daemon = stage.start();
    daemon.event("token_checked", "t0").await;
    server.expire(&secret("t0"));
    daemon.event("token_expired", "t0").await;
    daemon.stop().await;
    let daemon = stage.start();
    daemon.event("token_expired", "t0").await;
    daemon.stop().await;
}

type Damage = fn(&Path);

#[tokio::test]
async fn unusable_state_database_is_a_warning_and_every_token_is_checked() {
    let damages: [(&str, Damage); 4] = [
        ("damaged", |path| fs::write(path, vec![0x5a; 20_000]).expect("room")),
        ("damaged", |path| {
            let file = OpenOptions::new().write(true).open(path).expect("a file");
            file.set_len(file.metadata().expect("a file").len() / 2).expect("cut");
        }),
        ("damaged", |path| {
            let file = OpenOptions::new().write(true).open(path).expect("a file");
            file.write_all_at(&[0xff; 3_000], 2_048).expect("room");
        }),
        ("version 99", |path| {
            let file = OpenOptions::new().write(true).open(path).expect("a file");
            file.write_all_at(&99_u32.to_be_bytes(), 60).expect("room");
        }),
    ];
    for (n, (told, damage)) in damages.into_iter().enumerate() {
        let server = simulator().await;
        let stage = crowd(&server, 10, seconds(60));
        let daemon = stage.start();
        daemon.until("all alive", |lines| alive(lines) >= 10).await;
        daemon.stop().await;
        damage(&database(&stage));

        let before = server.requests().len();
        let daemon = stage.start();
        let warning = daemon.event("config_warning", "").await;
        let error = warning.text("error");
        assert!(error.contains(told) && error.contains("renamed to"), "damage {n}: {error}");
        until("all are asked", || tokens(&server.requests()[before..]) == 10).await;
        daemon.stop().await;

        let daemon = stage.start();
        daemon.event("daemon_ready", "").await;
        let ended = daemon.stop().await;
        assert_eq!(ended.count("config_warning", ""), 0, "damage {n}: it is said once");
    }
}

/// Tokens whose sources cannot hold a new value; their own are dead, and a hook has others.
fn relogins(server: &Simulator, count: usize, hook: &str, first: &str) -> Stage {
    let mut text = format!(
        "{first}\n[server.sarus]\nurl = \"{}\"\n[reauth.relogin]\ncommand = [\"$DIR/hook\"]\n",
        server.url()
    );
    for n in 0..count {
        text += &format!(
            "[token.t{n}]\nserver = \"sarus\"\ncredential = \"t{n}\"\nreauth = \"relogin\"\n"
        );
    }
    let stage = Stage::new(&text);
    let new = secret("new-$TOKENKEEP_NAME");
    stage.script("hook", &format!("echo $TOKENKEEP_NAME >> $DIR/runs; {hook}; echo \"{new}\""));
    for n in 0..count {
        stage.write(&format!("credentials/t{n}"), &secret(&format!("old-t{n}")));
        server.add_token(&secret(&format!("new-t{n}")), seconds(120));
    }
    stage
}

fn start_with_credentials(stage: &Stage) -> crate::support::Daemon {
    let folder = stage.path("credentials");
    stage.start_with(&[("CREDENTIALS_DIRECTORY", folder.to_str().expect("UTF-8"))])
}

#[tokio::test]
async fn kill_during_logins_loses_no_current_value() {
    let server = simulator().await;
    let stage = relogins(&server, 40, "sleep 0.$(($$ % 4))", "");
    let mut succeeded = HashSet::new();
    for round in 0..3 {
        let daemon = start_with_credentials(&stage);
        let enough = 8 * (round + 1);
        daemon
            .until("some logins", |lines| {
                let new = lines.iter().filter(|line| line.is("reauth_succeeded", ""));
                new.count() + succeeded.len() >= enough
            })
            .await;
        daemon.signal(Signal::KILL);
        let ended = daemon.ended().await;
        for line in ended.all("reauth_succeeded", "") {
            let name = line.text("token").to_owned();
            assert!(succeeded.insert(name.clone()), "{name} logged in again after a restart");
        }
    }
    let daemon = start_with_credentials(&stage);
    until("all new values are found alive", || {
        (0..40).all(|n| about(&server, &secret(&format!("new-t{n}"))).iter().any(is_answered))
    })
    .await;
    daemon.stop().await;
    for name in succeeded {
        let runs = stage.read("runs").lines().filter(|line| **line == *name).count();
        assert_eq!(runs, 1, "{name}");
    }
}

/// A small file system in the place of the state directory; gone when this is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where mounting is not permitted.
    fn new(stage: &Stage) -> Option<Self> {
        let path = stage.path("state");
        fs::create_dir(&path).expect("a folder");
        let mount = ["-t", "tmpfs", "-o", "size=512k,mode=700", "tmpfs"];
        let done = Command::new("mount").args(mount).arg(&path).status();
        done.is_ok_and(|status| status.success()).then_some(Self(path))
    }

    fn fill(&self) {
        let full = fs::write(self.0.join("ballast"), vec![1; 1 << 20]);
        assert!(full.is_err(), "it is full");
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("ballast")).expect("removed");
    }

    fn holds(&self, text: &str) -> bool {
        ["tokenkeep.db", "tokenkeep.db-wal"].iter().any(|name| {
            let content = fs::read(self.0.join(name)).unwrap_or_default();
            content.windows(text.len()).any(|part| part == text.as_bytes())
        })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()), "unmounted");
    }
}

#[tokio::test]
async fn full_disk_keeps_state_in_memory_and_stores_it_once_there_is_room() {
    let server = simulator().await;
    let stage = relogins(&server, 10, "true", "[schedule]\nretry_max = \"2s\"");
    let Some(disk) = SmallDisk::new(&stage) else {
        eprintln!("skipped: mounting a tmpfs is not permitted here");
        return;
    };
    (0..10).for_each(|n| server.add_token(&secret(&format!("old-t{n}")), seconds(2)));
    let daemon = start_with_credentials(&stage);
    daemon.until("all alive", |lines| alive(lines) >= 10).await;
    disk.fill();
    (0..10).for_each(|n| server.expire(&secret(&format!("old-t{n}"))));
    let failed = daemon.event("store_failed", "").await;
    assert!(failed.text("error").contains("file system is full"), "{}", failed.0);
    for n in 0..10 {
        daemon.event("reauth_succeeded", &format!("t{n}")).await;
    }
    disk.make_room();
    for n in 0..10 {
        until("it is stored", || disk.holds(&secret(&format!("new-t{n}")))).await;
    }
    daemon.signal(Signal::KILL);
    daemon.ended().await;

    let daemon = start_with_credentials(&stage);
    daemon.event("daemon_ready", "").await;
    daemon.event("token_checked", "").await;
    let ended = daemon.stop().await;
    assert_eq!(ended.count("reauth_started", ""), 0);
    assert_eq!(stage.lines_in("runs"), 10, "no second login");
}
