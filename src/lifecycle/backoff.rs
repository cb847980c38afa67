//! Backoff before a retry: exponential with full jitter, limited by the time to the expiry.
//! Arithmetic only. The jitter of regular checks is in `check_timing`.

use std::time::Duration;

use super::check_timing::{RandomFraction, SHORTEST_TIMEOUT};
use super::policy::Schedule;
use super::reading::Reading;
use crate::time::Moment;

/// The shortest pause before a retry, where a longer one is permitted: full jitter can draw a pause
/// of almost nothing, which does not help.
pub const SHORTEST_RETRY: Duration = Duration::from_millis(50);

/// The longest pause between retries past the expiry while no other token of the server has had a
/// response. The server may be back at any time, and the token with it.
pub(super) const LONGEST_PAUSE_IN_DOUBT: Duration = Duration::from_secs(5);

/// How long a cancelled action waits before it starts again, so that the obstacle has time to
/// disappear.
pub(super) const PAUSE_AFTER_CANCELLATION: Duration = Duration::from_secs(1);

/// The longest pause between two attempts before the expiry of `reading`; `None` past it.
///
/// The smaller of two limits: a third of the time to the expiry, so that attempts become more
/// frequent towards it; and a twentieth of the reported life, so that a server that responds for a
/// tenth of a life is tried in the first half of that time. For lives below a second the second
/// limit is [`SHORTEST_RETRY`].
pub fn max_retry_pause(reading: &Reading, now: Moment) -> Option<Duration> {
    let left = reading.expiry().since(now);
    let share = (reading.remaining() / 20).max(SHORTEST_RETRY);
    (left > Duration::ZERO).then(|| (left / 3).min(share))
}

/// The pause after the `failures`th failure in a row (1 for the first). `reading` is the last one
/// of the token.
///
/// Exponential from `retry_initial` to `retry_max` with full jitter, and at most
/// [`max_retry_pause`] before the expiry.
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

/// Time from a request to the next one if its response left less than [`SHORTEST_TIMEOUT`], for the
/// `times`th time in a row (1 for the first). No check fits before the expiry then. Doubling up to
/// `retry_max` prevents a busy loop on a server that always responds so.
pub(super) fn short_reading_wait(times: u16, schedule: &Schedule) -> Duration {
    let doublings = u32::from(times.saturating_sub(1)).min(31);
    SHORTEST_TIMEOUT.saturating_mul(1 << doublings).min(schedule.retry_max).max(SHORTEST_TIMEOUT)
}
