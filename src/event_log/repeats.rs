//! Limits repeated warnings by message: the first ones are written, the others are summarized with
//! a count.
//!
//! Pure: the time is an argument, and nothing is written here.

use std::collections::HashMap;
use std::time::Duration;

use super::budgets::Bucket;
use crate::time::Moment;

/// Maximum lines per minute of one message.
pub(super) const LINES_PER_MESSAGE: u32 = 20;

/// Time from the first suppressed warning to the summary.
pub(super) const SUMMARY_AFTER: Duration = Duration::from_secs(5);

/// Maximum number of distinct messages. Further messages share one counter.
const MAX_MESSAGES: usize = 64;

/// The message of the shared counter.
const OTHER_MESSAGES: &str = "other warnings";

/// Number of suppressed warnings with one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SuppressedWarning {
    pub(super) message: Box<str>,
    pub(super) count: u64,
}

#[derive(Debug, Default)]
struct Message {
    bucket: Bucket,
    suppressed: u64,
}

/// Warnings by message.
#[derive(Debug, Default)]
pub(super) struct RepeatedWarnings {
    by_message: HashMap<Box<str>, Message>,
    due: Option<Moment>,
}

impl RepeatedWarnings {
    /// Whether to write a warning. A warning that is not written is counted.
    pub(super) fn admit(&mut self, now: Moment, message: &str) -> bool {
        let is_known =
            self.by_message.contains_key(message) || self.by_message.len() < MAX_MESSAGES;
        let message = if is_known { message } else { OTHER_MESSAGES };
        let kind = self.by_message.entry(message.into()).or_default();
        let admits = kind.bucket.take(now, LINES_PER_MESSAGE);
        if !admits {
            kind.suppressed += 1;
            self.due.get_or_insert(now + SUMMARY_AFTER);
        }
        admits
    }

    /// When the next summary is due; `None` if there is nothing to summarise.
    pub(super) const fn due(&self) -> Option<Moment> {
        self.due
    }

    /// Takes the summaries that are due.
    pub(super) fn take_due(&mut self, now: Moment) -> Vec<SuppressedWarning> {
        if self.due.is_some_and(|due| due <= now) { self.take_all() } else { Vec::new() }
    }

    /// Takes all pending summaries.
    pub(super) fn take_all(&mut self) -> Vec<SuppressedWarning> {
        self.due = None;
        let kinds = self.by_message.iter_mut().filter(|(_, kind)| kind.suppressed > 0);
        let mut all: Vec<_> = kinds
            .map(|(message, kind)| SuppressedWarning {
                message: message.clone(),
                count: std::mem::take(&mut kind.suppressed),
            })
            .collect();
        all.sort_by(|one, other| one.message.cmp(&other.message));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment::from_millis(5_000);

    #[test]
    fn repeats_of_one_message_are_summarised_and_leave_room_for_another() {
        let mut repeats = RepeatedWarnings::default();
        let written = (0..1_100).filter(|_| repeats.admit(START, "open to others")).count();
        assert_eq!(written, LINES_PER_MESSAGE as usize);
        assert!(repeats.admit(START, "not a token"));
        assert_eq!(repeats.take_due(START), []);
        let due = repeats.due().unwrap();
        let rest = SuppressedWarning { message: "open to others".into(), count: 1_100 - 20 };
        assert_eq!(repeats.take_due(due), [rest]);
        assert_eq!((repeats.due(), repeats.take_all()), (None, vec![]));
    }

    #[test]
    fn memory_is_bounded_and_every_message_is_counted() {
        let mut repeats = RepeatedWarnings::default();
        let written = (0..1_000).filter(|n| repeats.admit(START, &n.to_string())).count();
        let suppressed: u64 = repeats.take_all().iter().map(|repeat| repeat.count).sum();
        assert_eq!(written as u64 + suppressed, 1_000);
        assert!(repeats.by_message.len() <= MAX_MESSAGES + 1);
    }
}
