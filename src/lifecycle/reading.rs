//! Readings of the remaining life, and what two of them prove.
//!
//! A reading is what the server reported, with the moments around the request. No life is assumed
//! that was not reported.

use std::time::Duration;

use crate::outcome::ENDLESS;
use crate::time::Moment;

/// Which call a response belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Reads the remaining life. Whether it also renews depends on the server.
    Query,
    /// Is documented to renew, and also reports the remaining life.
    Renew,
}

impl Method {
    /// The method as text, for events and the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Renew => "renew",
        }
    }
}

/// The remaining life that one response reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Before the request was sent, rounded down.
    pub sent: Moment,
    /// After the response arrived, rounded up.
    pub received: Moment,
    /// Reported remaining life, in milliseconds.
    pub remaining_ms: u64,
    /// The call that was responded to.
    pub by: Method,
}

/// A `Remaining` that is a multiple of this counts as rounded to seconds.
const WHOLE_SECOND_MS: u64 = 1_000;

impl Reading {
    /// The expiry: request start + remaining life. The server measured the life after the request
    /// was sent, so the token lives at least this long.
    pub fn expiry(&self) -> Moment {
        self.sent + self.remaining()
    }

    /// Reported remaining life.
    pub const fn remaining(&self) -> Duration {
        Duration::from_millis(self.remaining_ms)
    }

    /// Whether the value does not expire.
    pub(super) fn is_endless(&self) -> bool {
        self.remaining() >= ENDLESS
    }

    /// This reading as a baseline for a much later one. When its request was sent is irrelevant for
    /// that.
    pub(super) const fn as_baseline(self) -> Self {
        Self { sent: self.received, ..self }
    }

    /// The latest possible expiry according to this reading, unless the token was renewed.
    pub fn latest_end(&self) -> Moment {
        self.received + self.remaining()
    }

    /// Whether the expiry has certainly moved since `earlier`: by at least a tenth of `life`, so
    /// that latency cannot cause it.
    ///
    /// Two readings in whole seconds can differ by almost a second through rounding, so they must
    /// differ by at least a second. The remaining life must be at least that much: a server that
    /// counts down to zero and continues to report zero moves the expiry with every response.
    pub fn grew_since(&self, earlier: &Self, life: Duration) -> bool {
        let margin = if self.may_be_rounded_like(earlier) {
            (life / 10).max(Duration::from_millis(WHOLE_SECOND_MS))
        } else {
            life / 10
        };
        self.grew_by(margin, earlier)
    }

    fn grew_by(&self, margin: Duration, earlier: &Self) -> bool {
        let is_left = self.remaining_ms > 0 && self.remaining() >= margin;
        is_left && self.expiry() >= earlier.latest_end() + margin
    }

    fn may_be_rounded_like(&self, earlier: &Self) -> bool {
        [self, earlier].iter().all(|r| r.remaining_ms % WHOLE_SECOND_MS == 0)
    }

    /// Whether the expiry has certainly become earlier since `earlier`, by at least a tenth of
    /// `life`: the server has shortened the life.
    pub(super) fn shrank_since(&self, earlier: &Self, life: Duration) -> bool {
        earlier.expiry() >= self.latest_end() + life / 10
    }

    /// Whether the token was renewed since `earlier`; `None` if that cannot be evaluated: less than
    /// a fifth of `life` has certainly passed, or rounding to seconds hides the difference in a
    /// life of less than two seconds.
    pub fn renewed_since(&self, earlier: &Self, life: Duration) -> Option<bool> {
        let grew = self.grew_since(earlier, life);
        let hidden = !grew
            && self.may_be_rounded_like(earlier)
            && life < 2 * Duration::from_millis(WHOLE_SECOND_MS)
            && self.grew_by(life / 10, earlier);
        (self.sent.since(earlier.received) >= life / 5 && !hidden).then_some(grew)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(10);

    fn reading(sent: u64, received: u64, remaining_ms: u64) -> Reading {
        Reading {
            sent: Moment::from_millis(sent),
            received: Moment::from_millis(received),
            remaining_ms,
            by: Method::Query,
        }
    }

    #[test]
    fn expiry_counts_from_sending_not_from_receipt() {
        assert_eq!(reading(1_000, 4_000, 500).expiry(), Moment::from_millis(1_500));
    }

    #[test]
    fn life_that_was_renewed_has_grown() {
        let later = reading(6_000, 6_020, 9_990);
        assert_eq!(later.renewed_since(&reading(0, 20, 9_995), LIFE), Some(true));
    }

    #[test]
    fn life_that_runs_down_has_not_grown() {
        let later = reading(6_000, 6_020, 3_990);
        assert_eq!(later.renewed_since(&reading(0, 20, 9_995), LIFE), Some(false));
    }

    #[test]
    fn nothing_is_concluded_before_a_fifth_of_the_life_has_passed() {
        let later = reading(2_019, 2_030, 9_990);
        assert_eq!(later.renewed_since(&reading(0, 20, 9_995), LIFE), None);
    }

    #[test]
    fn slow_first_response_does_not_fake_a_growth() {
        // The server measured 10 s just before the response arrived 5 s late; at 8 s, 7 s are left.
        let later = reading(8_000, 8_010, 6_990);
        assert_eq!(later.renewed_since(&reading(0, 5_000, 10_000), LIFE), Some(false));
    }

    #[test]
    fn life_that_stays_at_nothing_has_not_grown() {
        for (life, remaining_ms) in [(LIFE, 0), (LIFE, 999), (Duration::ZERO, 0)] {
            let later = reading(60_000, 60_010, remaining_ms);
            let grew = later.grew_since(&reading(0, 10, remaining_ms), life);
            assert!(!grew, "{remaining_ms} ms left of {life:?}");
        }
    }

    #[test]
    fn whole_seconds_do_not_fake_a_growth() {
        // 2.99 s left, reported as 2; 1.98 s later 1.01 s left, reported as 1.
        let life = Duration::from_secs(3);
        let later = reading(1_990, 1_990, 1_000);
        assert_eq!(later.renewed_since(&reading(10, 10, 2_000), life), Some(false));
    }

    #[test]
    fn whole_seconds_do_not_fake_a_growth_at_the_end_of_a_life_either() {
        // 1.99 s left, reported as 1; 0.67 s later 1.32 s left, reported as 1 again.
        let first = reading(0, 5, 1_000);
        let second = reading(670, 675, 1_000);
        assert_eq!(second.renewed_since(&first, Duration::from_secs(1)), None);
        // Two possible second readings: renewed, and not renewed.
        let life = Duration::from_secs(1);
        assert_eq!(reading(1_340, 1_345, 1_000).renewed_since(&first, life), Some(true));
        assert_eq!(reading(1_340, 1_345, 0).renewed_since(&first, life), Some(false));
    }

    #[test]
    fn whole_seconds_do_not_hide_a_renewal() {
        let life = Duration::from_secs(3);
        let later = reading(1_810, 1_815, 3_000);
        assert_eq!(later.renewed_since(&reading(0, 5, 3_000), life), Some(true));
    }
}
