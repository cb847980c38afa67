//! Native protocol and socket of the systemd journal.
//!
//! Used by the writer thread only, so a journal that hangs does not block the daemon.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tracing::Level;

use super::record::{Record, plain};
use crate::text::{one_line, printable};

/// Socket of the journal.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// The journal's facility for system daemons.
const FACILITY_DAEMON: &str = "3";

/// Maximum length of a field name in the journal, in bytes.
const MAX_KEY: usize = 64;

/// Renders a record in the native protocol: `KEY`, a line break, the value's length (64 bits,
/// little-endian), the value, a line break. The length makes every value safe.
pub(super) fn render(record: &Record) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(512);
    let mut put = |key: &str, value: &str| {
        datagram.extend_from_slice(key.as_bytes());
        datagram.push(b'\n');
        datagram.extend_from_slice(&(value.len() as u64).to_le_bytes());
        datagram.extend_from_slice(value.as_bytes());
        datagram.push(b'\n');
    };
    put("MESSAGE", &printable(&message(record)));
    put("PRIORITY", priority(record.level));
    put("SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
    put("SYSLOG_FACILITY", FACILITY_DAEMON);
    if let Some(event) = record.event {
        put("MESSAGE_ID", event.message_id());
        put("EVENT", event.as_str());
    }
    if let Some(target) = record.target {
        put("TARGET", target);
    }
    for (key, value) in &record.fields {
        put(&journal_key(key), &plain(value));
    }
    datagram
}

/// The `MESSAGE` field, which `journalctl` shows by default: the token or server, the message, and
/// the error unless the message contains it. One line, because `journalctl` shows further lines
/// like separate messages.
fn message(record: &Record) -> String {
    let mut message = record.message.clone();
    if let Some(whom) = record.text("token").or_else(|| record.text("server")) {
        message.insert_str(0, ": ");
        message.insert_str(0, whom);
    }
    if let Some(why) = record.text("error").filter(|why| !message.contains(why)) {
        message.push_str(": ");
        message.push_str(why);
    }
    if message.contains('\n') { one_line(&message) } else { message }
}

/// The syslog priority of a level.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

/// A valid field name of the journal: upper-case letters, digits and `_`, starting with a letter.
/// The journal drops fields with other names.
fn journal_key(key: &str) -> String {
    let mut name: String = key
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect();
    if !name.starts_with(|c: char| c.is_ascii_uppercase()) {
        name.insert_str(0, "FIELD_");
    }
    name.truncate(MAX_KEY);
    name
}

/// The journal's native socket. Writing may block; only the writer thread does it.
pub(super) struct JournalSocket {
    socket: UnixDatagram,
    path: Box<Path>,
}

impl JournalSocket {
    /// Connects, and sends an empty message, which the journal ignores, to check that it listens.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.send_to(&[], path)?;
        Ok(Self { socket, path: path.into() })
    }
}

impl Write for JournalSocket {
    /// Sends to the path each time, so that a restarted journal is reached.
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.socket.send_to(datagram, &self.path)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use serde_json::Value;

    use super::*;
    use crate::event_log::EventName;

    /// Reads a datagram as the journal does.
    fn read(mut datagram: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while !datagram.is_empty() {
            let end = datagram.iter().position(|byte| *byte == b'\n').unwrap();
            let (key, rest) = datagram.split_at(end);
            let (length, rest) = rest[1..].split_first_chunk::<8>().unwrap();
            let (value, rest) =
                rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
            assert_eq!(rest[0], b'\n');
            datagram = &rest[1..];
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            fields.insert(text(key), text(value));
        }
        fields
    }

    fn record(fields: Vec<(&'static str, Value)>) -> Record {
        let fields = fields.into_iter().map(|(key, value)| (key.into(), value)).collect();
        let message = "the token has expired".to_owned();
        Record::from_event(
            EventName::TokenExpired,
            Level::ERROR,
            Timestamp::UNIX_EPOCH,
            message,
            fields,
        )
    }

    #[test]
    fn fields_have_upper_case_names_in_the_journal() {
        let fields = read(&render(&record(vec![
            ("token", "quotes".into()),
            ("remaining_ms", Value::from(0)),
        ])));
        assert_eq!(fields["EVENT"], "token_expired");
        assert_eq!(fields["MESSAGE_ID"], EventName::TokenExpired.message_id());
        assert_eq!(fields["PRIORITY"], "3");
        assert_eq!(fields["TOKEN"], "quotes");
        assert_eq!(fields["REMAINING_MS"], "0");
    }

    fn reported(fields: Vec<(&'static str, Value)>) -> String {
        read(&render(&record(fields))).remove("MESSAGE").unwrap()
    }

    fn text(value: &str) -> Value {
        value.into()
    }

    #[test]
    fn the_message_names_the_token_or_else_the_server() {
        assert_eq!(reported(vec![]), "the token has expired");
        assert_eq!(reported(vec![("server", text("sarus"))]), "sarus: the token has expired");
        assert_eq!(
            reported(vec![("token", text("quotes")), ("server", text("sarus"))]),
            "quotes: the token has expired"
        );
    }

    #[test]
    fn the_error_is_appended_to_the_message_unless_it_contains_it() {
        assert_eq!(reported(vec![("error", text("gone"))]), "the token has expired: gone");
        assert_eq!(reported(vec![("error", text("has expired"))]), "the token has expired");
    }

    #[test]
    fn the_message_is_one_line_even_if_the_error_has_several() {
        assert_eq!(
            reported(vec![("error", text("a:\n    b\n\nc"))]),
            "the token has expired: a:; b; c"
        );
    }

    #[test]
    fn a_line_break_in_a_value_cannot_forge_a_field() {
        let fields = read(&render(&record(vec![("detail", "gone\nPRIORITY=7".into())])));
        assert_eq!(fields["DETAIL"], "gone\nPRIORITY=7");
        assert_eq!(fields["PRIORITY"], "3");
    }

    #[test]
    fn invalid_field_names_are_made_valid() {
        assert_eq!(journal_key("otel.name"), "OTEL_NAME");
        assert_eq!(journal_key("_private"), "FIELD__PRIVATE");
    }

    #[test]
    fn each_record_reaches_the_journal_as_one_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut socket = JournalSocket::connect(&path).unwrap();
        socket.write_all(b"one").unwrap();
        socket.write_all(b"two").unwrap();
        let mut buffer = [0; 16];
        let mut messages = Vec::new();
        for _ in 0..3 {
            let length = journal.recv(&mut buffer).unwrap();
            messages.push(buffer[..length].to_vec());
        }
        assert_eq!(messages, [b"".to_vec(), b"one".to_vec(), b"two".to_vec()]);
    }

    #[test]
    fn connecting_fails_if_the_journal_does_not_listen() {
        let folder = tempfile::tempdir().unwrap();
        assert!(JournalSocket::connect(&folder.path().join("nobody")).is_err());
    }
}
