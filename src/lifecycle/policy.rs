//! What the rules of one token's life are tuned by. Invalid policies cannot be built.

use std::num::NonZeroU32;
use std::time::Duration;

/// A share of something: a number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Fraction(f64);

/// A number that is no [`Fraction`].
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} is not a share: give a number from 0 to 1")]
pub struct NotAFraction(pub f64);

impl Fraction {
    /// Takes `value` as a share.
    ///
    /// # Errors
    ///
    /// When it is not a number from 0 to 1, both included.
    pub fn try_new(value: f64) -> Result<Self, NotAFraction> {
        if (0.0..=1.0).contains(&value) { Ok(Self(value)) } else { Err(NotAFraction(value)) }
    }

    /// The number, from 0 to 1.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// This share of `whole`.
    pub fn of(self, whole: Duration) -> Duration {
        whole.mul_f64(self.0)
    }
}

/// Which call reads a token's life and extends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Renewal {
    /// Query, prove from the readings that it extends the life, renew where it does not.
    #[default]
    Auto,
    /// Only query; warn where that does not extend the life.
    Query,
    /// Renewing is the check; never query.
    Renew,
}

/// When to check and how to retry. Built by [`Schedule::try_new`] only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    pub(crate) check_after: Fraction,
    pub(crate) jitter: Fraction,
    pub(crate) min_interval: Duration,
    pub(crate) max_interval: Duration,
    pub(crate) retry_initial: Duration,
    pub(crate) retry_max: Duration,
}

/// Why a [`Schedule`] cannot be built: which value, and what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// `check_after` at its ends would check without pause, or leave no time to retry.
    #[error("check_after must lie between 0 and 1, both excluded")]
    CheckAfter,
    /// An interval of nothing is a busy loop.
    #[error("min_interval must be at least 1ms")]
    MinInterval,
    /// The intervals cross.
    #[error("max_interval must be at least min_interval")]
    MaxInterval,
    /// A pause of nothing is a busy loop.
    #[error("retry_initial must be at least 10ms")]
    RetryInitial,
    /// The pauses cross.
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

    /// A schedule that can be kept.
    ///
    /// # Errors
    ///
    /// When `check_after` is 0 or 1, an interval or a pause is (nearly) nothing, or a
    /// maximum lies below its minimum.
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

/// How often a new value may be asked for, and how long before death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReauthPolicy {
    /// Pause before the second attempt; doubles with each further one.
    pub delay: Duration,
    /// The longest such pause.
    pub delay_max: Duration,
    /// Attempts that may count within one window.
    pub max_attempts: NonZeroU32,
    /// The length of a window; it begins with its first attempt.
    pub window: Duration,
}

/// Everything that one token's rules depend on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// When to check and how to retry.
    pub schedule: Schedule,
    /// The longest that a request may take.
    pub timeout: Duration,
    /// Which call is the check.
    pub renewal: Renewal,
    /// How a new value may be had; `None`: not at all, the source is watched.
    pub reauth: Option<ReauthPolicy>,
    /// How long before the end of a life that nothing extends a new value is obtained;
    /// `None`: only once it has ended.
    pub reauth_before: Option<Duration>,
}
