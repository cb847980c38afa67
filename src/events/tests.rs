use std::io::Write;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use super::budgets::{ALARMS, EACH_ALARM, WINDOW};
use super::format::Format;
use super::limiter::{ROUTINE_LINES, ROUTINE_WINDOW};
use super::*;
use crate::time::Moment;

const START: Moment = Moment::from_millis(1_000);

/// Lines of one kind of alarm in a minute, at most.
const ALARM_LINES: u64 = (ALARMS + EACH_ALARM) as u64;

/// What was written, to be read afterwards.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(line)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The JSON lines that `act` makes under a filter.
fn lines(level: &str, act: impl FnOnce()) -> Vec<Map<String, Value>> {
    text(level, act).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Has somebody listen to everything, everywhere: tests that say something while nobody does
/// would have what is said at that place be taken for unwanted, here as well.
fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| tracing::subscriber::set_global_default(Registry::default()).unwrap());
}

fn text(level: &str, act: impl FnOnce()) -> String {
    listen();
    let captured = Captured::default();
    let writer = captured.clone();
    let layer = lines::Lines::new(
        Format::Json,
        || Timestamp::UNIX_EPOCH,
        move |line| writer.clone().write_all(&line.bytes).unwrap(),
    );
    let subscriber = Registry::default().with(filter::parse(level).unwrap()).with(layer);
    tracing::subscriber::with_default(subscriber, act);
    let bytes = captured.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn write(journal: &mut Journal, now: Moment, name: Name, times: u64) {
    for _ in 0..times {
        journal.write(now, name, name.severity(), "it happened", Fields::default());
    }
}

#[test]
fn every_event_is_a_line_under_its_name_and_level() {
    let said = lines("info", || {
        for name in Name::ALL {
            emit(*name, name.severity(), "it happened", &Fields::default());
        }
    });
    assert_eq!(said.len(), Name::ALL.len());
    for (line, name) in said.iter().zip(Name::ALL) {
        assert_eq!(line["event"], name.as_str());
        let level = match name.severity() {
            Severity::Debug => "debug",
            Severity::Info => "info",
            Severity::Warn => "warn",
            Severity::Error => "error",
        };
        assert_eq!(line["level"], level);
        assert_eq!(line["message"], "it happened");
    }
}

#[test]
fn what_does_not_apply_is_left_out() {
    let said = lines("info", || {
        emit(Name::DaemonReady, Severity::Info, "ready", &Fields::default());
    });
    let keys: Vec<_> = said[0].keys().map(String::as_str).collect();
    assert_eq!(keys, ["event", "level", "message", "timestamp"]);
}

#[test]
fn every_field_has_its_name_and_its_type() {
    let fields = Fields {
        token: Some("t"),
        server: Some("s"),
        remaining_ms: Some(1_800_000),
        next_check_ms: Some(0),
        status: Some(410),
        detail: Some("d"),
        error: Some("e"),
        attempt: Some(1),
        retry_in_ms: Some(u64::MAX),
        duration_ms: Some(2),
        renewed: Some(true),
        dies_in_ms: Some(3),
        renews_by: Some("query"),
        tokens: Some(4),
        inventory: Some("i"),
        tokens_added: Some(6),
        tokens_removed: Some(7),
        tokens_changed: Some(8),
        reason: Some("r"),
        reauth: Some("w"),
        exit_status: Some(-1),
        path: Some("/p"),
        added: Some("a"),
        removed: Some("b"),
        changed: Some("c"),
        needs_restart: Some("n"),
        action: Some("action"),
        uid: Some(1),
        version: Some("0"),
        by: Some("reauth"),
        suppressed: Some(5),
    };
    let said = text("info", || emit(Name::TokenChecked, Severity::Info, "m", &fields));
    let at = |key: &str| said.find(&format!("\"{key}\":")).expect(key);
    let keys = ["message", "token", "server", "remaining_ms", "status", "error", "suppressed"];
    assert!(keys.is_sorted_by_key(|key| at(key)), "{said}");
    let expected = serde_json::json!({
        "timestamp": "1970-01-01T00:00:00.000Z", "level": "info", "message": "m",
        "event": "token_checked", "token": "t", "server": "s", "remaining_ms": 1_800_000,
        "next_check_ms": 0, "status": 410, "detail": "d", "error": "e", "attempt": 1,
        "retry_in_ms": u64::MAX, "duration_ms": 2, "renewed": true, "dies_in_ms": 3,
        "renews_by": "query", "tokens": 4, "inventory": "i", "tokens_added": 6, "tokens_removed": 7,
        "tokens_changed": 8, "reason": "r", "reauth": "w", "exit_status": -1, "path": "/p",
        "added": "a", "removed": "b", "changed": "c", "needs_restart": "n", "version": "0",
        "action": "action", "uid": 1, "by": "reauth", "suppressed": 5,
    });
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), expected);
}

