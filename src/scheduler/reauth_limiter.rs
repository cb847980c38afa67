//! Limiter of one `reauth` method: its waiting tokens, and when it admits no attempt.
//!
//! Each token has a budget of its own. This limit is for the method as a whole: if it fails for
//! many tokens, it is not tried for each of them until an account is locked.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::time::Moment;

/// How a `reauth` method obtains a new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReauthRoute {
    /// By an external command, limited in number.
    Hook,
    /// By a request to the token's server, under that server's limits.
    Server,
}

/// The configuration of a `reauth` method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReauthSpec {
    /// Command or request.
    pub route: ReauthRoute,
    /// Failures of all tokens together that are tolerated within one window: attempts without a new
    /// value, and values that died before half of their reported life.
    pub max_failures: NonZeroU32,
    /// The length of a window, which starts with its first failure.
    pub window: Duration,
}

/// The failures of a method that are persisted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReauthFailures {
    /// When their window ends.
    pub window_end: Moment,
    /// Number of failures in it.
    pub count: u32,
}

/// Limiter of one method.
#[derive(Debug)]
pub(super) struct ReauthLimiter {
    spec: ReauthSpec,
    failures: ReauthFailures,
    /// A maintenance window: no attempt before this, whatever the budget.
    paused_until: Moment,
    queue: VecDeque<u32>,
    /// Running commands of this method.
    pub(super) running: u32,
    /// An attempt was inconclusive, and none has succeeded since.
    pub(super) is_repeated: bool,
    /// The method is no longer configured; its last command has not finished.
    pub(super) is_removed: bool,
}

impl ReauthLimiter {
    pub(super) const fn new(spec: ReauthSpec) -> Self {
        Self {
            spec,
            failures: ReauthFailures { window_end: Moment::from_millis(0), count: 0 },
            paused_until: Moment::from_millis(0),
            queue: VecDeque::new(),
            running: 0,
            is_repeated: false,
            is_removed: false,
        }
    }

    pub(super) const fn route(&self) -> ReauthRoute {
        self.spec.route
    }

    pub(super) fn set_spec(&mut self, spec: ReauthSpec) {
        self.spec = spec;
    }

    pub(super) fn pause_until(&mut self, until: Moment) {
        self.paused_until = until;
    }

    pub(super) fn restore(&mut self, failures: ReauthFailures) {
        self.failures = failures;
    }

    pub(super) fn failures(&self) -> Option<ReauthFailures> {
        (self.failures.count > 0).then_some(self.failures)
    }

    pub(super) fn push(&mut self, id: u32) {
        self.queue.push_back(id);
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// When attempts of this method may start.
    pub(super) fn opens_at(&self) -> Moment {
        if self.failures.count >= self.spec.max_failures.get() {
            self.paused_until.max(self.failures.window_end)
        } else {
            self.paused_until
        }
    }

    /// Removes and returns the next waiting token if attempts may start at `now`.
    pub(super) fn pop(&mut self, now: Moment) -> Option<u32> {
        if now < self.opens_at() { None } else { self.queue.pop_front() }
    }

    /// Counts a failed attempt, or a value that died early. Returns whether the limit is reached by
    /// it.
    pub(super) fn record_failure(&mut self, now: Moment) -> bool {
        if now >= self.failures.window_end {
            self.failures = ReauthFailures { window_end: now + self.spec.window, count: 0 };
        }
        self.failures.count = self.failures.count.saturating_add(1);
        self.failures.count == self.spec.max_failures.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1_000)
    }

    fn reauth(max_failures: u32) -> ReauthLimiter {
        let mut reauth = ReauthLimiter::new(ReauthSpec {
            route: ReauthRoute::Hook,
            max_failures: NonZeroU32::new(max_failures).unwrap(),
            window: Duration::from_secs(3_600),
        });
        (0..9).for_each(|id| reauth.push(id));
        reauth
    }

    #[test]
    fn waiting_tokens_are_served_first_in_first_out() {
        let mut reauth = reauth(2);
        assert_eq!([reauth.pop(at(0)), reauth.pop(at(0))], [Some(0), Some(1)]);
    }

    #[test]
    fn too_many_failures_pause_the_method_until_the_window_ends() {
        let mut reauth = reauth(2);
        assert_eq!([reauth.record_failure(at(10)), reauth.record_failure(at(20))], [false, true]);
        assert_eq!(reauth.pop(at(3_609)), None);
        assert_eq!(reauth.pop(at(3_610)), Some(0));
    }

    #[test]
    fn exhaustion_is_reported_once_per_window() {
        let mut reauth = reauth(1);
        let told = [10, 20, 3_610, 3_620].map(|second| reauth.record_failure(at(second)));
        assert_eq!(told, [true, false, true, false]);
    }

    #[test]
    fn maintenance_window_pauses_every_token() {
        let mut reauth = reauth(2);
        reauth.pause_until(at(60));
        assert_eq!(reauth.pop(at(59)), None);
        assert_eq!(reauth.pop(at(60)), Some(0));
    }
}
