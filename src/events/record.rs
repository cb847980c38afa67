//! One event as values, before a format makes a line of it.
//!
//! Keys are unique here, so that no format has to look for duplicates. Events of libraries
//! lose the query of every URL they mention.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::Name;

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

/// Fields with their values, in the order of the line, each key once.
pub(super) type Values = Vec<(Cow<'static, str>, Value)>;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) timestamp: Timestamp,
    pub(super) level: Level,
    /// The contract's name of it.
    pub(super) event: Option<Name>,
    /// The library that it comes from, if it is not the contract's.
    pub(super) target: Option<&'static str>,
    pub(super) message: String,
    pub(super) fields: Values,
}

impl Record {
    /// A library's event, at that time.
    pub(super) fn of(event: &Event<'_>, timestamp: Timestamp) -> Self {
        let metadata = event.metadata();
        let mut record = Self {
            timestamp,
            level: *metadata.level(),
            event: None,
            target: Some(metadata.target()),
            message: String::new(),
            fields: Values::new(),
        };
        event.record(&mut record);
        record
    }

    /// An event of the contract.
    pub(super) fn own(
        name: Name,
        level: Level,
        timestamp: Timestamp,
        message: String,
        fields: Values,
    ) -> Self {
        Self { timestamp, level, event: Some(name), target: None, message, fields }
    }

    /// The value of `key`, if it is a text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.fields.iter().find(|(name, _)| name == key)?.1.as_str()
    }

    fn push(&mut self, field: &Field, value: Value) {
        let mut key = Cow::Borrowed(field.name().trim_start_matches("r#"));
        while RESERVED.contains(&&*key) || self.fields.iter().any(|(taken, _)| *taken == key) {
            key = Cow::Owned(format!("field_{key}"));
        }
        self.fields.push((key, value));
    }

    fn take_text(&mut self, field: &Field, text: String) {
        let text = without_queries(text);
        if field.name() == "message" && self.message.is_empty() {
            self.message = text;
        } else {
            self.push(field, text.into());
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
        self.push(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value.into());
    }
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
