//! State of tokens that are not configured, or not yet: an inventory can lose a token and list it
//! again later. Kept by name, and dropped after a time.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::store::{Counter, StoredValue};
use crate::time::Moment;

/// Time between two prunings of counts whose window has ended.
const PRUNING_INTERVAL: Duration = Duration::from_secs(24 * 3_600);

/// Values and counts by the names of their tokens.
#[derive(Debug, Default)]
pub(super) struct OrphanedState {
    values: HashMap<Box<str>, OrphanedValue>,
    counts: HashMap<Box<str>, Counter>,
    pruned: Moment,
}

/// The value of a token that is not configured.
#[derive(Debug)]
struct OrphanedValue {
    stored: StoredValue,
    /// When it is dropped; `None` if an inventory that was not read yet can list the token.
    until: Option<Moment>,
}

impl OrphanedState {
    /// Keeps the value of a token that is not configured.
    pub(super) fn keep_value(&mut self, name: &str, stored: StoredValue, until: Option<Moment>) {
        self.values.insert(name.into(), OrphanedValue { stored, until });
    }

    /// All inventories have been read: tokens that are still not configured were removed, and
    /// their values are kept until then. Returns their names.
    pub(super) fn expire_all(&mut self, until: Moment) -> Vec<Box<str>> {
        let open = self.values.iter_mut().filter(|(_, kept)| kept.until.is_none());
        open.map(|(name, kept)| {
            kept.until = Some(until);
            name.clone()
        })
        .collect()
    }

    /// Whether a value is kept for a token.
    pub(super) fn has_value(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Keeps how many reauth attempts of a token have counted.
    pub(super) fn keep_count(&mut self, name: &str, count: Counter) {
        self.counts.insert(name.into(), count);
    }

    /// Returns the value of a token that is added, and whether the token was known to be removed.
    pub(super) fn take_value(&mut self, name: &str, now: Moment) -> Option<(StoredValue, bool)> {
        // A million tokens are added at startup, and there are mostly no orphans.
        if self.values.is_empty() {
            return None;
        }
        let OrphanedValue { stored, until } = self.values.remove(name)?;
        until.is_none_or(|until| now < until).then_some((stored, until.is_some()))
    }

    /// Returns the attempts of a token that is added.
    pub(super) fn take_count(&mut self, name: &str) -> Option<Counter> {
        if self.counts.is_empty() { None } else { self.counts.remove(name) }
    }

    /// Drops the values whose time is over.
    pub(super) fn prune_values(&mut self, now: Moment) {
        self.values.retain(|_, kept| kept.until.is_none_or(|until| now < until));
        if self.values.is_empty() {
            self.values.shrink_to_fit();
        }
    }

    /// Once a day, drops counts whose window has ended.
    pub(super) fn prune(&mut self, now: Moment, wall: Timestamp) {
        if now < self.pruned + PRUNING_INTERVAL {
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

    fn stored() -> StoredValue {
        StoredValue { value: TokenValue::parse("abc-1").unwrap(), replaces: None }
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
        let count = Counter { window_end_ms, count: 1, in_a_row: 1 };
        let mut absent = OrphanedState::default();
        absent.keep_count("quotes", count);
        absent.prune(day(11), wall(1));
        assert_eq!(absent.counts.len(), 1);
        absent.prune(day(12), wall(2));
        assert_eq!(absent.take_count("quotes"), None);
    }
}
