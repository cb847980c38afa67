//! Times of day in which nothing logs in: known maintenance, told to the keeper as moments.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock;
use crate::daemon::Daemon;
use crate::settings::QuietWindow;
use crate::time::Moment;

/// How far ahead a quiet time is told at most: the wall clock may be set meanwhile, and is
/// looked at again then.
const AHEAD: Duration = Duration::from_secs(60);

impl Daemon {
    /// Keeps logins from starting within the quiet windows of their re-auth, and lets them
    /// start where a reload has taken those away.
    pub(crate) fn close_for_quiet(&mut self, now: Moment) {
        for (id, reauth) in self.tokens.registry.reauths() {
            let left = quiet_for(&reauth.quiet, clock::wall_clock()).unwrap_or_default();
            self.tokens.scheduler.close_reauth(id, now + left.min(AHEAD));
        }
    }
}

/// How long it will be quiet from `wall` on; `None` if it is not.
fn quiet_for(windows: &[QuietWindow], wall: Timestamp) -> Option<Duration> {
    let ends = windows.iter().filter_map(|window| window.until(wall)).max()?;
    Some(Duration::try_from(ends.duration_since(wall)).unwrap_or_default() + ROUNDING)
}

/// A moment is in whole milliseconds, rounded down; the window's end is not to be met early.
const ROUNDING: Duration = Duration::from_millis(1);
