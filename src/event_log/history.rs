//! Ring buffer of recent events of all tokens, for status queries and the dashboard. Bounded in
//! number and bytes. Routine checks are not recorded.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;

use super::{EventName, Fields, Severity};

/// Maximum number of events: one for each of a hundred thousand tokens.
const MAX_EVENTS: usize = 100_000;

/// Maximum total size of all texts and names.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Maximum size of one text; longer texts are truncated.
const MAX_TEXT_BYTES: usize = 240;

/// One recorded event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEvent {
    /// When the event happened.
    pub at: Timestamp,
    /// The event's name.
    pub name: EventName,
    /// The event's severity.
    pub severity: Severity,
    /// The message, with the error if there is one. At most 240 bytes.
    pub text: Box<str>,
    /// Hash of the token's name, to skip other tokens quickly.
    key: u32,
    /// The token's name; empty for an event without a token.
    pub token: Box<str>,
    /// The server's name, for an event of a server.
    pub server: Option<Box<str>>,
    /// The replica's name, for an event of a replica.
    pub replica: Option<Box<str>>,
}

/// Ring buffer of recent events.
#[derive(Debug, Default)]
pub struct History {
    events: VecDeque<LoggedEvent>,
    bytes: usize,
    /// Events since the start.
    added: u64,
}

impl History {
    /// Records an event, unless it is a routine check.
    pub(super) fn add(
        &mut self,
        at: Timestamp,
        name: EventName,
        severity: Severity,
        message: &str,
        fields: &Fields<'_>,
    ) {
        if matches!(name, EventName::TokenChecked | EventName::ChecksSummary) {
            return;
        }
        let token = fields.token.unwrap_or_default();
        let reason = fields.error.filter(|error| !message.contains(error));
        let text = match reason {
            Some(reason) => truncated(&format!("{message}: {reason}")),
            None => truncated(message),
        };
        let server = fields.server.filter(|_| token.is_empty()).map(Into::into);
        let replica = fields.replica.filter(|_| token.is_empty()).map(Into::into);
        let (key, token) = (key(token), token.into());
        let event = LoggedEvent { at, name, severity, text, key, token, server, replica };
        self.bytes += event.bytes();
        self.events.push_back(event);
        self.added += 1;
        while self.events.len() > MAX_EVENTS || self.bytes > MAX_BYTES {
            let oldest = self.events.pop_front();
            self.bytes -= oldest.map_or(0, |oldest| oldest.bytes());
        }
    }

    /// The latest events, at most `limit`, oldest first, each with its sequence number since the
    /// start.
    pub fn latest(&self, limit: usize) -> impl Iterator<Item = (u64, &LoggedEvent)> {
        let skipped = self.events.len().saturating_sub(limit);
        let before = self.added - (self.events.len() - skipped) as u64;
        (before + 1..).zip(self.events.iter().skip(skipped))
    }

    /// The sequence number of the newest event, which is also how many there were; 0 before the
    /// first.
    pub const fn newest(&self) -> u64 {
        self.added
    }

    /// How many events are not kept any more.
    pub fn dropped(&self) -> u64 {
        self.added - self.events.len() as u64
    }

    /// When the oldest event that is kept happened.
    pub fn oldest_at(&self) -> Option<Timestamp> {
        self.events.front().map(|event| event.at)
    }

    /// The events with sequence numbers between `after` and `before`, both excluded, oldest first.
    pub fn between(
        &self,
        after: u64,
        before: u64,
    ) -> impl DoubleEndedIterator<Item = (u64, &LoggedEvent)> {
        let dropped = self.dropped();
        let index = |seq: u64| {
            let index = usize::try_from(seq.saturating_sub(dropped)).unwrap_or(usize::MAX);
            index.min(self.events.len())
        };
        let (start, end) = (index(after), index(before.saturating_sub(1)));
        let first = dropped + start as u64 + 1;
        let events = self.events.range(start.min(end)..end).enumerate();
        events.map(move |(offset, event)| (first + offset as u64, event))
    }

