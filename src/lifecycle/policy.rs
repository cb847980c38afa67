//! Policy of one token: schedule, renewal, re-authentication. An invalid policy cannot be
//! constructed.

use std::num::NonZeroU32;
use std::time::Duration;

/// A number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Fraction(f64);

/// A number that is no [`Fraction`].
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} is not a fraction: write a number from 0 to 1")]
pub struct NotAFraction(pub f64);

impl Fraction {
    /// Takes `value` as a fraction.
    ///
    /// # Errors
    ///
    /// If it is not a number from 0 to 1, both included.
    pub fn try_new(value: f64) -> Result<Self, NotAFraction> {
        if (0.0..=1.0).contains(&value) { Ok(Self(value)) } else { Err(NotAFraction(value)) }
    }

    /// The number, from 0 to 1.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// This fraction of `whole`.
    pub fn of(self, whole: Duration) -> Duration {
        whole.mul_f64(self.0)
    }
}

/// Which call reads the remaining life and renews the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Renewal {
    /// Query. If the readings prove that queries do not renew the token, renew.
    #[default]
    Auto,
    /// Only query, and warn if that does not renew the token.
    Query,
    /// Renewing is the check; never query.
    Renew,
}

/// When to check and how to retry. Constructed by [`Schedule::try_new`] only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    pub(crate) check_after: Fraction,
    pub(crate) jitter: Fraction,
    pub(crate) min_interval: Duration,
    pub(crate) max_interval: Duration,
    pub(crate) retry_initial: Duration,
    pub(crate) retry_max: Duration,
}

/// Why a [`Schedule`] is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// `check_after` of 0 would check without pause, and 1 would leave no time for retries.
    #[error("check_after must lie between 0 and 1, both excluded")]
    CheckAfter,
    /// A minimum interval of zero is a busy loop.
    #[error("min_interval must be at least 1ms")]
    MinInterval,
    /// The maximum interval is below the minimum.
    #[error("max_interval must be at least min_interval")]
    MaxInterval,
    /// A retry pause of zero is a busy loop.
    #[error("retry_initial must be at least 10ms")]
    RetryInitial,
    /// The maximum retry pause is below the initial one.
    #[error("retry_max must be at least retry_initial")]
    RetryMax,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            check_after: Fraction(0.67),
            jitter: Fraction(0.1),
            min_interval: Duration::from_secs(1),
            max_interval: Duration::from_secs(6 * 3600),
            retry_initial: Duration::from_secs(1),
            retry_max: Duration::from_secs(300),
        }
    }
}

impl Schedule {
    /// The shortest `retry_initial`: below it, doubling starts from a busy loop.
    pub const SHORTEST_RETRY_INITIAL: Duration = Duration::from_millis(10);

    /// A valid schedule.
    ///
    /// # Errors
    ///
    /// If `check_after` is 0 or 1, an interval or a pause is (almost) zero, or a maximum is below
    /// its minimum.
    pub fn try_new(
        check_after: Fraction,
        jitter: Fraction,
        intervals: (Duration, Duration),
        retries: (Duration, Duration),
    ) -> Result<Self, ScheduleError> {
        let (min_interval, max_interval) = intervals;
        let (retry_initial, retry_max) = retries;
        if check_after.get() <= 0.0 || check_after.get() >= 1.0 {
            return Err(ScheduleError::CheckAfter);
        }
        if min_interval < Duration::from_millis(1) {
            return Err(ScheduleError::MinInterval);
        }
        if max_interval < min_interval {
            return Err(ScheduleError::MaxInterval);
        }
        if retry_initial < Self::SHORTEST_RETRY_INITIAL {
            return Err(ScheduleError::RetryInitial);
        }
        if retry_max < retry_initial {
            return Err(ScheduleError::RetryMax);
        }
        Ok(Self { check_after, jitter, min_interval, max_interval, retry_initial, retry_max })
    }
}

/// Limits of re-auth attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReauthPolicy {
    /// Pause before the second attempt; doubles with each further one.
    pub delay: Duration,
    /// The longest such pause.
    pub delay_max: Duration,
    /// Attempts that may count within one window.
    pub max_attempts: NonZeroU32,
    /// The length of a window, which starts with its first attempt.
    pub window: Duration,
}

/// Everything that is configured for one token's state machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// When to check and how to retry.
    pub schedule: Schedule,
    /// The longest time that a request may take.
    pub timeout: Duration,
    /// Which call is the check.
    pub renewal: Renewal,
    /// How a new value is obtained; `None`: not at all, the source is watched.
    pub reauth: Option<ReauthPolicy>,
    /// How long before the expiry of a token that cannot be renewed a new value is obtained;
    /// `None`: only once it has expired.
    pub reauth_before: Option<Duration>,
    /// The API reports no life: the life is assumed, so that no renewal can be proven.
    pub assumed: bool,
    /// Renewing sends a refresh token. It needs no value, and it is not repeated at once if its
    /// response is lost and the refresh token may be spent. Only with [`Renewal::Renew`]: such a call
    /// is never a trial.
    pub rotates: bool,
}
