//! The log of a whole process: what reaches its standard output, and what its reader may do.
//!
//! A log is set up once in a process, so each test runs this program again as a child that
//! plays one part of [`child`].

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;
use tokenkeep::event_log::{EventName, Fields, Guard, StdoutKind, emit, init};
use tokenkeep::settings::{Log, LogFormat};

/// Names the part that the child plays.
const PART: &str = "TOKENKEEP_TEST_PART";

/// More lines than the log's queue and a pipe hold together.
const FLOOD: u64 = 50_000;

/// Few enough for the queue to hold them all, and more than a pipe does.
const BURST: u64 = 5_000;

#[test]
fn child() {
    let Ok(part) = std::env::var(PART) else { return };
    let guard =
        init(&Log { format: LogFormat::Json, level: "info".to_owned() }, StdoutKind::detect())
            .unwrap();
    let good = match part.as_str() {
        "burst" => say(BURST),
        "flood" => say(FLOOD) && guard.dropped_lines() > 0,
        "reload" => reload(&guard),
        other => panic!("no such part: {other}"),
    };
    drop(guard);
    // The test harness would go on to print, and wait for a reader that is not there.
    std::process::exit(i32::from(!good));
}

fn say(lines: u64) -> bool {
    for tokens in 0..lines {
        let fields = Fields { tokens: Some(tokens), ..Fields::default() };
        emit(
            EventName::TokenExpired,
            EventName::TokenExpired.severity(),
            "the token has expired",
            &fields,
        );
    }
    true
}

fn reload(guard: &Guard) -> bool {
    guard.reload_filter("error").unwrap();
    emit(EventName::DaemonReady, EventName::DaemonReady.severity(), "hidden", &Fields::default());
    let refused = guard.reload_filter("loud").is_err();
    emit(EventName::TokenMissing, EventName::TokenMissing.severity(), "shown", &Fields::default());
    refused
}

fn start(part: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(PART, part)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout)
}

/// The log's lines among what the harness prints.
fn log_lines(stdout: impl BufRead) -> Vec<Value> {
    stdout
        .lines()
        .map(Result::unwrap)
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect()
}

#[test]
fn every_line_is_written_before_the_process_ends() {
    let (mut child, stdout) = start("burst");
    let said: Vec<_> = log_lines(stdout).iter().map(|line| line["tokens"].as_u64()).collect();
    assert_eq!(said, (0..BURST).map(Some).collect::<Vec<_>>());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_goes_away_does_not_stop_the_process() {
    let (mut child, mut stdout) = start("burst");
    let mut line = String::new();
    while !line.starts_with('{') {
        line.clear();
        assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "the log has begun");
    }
    drop(stdout);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_stalls_does_not_hold_the_process() {
    let (mut child, mut stdout) = start("flood");
    assert!(child.wait().unwrap().success());
    stdout.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn another_filter_takes_effect_at_once_and_a_faulty_one_changes_nothing() {
    let (mut child, stdout) = start("reload");
    let said: Vec<_> = log_lines(stdout).iter().map(|line| line["message"].clone()).collect();
    assert_eq!(said, ["shown"]);
    assert!(child.wait().unwrap().success());
}
