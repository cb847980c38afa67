//! Budget of re-auth attempts of one token: how many are left, and when the next one may start.
//!
//! An attempt counts from its start, so that a crash cannot hide it. It is refunded if it was
//! inconclusive, or if its value was verified and lived for at least half of its reported life.

use super::policy::ReauthPolicy;
use super::reading::Reading;
use super::types::ReauthError;
use crate::time::Moment;

/// The re-auth attempts of a token that are persisted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReauthAttempts {
    /// When their window ends.
    pub window_end: Moment,
    /// Attempts that count in it.
    pub counted: u32,
    /// Attempts since a value last lived half of its reported life.
    pub in_a_row: u32,
}

/// Attempts of one token in the current window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ReauthBudget {
    /// When the window ends, which started with its first attempt.
    window_end: Moment,
    /// Attempts that count in this window.
    counted: u32,
    /// Attempts since a value last survived its probation. The pause doubles with each.
    in_a_row: u32,
    /// Inconclusive attempts since the last conclusive one. The pause doubles with each.
    inconclusive: u32,
    /// When the last attempt failed; the pause starts then.
    failed_at: Option<Moment>,
    /// Until when the newest value must live for its attempt to be refunded.
    probation: Option<Moment>,
}

impl ReauthBudget {
    /// A full budget.
    pub(super) const fn new() -> Self {
        Self {
            window_end: Moment::from_millis(0),
            counted: 0,
            in_a_row: 0,
            inconclusive: 0,
            failed_at: None,
            probation: None,
        }
    }

    /// When an attempt may start for a token that needs one at `now`: at once, after the pause, or
    /// when the window ends.
    pub(super) fn next_attempt_at(&self, policy: &ReauthPolicy, now: Moment) -> Moment {
        if self.is_exhausted(policy, now) {
            return self.window_end;
        }
        let in_a_row = if now < self.window_end { self.in_a_row } else { 0 };
        let Some(doublings) = (in_a_row + self.inconclusive).checked_sub(1) else { return now };
        let doublings = doublings.min(31);
        let pause = policy.delay.saturating_mul(1 << doublings).min(policy.delay_max);
        (self.failed_at.unwrap_or(now) + pause).max(now)
    }

    /// Whether no attempt is left before the window ends.
    pub(super) fn is_exhausted(&self, policy: &ReauthPolicy, now: Moment) -> bool {
        self.counted >= policy.max_attempts.get() && now < self.window_end
    }

    /// Attempts left at `now`.
    pub(super) fn remaining(&self, policy: &ReauthPolicy, now: Moment) -> u32 {
        let used = if now < self.window_end { self.counted } else { 0 };
        policy.max_attempts.get().saturating_sub(used)
    }

    /// Attempts that count in the current window.
    pub(super) const fn counted(&self) -> u32 {
        self.counted
    }

    /// Counts an attempt that starts at `now`. Returns its number in the window.
    pub(super) fn start_attempt(&mut self, policy: &ReauthPolicy, now: Moment) -> u32 {
        if self.counted == 0 || now >= self.window_end {
            let (window_end, inconclusive) = (now + policy.window, self.inconclusive);
            *self = Self { window_end, inconclusive, ..Self::default() };
        }
        self.counted += 1;
        self.in_a_row += 1;
        self.failed_at = None;
        self.probation = None;
        self.counted
    }

    /// The newest attempt failed, or its value died early.
    pub(super) const fn failed(&mut self, now: Moment) {
        self.failed_at = Some(now);
        self.inconclusive = 0;
    }

    /// The newest attempt ended with this error.
    pub(super) fn attempt_ended(&mut self, fault: &ReauthError, now: Moment) {
        let inconclusive = self.inconclusive.saturating_add(1);
        self.failed(now);
        if fault.inconclusive {
            self.refund();
            self.inconclusive = inconclusive;
        }
    }

    /// The newest attempt does not count.
    pub(super) const fn refund(&mut self) {
        self.counted = self.counted.saturating_sub(1);
        self.in_a_row = self.in_a_row.saturating_sub(1);
    }

    /// Whether the newest attempt was inconclusive.
    pub(super) const fn is_inconclusive(&self) -> bool {
        self.inconclusive > 0
    }

    /// The newest value was verified: its probation starts.
    pub(super) fn start_probation(&mut self, reading: &Reading) {
        self.probation = Some(reading.sent + reading.remaining() / 2);
        self.inconclusive = 0;
    }

    /// The current value, which another replica may have obtained, was seen alive here for the first
    /// time. Whether the newest attempt counts is judged by this value.
    pub(super) fn take_over_probation(&mut self, reading: &Reading) {
        if self.counted > 0 && self.probation.is_none() {
            self.probation = Some(reading.sent + reading.remaining() / 2);
        }
    }

