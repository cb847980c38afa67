//! Timing of checks: when the next one is due, with jitter, and its time-out.
//!
//! Arithmetic only. Every wait is derived from what the server reported.

use std::time::Duration;

use super::policy::Schedule;
use crate::time::Moment;

/// The shortest time-out of a request, however near the expiry: about what a response from another
/// continent takes.
pub const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);

/// The least time between a check and the expiry, so that the check and one retry fit with the
/// shortest time-outs: 100 ms for the check, a third of the remaining 150 ms as the pause, 100 ms
/// for the retry.
pub const SHORTEST_ROOM: Duration = Duration::from_millis(250);

/// The last retry room, as a share of the reported life: in it, a renewal that spends a refresh token
/// is repeated although the server may have processed it already. A server that sees a spent refresh
/// token again may end the value at once; this is the most that can be lost then.
const LAST_ROOM_SHARE: u32 = 10;

/// The shortest life of a new value that justifies a login: half of it leaves room for a check and
/// one retry ([`SHORTEST_ROOM`]).
pub(super) const SHORTEST_USEFUL_LIFE: Duration = Duration::from_millis(500);

/// A random number from 0 (included) to 1 (excluded), drawn by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RandomFraction(f64);

impl RandomFraction {
    /// Clamps `value` to the range.
    pub fn new(value: f64) -> Self {
        Self(value.clamp(0.0, 1.0 - f64::EPSILON))
    }

    pub(super) const fn get(self) -> f64 {
        self.0
    }
}

/// Time from a request to the next check, if its response left `remaining` (at least
/// [`SHORTEST_TIMEOUT`]).
///
/// The `check_after` fraction of `remaining`, at most `max_interval`, minus up to `jitter` of that.
/// At least `min_interval`, unless half of `remaining` is less. Early enough to leave
/// [`SHORTEST_ROOM`] if the life is long enough.
///
/// ```
/// use std::time::Duration;
/// use tokenkeep::lifecycle::{RandomFraction, Schedule, check_wait};
///
/// let wait = check_wait(Duration::from_secs(1800), &Schedule::default(), RandomFraction::new(0.0));
/// assert_eq!(wait, Duration::from_secs(1206));
/// ```
pub fn check_wait(remaining: Duration, schedule: &Schedule, draw: RandomFraction) -> Duration {
    let half = remaining / 2;
    let share = schedule.check_after.of(remaining).min(schedule.max_interval);
    let jittered = share.saturating_sub(schedule.jitter.of(share).mul_f64(draw.0));
    let latest = remaining.saturating_sub(SHORTEST_ROOM).max(half);
    jittered.max(schedule.min_interval.min(half)).min(latest).max(SHORTEST_TIMEOUT)
}

/// The time-out of a request sent at `now`: the configured one or a quarter of the time to
/// `expiry`, whichever is less, and at least [`SHORTEST_TIMEOUT`].
pub fn effective_timeout(configured: Duration, expiry: Option<Moment>, now: Moment) -> Duration {
    let quarter = match expiry {
        Some(expiry) if expiry > now => expiry.since(now) / 4,
        _ => configured,
    };
    configured.min(quarter).max(SHORTEST_TIMEOUT)
}

