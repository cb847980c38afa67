//! What the state database holds: no value that is not current, and no more of it with time.

use std::collections::HashSet;
use std::fs::{self, File};
use std::time::SystemTime;

use rustix::process::Signal;
use tokenkeep::clock;
use tokenkeep::simulator::Simulator;

use crate::support::{Daemon, Stage, about, mode, post, seconds, secret, served, simulator, until};

/// Tokens of an inventory, whose file cannot take a new value; `keys` are general ones.
fn configuration(server: &Simulator, keys: &str) -> String {
    format!(
        "state_dir = \"$DIR/state\"\n{keys}\n[server.sarus]\nurl = \"{}\"\nrate_limit = 5000\n\
         [reauth.relogin]\ncommand = [\"$DIR/hook\"]\ndelay = \"50ms\"\n\
         [inventory.crowd]\nserver = \"sarus\"\nfile = \"$DIR/tokens.jsonl\"\nreauth = \"relogin\"\n",
        server.url()
    )
}

fn line(name: &str, value: &str) -> String {
    format!("{{\"name\": \"{name}\", \"token\": \"{value}\"}}\n")
}

/// A token `quotes` beside another one; its first value is dead, and a login brings "first".
async fn world(keys: &str) -> (Simulator, Stage) {
    let server = simulator().await;
    for name in ["other", "first", "second", "changed"] {
        server.add_token(&secret(name), seconds(600));
    }
    let stage = Stage::new(&configuration(&server, keys));
    stage.write("tokens.jsonl", &both("old"));
    prints(&stage, "first");
    (server, stage)
}

fn both(value: &str) -> String {
    line("other", &secret("other")) + &line("quotes", &secret(value))
}

fn without() -> String {
    line("other", &secret("other"))
}

fn prints(stage: &Stage, value: &str) {
    stage.script("hook", &format!("echo >> $DIR/runs; echo '{}'", secret(value)));
}

/// All that the state directory holds, as text.
fn on_disk(stage: &Stage) -> String {
    let folder = fs::read_dir(stage.path("state")).expect("a folder");
    let files = folder.filter_map(|entry| fs::read(entry.ok()?.path()).ok());
    files.map(|content| String::from_utf8_lossy(&content).into_owned()).collect()
}

/// Whether any file in the state directory holds this value.
fn holds(stage: &Stage, value: &str) -> bool {
    on_disk(stage).contains(&secret(value))
}

/// Waits until a new value is kept.
async fn kept(daemon: &Daemon, stage: &Stage, value: &str) {
    daemon.event("reauth_succeeded", "quotes").await;
    until("the value is kept", || holds(stage, value)).await;
}

async fn gone(stage: &Stage, value: &str) {
    until("the value is erased", || !holds(stage, value)).await;
}

#[tokio::test]
async fn value_that_the_source_supersedes_is_erased() {
    for restart in [false, true] {
        let (server, stage) = world("").await;
        let daemon = stage.start();
        kept(&daemon, &stage, "first").await;
        let replace = || stage.replace("tokens.jsonl", &both("changed"));
        let daemon = if restart {
            daemon.stop().await;
            replace();
            stage.start()
        } else {
            replace();
            daemon
        };
        served(&server, |_| !about(&server, &secret("changed")).is_empty()).await;
        gone(&stage, "first").await;
        daemon.stop().await;
    }
}

#[tokio::test]
async fn value_that_another_login_replaces_is_erased() {
    let (server, stage) = world("").await;
    let daemon = stage.start();
    kept(&daemon, &stage, "first").await;
    prints(&stage, "second");
    server.expire(&secret("first"));
    assert_eq!(post(&stage, "/v1/tokens/quotes/check").await.status, 202);
    until("the value is kept", || holds(&stage, "second")).await;
    gone(&stage, "first").await;
    daemon.stop().await;
}

#[tokio::test]
async fn revoked_value_is_erased() {
    for at_shutdown in [false, true] {
        let (server, stage) = world("").await;
        if at_shutdown {
            let text = configuration(&server, "") + "revoke_on_shutdown = true\n";
            stage.configure(&text);
        }
        let daemon = stage.start();
        kept(&daemon, &stage, "first").await;
        if at_shutdown {
            daemon.stop().await;
            assert!(!holds(&stage, "first"));
        } else {
            stage.script("hook", "exec sleep 60");
            assert_eq!(post(&stage, "/v1/tokens/quotes/revoke").await.status, 202);
            daemon.event("token_revoked", "quotes").await;
            gone(&stage, "first").await;
            daemon.signal(Signal::KILL);
            daemon.ended().await;
        }
    }
}

