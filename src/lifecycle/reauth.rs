//! Re-authentication of one token: when the next attempt is due, and how its result is evaluated.

use super::check_timing::SHORTEST_USEFUL_LIFE;
use super::context::Transition;
use super::event::{Notice, ReauthOutcome, ReauthResult};
use super::reading::Reading;
use super::reauth_budget::ReauthAttempts;
use super::token::{Candidate, DOUBTS_TO_CONCLUDE, InFlight, PendingReauth, Task, Validity};
use super::types::ReauthError;
use crate::outcome::CallError;
use crate::time::{Moment, whole_millis};

impl Transition<'_> {
    /// The value is dead or missing: plans an attempt as soon as the budget permits, or watches the
    /// source.
    pub(super) fn schedule_reauth(&mut self) {
        let Some(policy) = self.context.policy.reauth.filter(|_| !self.token.elsewhere) else {
            self.token.task = Task::Watch;
            return;
        };
        self.token.task = Task::Reauth;
        self.token.due = self.token.budget.next_attempt_at(&policy, self.now);
        if self.token.budget.is_exhausted(&policy, self.now)
            && !std::mem::replace(&mut self.token.exhaustion_reported, true)
        {
            let attempt = self.token.budget.counted();
            let retry_in_ms = self.ms_until(self.token.due);
            self.notify(Notice::ReauthExhausted { attempt, retry_in_ms });
        }
    }

    /// The attempts that count were counted elsewhere too: the planned attempt follows them.
    pub(super) fn attempts_counted(&mut self, attempts: ReauthAttempts) {
        self.token.budget.count(attempts);
        if let Some(InFlight::Reauth { earlier, .. }) = &mut self.token.in_flight {
            return earlier.count(attempts);
        }
        match self.token.validity {
            Validity::Alive(reading) | Validity::Unverified(reading) => {
                if self.token.early_reauth_at.is_some() {
                    self.plan_early_reauth(&reading);
                }
            }
            Validity::Unknown => {
                if self.token.early_reauth_at.is_some() {
                    self.plan_reauth_of_unknown();
                }
            }
            Validity::Missing | Validity::Expired | Validity::Rejected => {
                if self.token.task == Task::Reauth {
                    self.schedule_reauth();
                }
            }
        }
    }

    pub(super) fn reauth_finished(&mut self, end: ReauthResult) {
        let Some(InFlight::Reauth { attempt, .. }) = self.token.in_flight else { return };
        self.token.in_flight = None;
        let duration_ms = whole_millis(end.duration);
        // No check runs during an attempt, so an unknown value came from the source since it
        // started, perhaps written by the attempt itself. A changed source has priority. The
        // exception is a value whose first renewal is held.
        if self.token.validity == Validity::Unknown && self.token.held_until.is_none() {
            return self.superseded(attempt, duration_ms, end.result);
        }
        match end.result {
            ReauthOutcome::NewValue { stored } => {
                // The new value is not from the session of the refresh token that may be spent, and
                // its own may have come with it.
                self.token.held_until = self.token.held_until.map(|_| self.now);
                let obtained = Some((PendingReauth { attempt, duration_ms }, stored));
                self.token.candidate = Some(Candidate::new(self.now, obtained));
                // The value is verified by the replica that obtained it.
                if !self.token.may_be_alive() && !self.token.elsewhere {
                    self.promote_candidate();
                }
            }
            ReauthOutcome::SameValue => {
                let error = "it returned the old value; it must obtain a new session token";
                let fault = ReauthError { error: error.into(), ..ReauthError::default() };
                self.reauth_failed(attempt, Some(duration_ms), fault);
            }
            ReauthOutcome::Failed(fault) => self.reauth_failed(attempt, Some(duration_ms), fault),
        }
    }

    /// An attempt finished after the source offered a value. That value is verified, and decides
    /// whether the attempt succeeded.
    fn superseded(&mut self, attempt: u32, duration_ms: u64, result: ReauthOutcome) {
        match result {
            ReauthOutcome::NewValue { .. } | ReauthOutcome::SameValue => {
                self.token.pending_reauth = Some(PendingReauth { attempt, duration_ms });
            }
            ReauthOutcome::Failed(fault) => {
                self.token.budget.attempt_ended(&fault, self.now);
                let retry_in_ms = self.ms_until(self.token.due);
                let duration_ms = Some(duration_ms);
                self.notify(Notice::ReauthFailed { attempt, duration_ms, fault, retry_in_ms });
            }
        }
    }

    /// The new value is dead.
    pub(super) fn new_value_rejected(&mut self, pending_reauth: PendingReauth, fault: &CallError) {
        let error = format!("the new value is already expired or rejected: {}", fault.error).into();
        let fault = ReauthError { error, status: fault.status, ..ReauthError::default() };
        self.reauth_failed(pending_reauth.attempt, Some(pending_reauth.duration_ms), fault);
    }

    /// Nothing tells whether the new value is alive. It stays in service.
    pub(super) fn unverifiable(&mut self, pending_reauth: PendingReauth, fault: &CallError) {
        let PendingReauth { attempt, duration_ms } = pending_reauth;
        self.token.budget.failed(self.now);
        let error = format!("the new value is in service, but cannot be verified: {}", fault.error);
        let fault = ReauthError { error: error.into(), ..ReauthError::default() };
        let retry_in_ms = self.token.early_reauth_at.map_or(0, |at| self.ms_until(at));
        let duration_ms = Some(duration_ms);
        self.notify(Notice::ReauthFailed { attempt, duration_ms, fault, retry_in_ms });
    }

    fn reauth_failed(&mut self, attempt: u32, duration_ms: Option<u64>, fault: ReauthError) {
        self.token.budget.attempt_ended(&fault, self.now);
        let at = self.notices.len();
        let not_before = self.now + fault.retry_after.unwrap_or_default();
        let next = match self.token.validity {
            Validity::Alive(reading) | Validity::Unverified(reading) => {
                self.plan_early_reauth(&reading);
                self.token.early_reauth_at =
                    self.token.early_reauth_at.map(|early| early.max(not_before));
                self.token.early_reauth_at
            }
            Validity::Unknown => {
                if self.token.held_until.is_some() {
                    let allowed = self.next_attempt_at().map(|at| at.max(not_before));
                    self.token.early_reauth_at = allowed;
                }
                self.token.early_reauth_at
            }
            // A refresh token that came meanwhile is tried first.
            Validity::Missing | Validity::Expired | Validity::Rejected if self.may_rotate() => None,
            Validity::Missing | Validity::Expired | Validity::Rejected => {
                self.schedule_reauth();
                self.token.due = self.token.due.max(not_before);
                Some(self.token.due)
            }
        };
        let retry_in_ms = next.map_or(0, |next| self.ms_until(next));
        self.notices.insert(at, Notice::ReauthFailed { attempt, duration_ms, fault, retry_in_ms });
    }

    /// Plans an attempt before the expiry if the token cannot be renewed, or its renewal is held.
    pub(super) fn plan_early_reauth(&mut self, reading: &Reading) {
        let wanted = self.token.doubts >= DOUBTS_TO_CONCLUDE || self.token.held_until.is_some();
        self.token.early_reauth_at = if wanted { self.early_reauth(reading) } else { None };
    }

    /// When the budget permits an attempt; `None` without a `reauth` method.
    pub(super) fn next_attempt_at(&self) -> Option<Moment> {
        let policy = self.context.policy.reauth?;
        Some(self.token.budget.next_attempt_at(&policy, self.now))
    }

    /// Whether a renewal without a value is planned, which precedes an attempt.
    pub(super) const fn may_rotate(&self) -> bool {
        self.context.policy.rotates && matches!(self.token.task, Task::Rotate { .. })
    }

    /// The server responds again: an attempt that waits after an inconclusive one starts now.
    pub(super) fn expedite_reauth(&mut self) {
        let Some(policy) = self.context.policy.reauth else { return };
        if !self.token.budget.is_inconclusive() || self.token.budget.is_exhausted(&policy, self.now)
        {
            return;
        }
        if self.token.task == Task::Reauth {
            self.token.due = self.token.due.min(self.now);
        }
        if let Some(reading) = self.token.reading()
            && let Some(wanted) = self.early_reauth_wanted(&reading)
        {
            let at = wanted.max(self.now);
            self.token.early_reauth_at = self.token.early_reauth_at.map(|early| early.min(at));
        }
    }

    /// When an early attempt starts for a token that cannot be renewed, or whose renewal is held;
    /// `None` if it does not.
    fn early_reauth(&self, reading: &Reading) -> Option<Moment> {
        let policy = self.context.policy.reauth?;
        let allowed = self.token.budget.next_attempt_at(&policy, self.now);
        Some(self.early_reauth_wanted(reading)?.max(allowed))
    }

    /// The same, regardless of the budget.
    pub(super) fn early_reauth_wanted(&self, reading: &Reading) -> Option<Moment> {
        self.context.policy.reauth?;
        if self.token.held_until.is_some() {
            return Some(self.now);
        }
        let before = whole_millis(self.context.policy.reauth_before?);
        Some(Moment::from_millis(reading.expiry().as_millis().saturating_sub(before)))
    }

    /// Reports that the value of the last attempt died although it was alive; inserted before the
    /// notices since `at`.
    pub(super) fn report_early_death(&mut self, at: usize) {
        let attempt = self.token.budget.counted();
        let retry_in_ms = self.ms_until(self.token.due);
        let error = "the new value expired before half of its reported life had passed; something \
        else ends these sessions, such as another login with the same account";
        let fault = ReauthError { error: error.into(), ..ReauthError::default() };
        let duration_ms = None;
        self.notices.insert(at, Notice::ReauthFailed { attempt, duration_ms, fault, retry_in_ms });
    }

    /// The current value is alive. If it came from re-auth, the attempt has succeeded, unless the
    /// remaining life is too short for a check.
    pub(super) fn conclude_reauth(&mut self, reading: &Reading) {
        let Some(PendingReauth { attempt, duration_ms }) = self.token.pending_reauth.take() else {
            return;
        };
        if reading.remaining() >= SHORTEST_USEFUL_LIFE {
            self.token.budget.start_probation(reading);
            return self.notify(Notice::ReauthSucceeded { attempt, duration_ms });
        }
        self.token.budget.failed(self.now);
        let error = format!(
            "the new value is valid for only {} ms, which is too short to check and renew it",
            reading.remaining_ms
        );
        let fault = ReauthError { error: error.into(), ..ReauthError::default() };
        let retry_in_ms = self.ms_until(self.token.due);
        let duration_ms = Some(duration_ms);
        self.notify(Notice::ReauthFailed { attempt, duration_ms, fault, retry_in_ms });
    }
}