#[test]
fn a_dependency_s_event_is_a_line_with_its_target() {
    let said = lines("info", || tracing::warn!(target: "hyper::proto", bytes = 7, "odd"));
    assert_eq!(said[0]["target"], "hyper::proto");
    assert_eq!(said[0]["message"], "odd");
    assert_eq!(said[0]["bytes"], 7);
    assert!(!said[0].contains_key("event"));
}

#[test]
fn a_dependency_cannot_pass_for_an_event_or_double_a_key() {
    let said = text("info", || {
        tracing::warn!(target: "h2", level = "fatal", timestamp = 1, event = "token_expired", "odd");
    });
    assert_eq!(
        said,
        "{\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"level\":\"warn\",\"target\":\"h2\",\
         \"message\":\"odd\",\"field_level\":\"fatal\",\"field_timestamp\":1,\
         \"field_event\":\"token_expired\"}\n"
    );
}

#[test]
fn a_dependency_s_url_is_written_without_its_query() {
    let said = lines("info", || {
        tracing::warn!(target: "hyper", url = "https://h/q?SessionToken=s3cret", "asked /q?k=s3cret");
    });
    let line = serde_json::to_string(&said[0]).unwrap();
    assert!(!line.contains("s3cret"), "{line}");
}

#[test]
fn dependencies_stay_at_warn_unless_they_are_named() {
    let chatter = || {
        tracing::debug!(target: "hyper", "one");
        tracing::debug!(target: "h2", "two");
    };
    let said = lines("debug,h2=debug", chatter);
    assert_eq!(said.len(), 1);
    assert_eq!(said[0]["target"], "h2");
}

#[test]
fn checks_beyond_a_hundred_a_second_are_counted_in_the_next_line() {
    let said = lines("info", || {
        let mut journal = Journal::new();
        write(&mut journal, START, Name::TokenChecked, ROUTINE_LINES + 50);
        write(&mut journal, START + ROUTINE_WINDOW, Name::TokenChecked, 2);
    });
    let told: Vec<_> = said.iter().filter_map(|line| line.get("suppressed")).collect();
    assert_eq!(said.len() as u64, ROUTINE_LINES + 2);
    assert_eq!(told, [50]);
}

/// A second of checks, each as late as its number in milliseconds.
fn check(journal: &mut Journal, second: u64, count: u64) {
    for n in 0..count {
        let now = START + Duration::from_millis(second * 1_000 + n * 1_000 / count);
        let lateness = Duration::from_millis(n);
        journal.count_check(now, &CheckEnd { lateness, life_left: None, failed: n == 0 });
        journal.write(now, Name::TokenChecked, Severity::Info, "alive", Fields::default());
    }
}

#[test]
fn where_checks_are_too_many_for_long_a_line_a_minute_sums_them_up() {
    let said = lines("info", || {
        let mut journal = Journal::new();
        (0..71).for_each(|second| check(&mut journal, second, 200));
    });
    let (last, singly) = said.split_last().unwrap();
    assert_eq!(singly.len() as u64, 10 * ROUTINE_LINES);
    assert_eq!((&last["event"], &last["level"]), (&"checks_summary".into(), &"info".into()));
    let number = |key: &str| last[key].as_u64().unwrap();
    // That there are too many is known with the first check's line, when it has been counted.
    assert_eq!([number("checks"), number("failures")], [60 * 200 - 1, 60 - 1]);
    assert!((98..=101).contains(&number("lateness_p50_ms")), "{last:?}");
    assert!((196..=199).contains(&number("lateness_p99_ms")), "{last:?}");
    assert_eq!(number("lateness_max_ms"), 199);
    let before: u64 = singly.iter().filter_map(|line| line.get("suppressed")?.as_u64()).sum();
    assert_eq!(singly.len() as u64 + before + number("suppressed"), 70 * 200, "none is lost");
}

