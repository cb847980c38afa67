//! The systemd journal: its native protocol and its socket.
//!
//! It is spoken to from the log's own thread, so a journal that hangs delays nothing else.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tracing::Level;

use super::format::plain;
use super::record::Record;
use crate::text::{one_line, printable};

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// The journal's facility for system daemons.
const FACILITY_DAEMON: &str = "3";

/// The longest name of a field that the journal accepts, in bytes.
const MAX_KEY: usize = 64;

/// The native protocol: `KEY`, a line break, the value's length in 8 bytes (least first), the
/// value, a line break. The length makes every value safe.
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

/// What `journalctl` shows of a record without being asked for fields: whom it concerns, what
/// happened, and why, where the sentence does not say so itself. One line, as `journalctl` indents
/// further lines as if they were other messages.
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

/// syslog's number for a level.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

/// Upper case, digits and `_`, not starting with either of the latter: others are dropped by
/// the journal, with what they hold.
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

/// The journal's native socket. It may block, and does so in the log's own thread.
pub(super) struct JournalSocket {
    socket: UnixDatagram,
    path: Box<Path>,
}

impl JournalSocket {
    /// An empty message, which the journal ignores, proves that somebody listens.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.send_to(&[], path)?;
        Ok(Self { socket, path: path.into() })
    }
}

impl Write for JournalSocket {
    /// Addressed anew each time, so that a journal that has been restarted is found again.
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
    use crate::events::Name;

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
        Record::own(Name::TokenExpired, Level::ERROR, Timestamp::UNIX_EPOCH, message, fields)
    }

    #[test]
    fn fields_stand_in_the_journal_under_their_own_names() {
        let fields = read(&render(&record(vec![
            ("token", "quotes".into()),
            ("remaining_ms", Value::from(0)),
        ])));
        assert_eq!(fields["EVENT"], "token_expired");
        assert_eq!(fields["MESSAGE_ID"], Name::TokenExpired.message_id());
        assert_eq!(fields["PRIORITY"], "3");
        assert_eq!(fields["TOKEN"], "quotes");
        assert_eq!(fields["REMAINING_MS"], "0");
    }

    fn told(fields: Vec<(&'static str, Value)>) -> String {
        read(&render(&record(fields))).remove("MESSAGE").unwrap()
    }

    fn text(value: &str) -> Value {
        value.into()
    }

    #[test]
    fn the_message_names_the_token_or_else_the_server() {
        assert_eq!(told(vec![]), "the token has expired");
        assert_eq!(told(vec![("server", text("sarus"))]), "sarus: the token has expired");
        assert_eq!(
            told(vec![("token", text("quotes")), ("server", text("sarus"))]),
            "quotes: the token has expired"
        );
    }

    #[test]
    fn the_message_says_why_unless_it_does_so_already() {
        assert_eq!(told(vec![("error", text("gone"))]), "the token has expired: gone");
        assert_eq!(told(vec![("error", text("has expired"))]), "the token has expired");
    }

    #[test]
    fn the_message_is_one_line_whatever_the_reason_is() {
        assert_eq!(
            told(vec![("error", text("a:\n    b\n\nc"))]),
            "the token has expired: a:; b; c"
        );
    }

    #[test]
    fn a_line_break_in_a_value_forges_no_field() {
        let fields = read(&render(&record(vec![("detail", "gone\nPRIORITY=7".into())])));
        assert_eq!(fields["DETAIL"], "gone\nPRIORITY=7");
        assert_eq!(fields["PRIORITY"], "3");
    }

    #[test]
    fn a_name_that_the_journal_would_refuse_is_made_fit() {
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
    fn a_journal_that_does_not_listen_is_noticed_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        assert!(JournalSocket::connect(&folder.path().join("nobody")).is_err());
    }
}
