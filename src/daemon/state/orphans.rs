//! What is kept of tokens that are not configured, or not yet: an inventory may be without a
//! token for a while, and bring it again.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::store::{Count, Stored};
use crate::time::Moment;

/// Between two looks for counts whose window has ended.
const PACE: Duration = Duration::from_secs(24 * 3_600);

/// Values and counts by the names of their tokens.
#[derive(Debug, Default)]
pub(crate) struct OrphanedState {
    values: HashMap<Box<str>, Kept>,
    counts: HashMap<Box<str>, Count>,
    pruned: Moment,
}

/// The value of a token that is absent.
#[derive(Debug)]
struct Kept {
    stored: Stored,
    /// Until when it is kept; `None`: an inventory that was not read yet may have the token.
    until: Option<Moment>,
}

impl OrphanedState {
    /// Keeps the value of a token that is absent.
    pub(crate) fn keep_value(&mut self, name: &str, stored: Stored, until: Option<Moment>) {
        self.values.insert(name.into(), Kept { stored, until });
    }

    /// All inventories have been read: what is still absent was removed, and is kept until then.
    /// Returns the names whose values had no such time before.
    pub(crate) fn expire_all(&mut self, until: Moment) -> Vec<Box<str>> {
        let open = self.values.iter_mut().filter(|(_, kept)| kept.until.is_none());
        open.map(|(name, kept)| {
            kept.until = Some(until);
            name.clone()
        })
        .collect()
    }

    /// Whether a value is kept for a token.
    pub(crate) fn has_value(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Keeps how many attempts have counted for a token.
    pub(crate) fn keep_count(&mut self, name: &str, count: Count) {
        self.counts.insert(name.into(), count);
    }

    /// The value that was kept for a token that has come, and whether it was known to be removed.
    pub(crate) fn take_value(&mut self, name: &str, now: Moment) -> Option<(Stored, bool)> {
        // A million tokens come at a start, and mostly nothing is kept.
        if self.values.is_empty() {
            return None;
        }
        let Kept { stored, until } = self.values.remove(name)?;
        until.is_none_or(|until| now < until).then_some((stored, until.is_some()))
    }

    /// The attempts that have counted for a token that has come.
    pub(crate) fn take_count(&mut self, name: &str) -> Option<Count> {
        if self.counts.is_empty() { None } else { self.counts.remove(name) }
    }

    /// When the next value is kept no longer.
    pub(crate) fn prune_values(&mut self, now: Moment) {
        self.values.retain(|_, kept| kept.until.is_none_or(|until| now < until));
        if self.values.is_empty() {
            self.values.shrink_to_fit();
        }
    }

    /// Once a day, lets go of counts whose window has ended.
    pub(crate) fn prune(&mut self, now: Moment, wall: Timestamp) {
        if now < self.pruned + PACE {
            return;
        }
        self.pruned = now;
        self.counts.retain(|_, count| count.window_end_ms > wall.as_millisecond());
        self.counts.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::TokenValue;

    const DAY: u64 = 24 * 3_600;

    fn day(day: u64) -> Moment {
        Moment::from_millis(day * DAY * 1_000)
    }

    fn wall(day: u64) -> Timestamp {
        Timestamp::from_millisecond(i64::try_from(day * DAY * 1_000).unwrap()).unwrap()
    }

    fn stored() -> Stored {
        Stored { value: TokenValue::parse("abc-1").unwrap(), replaces: None }
    }

    #[test]
    fn value_of_a_removed_token_is_kept_for_a_time() {
        for pruned in [false, true] {
            let mut absent = OrphanedState::default();
            absent.keep_value("quotes", stored(), Some(day(10)));
            absent.keep_value("orders", stored(), Some(day(11)));
            if pruned {
                absent.prune_values(day(10));
            }
            assert_eq!(absent.take_value("quotes", day(10)), None);
            assert_eq!(absent.take_value("orders", day(10)), Some((stored(), true)));
        }
    }

    #[test]
    fn value_is_kept_until_all_inventories_have_been_read() {
        let mut absent = OrphanedState::default();
        absent.keep_value("quotes", stored(), None);
        absent.keep_value("orders", stored(), None);
        assert_eq!(absent.take_value("quotes", day(300)), Some((stored(), false)));
        assert_eq!(absent.expire_all(day(301)), ["orders".into()]);
        assert!(absent.expire_all(day(302)).is_empty());
        assert_eq!(absent.take_value("orders", day(301)), None);
    }

    #[test]
    fn attempts_count_until_their_window_ends() {
        let window_end_ms = wall(2).as_millisecond();
        let count = Count { window_end_ms, count: 1, in_a_row: 1 };
        let mut absent = OrphanedState::default();
        absent.keep_count("quotes", count);
        absent.prune(day(11), wall(1));
        assert_eq!(absent.counts.len(), 1);
        absent.prune(day(12), wall(2));
        assert_eq!(absent.take_count("quotes"), None);
    }
}
