//! One line of the daemon's log.

use serde_json::Value;

/// A line, as JSON.
#[derive(Debug, Clone)]
pub(crate) struct Line(pub(crate) Value);

impl Line {
    pub(crate) fn parse(text: &str) -> Self {
        match serde_json::from_str(text) {
            Ok(value @ Value::Object(_)) => Self(value),
            Ok(_) | Err(_) => panic!("not a JSON object: {text}"),
        }
    }

    pub(crate) fn event(&self) -> &str {
        self.0["event"].as_str().unwrap_or("")
    }

    /// Whether it is this event, of this token or (with an empty name) of any.
    pub(crate) fn is(&self, event: &str, token: &str) -> bool {
        self.event() == event && (token.is_empty() || self.0["token"] == token)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some()
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {}", self.0))
    }

    /// A whole number that is not negative.
    pub(crate) fn number(&self, key: &str) -> u64 {
        self.0[key].as_u64().unwrap_or_else(|| panic!("{key} is no whole number in {}", self.0))
    }

    /// The moment that it was written, on the wall clock.
    pub(crate) fn timestamp(&self) -> jiff::Timestamp {
        self.text("timestamp").parse().expect("an RFC 3339 time")
    }
}
