use jiff::Timestamp;
use serde_json::Value;

use super::*;
use crate::event_log::EventName;

const HOSTILE: &str = "gone\nlevel=info \x1b[2J\u{9b}31m \u{202e}\"\\";

fn record(fields: Vec<(&'static str, Value)>) -> Record {
    let timestamp = Timestamp::from_millisecond(1_767_225_600_123).unwrap();
    let fields = fields.into_iter().map(|(key, value)| (key.into(), value)).collect();
    Record::from_event(
        EventName::TokenExpired,
        Level::ERROR,
        timestamp,
        "the token has expired".to_owned(),
        fields,
    )
}

fn hostile() -> Record {
    let mut record = record(vec![("detail", Value::from(HOSTILE))]);
    record.message = HOSTILE.into();
    record
}

fn rendered(format: Format, record: &Record) -> String {
    String::from_utf8(format.render(record)).unwrap()
}

/// Whether `line` is one line without control characters.
fn is_harmless(line: &str) -> bool {
    line.strip_suffix('\n').is_some_and(|line| {
        !line.chars().any(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c))
    })
}

#[test]
fn a_json_line_starts_with_timestamp_level_and_event() {
    let line = rendered(Format::Json, &record(vec![("status", Value::from(410))]));
    assert_eq!(
        line,
        "{\"timestamp\":\"2026-01-01T00:00:00.123Z\",\"level\":\"error\",\"event\":\"token_expired\",\
         \"message\":\"the token has expired\",\"status\":410}\n"
    );
}

#[test]
fn json_keeps_hostile_text_intact_on_one_line() {
    let line = rendered(Format::Json, &hostile());
    assert_eq!(line.matches('\n').count(), 1);
    let object: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["detail"], HOSTILE);
}

#[test]
fn nan_becomes_null_in_a_json_line() {
    let line = rendered(Format::Json, &record(vec![("share", Value::from(f64::NAN))]));
    let object: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["share"], Value::Null);
}

#[test]
fn a_logfmt_line_quotes_values_that_are_not_one_word() {
    let line = rendered(Format::Logfmt, &record(vec![("token", Value::from("quotes"))]));
    assert_eq!(
        line,
        "timestamp=2026-01-01T00:00:00.123Z level=error event=token_expired \
         message=\"the token has expired\" token=quotes\n"
    );
}

#[test]
fn a_text_line_names_the_token_before_the_other_fields() {
    let fields = vec![
        ("token", Value::from("quotes")),
        ("status", Value::from(410)),
        ("renewed", Value::from(false)),
    ];
    assert_eq!(
        rendered(Format::Text { colour: false }, &record(fields)),
        "00:00:00.123Z ERROR token_expired quotes: the token has expired  status=410 renewed=false\n"
    );
}

#[test]
fn a_hostile_text_cannot_leave_its_logfmt_line() {
    let line = rendered(Format::Logfmt, &hostile());
    assert!(is_harmless(&line), "{line:?}");
    assert!(
        line.contains(r#"detail="gone\nlevel=info \u{1b}[2J\u{9b}31m \u{202e}\"\\""#),
        "{line}"
    );
}

#[test]
fn a_hostile_text_cannot_steer_the_terminal() {
    let line = rendered(Format::Text { colour: false }, &hostile());
    assert!(is_harmless(&line), "{line:?}");
}

#[test]
fn colors_are_reset_at_the_end_of_the_line() {
    let line = rendered(Format::Text { colour: true }, &record(vec![]));
    assert!(line.contains(RESET), "{line:?}");
    let (_, after) = line.rsplit_once(RESET).unwrap();
    assert!(!after.contains('\x1b'), "{line:?}");
}

#[test]
fn a_key_of_a_dependency_cannot_forge_a_pair() {
    let line = rendered(Format::Logfmt, &record(vec![("a b=\"c", Value::from(1))]));
    assert!(line.ends_with(" a_b__c=1\n"), "{line}");
}
