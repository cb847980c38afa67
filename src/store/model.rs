//! What is kept, as the rest of the program sees it; and how an expiry crosses a restart.

use std::time::Duration;

use crate::secret::TokenValue;
use crate::time::{Moment, whole_millis};

/// What the last answer said of a token's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state in disguise")]
pub struct Life {
    /// The moment until which the token is known to live.
    pub expiry: Moment,
    /// What was left of it when it was asked about, in milliseconds.
    pub remaining_ms: u64,
    /// A whole life, in milliseconds; 0 if unknown.
    pub life_ms: u64,
    /// The call that was answered was the renewing one.
    pub by_renewing: bool,
    /// A renewal of this value has been proven.
    pub proven: bool,
    /// No call extends this value's life.
    pub unrenewable: bool,
    /// It was told in the present boot: the clock that measured `expiry` is this one. Otherwise
    /// the wall clock was relied on, which may have stood still, so `expiry` is a guess.
    pub this_boot: bool,
}

/// A value that was kept for a token whose source cannot hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredValue {
    /// The value.
    pub value: TokenValue,
    /// What the token's source held when this value took its place, if it held one.
    pub replaces: Option<TokenValue>,
}

/// Whose attempts or failures are counted, by the name in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CounterKey {
    /// A token's re-auth attempts.
    Token(String),
    /// The failures of one way to new values.
    Reauth(String),
}

/// What counts in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// When the window ends, on the wall clock, in milliseconds since 1970.
    pub window_end_ms: i64,
    /// Attempts or failures that count in it; 0 is as good as no row.
    pub count: u32,
    /// Attempts since a value last lived half of its reported life.
    pub in_a_row: u32,
}

/// The clocks at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClockReading {
    pub(super) now: Moment,
    pub(super) wall_ms: i64,
}

/// When and in which boot something was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WriteContext {
    /// The number of the boot.
    pub(super) boot: i64,
    pub(super) at: ClockReading,
}

/// From where the present run looks at what earlier ones have kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockContext {
    /// The number of the present boot.
    pub(super) boot: i64,
    pub(super) present: ClockReading,
    /// When something was last written by an earlier run, on the wall clock.
    pub(super) written_ms: i64,
}

/// An expiry as it is kept: on the clock of the boot that it was told in, and on the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredExpiry {
    boot: i64,
    moment_ms: u64,
    wall_ms: i64,
}

/// The number of a boot that could not be written down.
pub(super) const UNKNOWN_BOOT: i64 = 0;

impl StoredExpiry {
    /// The expiry of a life that was written down then.
    pub(super) fn new(expiry: Moment, written: &WriteContext) -> Self {
        let WriteContext { boot, at } = *written;
        let ahead = i64::try_from(expiry.as_millis()).unwrap_or(i64::MAX);
        let now = i64::try_from(at.now.as_millis()).unwrap_or(i64::MAX);
        let wall_ms = at.wall_ms.saturating_add(ahead.saturating_sub(now));
        Self { boot, moment_ms: expiry.as_millis(), wall_ms }
    }

    /// The expiry on the daemon's clock, and whether it was measured in this boot; `None` where it
    /// has passed, or the clocks cannot tell.
    ///
    /// Within one boot the clock is the same. Across boots only the wall clock is left, and
    /// nothing vouches for it: the expiry is good for an order, not for a schedule.
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

    /// An expiry one hour ahead at 5 s after boot 1.
    fn kept() -> StoredExpiry {
        let written = WriteContext { boot: 1, at: present(5_000, WALL) };
        StoredExpiry::new(Moment::from_millis(5_000 + HOUR), &written)
    }

    /// What is left of it for a run of that boot.
    fn at(boot: i64, present: ClockReading, written_ms: i64) -> Option<(Moment, bool)> {
        kept().at(&ClockContext { boot, present, written_ms }, HOUR)
    }

    #[test]
    fn within_one_boot_the_bound_stays_where_it_was_whatever_the_wall_clock_says() {
        for wall in [WALL, WALL - 9_000_000, WALL + 9_000_000] {
            let expiry = at(1, present(65_000, wall), WALL);
            assert_eq!(expiry, Some((Moment::from_millis(5_000 + HOUR), true)));
        }
    }

    #[test]
    fn a_bound_that_has_passed_is_worth_nothing() {
        assert_eq!(at(1, present(5_000 + HOUR, WALL), WALL), None);
        assert_eq!(at(2, present(0, WALL + 3_600_000), WALL), None);
    }

    #[test]
    fn bound_of_another_boot_is_a_guess_by_the_wall_clock() {
        for (passed, left) in [(0, HOUR), (600_000, 3_000_000), (3_599_999, 1)] {
            let expiry = at(2, present(1_000, WALL + passed), WALL);
            assert_eq!(expiry, Some((Moment::from_millis(1_000 + left), false)));
        }
    }

    #[test]
    fn bound_of_a_boot_that_cannot_be_told_is_a_guess() {
        let written = WriteContext { boot: UNKNOWN_BOOT, at: present(5_000, WALL) };
        let kept = StoredExpiry::new(Moment::from_millis(5_000 + HOUR), &written);
        let present = present(6_000, WALL + 1_000);
        let clocks = ClockContext { boot: UNKNOWN_BOOT, present, written_ms: WALL };
        assert_eq!(kept.at(&clocks, HOUR), Some((Moment::from_millis(5_000 + HOUR), false)));
    }

    #[test]
    fn a_wall_clock_that_was_set_back_tells_nothing() {
        assert_eq!(at(2, present(1_000, WALL + 599_999), WALL + 600_000), None);
        assert_eq!(at(2, present(1_000, WALL - 9_000_000), i64::MIN), None);
    }

    #[test]
    fn no_more_is_left_than_was_ever_reported() {
        assert_eq!(at(1, present(0, WALL), WALL), None);
    }
}
