//! One log record as values, independent of its format.
//!
//! Keys are unique, so that formats need not look for duplicates. URL queries are removed from the
//! events of libraries, because they contain token values.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::EventName;

/// Keys with a special meaning in a log line or in the journal's protocol.
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

/// Replaces a removed URL query.
const REMOVED_QUERY: &str = "?[left out]";

/// Fields and their values, in output order. Keys are unique.
pub(super) type Values = Vec<(Cow<'static, str>, Value)>;

/// One log record.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) timestamp: Timestamp,
    pub(super) level: Level,
    /// The event's name; `None` for an event of a library.
    pub(super) event: Option<EventName>,
    /// The tracing target of a library's event.
    pub(super) target: Option<&'static str>,
    pub(super) message: String,
    pub(super) fields: Values,
}

impl Record {
    /// A record of a library's event.
    pub(super) fn from_library(event: &Event<'_>, timestamp: Timestamp) -> Self {
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

    /// A record of one of the daemon's own events.
    pub(super) fn from_event(
        name: EventName,
        level: Level,
        timestamp: Timestamp,
        message: String,
        fields: Values,
    ) -> Self {
        Self { timestamp, level, event: Some(name), target: None, message, fields }
    }

    /// The value of `key`, if it is a string.
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
        let text = strip_url_queries(text);
        if field.name() == "message" && self.message.is_empty() {
            self.message = text;
        } else {
            self.push(field, text.into());
        }
    }
}

/// A value as plain text: strings without quotes, other values as in JSON.
pub(super) fn plain(value: &Value) -> Cow<'_, str> {
    value.as_str().map_or_else(|| value.to_string().into(), Cow::Borrowed)
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

/// Removes every URL query (`?key=value…`) from `text`: libraries log the URLs that they request,
/// and queries of the API contain token values.
fn strip_url_queries(text: String) -> String {
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
        kept.push_str(if end == 0 { "?" } else { REMOVED_QUERY });
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
            strip_url_queries(text.to_owned()),
            r#"GET "https://api.example/v1?[left out]" in 3 ms"#
        );
    }

    #[test]
    fn every_query_in_a_text_is_removed() {
        let text = "/a?k=1 then /b?k=2";
        assert_eq!(strip_url_queries(text.to_owned()), "/a?[left out] then /b?[left out]");
    }

    #[test]
    fn a_question_mark_before_a_space_is_kept() {
        assert_eq!(strip_url_queries("is it so? Yes".to_owned()), "is it so? Yes");
    }
}