/// Removes the token while the daemon runs, or while none does.
async fn removed(stage: &Stage, daemon: Daemon, restart: bool) -> Daemon {
    if restart {
        daemon.signal(Signal::KILL);
        daemon.ended().await;
        stage.replace("tokens.jsonl", &without());
        let daemon = stage.start();
        daemon.event("inventory_loaded", "").await;
        return daemon;
    }
    stage.replace("tokens.jsonl", &without());
    daemon
        .until("it is removed", |lines| {
            lines
                .iter()
                .any(|line| line.is("inventory_loaded", "") && line.number("tokens_removed") == 1)
        })
        .await;
    daemon
}

/// Removes the token while the daemon runs, or while none does, and adds it again.
async fn removed_and_added(keep: &str, restart: bool) -> (Simulator, Stage, Daemon) {
    let (server, stage) = world(&format!("keep_removed = \"{keep}\"")).await;
    let daemon = stage.start();
    kept(&daemon, &stage, "first").await;
    let daemon = removed(&stage, daemon, restart).await;
    if keep == "1s" {
        gone(&stage, "first").await;
    }
    prints(&stage, "second");
    stage.replace("tokens.jsonl", &both("old"));
    (server, stage, daemon)
}

#[tokio::test]
async fn removed_token_that_is_added_again_in_time_gets_its_value_back() {
    for restart in [false, true] {
        let (server, stage, daemon) = removed_and_added("1h", restart).await;
        let before = about(&server, &secret("first")).len();
        if restart {
            daemon.event("token_checked", "quotes").await;
        } else {
            served(&server, |_| about(&server, &secret("first")).len() > before).await;
        }
        daemon.stop().await;
        assert_eq!(stage.lines_in("runs"), 1, "restart: {restart}");
        assert!(holds(&stage, "first"));
    }
}

#[tokio::test]
async fn removed_token_that_is_added_again_too_late_does_not_get_its_value_back() {
    for restart in [false, true] {
        let (server, stage, daemon) = removed_and_added("1s", restart).await;
        served(&server, |_| !about(&server, &secret("second")).is_empty()).await;
        daemon.stop().await;
        assert_eq!(stage.lines_in("runs"), 2, "restart: {restart}");
    }
}

#[tokio::test]
async fn removed_token_that_is_added_again_gets_no_further_login_attempts() {
    for restart in [false, true] {
        let (server, stage) = world("").await;
        let text = configuration(&server, "");
        stage.configure(&text.replace("delay =", "max_attempts = 2\ndelay ="));
        stage.script("hook", "echo >> $DIR/runs; exit 1");
        let daemon = stage.start();
        daemon.event("reauth_exhausted", "quotes").await;
        let daemon = removed(&stage, daemon, restart).await;
        let before = daemon.count("reauth_exhausted", "quotes");
        stage.replace("tokens.jsonl", &both("old"));
        let exhausted = daemon.nth(before + 1, "reauth_exhausted", "quotes").await;
        assert_eq!(exhausted.number("attempt"), 2);
        daemon.stop().await;
        assert_eq!(stage.lines_in("runs"), 2, "restart: {restart}");
    }
}

#[tokio::test]
async fn value_of_a_login_during_which_its_token_is_removed_is_used() {
    // Whether the token is added again before the login ends, and how many attempts it has.
    for (is_added, attempts) in [(false, 5), (true, 5), (true, 1)] {
        let (server, stage) = world("").await;
        let text = configuration(&server, "");
        stage.configure(&text.replace("delay =", &format!("max_attempts = {attempts}\ndelay =")));
        let wait = "echo >> $DIR/runs\nwhile [ ! -e $DIR/go ]; do sleep 0.05; done";
        stage.script("hook", &format!("{wait}\necho '{}'", secret("first")));
        let daemon = stage.start();
        daemon.event("reauth_started", "quotes").await;
        until("the command runs", || stage.lines_in("runs") == 1).await;
        let daemon = removed(&stage, daemon, false).await;
        if is_added {
            stage.replace("tokens.jsonl", &both("old"));
            if attempts == 1 {
                daemon.event("reauth_exhausted", "quotes").await;
            } else {
                daemon.nth(2, "reauth_started", "quotes").await;
            }
        }
        stage.write("go", "");
        until("the value is kept", || holds(&stage, "first")).await;
        stage.replace("tokens.jsonl", &both("old"));
        served(&server, |_| !about(&server, &secret("first")).is_empty()).await;
        daemon.stop().await;
        assert_eq!(stage.lines_in("runs"), 1, "added: {is_added}, attempts: {attempts}");
    }
}

/// Names in an inventory, and in the configuration that is reloaded or restarted.
const NAMES: usize = 1_000;

/// Lives that are written in two commits instead of one take up to a page more each time.
const PARTLY_FILLED: u64 = 3 * 4_096;