#[test]
fn the_last_summary_is_said_before_the_last_line() {
    let said = lines("info", || {
        let mut journal = Journal::new();
        (0..12).for_each(|second| check(&mut journal, second, 200));
        let now = START + Duration::from_secs(12);
        write(&mut journal, now, Name::DaemonStopped, 1);
        journal.flush();
    });
    let [.., sum, last] = said.as_slice() else { panic!("two lines at least") };
    assert_eq!(sum["event"], "checks_summary");
    assert_eq!(last["event"], "daemon_stopped");
    assert_eq!(said.iter().filter(|line| line["event"] == "events_suppressed").count(), 0);
}

#[test]
fn what_was_summed_up_is_said_when_its_minute_is_over() {
    let said = lines("info", || {
        let mut journal = Journal::new();
        write(&mut journal, START, Name::TokenExpired, ALARM_LINES + 3);
        write(&mut journal, START + WINDOW, Name::TokenRecovered, 1);
    });
    let sum = &said[said.len() - 2];
    assert_eq!(sum["event"], "events_suppressed");
    assert_eq!(sum["level"], "warn");
    assert_eq!(sum["suppressed"], 3);
    assert_eq!(sum["detail"], "token_expired 3");
}

#[test]
fn repeats_of_a_warning_are_summarised_and_hide_no_other_event() {
    let warn = |journal: &mut Journal, now| {
        for _ in 0..1_100 {
            let message = "token file is readable by other users";
            journal.write(now, Name::ConfigWarning, Severity::Warn, message, Fields::default());
        }
    };
    let said = lines("info", || {
        let mut journal = Journal::new();
        warn(&mut journal, START);
        write(&mut journal, START, Name::TokenExpired, 1);
        write(&mut journal, START, Name::ConfigReloaded, 1);
        let due = journal.due().unwrap();
        journal.say_due(due);
        journal.flush();
    });
    let events: Vec<_> = said.iter().map(|line| line["event"].as_str().unwrap()).collect();
    let each = super::repeats::EACH_MESSAGE as usize;
    assert_eq!(events[each..], ["token_expired", "config_reloaded", "config_warning"]);
    assert_eq!(said.last().unwrap()["suppressed"], 1_100 - each);
}

#[test]
fn nothing_is_lost_at_exit_and_daemon_stopped_is_the_last_line() {
    let said = lines("info", || {
        let mut journal = Journal::new();
        write(&mut journal, START, Name::CheckFailed, ROUTINE_LINES + 9);
        write(&mut journal, START, Name::TokenMissing, ALARM_LINES + 2);
        write(&mut journal, START + Duration::from_secs(1), Name::DaemonStopped, 1);
        journal.flush();
    });
    let [.., sum, last] = said.as_slice() else { panic!("two lines at least") };
    assert_eq!(sum["detail"], "token_missing 2, check_failed 9");
    assert_eq!(last["event"], "daemon_stopped");
}

#[test]
fn what_the_filter_hides_is_not_called_suppressed() {
    let said = lines("warn", || {
        let mut journal = Journal::new();
        write(&mut journal, START, Name::TokenChecked, ROUTINE_LINES * 2);
        journal.flush();
    });
    assert_eq!(said, []);
}

#[test]
fn a_sum_is_due_at_the_end_of_its_minute() {
    let mut due = None;
    lines("info", || {
        let mut journal = Journal::new();
        write(&mut journal, START, Name::StoreFailed, ALARM_LINES + 1);
        due = journal.due();
        journal.flush();
        assert_eq!(journal.due(), None);
    });
    assert_eq!(due, Some(START + WINDOW));
}