    /// The latest events of the token named `token`, at most `limit`, oldest first.
    pub fn for_token(&self, token: &str, limit: usize) -> Vec<&LoggedEvent> {
        let key = key(token);
        let own = |event: &&LoggedEvent| event.key == key && *event.token == *token;
        let mut events: Vec<_> = self.events.iter().rev().filter(own).take(limit).collect();
        events.reverse();
        events
    }
}

impl LoggedEvent {
    fn bytes(&self) -> usize {
        let names = [&self.server, &self.replica].into_iter().flatten();
        self.text.len() + self.token.len() + names.map(|name| name.len()).sum::<usize>()
    }
}

fn key(token: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    token.hash(&mut hasher);
    let [high, low] = [32, 0].map(|shift| (hasher.finish() >> shift) & u64::from(u32::MAX));
    u32::try_from(high ^ low).unwrap_or(u32::MAX)
}

/// `text`, truncated at a character boundary to [`MAX_TEXT_BYTES`].
fn truncated(text: &str) -> Box<str> {
    const MORE: &str = "…";
    if text.len() <= MAX_TEXT_BYTES {
        return text.into();
    }
    let mut end = MAX_TEXT_BYTES - MORE.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MORE}", &text[..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(
        history: &mut History,
        name: EventName,
        token: &str,
        message: &str,
        error: Option<&str>,
    ) {
        let fields = Fields { token: Some(token), error, ..Fields::default() };
        history.add(Timestamp::UNIX_EPOCH, name, name.severity(), message, &fields);
    }

    fn texts<'a>(history: &'a History, token: &str, limit: usize) -> Vec<&'a str> {
        history.for_token(token, limit).iter().map(|event| &*event.text).collect()
    }

    #[test]
    fn events_of_one_token_are_returned_oldest_first() {
        let mut history = History::default();
        for number in 0..5 {
            add(&mut history, EventName::TokenExpired, "quotes", &number.to_string(), None);
            add(&mut history, EventName::TokenExpired, "orders", "other", None);
        }
        assert_eq!(texts(&history, "quotes", 3), ["2", "3", "4"]);
        assert_eq!(texts(&history, "nobody", 3), [""; 0]);
    }

    #[test]
    fn routine_checks_are_not_recorded() {
        let mut history = History::default();
        add(&mut history, EventName::TokenChecked, "quotes", "alive", None);
        assert!(history.for_token("quotes", 9).is_empty());
    }

    #[test]
    fn the_error_is_appended_unless_the_message_contains_it() {
        let mut history = History::default();
        add(&mut history, EventName::TokenExpired, "quotes", "it expired", Some("it was time"));
        add(&mut history, EventName::CheckFailed, "quotes", "no: refused", Some("refused"));
        assert_eq!(texts(&history, "quotes", 9), ["it expired: it was time", "no: refused"]);
    }

    #[test]
    fn events_between_two_sequence_numbers_are_returned_in_both_directions() {
        let mut history = History::default();
        for number in 1..=5 {
            add(&mut history, EventName::TokenExpired, "quotes", &number.to_string(), None);
        }
        history.events.drain(..2);
        assert_eq!((history.newest(), history.dropped()), (5, 2));
        let seqs = |after, before| history.between(after, before).map(|(seq, _)| seq);
        assert_eq!(seqs(0, u64::MAX).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(seqs(3, 5).rev().collect::<Vec<_>>(), [4]);
        for (after, before) in [(5, u64::MAX), (9, 12), (0, 3), (4, 2), (u64::MAX, 0)] {
            assert_eq!(seqs(after, before).count(), 0, "{after} {before}");
        }
        assert!(history.between(0, 9).all(|(seq, event)| *event.text == *seq.to_string()));
    }

    #[test]
    fn the_history_is_bounded_in_number_and_bytes() {
        let mut history = History::default();
        let long = "ö".repeat(10_000);
        for _ in 0..MAX_EVENTS + 10 {
            add(&mut history, EventName::TokenExpired, "quotes", &long, None);
        }
        assert!(history.events.len() <= MAX_EVENTS && history.bytes <= MAX_BYTES);
        assert!(history.events.iter().all(|event| event.text.len() <= MAX_TEXT_BYTES));
    }
}
