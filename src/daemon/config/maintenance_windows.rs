//! Maintenance windows (`quiet`): times of day without logins, told to the scheduler as moments.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock;
use crate::daemon::tokens::Tokens;
use crate::settings::MaintenanceWindow;
use crate::time::Moment;

/// How long a `[reauth]` method is closed at once: the wall clock may be set meanwhile, and is
/// read again then.
const MAX_CLOSED: Duration = Duration::from_secs(60);

/// A moment is in whole milliseconds, rounded down: logins must not start before the window ends.
const ROUNDING: Duration = Duration::from_millis(1);

/// Closes each `[reauth]` method during its maintenance windows, and opens it where a reload has
/// removed them.
pub(crate) fn close(tokens: &mut Tokens, now: Moment) {
    for (id, reauth) in tokens.reauths.iter() {
        let left = time_left(&reauth.maintenance_windows, clock::wall_clock()).unwrap_or_default();
        tokens.scheduler.pause_reauth(id, now + left.min(MAX_CLOSED));
    }
}

/// How long the current window lasts from `wall` on; `None` if there is none.
fn time_left(windows: &[MaintenanceWindow], wall: Timestamp) -> Option<Duration> {
    let end = windows.iter().filter_map(|window| window.until(wall)).max()?;
    Some(Duration::try_from(end.duration_since(wall)).unwrap_or_default() + ROUNDING)
}