    /// The current value was alive at `when`. Once it has survived its probation, its attempt no
    /// longer counts. A budget that counts nothing is reset.
    pub(super) fn on_alive(&mut self, when: Moment) {
        if self.probation.is_some_and(|half| when >= half) {
            self.probation = None;
            self.counted = self.counted.saturating_sub(1);
            self.in_a_row = 0;
        }
        let over = self.in_a_row == 0 && self.counted == 0 || when >= self.window_end;
        if over && self.probation.is_none() && self.inconclusive == 0 {
            *self = Self::new();
        }
    }

    /// Whether the current value came from an attempt and dies before the end of its probation.
    pub(super) fn dies_early(&self, when: Moment) -> bool {
        self.probation.is_some_and(|half| when < half)
    }

    /// The part of the budget that is persisted.
    pub(super) const fn attempts(&self) -> ReauthAttempts {
        ReauthAttempts {
            window_end: self.window_end,
            counted: self.counted,
            in_a_row: self.in_a_row,
        }
    }

    /// Counts what an earlier run persisted, or what all replicas have counted together.
    pub(super) const fn count(&mut self, attempts: ReauthAttempts) {
        let ReauthAttempts { window_end, counted, in_a_row } = attempts;
        (self.window_end, self.counted, self.in_a_row) = (window_end, counted, in_a_row);
    }

    /// Forgets a window that has ended by `now`, whatever the newest value comes to. Returns whether
    /// nothing counts any more.
    pub(super) fn forget_window(&mut self, now: Moment) -> bool {
        if now >= self.window_end {
            *self = Self::new();
        }
        *self == Self::new()
    }

    /// The newest value was replaced: it can no longer survive its probation.
    pub(super) fn reset_value(&mut self) {
        self.probation = None;
        self.inconclusive = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::lifecycle::reading::Method;

    const POLICY: ReauthPolicy = ReauthPolicy {
        delay: Duration::from_secs(1),
        delay_max: Duration::from_secs(3),
        max_attempts: NonZeroU32::new(4).unwrap(),
        window: Duration::from_secs(3600),
    };

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    fn lives_a_minute_from(sent: Moment) -> Reading {
        Reading { sent, received: sent, remaining_ms: 60_000, by: Method::Query }
    }

    #[test]
    fn first_attempt_may_start_at_once() {
        assert_eq!(ReauthBudget::default().next_attempt_at(&POLICY, at(7)), at(7));
    }

    #[test]
    fn pause_doubles_up_to_its_maximum_and_then_the_window_must_end() {
        let mut budget = ReauthBudget::default();
        let starts: Vec<_> = (0..4)
            .map(|_| {
                budget.start_attempt(&POLICY, at(100));
                budget.next_attempt_at(&POLICY, at(100))
            })
            .collect();
        assert_eq!(starts, [at(101), at(102), at(103), at(3700)]);
    }

    #[test]
    fn new_window_starts_with_a_full_budget() {
        let mut budget = ReauthBudget::default();
        for _ in 0..4 {
            budget.start_attempt(&POLICY, at(100));
        }
        assert!(budget.is_exhausted(&POLICY, at(3699)));
        assert!(!budget.is_exhausted(&POLICY, at(3700)));
        assert_eq!(budget.start_attempt(&POLICY, at(3700)), 1);
    }

    #[test]
    fn attempt_whose_value_lived_half_its_life_does_not_count() {
        let mut budget = ReauthBudget::default();
        budget.start_attempt(&POLICY, at(100));
        budget.start_probation(&lives_a_minute_from(at(101)));
        budget.on_alive(at(131));
        assert_eq!(budget.start_attempt(&POLICY, at(200)), 1);
    }

    #[test]
    fn attempt_whose_value_died_early_counts() {
        let mut budget = ReauthBudget::default();
        budget.start_attempt(&POLICY, at(100));
        budget.start_probation(&lives_a_minute_from(at(101)));
        budget.on_alive(at(130));
        assert_eq!(budget.start_attempt(&POLICY, at(200)), 2);
    }

    #[test]
    fn value_that_lived_does_not_forgive_the_attempts_before_it() {
        let mut budget = ReauthBudget::default();
        budget.start_attempt(&POLICY, at(100));
        budget.start_attempt(&POLICY, at(101));
        budget.start_probation(&lives_a_minute_from(at(102)));
        budget.on_alive(at(140));
        assert_eq!(budget.start_attempt(&POLICY, at(200)), 2);
    }
}
