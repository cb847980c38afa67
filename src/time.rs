//! Moments on the daemon's clock. The pure cores take `now` as an argument and never read a clock.

use std::fmt;
use std::time::Duration;

/// A point on the daemon's clock, in whole milliseconds since an arbitrary origin.
///
/// The clock never goes back and continues while the machine sleeps (`CLOCK_BOOTTIME`). Arithmetic
/// saturates: an unrepresentable moment is the same as never.
///
/// ```
/// use std::time::Duration;
/// use tokenkeep::time::Moment;
///
/// let sent = Moment::from_millis(1_000);
/// let expiry = sent + Duration::from_secs(30);
/// assert_eq!(expiry.since(sent), Duration::from_secs(30));
/// assert_eq!(sent.since(expiry), Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// Later than every moment that a clock can show.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `millis` milliseconds after the clock's origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the clock's origin.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    /// The moment `after` later, in whole milliseconds rounded down.
    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(whole_millis(after)))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER { f.write_str("never") } else { write!(f, "{}ms", self.0) }
    }
}

/// `duration` in whole milliseconds, rounded down; `u64::MAX` for anything longer.
pub fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
