//! Model of the state database, and how an expiry survives a restart.

use std::time::Duration;

use crate::secret::TokenValue;
use crate::time::{Moment, whole_millis};

/// The value of a token whose source cannot store it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredValue {
    /// The value.
    pub value: TokenValue,
    /// The value that the token's source contained at that time, if any.
    pub replaces: Option<TokenValue>,
}

/// A refresh token that is not in its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCompanion {
    /// The refresh token. `None`: there is none, and what the row replaces must not be sent.
    pub value: Option<TokenValue>,
    /// What the source contained at that time, if anything.
    pub replaces: Option<TokenValue>,
}

/// A row to write: the refresh token, and until when it is kept if its token was removed, in
/// milliseconds since 1970.
pub(super) type CompanionRow = (StoredCompanion, Option<i64>);

/// What is counted, by name in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CounterKey {
    /// Re-auth attempts of a token.
    Token(String),
    /// Failures of a `reauth` method.
    Reauth(String),
}

/// A counter of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// When the window ends (wall clock, milliseconds since 1970).
    pub window_end_ms: i64,
    /// Attempts or failures in it; 0 is the same as no row.
    pub count: u32,
    /// Attempts since a value last lived half of its reported life.
    pub in_a_row: u32,
}

/// Both clocks at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClockReading {
    pub(super) now: Moment,
    pub(super) wall_ms: i64,
}

/// When and in which boot something was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WriteContext {
    /// Number of the boot.
    pub(super) boot: i64,
    pub(super) at: ClockReading,
}

/// What is needed to convert stored times to this run's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockContext {
    /// Number of the current boot.
    pub(super) boot: i64,
    pub(super) present: ClockReading,
    /// Last write of an earlier run (wall clock).
    pub(super) written_ms: i64,
}

/// A stored expiry: on the clock of its boot, and on the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredExpiry {
    boot: i64,
    moment_ms: u64,
    wall_ms: i64,
}

/// Number of a boot that could not be recorded.
pub(super) const UNKNOWN_BOOT: i64 = 0;

impl StoredExpiry {
    /// The expiry of a life that was written then.
    pub(super) fn new(expiry: Moment, written: &WriteContext) -> Self {
        let WriteContext { boot, at } = *written;
        let ahead = i64::try_from(expiry.as_millis()).unwrap_or(i64::MAX);
        let now = i64::try_from(at.now.as_millis()).unwrap_or(i64::MAX);
        let wall_ms = at.wall_ms.saturating_add(ahead.saturating_sub(now));
        Self { boot, moment_ms: expiry.as_millis(), wall_ms }
    }

    /// The expiry on this run's clock, and whether it was measured in this boot; `None` if it has
    /// passed or cannot be determined.
    ///
    /// Within one boot the clock is the same. Across boots only the wall clock is left, which is
    /// unreliable: such an expiry is good for ordering, not for a schedule.
    pub(super) fn at(&self, clocks: &ClockContext, remaining_ms: u64) -> Option<(Moment, bool)> {
        let ClockContext { boot, present, written_ms } = *clocks;
        let this_boot = self.boot == boot && boot != UNKNOWN_BOOT;
        let expiry = if this_boot {
            Moment::from_millis(self.moment_ms)
        } else {
            if present.wall_ms < written_ms {
                return None;
            }
            let left = self.wall_ms.checked_sub(present.wall_ms)?;
            present.now + Duration::from_millis(u64::try_from(left).ok()?)
        };
        let left = expiry.since(present.now);
        let is_possible = !left.is_zero() && whole_millis(left) <= remaining_ms;
        is_possible.then_some((expiry, this_boot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const WALL: i64 = 1_800_000_000_000;

    fn present(now: u64, wall_ms: i64) -> ClockReading {
        ClockReading { now: Moment::from_millis(now), wall_ms }
    }

    /// An expiry one hour ahead, written 5 s after the start of boot 1.
    fn kept() -> StoredExpiry {
        let written = WriteContext { boot: 1, at: present(5_000, WALL) };
        StoredExpiry::new(Moment::from_millis(5_000 + HOUR), &written)
    }

    /// The expiry as seen by a run in `boot`.
    fn at(boot: i64, present: ClockReading, written_ms: i64) -> Option<(Moment, bool)> {
        kept().at(&ClockContext { boot, present, written_ms }, HOUR)
    }

    #[test]
    fn expiry_within_one_boot_is_independent_of_the_wall_clock() {
        for wall in [WALL, WALL - 9_000_000, WALL + 9_000_000] {
            let expiry = at(1, present(65_000, wall), WALL);
            assert_eq!(expiry, Some((Moment::from_millis(5_000 + HOUR), true)));
        }
    }

    #[test]
    fn past_expiry_is_ignored() {
        assert_eq!(at(1, present(5_000 + HOUR, WALL), WALL), None);
        assert_eq!(at(2, present(0, WALL + 3_600_000), WALL), None);
    }

    #[test]
    fn expiry_of_another_boot_is_estimated_by_the_wall_clock() {
        for (passed, left) in [(0, HOUR), (600_000, 3_000_000), (3_599_999, 1)] {
            let expiry = at(2, present(1_000, WALL + passed), WALL);
            assert_eq!(expiry, Some((Moment::from_millis(1_000 + left), false)));
        }
    }

    #[test]
    fn expiry_of_an_unknown_boot_is_an_estimate() {
        let written = WriteContext { boot: UNKNOWN_BOOT, at: present(5_000, WALL) };
        let kept = StoredExpiry::new(Moment::from_millis(5_000 + HOUR), &written);
        let present = present(6_000, WALL + 1_000);
        let clocks = ClockContext { boot: UNKNOWN_BOOT, present, written_ms: WALL };
        assert_eq!(kept.at(&clocks, HOUR), Some((Moment::from_millis(5_000 + HOUR), false)));
    }

    #[test]
    fn expiry_is_unknown_if_the_wall_clock_was_set_back() {
        assert_eq!(at(2, present(1_000, WALL + 599_999), WALL + 600_000), None);
        assert_eq!(at(2, present(1_000, WALL - 9_000_000), i64::MIN), None);
    }

    #[test]
    fn remaining_life_never_exceeds_the_reported_one() {
        assert_eq!(at(1, present(0, WALL), WALL), None);
    }
}
