//! The event log under floods: no warning or error of another kind hides an event of level error,
//! nothing is lost without being counted, and every change of a value is one event.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use tokenkeep::clock;
use tokenkeep::simulator::{Behaviour, RenewsBy, Simulator};

use crate::doubles::{Plan, PlanFaults as _, Trouble};
use crate::support::{
    Daemon, Ended, Line, Stage, about, expired, post, prints_new, seconds, secret, served,
    server_table, simulator, simulator_with, token_table, until,
};

/// Long enough for a debug build to read a hundred thousand files on a loaded machine.
const LONG: Duration = seconds(100);

/// An inventory `crowd` of this many files that every user can read, and a token `quotes` of
/// another server, which is checked every second or two.
async fn open_files(count: usize) -> (Simulator, Simulator, Stage) {
    let (crowd, server) = (simulator().await, simulator().await);
    let stage = Stage::new(
        &[
            server_table("crowd", &crowd, "rate_limit = 100"),
            server_table("sarus", &server, ""),
            "[inventory.crowd]\nserver = \"crowd\"\ndir = \"$DIR/tokens\"\n".to_owned(),
            "[token.quotes]\nserver = \"sarus\"\nfile = \"$DIR/quotes.token\"\n".to_owned(),
        ]
        .concat(),
    );
    server.add_token(&stage.token("quotes"), seconds(4));
    fs::create_dir(stage.path("tokens")).expect("a folder");
    for n in 0..count {
        let path = stage.path(&format!("tokens/t{n:06}"));
        let value = secret(&format!("t{n:06}"));
        fs::write(&path, &value).expect("room");
        fs::set_permissions(path, Permissions::from_mode(0o644)).expect("own file");
        crowd.add_token(&value, seconds(36_000));
    }
    (crowd, server, stage)
}

