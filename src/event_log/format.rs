//! Log formats: JSON, logfmt, text, and the journal's native protocol.
//!
//! Any record becomes exactly one line, and control characters are escaped.

use serde::ser::{Serialize, SerializeMap, Serializer};
use tracing::Level;

use super::journald;
use super::record::{Record, plain};
use crate::text::is_invisible;

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";

/// Log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One JSON object per line.
    Json,
    /// `key=value` pairs.
    Logfmt,
    /// For terminals.
    Text {
        /// Whether to use colors.
        colour: bool,
    },
    /// The journal's native protocol: one record, one datagram.
    Journald,
}

impl Format {
    /// Renders a record as the bytes of one write.
    pub(super) fn render(self, record: &Record) -> Vec<u8> {
        match self {
            Self::Json => json(record),
            Self::Logfmt => logfmt(record).into_bytes(),
            Self::Text { colour } => text(record, colour).into_bytes(),
            Self::Journald => journald::render(record),
        }
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timestamp", &timestamp(self))?;
        map.serialize_entry("level", &level(self))?;
        if let Some(event) = self.event {
            map.serialize_entry("event", event.as_str())?;
        }
        if let Some(target) = self.target {
            map.serialize_entry("target", target)?;
        }
        map.serialize_entry("message", &self.message)?;
        for (key, value) in &self.fields {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// Writing to memory cannot fail. If it did, the line would be omitted rather than broken.
fn json(record: &Record) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).unwrap_or_default();
    if !line.is_empty() {
        line.push(b'\n');
    }
    line
}

fn logfmt(record: &Record) -> String {
    let mut line = format!("timestamp={} level={}", timestamp(record), level(record));
    if let Some(event) = record.event {
        push_pair(&mut line, "event", event.as_str());
    }
    if let Some(target) = record.target {
        push_pair(&mut line, "target", target);
    }
    push_pair(&mut line, "message", &record.message);
    for (key, value) in &record.fields {
        push_pair(&mut line, key, &plain(value));
    }
    line.push('\n');
    line
}

/// `12:34:56.789Z ERROR token_expired quotes: the token has expired  status=410`
fn text(record: &Record, colour: bool) -> String {
    let paint = |style: &'static str| if colour { style } else { "" };
    let (reset, bold, dim) = (paint(RESET), paint(BOLD), paint(DIM));
    let level_color = paint(level_color(record.level));
    let time = record.timestamp.strftime("%H:%M:%S%.3fZ");
    let level = record.level.as_str();
    let name =
        record.event.map_or_else(|| record.target.unwrap_or_default(), |event| event.as_str());
    let mut line = format!("{dim}{time}{reset} {level_color}{level:>5}{reset} {bold}");
    push_escaped(&mut line, name, false);
    line.push_str(reset);
    if let Some(token) = record.text("token") {
        line.push(' ');
        push_escaped(&mut line, token, false);
    }
    line.push_str(": ");
    push_escaped(&mut line, &record.message, false);
    let others: Vec<_> = record.fields.iter().filter(|(key, _)| key != "token").collect();
    if !others.is_empty() {
        line.push(' ');
        line.push_str(dim);
        for (key, value) in others {
            push_pair(&mut line, key, &plain(value));
        }
        line.push_str(reset);
    }
    line.push('\n');
    line
}

fn level_color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[1;31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => DIM,
    }
}

fn timestamp(record: &Record) -> String {
    format!("{:.3}", record.timestamp)
}

fn level(record: &Record) -> String {
    record.level.as_str().to_ascii_lowercase()
}

/// Appends ` key=value`; quotes the value unless it is one word.
fn push_pair(line: &mut String, key: &str, value: &str) {
    line.push(' ');
    let name = |c: char| if c.is_ascii_graphic() && !matches!(c, '=' | '"') { c } else { '_' };
    line.extend(key.chars().map(name));
    line.push('=');
    let one_word = |c: char| {
        (c.is_alphanumeric() && !is_invisible(c))
            || (c.is_ascii_punctuation() && !"=\"\\".contains(c))
    };
    if !value.is_empty() && value.chars().all(one_word) {
        line.push_str(value);
    } else {
        line.push('"');
        push_escaped(line, value, true);
        line.push('"');
    }
}

/// Appends `text`, escaped as by [`crate::text::printable`]. Within quotes, quotes and backslashes
/// are escaped too.
fn push_escaped(line: &mut String, text: &str, quoted: bool) {
    for c in text.chars() {
        if is_invisible(c) || (quoted && matches!(c, '"' | '\\')) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
}

#[cfg(test)]
mod tests;
