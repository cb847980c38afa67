//! Rate limiter of one server: the generic cell rate algorithm (GCRA).
//!
//! Requests start at an even pace of `rate_limit` per second. One may start up to
//! [`TOLERANCE_US`] early, because timers are that coarse, and a delayed wake-up has to be made
//! up for. No second sees more requests than the limit.

use std::num::NonZeroU32;

use crate::time::Moment;

/// How far ahead of the even pace a request may start, in microseconds.
const TOLERANCE_US: u64 = 4_000;

#[derive(Debug)]
pub(super) struct RateLimiter {
    rate_limit: NonZeroU32,
    /// When the next request starts at an even pace, in microseconds.
    next_us: u64,
}

impl RateLimiter {
    pub(super) const fn new(rate_limit: NonZeroU32) -> Self {
        Self { rate_limit, next_us: 0 }
    }

    pub(super) const fn set_rate_limit(&mut self, rate_limit: NonZeroU32) {
        self.rate_limit = rate_limit;
    }

    /// When the next request may start.
    pub(super) fn opens_at(&self) -> Moment {
        Moment::from_millis(self.next_us.saturating_sub(TOLERANCE_US).div_ceil(1_000))
    }

    /// A request has started.
    pub(super) fn on_request(&mut self, now: Moment) {
        let now_us = now.as_millis().saturating_mul(1_000);
        self.next_us = self.next_us.max(now_us).saturating_add(self.interval_us());
    }

    /// Time between two requests. The tolerance is spread over the second, so that no second
    /// sees more requests than the limit despite it.
    fn interval_us(&self) -> u64 {
        (1_000_000 + TOLERANCE_US).div_ceil(u64::from(self.rate_limit.get()))
    }
}