/// How long before the expiry a renewal whose response was lost is repeated, if the response before
/// left `remaining`: time for one request with the configured time-out, at most a tenth of the life,
/// and at least [`SHORTEST_ROOM`].
pub fn last_retry_room(configured: Duration, remaining: Duration) -> Duration {
    configured.min(remaining / LAST_ROOM_SHARE).max(SHORTEST_ROOM)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lifecycle::backoff::{backoff, short_reading_wait};
    use crate::lifecycle::policy::Fraction;
    use crate::lifecycle::reading::{Method, Reading};

    fn lives() -> impl Strategy<Value = Duration> {
        (500_u64..=86_400_000).prop_map(Duration::from_millis)
    }

    /// A reading whose response arrived at once.
    fn reading(sent: Moment, remaining: Duration) -> Reading {
        let remaining_ms = u64::try_from(remaining.as_millis()).unwrap();
        Reading { sent, received: sent, remaining_ms, by: Method::Query }
    }

    fn draws() -> impl Strategy<Value = RandomFraction> {
        (0.0..1.0_f64).prop_map(RandomFraction::new)
    }

    fn schedules() -> impl Strategy<Value = Schedule> {
        (0.5..0.99_f64, 0.0..=1.0_f64, 10_u64..5_000, 0_u64..600_000).prop_map(
            |(check_after, jitter, retry_initial, more)| Schedule {
                check_after: Fraction::try_new(check_after).unwrap(),
                jitter: Fraction::try_new(jitter).unwrap(),
                retry_initial: Duration::from_millis(retry_initial),
                retry_max: Duration::from_millis(retry_initial + more),
                ..Schedule::default()
            },
        )
    }

    proptest! {
        #[test]
        fn next_check_is_due_no_later_than_check_after_of_the_life(
            life in lives(), schedule in schedules(), draw in draws(),
        ) {
            prop_assert!(check_wait(life, &schedule, draw) <= schedule.check_after.of(life));
        }

        #[test]
        fn jitter_never_lengthens_a_wait(life in lives(), schedule in schedules(), draw in draws()) {
            let without = Schedule { jitter: Fraction::try_new(0.0).unwrap(), ..schedule };
            prop_assert!(
                check_wait(life, &schedule, draw) <= check_wait(life, &without, RandomFraction::new(0.0))
            );
        }

        #[test]
        fn check_and_a_retry_with_their_time_outs_fit_before_the_expiry(
            life in lives(), schedule in schedules(), first in draws(), second in draws(),
            configured in 100_u64..60_000,
        ) {
            let configured = Duration::from_millis(configured);
            let sent = Moment::from_millis(1_000_000);
            let expiry = sent + life;
            let due = sent + check_wait(life, &schedule, first);
            let failed = due + effective_timeout(configured, Some(expiry), due);
            prop_assert!(failed < expiry);
            let retry = failed + backoff(1, &schedule, Some(&reading(sent, life)), failed, second);
            prop_assert!(retry + effective_timeout(configured, Some(expiry), retry) <= expiry);
        }

        #[test]
        fn retry_waits_at_most_a_third_of_the_time_to_the_expiry(
            schedule in schedules(), failures in 1_u16..200, draw in draws(),
            life in lives(), passed in 0.0..0.99_f64,
        ) {
            let sent = Moment::from_millis(5_000);
            let now = sent + life.mul_f64(passed);
            let left = (sent + life).since(now);
            let wait = backoff(failures, &schedule, Some(&reading(sent, life)), now, draw);
            prop_assert!(wait <= (left / 3).max(Duration::from_millis(1)));
        }

        #[test]
        fn whenever_a_server_responds_for_a_tenth_of_a_life_a_retry_falls_into_its_first_half(
            schedule in schedules(), failures in 1_u16..200, draw in draws(),
            life in 1_000_u64..86_400_000, passed in 0.0..0.9_f64,
        ) {
            let life = Duration::from_millis(life);
            let sent = Moment::from_millis(5_000);
            let failed = sent + life.mul_f64(passed);
            let wait = backoff(failures, &schedule, Some(&reading(sent, life)), failed, draw);
            prop_assert!(wait <= life / 20);
        }

        #[test]
        fn work_at_one_instant_is_bounded(
            life in 0_u64..86_400_000, schedule in schedules(), draw in draws(),
            failures in 1_u16..200,
        ) {
            let life = Duration::from_millis(life);
            prop_assert!(check_wait(life, &schedule, draw) >= SHORTEST_TIMEOUT);
            prop_assert!(short_reading_wait(failures, &schedule) >= SHORTEST_TIMEOUT);
            let now = Moment::from_millis(5_000);
            let wait = backoff(failures, &schedule, Some(&reading(now, life)), now, draw);
            prop_assert!(wait > Duration::ZERO);
        }
    }

    #[test]
    fn minimum_interval_yields_to_half_of_what_remains() {
        let schedule = Schedule {
            check_after: Fraction::try_new(0.2).unwrap(),
            min_interval: Duration::from_secs(10),
            ..Schedule::default()
        };
        let wait =
            |life: u64| check_wait(Duration::from_secs(life), &schedule, RandomFraction::new(0.5));
        assert_eq!(wait(6), Duration::from_secs(3));
        assert_eq!(wait(40), Duration::from_secs(10));
    }

    #[test]
    fn long_life_is_checked_at_least_every_max_interval() {
        let wait =
            check_wait(Duration::from_secs(86_400), &Schedule::default(), RandomFraction::new(0.0));
        assert_eq!(wait, Duration::from_secs(6 * 3600));
    }

    #[test]
    fn past_the_expiry_the_backoff_is_the_one_without_an_expiry() {
        let schedule = Schedule::default();
        let now = Moment::from_millis(10_000);
        let past = reading(Moment::from_millis(8_000), Duration::from_secs(1));
        for failures in [1, 2, 3, 9, 200] {
            assert_eq!(
                backoff(failures, &schedule, Some(&past), now, RandomFraction::new(0.3)),
                backoff(failures, &schedule, None, now, RandomFraction::new(0.3)),
            );
        }
    }

    #[test]
    fn without_an_expiry_the_backoff_doubles_up_to_retry_max() {
        let schedule = Schedule::default();
        let waits = [1, 2, 3, 9, 200].map(|failures| {
            backoff(failures, &schedule, None, Moment::default(), RandomFraction::new(0.0))
                .as_secs()
        });
        assert_eq!(waits, [1, 2, 4, 256, 300]);
    }

    #[test]
    fn time_out_is_a_quarter_of_the_time_to_the_expiry_within_its_limits() {
        let now = Moment::from_millis(1_000);
        let timeout = |left: u64| {
            let expiry = Some(now + Duration::from_millis(left));
            effective_timeout(Duration::from_secs(10), expiry, now).as_millis()
        };
        assert_eq!(
            [timeout(60_000), timeout(8_000), timeout(200), timeout(0)],
            [10_000, 2_000, 100, 10_000]
        );
        assert_eq!(effective_timeout(Duration::from_secs(3), None, now), Duration::from_secs(3));
    }
}
