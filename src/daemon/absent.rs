//! What is kept of tokens that are not configured, or not yet: an inventory may be without a
//! token for a while, and bring it again.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::store::{Count, Stored};
use crate::time::Moment;

/// How long a value waits for its token: no inventory is broken for longer, and no session of
/// the API lives for more than a day. The store keeps the value all the same.
const WAITS: Duration = Duration::from_secs(30 * DAY);

/// Between two looks for what has waited too long.
const PACE: Duration = Duration::from_secs(DAY);

const DAY: u64 = 24 * 3_600;

/// Values and counts by the names of their tokens.
#[derive(Debug, Default)]
pub(super) struct Absent {
    values: HashMap<Box<str>, (Moment, Stored)>,
    counts: HashMap<Box<str>, Count>,
    pruned: Moment,
}

impl Absent {
    /// Keeps the value of a token that is absent since `now`, or longer.
    pub(super) fn keep_value(&mut self, name: &str, stored: Stored, now: Moment) {
        self.values.insert(name.into(), (now, stored));
    }

    /// Keeps how many attempts have counted for a token.
    pub(super) fn keep_count(&mut self, name: &str, count: Count) {
        self.counts.insert(name.into(), count);
    }

    /// The value that was kept for a token that has come.
    pub(super) fn take_value(&mut self, name: &str) -> Option<Stored> {
        // A million tokens come at a start, and mostly nothing is kept.
        if self.values.is_empty() {
            return None;
        }
        self.values.remove(name).map(|(_, stored)| stored)
    }

    /// The attempts that have counted for a token that has come.
    pub(super) fn take_count(&mut self, name: &str) -> Option<Count> {
        if self.counts.is_empty() { None } else { self.counts.remove(name) }
    }

    /// Once a day, lets go of values that have waited too long and of counts whose window has
    /// ended.
    pub(super) fn prune(&mut self, now: Moment, wall: Timestamp) {
        if now < self.pruned + PACE {
            return;
        }
        self.pruned = now;
        self.values.retain(|_, (since, _)| now.since(*since) < WAITS);
        self.values.shrink_to_fit();
        self.counts.retain(|_, count| count.window_end_ms > wall.as_millisecond());
        self.counts.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::TokenValue;

    fn day(day: u64) -> Moment {
        Moment::from_millis(day * DAY * 1_000)
    }

    fn wall(day: u64) -> Timestamp {
        Timestamp::from_millisecond(i64::try_from(day * DAY * 1_000).unwrap()).unwrap()
    }

    #[test]
    fn a_value_waits_a_month_for_its_token() {
        let stored = || Stored { value: TokenValue::parse("abc-1").unwrap(), replaces: None };
        let mut absent = Absent::default();
        absent.keep_value("quotes", stored(), day(10));
        absent.keep_value("orders", stored(), day(20));
        absent.prune(day(39), wall(39));
        assert_eq!(absent.values.len(), 2);
        absent.prune(day(40), wall(40));
        assert_eq!(absent.take_value("quotes"), None);
        assert_eq!(absent.take_value("orders"), Some(stored()));
    }

    #[test]
    fn attempts_count_until_their_window_ends() {
        let window_end_ms = wall(2).as_millisecond();
        let count = Count { window_end_ms, count: 1, in_a_row: 1 };
        let mut absent = Absent::default();
        absent.keep_count("quotes", count);
        absent.prune(day(11), wall(1));
        assert_eq!(absent.counts.len(), 1);
        absent.prune(day(12), wall(2));
        assert_eq!(absent.take_count("quotes"), None);
    }
}
