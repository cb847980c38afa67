//! Restarts, reboots, kills and stops of the daemon's process.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tokenkeep::clock::Stopwatch;
use tokenkeep::simulator::{Behaviour, Simulator};

use crate::kill::{kill, kill_at, watch};
use crate::namespace::{bind_mount, isolated, report};
use crate::observe::{assert_no_death, check, is_alive, secs, story, takes};
use crate::support::{
    Daemon, Stage, about, get, millis, seconds, secret, server_table, simulator_with, token_table,
};

/// The names and lives of healthy tokens.
type Healthy = Vec<(String, Duration)>;

/// A server and a stage with these tokens.
async fn healthy(tokens: &Healthy, more: &str) -> (Simulator, Stage) {
    let server = simulator_with(Behaviour {
        api_key: Some(secret("key").into()),
        login_life: Some(seconds(600)),
        ..Behaviour::default()
    })
    .await;
    let stage = Stage::new("");
    let mut text = server_table("sarus", &server, "") + more;
    for (name, life) in tokens {
        text += &token_table(name, "sarus", "");
        server.add_token(&stage.token(name), *life);
    }
    stage.configure(&text);
    stage.write("key", &secret("key"));
    (server, stage)
}

/// Waits until all of these tokens have been found alive.
async fn all_checked(daemon: &Daemon, tokens: &Healthy) {
    takes(daemon, seconds(20), "all tokens are checked", || {
        tokens.iter().all(|(name, _)| is_alive(daemon, name))
    })
    .await;
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn a_reboot_with_a_stopped_clock_costs_no_token() {
    isolated(async || {
        let tokens: Healthy = (0..20).map(|n| (format!("t{n:02}"), seconds(300))).collect();
        let (server, stage) = healthy(&tokens, "").await;
        let daemon = stage.start();
        all_checked(&daemon, &tokens).await;
        // Lives are recorded a second late at most.
        tokio::time::sleep(millis(1_500)).await;
        daemon.signal(Signal::KILL);
        daemon.ended().await;

        // 280 s have passed for the server, and none on this machine's wall clock.
        let boot = stage.write("boot_id", "01234567-89ab-4cde-8f01-23456789abcd\n");
        bind_mount(&boot, Path::new("/proc/sys/kernel/random/boot_id"));
        for (name, _) in &tokens {
            server.add_token(&secret(name), seconds(20));
        }
        let asked = server.requests().len();
        let latency = seconds(3);
        server.set_behaviour(Behaviour { latency, ..Behaviour::default() });
        let daemon = stage.start();
        daemon.event("daemon_ready", "").await;
        // Whether it counts tokens as alive that no response of this boot confirms.
        let counts = get(&stage, "/v1/health").await.json()["counts"].clone();
        let early = server.requests().len() == asked;
        server.set_behaviour(Behaviour::default());
        let what = "every token is checked in this boot";
        let took = takes(&daemon, seconds(19), what, || {
            let requests = server.requests();
            let is_asked = |name: &str| {
                let value = secret(name);
                let is = |value: &str, request: &tokenkeep::simulator::Recorded| {
                    request.value.as_ref().is_some_and(|asked| asked.expose() == value)
                };
                requests[asked..].iter().any(|request| is(&value, request))
            };
            tokens.iter().all(|(name, _)| is_asked(name))
        })
        .await;
        let dead = server.requests()[asked..].iter().filter(|r| r.status == Some(410)).count();
        assert_eq!(dead, 0, "died unasked\n{}", story(&daemon));
        all_checked(&daemon, &tokens).await;
        assert!(!early || counts["alive"] == 0, "known from another boot alone: {counts}");
        report(
            "reboot, wall clock stood still, 20 tokens with 20 s of 300 s left",
            &format!("all asked within {}, none died; counts before: {counts}", secs(took)),
        );
        daemon.stop().await;
    });
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn a_process_that_was_stopped_for_40_seconds_catches_up() {
    isolated(async || {
        let lives = [60; 50].into_iter().chain([3600; 5]);
        let tokens: Healthy =
            lives.enumerate().map(|(n, life)| (format!("t{n:02}"), seconds(life))).collect();
        let mut more = "[reauth.login]\napi_key_file = \"$DIR/key\"\n".to_owned();
        let brief = ["brief0", "brief1", "brief2"];
        for name in brief {
            more += &token_table(name, "sarus", "reauth = \"login\"");
        }
        let (server, stage) = healthy(&tokens, &more).await;
        for name in brief {
            server.add_token(&stage.token(name), seconds(20));
        }
        let daemon = stage.start();
        all_checked(&daemon, &tokens).await;
        daemon.signal(Signal::STOP);
        tokio::time::sleep(seconds(40)).await;
        let asked = server.requests().len();
        daemon.signal(Signal::CONT);
        let took = takes(&daemon, seconds(10), "all tokens of 60 s are renewed", || {
            tokens[..50].iter().all(|(name, life)| {
                server.remaining(&secret(name)).is_some_and(|left| left > *life / 2)
            })
        })
        .await;
        let back = takes(&daemon, seconds(15), "those that had to die are alive again", || {
            brief
                .iter()
                .all(|name| is_alive(&daemon, name) && daemon.count("token_expired", name) > 0)
        })
        .await;
        assert_no_death(&daemon, |name| name.starts_with('t'));
        let requests = server.requests().len() - asked;
        assert!(requests < 200, "{requests} requests after SIGCONT");
        report(
            "SIGSTOP for 40 s",
            &format!(
                "50 tokens of 60 s renewed within {}, 3 tokens of 20 s logged in after {}, {requests} requests",
                secs(took),
                secs(took + back)
            ),
        );
        daemon.stop().await;
    });
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn a_restart_beside_a_hanging_login_costs_no_token() {
    isolated(async || {
        let tokens: Healthy = (0..60).map(|n| (format!("t{n:02}"), seconds(8 + n / 5))).collect();
        let more = "[reauth.hang]\ncommand = [\"$DIR/hang\"]\n".to_owned()
            + &token_table("dead", "sarus", "reauth = \"hang\"");
        let (server, stage) = healthy(&tokens, &more).await;
        let dead = stage.token("dead");
        server.add_token(&dead, seconds(60));
        server.expire(&dead);
        stage.script("hang", "echo >> $DIR/hanging\nexec sleep 300");
        let daemon = stage.start();
        all_checked(&daemon, &tokens).await;
        takes(&daemon, seconds(20), "the login hangs", || stage.lines_in("hanging") == 1).await;
        let began = Stopwatch::start();
        let asked = server.requests().len();
        daemon.signal(Signal::TERM);
        let ended = daemon.ended().await;
        let stopped = began.elapsed();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        let in_grace = server.requests().len() - asked;
        let daemon = stage.start();
        all_checked(&daemon, &tokens).await;
        // One more life of the shortest: what died in between shows by then.
        takes(&daemon, seconds(20), "all short tokens are checked again", || {
            let checks = |name: &str| daemon.count("token_checked", name);
            tokens[..10].iter().all(|(name, _)| checks(name) >= 2)
        })
        .await;
        let lost = tokens.iter().filter(|(name, _)| {
            about(&server, &secret(name)).iter().any(|request| request.status == Some(410))
        });
        assert_eq!(lost.count(), 0, "died in the grace period\n{}", story(&daemon));
        assert_no_death(&daemon, |name| name.starts_with('t'));
        report(
            "restart beside a hanging login, 60 tokens of 8 to 20 s",
            &format!("{} to stop, {in_grace} checks meanwhile, no death", secs(stopped)),
        );
        daemon.signal(Signal::KILL);
    });
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn a_kill_between_write_and_rename_loses_no_value() {
    isolated(async || {
        /// At the first to the fifth change in the token's folder, and by time.
        const POINTS: usize = 6;
        const KILLS: usize = 30;
        let server = simulator_with(Behaviour::default()).await;
        let stage = Stage::new(
            &("[reauth.login]\ncommand = [\"$DIR/login\"]\ndelay = \"50ms\"\ndelay_max = \"50ms\"\n\
               max_attempts = 100000\nmax_failures_all = 100000\n"
                .to_owned()
                + &server_table("sarus", &server, "")
                + "[token.quotes]\nserver = \"sarus\"\nreauth = \"login\"\n\
                   file = \"$DIR/box/quotes.token\"\n"),
        );
        stage.script(
            "login",
            "echo >> $DIR/runs\necho \"S3CR3T/new-$(wc -l < $DIR/runs)+=\"\necho >> $DIR/ended",
        );
        for n in 1..=4 * KILLS {
            server.add_token(&secret(&format!("new-{n}")), seconds(3600));
        }
        let first = secret("first");
        server.add_token(&first, seconds(3600));
        stage.write("box/quotes.token", &first);
        let folder = stage.path("box");

        let mut repeated = 0;
        let mut daemon = stage.start();
        for n in 0..KILLS {
            takes(&daemon, seconds(20), "the token is alive", || is_alive(&daemon, "quotes")).await;
            let current = current(&server);
            let (before, ended) = (stage.lines_in("runs"), stage.lines_in("ended"));
            let changes = watch(&folder);
            server.expire(&current);
            check(&daemon, &stage, &["--no-wait", "quotes"]).await;
            takes(&daemon, seconds(20), "a login runs", || stage.lines_in("runs") > before).await;
            let pid = daemon.pid();
            if n % POINTS == 0 {
                let what = "the login ends";
                takes(&daemon, seconds(20), what, || stage.lines_in("ended") > ended).await;
                std::thread::sleep(millis(n as u64 / 2));
                kill(pid);
            } else {
                kill_at(pid, changes, n % POINTS);
            }
            daemon.ended().await;
            let new = secret(&format!("new-{}", stage.lines_in("runs")));
            let kept = stage.read("box/quotes.token").trim() == new;
            let logins = stage.lines_in("runs");

            daemon = stage.start();
            takes(&daemon, seconds(20), "the token is alive", || is_alive(&daemon, "quotes")).await;
            let more = stage.lines_in("runs") - logins;
            let allowed = usize::from(!kept);
            assert!(more <= allowed, "kill {n}: {more} logins although kept: {kept}");
            repeated += more;
            let held = stage.read("box/quotes.token");
            assert!(!held.trim().is_empty(), "kill {n}: the file holds nothing");
        }
        daemon.stop().await;
        // A token's value in a temporary file of a killed process is not lost, but left behind.
        let entries = fs::read_dir(&folder).expect("a folder");
        let left = entries.count() - 1;
        report(
            "kill -9 during a login and its storing",
            &format!(
                "{KILLS} kills, {repeated} logins repeated, no stored value lost, {left} temporary \
                 files left"
            ),
        );
    });
}

/// The value that was last found alive.
fn current(server: &Simulator) -> String {
    let requests = server.requests();
    let last = requests.iter().rev().find(|request| request.status == Some(200));
    last.and_then(|request| request.value.as_ref()).expect("a check").expose().to_owned()
}