/// Restarts and reloads.
const ROUNDS: usize = 200;

/// The names of a round: a tenth of those of the round before has been replaced.
fn names(round: usize) -> impl Iterator<Item = String> {
    (0..NAMES).map(move |n| {
        let replaced = round / 10 + usize::from(round % 10 > n % 10);
        format!("t{n:04}-{replaced:04}")
    })
}

/// The names of a round whose value a login brings.
fn logged_in(round: usize) -> impl Iterator<Item = String> {
    names(round).filter(|name| name.starts_with("t00"))
}

/// The size of the database after a restart at which nothing has changed.
async fn size(stage: &Stage, daemon: Daemon) -> u64 {
    daemon.stop().await;
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    daemon.stop().await;
    fs::metadata(stage.path("state/tokenkeep.db")).expect("a file").len()
}

#[tokio::test]
async fn database_does_not_grow_with_restarts_reloads_and_replaced_names() {
    let server = simulator().await;
    let crowd = |round| names(round).map(|name| line(&name, &secret(&name))).collect::<String>();
    let text = configuration(&server, "keep_removed = \"0s\"\nmax_hooks = 16");
    // What is kept for a stated time must be over by the end.
    let stage = Stage::new(&text.replace("delay =", "window = \"1s\"\ndelay ="));
    stage.write("tokens.jsonl", &crowd(0));
    stage.script("hook", "echo \"S3CR3T/new-$TOKENKEEP_NAME+=\"");
    let known = |round: usize| {
        for name in names(round) {
            server.add_token(&secret(&name), seconds(36_000));
        }
        for name in logged_in(round) {
            server.expire(&secret(&name));
            server.add_token(&secret(&format!("new-{name}")), seconds(36_000));
        }
    };
    known(0);
    let mut daemon = stage.start();
    let mut first = 0;
    let (mut asked, mut read) = (HashSet::new(), 0);
    for round in 1..=ROUNDS {
        let mut wanted: Vec<String> =
            logged_in(round - 1).map(|name| secret(&format!("new-{name}"))).collect();
        served(&server, |requests| {
            let new = requests[read..].iter();
            asked.extend(new.filter_map(|one| Some(one.value.as_ref()?.expose().to_owned())));
            read = requests.len();
            wanted.retain(|value| !asked.contains(value));
            wanted.is_empty()
        })
        .await;
        if round == 11 {
            first = size(&stage, daemon).await;
            daemon = stage.start();
            daemon.event("daemon_ready", "").await;
        }
        known(round);
        let text = crowd(round);
        if round % 2 == 0 {
            stage.replace("tokens.jsonl", &text);
            daemon.signal(Signal::HUP);
        } else {
            daemon.stop().await;
            stage.replace("tokens.jsonl", &text);
            daemon = stage.start();
        }
    }
    let current: HashSet<String> = logged_in(ROUNDS).collect();
    let removed = (0..ROUNDS).flat_map(logged_in).filter(|name| !current.contains(name));
    let removed: HashSet<String> = removed.map(|name| format!("new-{name}")).collect();
    until("values of removed tokens are erased", || {
        let held = on_disk(&stage);
        let values = held.match_indices("new-t00");
        let values = values.map(|(at, _)| held[at..].chars().take(15).collect::<String>());
        values.filter(|value| removed.contains(value)).count() == 0
    })
    .await;
    let last = size(&stage, daemon).await;
    println!("{first} bytes after 10 rounds, {last} after {ROUNDS}");
    assert!(last <= first + PARTLY_FILLED, "{last} bytes after {first}");
}

#[tokio::test]
async fn copy_of_a_damaged_database_is_private_and_deleted_after_a_week() {
    let (_server, stage) = world("").await;
    let daemon = stage.start();
    kept(&daemon, &stage, "first").await;
    daemon.stop().await;
    let mut content = fs::read(stage.path("state/tokenkeep.db")).expect("a database");
    let half = content.len() / 2;
    content.truncate(half);
    fs::write(stage.path("state/tokenkeep.db"), &content).expect("room");
    let daemon = stage.start();
    let warning = daemon.event("config_warning", "").await;
    assert!(warning.text("error").contains("deleted after 7 days"), "{warning:?}");
    daemon.stop().await;

    let copy = stage.path("state/tokenkeep.db.damaged");
    assert_eq!(mode(&copy), 0o600);
    // A start before its time leaves it there.
    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    daemon.stop().await;
    let file = File::open(&copy).expect("it is kept");
    let week = seconds(7 * 24 * 3600 + 60);
    file.set_modified(SystemTime::from(clock::wall_clock()) - week).expect("own file");
    let daemon = stage.start();
    until("it is deleted", || !copy.exists()).await;
    daemon.stop().await;
}
