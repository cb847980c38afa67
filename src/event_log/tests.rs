use std::io::Write;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use super::budgets::{LINES_PER_ALARM, SHARED_ALARM_LINES, WINDOW};
use super::format::Format;
use super::rate_limiter::{ROUTINE_LINES, ROUTINE_WINDOW};
use super::*;
use crate::time::Moment;

const START: Moment = Moment::from_millis(1_000);

/// Lines of one kind of alarm in a minute, at most.
const ALARM_LINES: u64 = (SHARED_ALARM_LINES + LINES_PER_ALARM) as u64;

/// Captures the written bytes.
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

/// The JSON lines that `act` logs with this filter.
fn lines(level: &str, act: impl FnOnce()) -> Vec<Map<String, Value>> {
    text(level, act).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Sets a global subscriber that accepts everything. Without one, tracing caches a call site as
/// disabled if another test logs there first.
fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| tracing::subscriber::set_global_default(Registry::default()).unwrap());
}

fn text(level: &str, act: impl FnOnce()) -> String {
    listen();
    let captured = Captured::default();
    let writer = captured.clone();
    let layer = layer::LogLayer::new(
        Format::Json,
        || Timestamp::UNIX_EPOCH,
        move |line| writer.clone().write_all(&line.bytes).unwrap(),
    );
    let subscriber = Registry::default().with(filter::parse(level).unwrap()).with(layer);
    tracing::subscriber::with_default(subscriber, act);
    let bytes = captured.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn write(event_log: &mut EventLog, now: Moment, name: EventName, times: u64) {
    for _ in 0..times {
        event_log.write(now, name, name.severity(), "it happened", Fields::default());
    }
}

#[test]
fn every_event_is_a_line_under_its_name_and_level() {
    let logged = lines("info", || {
        for name in EventName::ALL {
            emit(*name, name.severity(), "it happened", &Fields::default());
        }
    });
    assert_eq!(logged.len(), EventName::ALL.len());
    for (line, name) in logged.iter().zip(EventName::ALL) {
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
fn unset_fields_are_omitted() {
    let logged = lines("info", || {
        emit(EventName::DaemonReady, Severity::Info, "ready", &Fields::default());
    });
    let keys: Vec<_> = logged[0].keys().map(String::as_str).collect();
    assert_eq!(keys, ["event", "level", "message", "timestamp"]);
}

#[test]
fn fields_have_the_documented_names_and_types() {
    let fields = Fields {
        token: Some("t"),
        server: Some("s"),
        remaining_ms: Some(1_800_000),
        next_check_ms: Some(0),
        assumed: Some(true),
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
        replica: Some("keeper-b"),
        notify: Some("app"),
        undelivered_event: Some("token_expired"),
        dropped: Some(9),
        suppressed: Some(5),
    };
    let logged = text("info", || emit(EventName::TokenChecked, Severity::Info, "m", &fields));
    let at = |key: &str| logged.find(&format!("\"{key}\":")).expect(key);
    let keys = ["message", "token", "server", "remaining_ms", "status", "error", "suppressed"];
    assert!(keys.is_sorted_by_key(|key| at(key)), "{logged}");
    let expected = serde_json::json!({
        "timestamp": "1970-01-01T00:00:00.000Z", "level": "info", "message": "m",
        "event": "token_checked", "token": "t", "server": "s", "remaining_ms": 1_800_000,
        "next_check_ms": 0, "status": 410, "detail": "d", "error": "e", "attempt": 1,
        "retry_in_ms": u64::MAX, "duration_ms": 2, "renewed": true, "assumed": true, "dies_in_ms": 3,
        "renews_by": "query", "tokens": 4, "inventory": "i", "tokens_added": 6, "tokens_removed": 7,
        "tokens_changed": 8, "reason": "r", "reauth": "w", "exit_status": -1, "path": "/p",
        "added": "a", "removed": "b", "changed": "c", "needs_restart": "n", "version": "0",
        "action": "action", "uid": 1, "by": "reauth", "replica": "keeper-b", "notify": "app",
        "undelivered_event": "token_expired", "dropped": 9, "suppressed": 5,
    });
    assert_eq!(serde_json::from_str::<Value>(&logged).unwrap(), expected);
}

#[test]
fn a_dependency_s_event_is_a_line_with_its_target() {
    let logged = lines("info", || tracing::warn!(target: "hyper::proto", bytes = 7, "odd"));
    assert_eq!(logged[0]["target"], "hyper::proto");
    assert_eq!(logged[0]["message"], "odd");
    assert_eq!(logged[0]["bytes"], 7);
    assert!(!logged[0].contains_key("event"));
}

#[test]
fn a_dependency_cannot_forge_an_event_or_duplicate_a_key() {
    let logged = text("info", || {
        tracing::warn!(target: "h2", level = "fatal", timestamp = 1, event = "token_expired", "odd");
    });
    assert_eq!(
        logged,
        "{\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"level\":\"warn\",\"target\":\"h2\",\
         \"message\":\"odd\",\"field_level\":\"fatal\",\"field_timestamp\":1,\
         \"field_event\":\"token_expired\"}\n"
    );
}

#[test]
fn a_dependency_s_url_is_written_without_its_query() {
    let logged = lines("info", || {
        tracing::warn!(target: "hyper", url = "https://h/q?SessionToken=s3cret", "asked /q?k=s3cret");
    });
    let line = serde_json::to_string(&logged[0]).unwrap();
    assert!(!line.contains("s3cret"), "{line}");
}

#[test]
fn dependencies_stay_at_warn_unless_they_are_named() {
    let chatter = || {
        tracing::debug!(target: "hyper", "one");
        tracing::debug!(target: "h2", "two");
    };
    let logged = lines("debug,h2=debug", chatter);
    assert_eq!(logged.len(), 1);
    assert_eq!(logged[0]["target"], "h2");
}

#[test]
fn checks_beyond_a_hundred_per_second_are_counted_in_the_next_line() {
    let logged = lines("info", || {
        let mut event_log = EventLog::new();
        write(&mut event_log, START, EventName::TokenChecked, ROUTINE_LINES + 50);
        write(&mut event_log, START + ROUTINE_WINDOW, EventName::TokenChecked, 2);
    });
    let reported: Vec<_> = logged.iter().filter_map(|line| line.get("suppressed")).collect();
    assert_eq!(logged.len() as u64, ROUTINE_LINES + 2);
    assert_eq!(reported, [50]);
}

/// Completes `count` checks within one second; check number n is n ms late.
fn check(event_log: &mut EventLog, second: u64, count: u64) {
    for n in 0..count {
        let now = START + Duration::from_millis(second * 1_000 + n * 1_000 / count);
        let lateness = Duration::from_millis(n);
        event_log.count_check(now, &CompletedCheck { lateness, life_left: None, failed: n == 0 });
        event_log.write(now, EventName::TokenChecked, Severity::Info, "alive", Fields::default());
    }
}

#[test]
fn sustained_check_load_is_summarized_in_one_line_per_minute() {
    let logged = lines("info", || {
        let mut event_log = EventLog::new();
        (0..71).for_each(|second| check(&mut event_log, second, 200));
    });
    let (last, singly) = logged.split_last().unwrap();
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
fn the_last_summary_precedes_the_last_line() {
    let logged = lines("info", || {
        let mut event_log = EventLog::new();
        (0..12).for_each(|second| check(&mut event_log, second, 200));
        let now = START + Duration::from_secs(12);
        write(&mut event_log, now, EventName::DaemonStopped, 1);
        event_log.flush();
    });
    let [.., sum, last] = logged.as_slice() else { panic!("two lines at least") };
    assert_eq!(sum["event"], "checks_summary");
    assert_eq!(last["event"], "daemon_stopped");
    assert_eq!(logged.iter().filter(|line| line["event"] == "events_suppressed").count(), 0);
}

#[test]
fn suppressed_events_are_reported_after_a_minute() {
    let logged = lines("info", || {
        let mut event_log = EventLog::new();
        write(&mut event_log, START, EventName::TokenExpired, ALARM_LINES + 3);
        write(&mut event_log, START + WINDOW, EventName::TokenRecovered, 1);
    });
    let sum = &logged[logged.len() - 2];
    assert_eq!(sum["event"], "events_suppressed");
    assert_eq!(sum["level"], "warn");
    assert_eq!(sum["suppressed"], 3);
    assert_eq!(sum["detail"], "token_expired 3");
}

#[test]
fn repeated_warnings_are_summarized_and_hide_no_other_event() {
    let warn = |event_log: &mut EventLog, now| {
        for _ in 0..1_100 {
            let message = "token file is readable by other users";
            event_log.write(
                now,
                EventName::ConfigWarning,
                Severity::Warn,
                message,
                Fields::default(),
            );
        }
    };
    let logged = lines("info", || {
        let mut event_log = EventLog::new();
        warn(&mut event_log, START);
        write(&mut event_log, START, EventName::TokenExpired, 1);
        write(&mut event_log, START, EventName::ConfigReloaded, 1);
        let due = event_log.due().unwrap();
        event_log.write_due_summaries(due);
        event_log.flush();
    });
    let events: Vec<_> = logged.iter().map(|line| line["event"].as_str().unwrap()).collect();
    let each = super::repeats::LINES_PER_MESSAGE as usize;
    assert_eq!(events[each..], ["token_expired", "config_reloaded", "config_warning"]);
    assert_eq!(logged.last().unwrap()["suppressed"], 1_100 - each);
}

#[test]
fn nothing_is_lost_at_exit_and_daemon_stopped_is_the_last_line() {
    let logged = lines("info", || {
        let mut event_log = EventLog::new();
        write(&mut event_log, START, EventName::CheckFailed, ROUTINE_LINES + 9);
        write(&mut event_log, START, EventName::TokenMissing, ALARM_LINES + 2);
        write(&mut event_log, START + Duration::from_secs(1), EventName::DaemonStopped, 1);
        event_log.flush();
    });
    let [.., sum, last] = logged.as_slice() else { panic!("two lines at least") };
    assert_eq!(sum["detail"], "token_missing 2, check_failed 9");
    assert_eq!(last["event"], "daemon_stopped");
}

#[test]
fn events_below_the_level_do_not_count_as_suppressed() {
    let logged = lines("warn", || {
        let mut event_log = EventLog::new();
        write(&mut event_log, START, EventName::TokenChecked, ROUTINE_LINES * 2);
        event_log.flush();
    });
    assert_eq!(logged, []);
}

#[test]
fn a_report_of_suppressed_events_is_due_after_a_minute() {
    let mut due = None;
    lines("info", || {
        let mut event_log = EventLog::new();
        write(&mut event_log, START, EventName::StoreFailed, ALARM_LINES + 1);
        due = event_log.due();
        event_log.flush();
        assert_eq!(event_log.due(), None);
    });
    assert_eq!(due, Some(START + WINDOW));
}
