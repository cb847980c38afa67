//! How long to wait: before the next check, before a retry, and for an answer.
//!
//! Arithmetic only. Every wait is a function of what the server reported, never of what
//! is hoped for.

use std::time::Duration;

use super::policy::Schedule;
use super::reading::Reading;
use crate::time::Moment;

/// The shortest time-out that a request gets, however near the expiry is: an answer from
/// another continent takes about this long.
pub const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);

/// What a check leaves before the expiry at the least, so that it and one retry fit even
/// with the shortest time-outs: 100 ms for the check, a third of the remaining 150 ms as
/// the pause, 100 ms for the retry.
pub const SHORTEST_ROOM: Duration = Duration::from_millis(250);

/// The shortest pause before a retry while a longer one would still be allowed: full
/// jitter draws pauses of nearly nothing, and those help nobody.
pub const SHORTEST_RETRY: Duration = Duration::from_millis(50);

/// The longest pause between two retries past the expiry, as long as no other token of the
/// server has had a response: the server may be back at any time, and the token with it.
pub(super) const LONGEST_PAUSE_IN_DOUBT: Duration = Duration::from_secs(5);

/// The shortest life of a new value that is worth a login: half of it is room for a check and
/// one retry ([`SHORTEST_ROOM`]), so the other half can be lived through.
pub(super) const SHORTEST_USEFUL_LIFE: Duration = Duration::from_millis(500);

/// How long an action that was cancelled waits until it is started again: what stood in its
/// way must get the time to go.
pub(super) const PAUSE_AFTER_CANCELLATION: Duration = Duration::from_secs(1);

/// A random draw, from 0 (included) to 1 (excluded), made by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RandomFraction(f64);

impl RandomFraction {
    /// Takes `value`, brought into its range.
    pub fn new(value: f64) -> Self {
        Self(value.clamp(0.0, 1.0 - f64::EPSILON))
    }
}

/// How long after sending a request the next one is due, when its answer left `remaining`
/// to live (at least [`SHORTEST_TIMEOUT`]).
///
/// `check_after` of what remains, at most `max_interval`, less up to `jitter` of that; at
/// least `min_interval`, which yields to half of what remains; and early enough to leave
/// [`SHORTEST_ROOM`] where the life is long enough for that.
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

/// The longest pause between two tries while the expiry of `reading` is ahead; `None` once it
/// has passed.
///
/// A third of the time to the expiry, so that tries crowd towards it. And a twentieth of the
/// life that was reported: a server that answers for a tenth of a life, whenever that is, is
/// then tried in the first half of that time. Below a second of life, [`SHORTEST_RETRY`].
pub fn max_retry_pause(reading: &Reading, now: Moment) -> Option<Duration> {
    let left = reading.expiry().since(now);
    let share = (reading.remaining() / 20).max(SHORTEST_RETRY);
    (left > Duration::ZERO).then(|| (left / 3).min(share))
}

/// How long to wait after the `failures`th failure in a row (1 for the first), where
/// `reading` is the last one of a life.
///
/// Exponential from `retry_initial` to `retry_max` with full jitter, but never more than
/// [`max_retry_pause`] allows while the expiry is ahead.
pub fn backoff(
    failures: u16,
    schedule: &Schedule,
    reading: Option<&Reading>,
    now: Moment,
    draw: RandomFraction,
) -> Duration {
    let doublings = u32::from(failures.saturating_sub(1)).min(31);
    let ceiling = schedule.retry_initial.saturating_mul(1 << doublings).min(schedule.retry_max);
    let wait = ceiling.mul_f64(1.0 - draw.0).max(SHORTEST_RETRY.min(ceiling));
    let limit = reading.and_then(|reading| max_retry_pause(reading, now)).unwrap_or(Duration::MAX);
    wait.min(limit).max(Duration::from_millis(1))
}

/// The time-out that a request sent at `now` really gets: the configured one or a quarter
/// of the time to `expiry`, whichever is less, never under [`SHORTEST_TIMEOUT`].
pub fn effective_timeout(configured: Duration, expiry: Option<Moment>, now: Moment) -> Duration {
    let quarter = match expiry {
        Some(expiry) if expiry > now => expiry.since(now) / 4,
        _ => configured,
    };
    configured.min(quarter).max(SHORTEST_TIMEOUT)
}

/// How long after sending a request the next one is due when its answer left less than
/// [`SHORTEST_TIMEOUT`] to live, for the `times`th time in a row (1 for the first). No
/// check fits before the expiry any more; doubling up to `retry_max` keeps a server that
/// answers so for ever from being asked without pause.
pub(super) fn short_reading_wait(times: u16, schedule: &Schedule) -> Duration {
    let doublings = u32::from(times.saturating_sub(1)).min(31);
    SHORTEST_TIMEOUT.saturating_mul(1 << doublings).min(schedule.retry_max).max(SHORTEST_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lifecycle::policy::Fraction;
    use crate::lifecycle::reading::Method;

    fn lives() -> impl Strategy<Value = Duration> {
        (500_u64..=86_400_000).prop_map(Duration::from_millis)
    }

    /// A reading that was taken and came back at once.
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
        fn the_next_check_is_due_no_later_than_check_after_of_the_life(
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
        fn a_check_and_a_retry_with_their_time_outs_fit_before_the_bound(
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
        fn a_retry_waits_at_most_a_third_of_the_time_to_the_bound(
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
        fn whenever_a_server_answers_for_a_tenth_of_a_life_a_retry_falls_into_its_first_half(
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
    fn the_minimum_interval_yields_to_half_of_what_remains() {
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
    fn a_long_life_is_checked_at_least_every_max_interval() {
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
    fn without_a_bound_the_backoff_doubles_up_to_retry_max() {
        let schedule = Schedule::default();
        let waits = [1, 2, 3, 9, 200].map(|failures| {
            backoff(failures, &schedule, None, Moment::default(), RandomFraction::new(0.0))
                .as_secs()
        });
        assert_eq!(waits, [1, 2, 4, 256, 300]);
    }

    #[test]
    fn a_time_out_is_a_quarter_of_the_time_to_the_bound_within_its_limits() {
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
