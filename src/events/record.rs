//! One event as values, on its way from tracing to a line.
//!
//! Keys are unique here, so that no format has to look for duplicates. Events that are not
//! the contract's (dependencies, plain debug lines) lose the query of every URL they mention.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::{Name, TARGET};

/// Keys with a meaning of their own in a line, or in the journal's protocol.
const RESERVED: &[&str] = &[
    "timestamp",
    "level",
    "message",
    "message_id",
    "event",
    "target",
    "priority",
    "syslog_identifier",
];

/// What stands where a URL's query was.
const NO_QUERY: &str = "?[left out]";

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Flag(bool),
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) timestamp: Timestamp,
    pub(super) level: Level,
    /// The contract's name of it.
    pub(super) event: Option<Name>,
    /// Where it comes from, if it is not the contract's.
    pub(super) target: Option<&'static str>,
    pub(super) message: String,
    /// In the order in which they were given, each key once.
    pub(super) fields: Vec<(Cow<'static, str>, Value)>,
}

impl Record {
    /// What tracing was given, at that time.
    pub(super) fn of(event: &Event<'_>, timestamp: Timestamp) -> Self {
        let metadata = event.metadata();
        let name = (metadata.target() == TARGET).then(|| contracted(event)).flatten();
        let mut record = Self {
            timestamp,
            level: *metadata.level(),
            event: name,
            target: name.is_none().then(|| metadata.target()),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut record);
        record
    }

    /// An event of the contract that does not come through tracing.
    pub(super) fn own(name: Name, level: Level, timestamp: Timestamp, message: String) -> Self {
        Self { timestamp, level, event: Some(name), target: None, message, fields: Vec::new() }
    }

    /// The value of `key`, if it is a text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.fields.iter().find_map(|(name, value)| match value {
            Value::Text(text) if name == key => Some(text.as_str()),
            _ => None,
        })
    }

    fn push(&mut self, field: &Field, value: Value) {
        if self.event.is_some() && field.name() == "event" {
            return;
        }
        let mut key = Cow::Borrowed(field.name().trim_start_matches("r#"));
        while RESERVED.contains(&&*key) || self.fields.iter().any(|(taken, _)| *taken == key) {
            key = Cow::Owned(format!("field_{key}"));
        }
        self.fields.push((key, value));
    }

    fn take_text(&mut self, field: &Field, text: String) {
        let text = if self.event.is_some() { text } else { without_queries(text) };
        if field.name() == "message" && self.message.is_empty() {
            self.message = text;
        } else {
            self.push(field, Value::Text(text));
        }
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take_text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take_text(field, value.to_owned());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Value::Unsigned(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::Signed(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Value::Flag(value));
    }
}

/// The contract's name that an event carries.
fn contracted(event: &Event<'_>) -> Option<Name> {
    struct Finder(Option<Name>);
    impl Visit for Finder {
        fn record_debug(&mut self, _field: &Field, _value: &dyn fmt::Debug) {}

        fn record_str(&mut self, field: &Field, value: &str) {
            if field.name() == "event" {
                self.0 = Name::ALL.iter().copied().find(|name| name.as_str() == value);
            }
        }
    }
    let mut finder = Finder(None);
    event.record(&mut finder);
    finder.0
}

/// `text` with every `?key=value…` of a URL taken out: dependencies log what they ask for,
/// and the API's questions hold token values.
fn without_queries(text: String) -> String {
    if !text.contains('?') {
        return text;
    }
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('?') {
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '>' | ')' | '}' | ']'))
            .unwrap_or(after.len());
        kept.push_str(before);
        kept.push_str(if end == 0 { "?" } else { NO_QUERY });
        rest = &after[end..];
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_loses_its_query_and_nothing_else() {
        let text = r#"GET "https://api.example/v1?SessionToken=s3cret&x=1" in 3 ms"#;
        assert_eq!(
            without_queries(text.to_owned()),
            r#"GET "https://api.example/v1?[left out]" in 3 ms"#
        );
    }

    #[test]
    fn every_query_in_a_text_is_taken_out() {
        let text = "/a?k=1 then /b?k=2";
        assert_eq!(without_queries(text.to_owned()), "/a?[left out] then /b?[left out]");
    }

    #[test]
    fn a_question_is_no_query() {
        assert_eq!(without_queries("is it so? Yes".to_owned()), "is it so? Yes");
    }
}
