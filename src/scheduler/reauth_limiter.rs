//! One way to new values, as all tokens that use it share it: who waits for it, and when it
//! is left alone.
//!
//! A token has a budget of its own. This one is for the way as a whole: where it fails for
//! many tokens, it is not tried for each of them until an account is locked.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::time::Moment;

/// How a token gets a new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReauthRoute {
    /// By an external command, limited in number.
    Hook,
    /// By a request to its server, under that server's limits.
    Server,
}

/// What the scheduler must know of a way to new values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReauthSpec {
    /// How it is gone.
    pub route: ReauthRoute,
    /// Failures, all tokens together, that are borne within one window: attempts that
    /// brought nothing, and values that died before half of their reported life.
    pub max_failures: NonZeroU32,
    /// The length of a window; it begins with its first failure.
    pub window: Duration,
}

/// What of a way's failures must outlive a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReauthFailures {
    /// When the window ends in which they happened.
    pub window_end: Moment,
    /// How many there were.
    pub count: u32,
}

/// The gate of one way.
#[derive(Debug)]
pub(super) struct ReauthLimiter {
    spec: ReauthSpec,
    failures: ReauthFailures,
    /// No login before this, whatever the budget allows.
    paused_until: Moment,
    queue: VecDeque<u32>,
    /// Commands of this method under way.
    pub(super) running: u32,
    /// An attempt came to no conclusion, and none has succeeded since.
    pub(super) is_repeated: bool,
    /// It is not configured any more, and waits for its last command to end.
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

    /// When attempts may start, as far as this way is concerned.
    pub(super) fn opens_at(&self) -> Moment {
        if self.failures.count >= self.spec.max_failures.get() {
            self.paused_until.max(self.failures.window_end)
        } else {
            self.paused_until
        }
    }

    /// Takes the next in the queue out, if attempts may start at `now`.
    pub(super) fn pop(&mut self, now: Moment) -> Option<u32> {
        if now < self.opens_at() { None } else { self.queue.pop_front() }
    }

    /// An attempt failed, or its value died young; tells whether that was one too many.
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
    fn those_who_wait_go_in_the_order_in_which_they_came() {
        let mut reauth = reauth(2);
        assert_eq!([reauth.pop(at(0)), reauth.pop(at(0))], [Some(0), Some(1)]);
    }

    #[test]
    fn too_many_failures_close_it_until_the_window_ends() {
        let mut reauth = reauth(2);
        assert_eq!([reauth.record_failure(at(10)), reauth.record_failure(at(20))], [false, true]);
        assert_eq!(reauth.pop(at(3_609)), None);
        assert_eq!(reauth.pop(at(3_610)), Some(0));
    }

    #[test]
    fn it_is_told_once_in_a_window_that_it_is_closed() {
        let mut reauth = reauth(1);
        let told = [10, 20, 3_610, 3_620].map(|second| reauth.record_failure(at(second)));
        assert_eq!(told, [true, false, true, false]);
    }

    #[test]
    fn a_quiet_time_holds_everybody_back() {
        let mut reauth = reauth(2);
        reauth.pause_until(at(60));
        assert_eq!(reauth.pop(at(59)), None);
        assert_eq!(reauth.pop(at(60)), Some(0));
    }
}