/// Waits for the first line of this event, in a daemon with a lot to do.
async fn slowly(daemon: &Daemon, event: &str, token: &str) -> Line {
    let deadline = clock::now() + LONG;
    while daemon.count(event, token) == 0 {
        assert!(clock::now() < deadline, "{event} is not in the log: {:#?}", daemon.lines());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    daemon.event(event, token).await
}

/// The death of `quotes` beside `count` files that every user can read: how long it took from
/// the server's response to the line.
async fn death_beside(count: usize) -> Duration {
    let (_crowd, server, stage) = open_files(count).await;
    let daemon = stage.start();
    slowly(&daemon, "daemon_ready", "").await;
    served(&server, |requests| !requests.is_empty()).await;
    server.expire(&secret("quotes"));
    let responded = server.until(|requests| requests.iter().any(|one| one.status == Some(410)));
    tokio::time::timeout(LONG, responded).await.expect("a check");
    let since = clock::now();
    slowly(&daemon, "token_expired", "quotes").await;
    let took = clock::now().since(since);
    // All the warnings, those that were written and those that are summarised.
    let warned = || {
        let own = daemon.all("config_warning", "").into_iter();
        let open = own.filter(|line| line.text("message").contains("readable by other users"));
        open.map(|line| line.0["suppressed"].as_u64().unwrap_or(1)).sum::<u64>()
    };
    until("every warning is counted", || warned() == count as u64).await;
    assert!(daemon.count("config_warning", "") < 100, "they are summarised");
    daemon.stop().await;
    took
}

#[tokio::test]
async fn a_death_is_logged_beside_a_thousand_files_that_others_can_read() {
    let took = death_beside(1_100).await;
    assert!(took < seconds(10), "{took:?}");
}

#[tokio::test]
async fn a_death_is_logged_beside_twenty_thousand_files_that_others_can_read() {
    let took = death_beside(20_000).await;
    assert!(took < seconds(10), "{took:?}");
}

#[tokio::test]
#[ignore = "writes and reads a hundred thousand files; run it alone"]
async fn a_death_is_logged_within_a_second_beside_a_hundred_thousand_files() {
    let took = death_beside(100_000).await;
    println!("the death was in the log after {took:?}");
    assert!(took < seconds(1), "{took:?}");
}

#[tokio::test]
async fn reloads_repeat_no_warning_and_are_always_logged() {
    let (_crowd, server, stage) = open_files(1_100).await;
    stage.write("tokens/bad\tname", &secret("bad"));
    let configuration = stage.read("tokenkeep.toml");
    let daemon = stage.start();
    let summarised = |lines: &[Line]| {
        lines.iter().any(|line| line.is("config_warning", "") && line.has("suppressed"))
    };
    daemon.until("the warnings are summarised", summarised).await;
    served(&server, |requests| !requests.is_empty()).await;
    let warnings = || daemon.count("config_warning", "");
    let before = warnings();
    for n in 1..=12 {
        daemon.signal(Signal::HUP);
        daemon.nth(n, "config_reloaded", "").await;
        daemon.nth(n + 1, "inventory_loaded", "").await;
    }
    stage.replace("tokenkeep.toml", "[server");
    daemon.signal(Signal::HUP);
    daemon.event("config_rejected", "").await;
    assert_eq!(warnings(), before, "{:#?}", daemon.all("config_warning", ""));

    // What is new is reported.
    stage.replace("tokenkeep.toml", &configuration);
    stage.write("tokens/worse\tname", &secret("worse"));
    daemon.nth(before + 1, "config_warning", "").await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_death_is_logged_beside_a_thousand_rejected_tokens_and_all_lines_are_counted() {
    const CROWD: u64 = 1_500;
    let (crowd, server) = (simulator().await, simulator().await);
    let stage = Stage::new(
        &[
            server_table("crowd", &crowd, "rate_limit = 5000"),
            server_table("sarus", &server, ""),
            "[inventory.crowd]\nserver = \"crowd\"\nfile = \"$DIR/tokens.jsonl\"\n".to_owned(),
            "[token.quotes]\nserver = \"sarus\"\nfile = \"$DIR/quotes.token\"\n".to_owned(),
        ]
        .concat(),
    );
    let line = |n| format!("{{\"name\": \"t{n}\", \"token\": \"{}\"}}\n", secret(&format!("t{n}")));
    stage.write("tokens.jsonl", &(0..CROWD).map(line).collect::<String>());
    server.add_token(&stage.token("quotes"), seconds(4));
    let daemon = stage.start();
    // Each is rejected by the second query.
    let rejected = |requests: &[tokenkeep::simulator::Recorded]| {
        requests.iter().filter(|one| one.status == Some(401)).count() as u64 >= 2 * CROWD
    };
    tokio::time::timeout(LONG, crowd.until(rejected)).await.expect("in time");
    server.expire(&secret("quotes"));
    daemon.event("token_expired", "quotes").await;
    let ended = daemon.stop().await;
    let left_out = |line: &&Line| line.is("events_suppressed", "") && line.has("detail");
    let details: String = ended
        .lines
        .iter()
        .filter(left_out)
        .map(|line| line.text("detail").to_owned() + ", ")
        .collect();
    let left_out: u64 = details
        .split(", ")
        .filter_map(|part| part.strip_prefix("token_rejected ")?.parse::<u64>().ok())
        .sum();
    assert!(left_out > 0, "{details}");
    assert_eq!(ended.count("token_rejected", "") as u64 + left_out, CROWD, "{details}");
}

/// A server of `behaviour` with the tokens `quotes` and `orders`, each with its file.
async fn two_tokens(behaviour: Behaviour, keys: &str) -> (Simulator, Stage) {
    let server = simulator_with(behaviour).await;
    let tables = ["quotes", "orders"].map(|name| token_table(name, "sarus", ""));
    let stage = Stage::new(&(server_table("sarus", &server, keys) + &tables.concat()));
    server.add_token(&stage.token("quotes"), seconds(4));
    server.add_token(&stage.token("orders"), seconds(600));
    (server, stage)
}

#[tokio::test]
async fn renewal_response_with_the_value_of_another_token_is_rejected() {
    let behaviour = Behaviour { renews_by: RenewsBy::Renew, ..Behaviour::default() };
    let (server, stage) = two_tokens(behaviour, "renewal = \"renew\"").await;
    let other = secret("orders");
    let misrouted = format!(r#"{{"Result":{{"SessionToken":"{other}","Remaining":600000}}}}"#);
    let misrouted = Trouble::Body { status: 200, body: misrouted.into_bytes() };
    let plan = |times| Plan { times: Some(times), ..Plan::once(misrouted.clone()) };
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    daemon.event("token_checked", "orders").await;
    server.plan_fault(plan(2).for_token(&secret("quotes")));
    let failed = daemon.event("check_failed", "quotes").await;
    assert_eq!(failed.text("level"), "error");
    assert!(failed.text("error").contains("another token, orders"), "{failed:?}");
    // The token itself lives on, with its own value.
    daemon.more(2, "token_checked", "quotes").await;
    let ended = daemon.stop().await;
    assert_eq!(stage.read("quotes.token").trim(), secret("quotes"));
    assert_eq!(about(&server, &other).len(), 1, "it was not used for the other token's requests");
    assert_eq!(ended.count("token_replaced", ""), 0);
}

#[tokio::test]
async fn each_value_that_a_renewal_returns_is_an_event_after_its_file_was_replaced() {
    let behaviour = Behaviour { renews_by: RenewsBy::Renew, rotates: true, ..Behaviour::default() };
    let (server, stage) = two_tokens(behaviour, "renewal = \"renew\"").await;
    let daemon = stage.start();
    for n in 1..=2 {
        let line = daemon.nth(n, "token_replaced", "quotes").await;
        assert_eq!((line.text("by"), line.text("level")), ("renewal", "info"));
        let stored = stage.read("quotes.token");
        assert!(server.remaining(stored.trim()).is_some(), "the file holds the new value");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_value_from_reauth_is_an_event_after_its_file_was_replaced() {
    let (_server, stage) = expired("", &prints_new()).await;
    let daemon = stage.start();
    let line = daemon.event("token_replaced", "quotes").await;
    assert_eq!(line.text("by"), "reauth");
    assert_eq!(stage.read("quotes.token").trim(), secret("new"));
    daemon.event("token_recovered", "quotes").await;
    assert_eq!(daemon.stop().await.count("token_replaced", ""), 1);
}

#[tokio::test]
async fn a_value_that_the_hook_wrote_itself_is_one_event() {
    let hook = format!("echo '{}' > \"$TOKENKEEP_FILE\"", secret("new"));
    let (_server, stage) = expired("", &hook).await;
    let daemon = stage.start();
    daemon.event("token_recovered", "quotes").await;
    let ended = daemon.stop().await;
    let lines = ended.all("token_replaced", "quotes");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].text("by"), "reauth");
}

#[tokio::test]
async fn a_value_from_the_source_is_an_event_whether_the_old_one_lives_or_not() {
    let (server, stage) = two_tokens(Behaviour::default(), "").await;
    server.add_token(&secret("third"), seconds(600));
    let daemon = stage.start();
    daemon.event("token_checked", "quotes").await;
    assert_eq!(daemon.count("token_replaced", ""), 0, "a first value replaces nothing");
    server.add_token(&secret("second"), seconds(4));
    stage.replace("quotes.token", &secret("second"));
    let line = daemon.event("token_replaced", "quotes").await;
    assert_eq!(line.text("by"), "source");
    server.expire(&secret("second"));
    daemon.event("token_expired", "quotes").await;
    stage.replace("quotes.token", &secret("third"));
    let line = daemon.nth(2, "token_replaced", "quotes").await;
    assert_eq!(line.text("by"), "source");
    daemon.event("token_recovered", "quotes").await;
    // A value that is only unverified, and one that disappears, replace nothing.
    fs::remove_file(stage.path("quotes.token")).expect("removed");
    daemon.event("token_missing", "quotes").await;
    daemon.signal(Signal::HUP);
    daemon.event("config_reloaded", "").await;
    assert_eq!(daemon.stop().await.count("token_replaced", ""), 2);
}

/// A named pipe as standard output: without a reader, writes fail as on a full disk.
struct Pipe {
    path: PathBuf,
    text: String,
}

impl Pipe {
    fn open(&self) -> File {
        let nonblocking = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&self.path);
        nonblocking.expect("a pipe")
    }

    /// Adds what can be read now, and returns all lines so far.
    fn lines(&mut self, reader: &mut File) -> Vec<Line> {
        // It ends with an error where there is nothing to read yet.
        let mut bytes = Vec::new();
        let _ = reader.read_to_end(&mut bytes);
        self.text.push_str(&String::from_utf8(bytes).expect("UTF-8"));
        let whole = self.text.rfind('\n').map_or(0, |end| end + 1);
        self.text[..whole].lines().map(Line::parse).collect()
    }
}

#[tokio::test]
async fn lost_lines_are_counted_exactly_and_errors_are_written_when_the_log_works_again() {
    // Few enough for every check to have its line, even if all come within a second.
    const CROWD: usize = 15;
    const ROUNDS: usize = 4;
    let server = simulator().await;
    let names: Vec<String> = (0..CROWD).map(|n| format!("t{n}")).collect();
    let tables: String = names.iter().map(|name| token_table(name, "sarus", "")).collect();
    let stage = Stage::new(&(server_table("sarus", &server, "rate_limit = 1000") + &tables));
    for name in &names {
        server.add_token(&stage.token(name), seconds(3_600));
    }
    stage.pipe("log");
    let mut log = Pipe { path: stage.path("log"), text: String::new() };
    let mut reader = log.open();
    let writer = OpenOptions::new().write(true).open(&log.path).expect("a pipe with a reader");
    let mut daemon = stage.command("run").stdout(writer).spawn().expect("the program starts");
    let ready = |lines: &[Line]| lines.iter().filter(|l| l.is("token_checked", "")).count();
    until("every token was checked", || ready(&log.lines(&mut reader)) == CROWD).await;

    // A round of checks whose lines are all written: how many there are.
    let check_all = async |round: usize| {
        for name in &names {
            post(&stage, &format!("/v1/tokens/{name}/check")).await;
        }
        served(&server, |requests| requests.len() == round * CROWD).await;
    };
    check_all(2).await;
    until("and again", || ready(&log.lines(&mut reader)) == 2 * CROWD).await;
    let before = log.lines(&mut reader).len();
    let requested = |line: &&Line| line.is("action_requested", "");
    let each_round = CROWD + log.lines(&mut reader).iter().filter(requested).count();

    drop(reader);
    for round in 0..ROUNDS {
        check_all(3 + round).await;
    }
    server.expire(&secret("t0"));
    post(&stage, "/v1/tokens/t0/check").await;
    served(&server, |requests| requests.iter().any(|one| one.status == Some(410))).await;

    let mut reader = log.open();
    let expired = |lines: &[Line]| lines.iter().any(|line| line.is("token_expired", "t0"));
    until("the death is in the log", || expired(&log.lines(&mut reader))).await;
    let pid = Pid::from_raw(daemon.id().expect("it runs").cast_signed()).expect("a process");
    kill_process(pid, Signal::TERM).expect("it runs");
    daemon.wait().await.expect("it ends");
    let lines = log.lines(&mut reader);
    let stopping = ["daemon_stopping", "daemon_stopped"];
    assert_eq!(lines.last().map(Line::event), Some(stopping[1]), "{lines:#?}");
    let reports = lines.iter().filter(|line| line.is("events_suppressed", ""));
    let lost: u64 = reports.map(|line| line.number("suppressed")).sum();
    // The request for the last check and its line, or its count, are one more each.
    let all = before + ROUNDS * each_round + 2 + stopping.len();
    let written = lines.iter().filter(|line| !line.is("events_suppressed", "")).count();
    assert_eq!(written as u64 + lost, all as u64, "{lines:#?}");
    assert!(lost >= (ROUNDS * CROWD) as u64, "{lost}");
}

#[tokio::test]
async fn a_failed_start_is_an_event_of_level_error() {
    let server = simulator().await;
    let stage = Stage::new("[server.sarus]\nurl = \"ftp://host\"\ntimeout = \"10\"\n");
    let failed = |ended: &Ended| {
        assert_eq!(ended.lines.len(), 1, "{ended:?}");
        let line = ended.lines[0].clone();
        assert_eq!((line.event(), line.text("level")), ("start_failed", "error"));
        line.text("error").to_owned()
    };
    let ended = stage.start().ended().await;
    assert_eq!(ended.status.code(), Some(78));
    let error = failed(&ended);
    assert!(error.contains("tokenkeep.toml:3") && error.contains("tokenkeep.toml:4"), "{error}");
    assert!(!error.contains('\n'), "{error}");

    // With a log of its own, and another daemon that has the state directory.
    stage.configure(&(server_table("sarus", &server, "") + &token_table("quotes", "sarus", "")));
    server.add_token(&stage.token("quotes"), seconds(60));
    let first = stage.start();
    first.event("daemon_ready", "").await;
    let second = stage.start().ended().await;
    assert_eq!(second.status.code(), Some(69));
    let error = failed(&second);
    assert!(second.stderr.contains(&error), "{second:?}");
    first.stop().await;
}

#[tokio::test]
async fn a_proof_of_renewal_is_one_line_with_the_life_and_the_next_check_in_words() {
    for level in ["info", "debug"] {
        let behaviour = Behaviour { renews_by: RenewsBy::Renew, ..Behaviour::default() };
        let (_server, stage) = two_tokens(behaviour, "").await;
        let configuration = stage.read("tokenkeep.toml");
        stage.replace("tokenkeep.toml", &format!("{configuration}[log]\nlevel = \"{level}\"\n"));
        let daemon = stage.start();
        daemon.event("renewal_learned", "").await;
        daemon.more(3, "token_checked", "quotes").await;
        let ended = daemon.stop().await;
        let (steps, checks): (Vec<_>, Vec<_>) = ended
            .all("token_checked", "quotes")
            .into_iter()
            .partition(|line| line.text("level") == "debug");
        assert_eq!(steps.is_empty(), level == "info", "{steps:#?}");
        for line in &checks {
            assert!(line.number("next_check_ms") > 0, "{line:?}");
            let message = line.text("message");
            assert!(message.starts_with("alive, ") && message.contains(" left"), "{message}");
            assert!(message.contains("; next check in "), "{message}");
        }
        assert!(checks.iter().any(|line| line.text("message").contains(" left, renewed; ")));
        // The steps follow each other within milliseconds; the checks do not.
        let apart = checks.windows(2).map(|pair| pair[1].timestamp() - pair[0].timestamp());
        let apart: Vec<_> =
            apart.map(|span| span.total(jiff::Unit::Millisecond).expect("a time")).collect();
        assert!(apart.iter().all(|ms| *ms > 200.0), "{apart:?}");
    }
}
