//! One reading of a token's remaining life, and what two of them prove.
//!
//! A reading is what the server reported, with the instants around the call. Nothing
//! here believes in a life that was not reported.

use std::time::Duration;

use crate::time::Moment;

/// Which call an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// It reads the remaining life; whether it extends it is the server's affair.
    Query,
    /// It is documented to extend the life, and reports it too.
    Renew,
}

/// The remaining life that one answer reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Before the request was sent, rounded down.
    pub sent: Moment,
    /// After the answer came, rounded up.
    pub received: Moment,
    /// The reported life, in milliseconds.
    pub remaining_ms: u64,
    /// The call that was answered.
    pub by: Method,
}

/// Readings whose `Remaining` is a whole number of these are taken for rounded ones.
const WHOLE_SECOND_MS: u64 = 1_000;

impl Reading {
    /// The moment until which the token is known to live. The server measured the life
    /// after the request was sent, so the token lives at least this long.
    pub fn expiry(&self) -> Moment {
        self.sent + self.remaining()
    }

    /// The reported life.
    pub const fn remaining(&self) -> Duration {
        Duration::from_millis(self.remaining_ms)
    }

    /// What of it a much later reading is compared with; when its request was sent does not
    /// count for that.
    pub(super) const fn as_baseline(self) -> Self {
        Self { sent: self.received, ..self }
    }

    /// The latest end of life that this reading allows, if nothing renewed the token.
    pub fn latest_end(&self) -> Moment {
        self.received + self.remaining()
    }

    /// Whether the token's end has certainly moved since `earlier`: by at least a tenth
    /// of `life`, so that latency cannot fake it.
    ///
    /// Two readings in whole seconds may differ by nearly a second through rounding
    /// alone, so those must differ by a second at the least.
    ///
    /// What has grown must have that much left: a server that counts a life down to nothing,
    /// and goes on to report nothing, moves the end along with every answer.
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

    /// Whether the token's end has certainly come nearer since `earlier`, by at least a tenth
    /// of `life`: the server has cut it short.
    pub(super) fn shrank_since(&self, earlier: &Self, life: Duration) -> bool {
        earlier.expiry() >= self.latest_end() + life / 10
    }

    /// Whether the token was renewed since `earlier`; `None` when nothing can be said: less
    /// than a fifth of `life` has certainly passed between the two, or in a life of less than
    /// two seconds, whole seconds hide what has become of it.
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
    fn the_bound_counts_from_sending_not_from_receipt() {
        assert_eq!(reading(1_000, 4_000, 500).expiry(), Moment::from_millis(1_500));
    }

    #[test]
    fn a_life_that_starts_anew_has_grown() {
        let later = reading(6_000, 6_020, 9_990);
        assert_eq!(later.renewed_since(&reading(0, 20, 9_995), LIFE), Some(true));
    }

    #[test]
    fn a_life_that_runs_down_has_not_grown() {
        let later = reading(6_000, 6_020, 3_990);
        assert_eq!(later.renewed_since(&reading(0, 20, 9_995), LIFE), Some(false));
    }

    #[test]
    fn nothing_is_concluded_before_a_fifth_of_the_life_has_passed() {
        let later = reading(2_019, 2_030, 9_990);
        assert_eq!(later.renewed_since(&reading(0, 20, 9_995), LIFE), None);
    }

    #[test]
    fn a_slow_first_answer_does_not_fake_a_growth() {
        // The server measured 10 s just before the answer came 5 s late; at 8 s it has 7 s left.
        let later = reading(8_000, 8_010, 6_990);
        assert_eq!(later.renewed_since(&reading(0, 5_000, 10_000), LIFE), Some(false));
    }

    #[test]
    fn a_life_that_stays_at_nothing_has_not_grown() {
        for (life, remaining_ms) in [(LIFE, 0), (LIFE, 999), (Duration::ZERO, 0)] {
            let later = reading(60_000, 60_010, remaining_ms);
            let grew = later.grew_since(&reading(0, 10, remaining_ms), life);
            assert!(!grew, "{remaining_ms} ms left of {life:?}");
        }
    }

    #[test]
    fn whole_seconds_do_not_fake_a_growth() {
        // 2.99 s left, told as 2; 1.98 s later 1.01 s left, told as 1.
        let life = Duration::from_secs(3);
        let later = reading(1_990, 1_990, 1_000);
        assert_eq!(later.renewed_since(&reading(10, 10, 2_000), life), Some(false));
    }

    #[test]
    fn whole_seconds_do_not_fake_a_growth_at_the_end_of_a_life_either() {
        // 1.99 s left, told as 1; 0.67 s later 1.32 s left, told as 1 again.
        let first = reading(0, 5, 1_000);
        let second = reading(670, 675, 1_000);
        assert_eq!(second.renewed_since(&first, Duration::from_secs(1)), None);
        // Had something renewed it, this would follow; nothing did, so that will.
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
