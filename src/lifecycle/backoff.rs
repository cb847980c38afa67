//! Backoff: how long to wait before a retry. Exponential with full jitter, bounded by the time to
//! the expiry. Arithmetic only.

use std::time::Duration;

use super::check_timing::{RandomFraction, SHORTEST_TIMEOUT};
use super::policy::Schedule;
use super::reading::Reading;
use crate::time::Moment;

/// The shortest pause before a retry while a longer one would still be allowed: full
/// jitter draws pauses of nearly nothing, and those help nobody.
pub const SHORTEST_RETRY: Duration = Duration::from_millis(50);

/// The longest pause between two retries past the expiry, as long as no other token of the
/// server has had a response: the server may be back at any time, and the token with it.
pub(super) const LONGEST_PAUSE_IN_DOUBT: Duration = Duration::from_secs(5);

/// How long an action that was cancelled waits until it is started again: what stood in its
/// way must get the time to go.
pub(super) const PAUSE_AFTER_CANCELLATION: Duration = Duration::from_secs(1);

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
    let wait = ceiling.mul_f64(1.0 - draw.get()).max(SHORTEST_RETRY.min(ceiling));
    let limit = reading.and_then(|reading| max_retry_pause(reading, now)).unwrap_or(Duration::MAX);
    wait.min(limit).max(Duration::from_millis(1))
}

/// How long after sending a request the next one is due when its answer left less than
/// [`SHORTEST_TIMEOUT`] to live, for the `times`th time in a row (1 for the first). No
/// check fits before the expiry any more; doubling up to `retry_max` keeps a server that
/// answers so for ever from being asked without pause.
pub(super) fn short_reading_wait(times: u16, schedule: &Schedule) -> Duration {
    let doublings = u32::from(times.saturating_sub(1)).min(31);
    SHORTEST_TIMEOUT.saturating_mul(1 << doublings).min(schedule.retry_max).max(SHORTEST_TIMEOUT)
}
