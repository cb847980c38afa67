//! New values: from the source, from re-auth; which value counts, and how it is kept.

use std::time::Duration;

use super::check_timing::{SHORTEST_USEFUL_LIFE, backoff};
use super::event::{
    CheckResult, Notice, ReauthError, ReauthOutcome, ReauthResult, ReplacedBy, SourceChange,
};
use super::reading::{Method, Reading};
use super::token::{
    Candidate, DOUBTS_TO_CONCLUDE, InFlight, PendingReauth, PendingWrite, Task, Validity,
};
use super::transition::Transition;
use crate::outcome::{CallError, Outcome};
use crate::time::{Moment, whole_millis};

impl Transition<'_> {
    pub(super) fn source_changed(&mut self, change: SourceChange) {
        match change {
            SourceChange::NewValue => {
                self.token.source_lost = false;
                self.new_value_in_source();
            }
            SourceChange::Reappeared => self.token.source_lost = false,
            SourceChange::Reverted => {
                self.token.source_lost = false;
                if self.token.candidate.is_some_and(|candidate| candidate.obtained.is_none()) {
                    self.discard_candidate_check();
                    self.token.candidate = None;
                }
            }
            SourceChange::Lost(error) => self.source_lost(error),
        }
    }

    pub(super) fn new_value_in_source(&mut self) {
        self.discard_candidate_check();
        match self.token.validity {
            Validity::Missing | Validity::Expired | Validity::Rejected => self.promote_candidate(),
            Validity::Unknown | Validity::Alive(_) | Validity::Unverified(_) => {
                // An attempt whose own value was not judged yet is worth what this one is.
                let obtained = self.token.candidate.and_then(|candidate| candidate.obtained);
                let obtained = obtained.map(|(pending_reauth, _)| (pending_reauth, true));
                self.token.candidate = Some(Candidate::new(self.now, obtained));
            }
        }
    }

    /// The source does not offer the candidate any more: an answer about it is of no use.
    pub(super) fn discard_candidate_check(&mut self) {
        if let Some(InFlight::Candidate(_)) = self.token.in_flight {
            self.token.in_flight = Some(InFlight::Discarded(self.token.active.other()));
        }
    }

    fn source_lost(&mut self, error: Box<str>) {
        let in_use = match self.token.validity {
            Validity::Unknown | Validity::Alive(_) | Validity::Unverified(_) => true,
            Validity::Missing | Validity::Expired | Validity::Rejected => false,
        };
        if !std::mem::replace(&mut self.token.source_lost, true) {
            self.notify(Notice::Missing { error, in_use });
        }
        if !in_use {
            self.token.unrecovered = true;
            if self.token.task == Task::Watch {
                self.schedule_reauth();
            }
        }
    }

    /// The spare value takes the place of the one in use, and is asked about at once.
    pub(super) fn promote_candidate(&mut self) {
        self.token.active = self.token.active.other();
        self.token.pending_write = None;
        self.token.pending_reauth = None;
        let candidate = self.token.candidate.take();
        let obtained = candidate.and_then(|candidate| candidate.obtained);
        let is_first = self.token.validity == Validity::Missing && !self.token.unrecovered;
        match obtained {
            Some(_) => self.notify(Notice::Replaced(ReplacedBy::Reauth)),
            None if is_first => {}
            None => self.notify(Notice::Replaced(ReplacedBy::Source)),
        }
        if let Some((pending_reauth, stored)) = obtained {
            self.token.pending_reauth = Some(pending_reauth);
            if !stored {
                self.token.pending_write = Some(PendingWrite { due: self.now, failures: 0 });
            }
        }
        self.reset_value();
        // What came to no conclusion is tried again on a fresh connection, whatever it is now.
        if let Some(candidate) = candidate {
            self.token.failures = candidate.failures;
            self.token.backoff_level = candidate.backoff_level;
        }
    }

    pub(super) fn candidate_checked(&mut self, method: Method, result: CheckResult) {
        let Some(mut candidate) = self.token.candidate else { return };
        match result.outcome {
            Outcome::Alive { remaining } => {
                // An attempt whose own value was not judged yet is worth what this one is.
                let pending_reauth = self.token.pending_reauth;
                self.promote_candidate();
                self.token.pending_reauth = self.token.pending_reauth.or(pending_reauth);
                if result.replaced {
                    self.adopt_renewed_value();
                }
                self.alive(Reading {
                    sent: result.sent,
                    received: result.received,
                    remaining_ms: whole_millis(remaining),
                    by: method,
                });
            }
            Outcome::Expired(fault) => {
                self.token.candidate = None;
                match candidate.obtained {
                    Some((pending_reauth, _)) => self.new_value_rejected(pending_reauth, &fault),
                    None => self.notify(Notice::Expired { fault, candidate: true }),
                }
            }
            Outcome::Rejected(fault) if candidate.suspected => {
                self.token.candidate = None;
                match candidate.obtained {
                    Some((pending_reauth, _)) => self.new_value_rejected(pending_reauth, &fault),
                    None => self.notify(Notice::Rejected { fault, candidate: true }),
                }
            }
            Outcome::Rejected(fault) => {
                candidate.suspected = true;
                candidate.backoff_level = 0;
                self.candidate_failed(candidate, fault, false, Duration::ZERO);
            }
            Outcome::Misconfigured(fault) => {
                self.candidate_failed(candidate, fault, true, Duration::ZERO);
            }
            Outcome::Throttled { retry_after, fault } => {
                self.candidate_failed(candidate, fault, false, retry_after);
            }
            Outcome::Unavailable(fault) => {
                self.candidate_failed(candidate, fault, false, Duration::ZERO);
            }
        }
    }

    fn candidate_failed(
        &mut self,
        candidate: Candidate,
        fault: CallError,
        misconfigured: bool,
        at_least: Duration,
    ) {
        let attempt = candidate.failures.saturating_add(1);
        let (pause, backoff_level) = self.retry_pause(candidate.backoff_level);
        let pause = pause.max(at_least);
        let due = self.now + pause;
        self.token.candidate =
            Some(Candidate { due, failures: attempt, backoff_level, ..candidate });
        self.notify(Notice::CheckFailed {
            fault,
            misconfigured,
            attempt,
            retry_in_ms: whole_millis(pause),
        });
    }

    /// A dead or missing value: re-auth as soon as the budget allows, or watch the source.
    pub(super) fn schedule_reauth(&mut self) {
        let Some(policy) = self.context.policy.reauth else {
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

    pub(super) fn reauth_finished(&mut self, end: ReauthResult) {
        let Some(InFlight::Reauth(attempt)) = self.token.in_flight else { return };
        self.token.in_flight = None;
        let duration_ms = whole_millis(end.duration);
        // Nothing is asked during an attempt: an unknown value has come from the source since
        // it began, perhaps put there by the attempt itself. A changed source wins.
        if self.token.validity == Validity::Unknown {
            return self.superseded(attempt, duration_ms, end.result);
        }
        match end.result {
            ReauthOutcome::NewValue { stored } => {
                let obtained = Some((PendingReauth { attempt, duration_ms }, stored));
                self.token.candidate = Some(Candidate::new(self.now, obtained));
                if !matches!(self.token.validity, Validity::Alive(_) | Validity::Unverified(_)) {
                    self.promote_candidate();
                }
            }
            ReauthOutcome::SameValue => {
                let error = "it returned the value that it should have replaced; \
                             it must obtain a new session token";
                let fault = ReauthError { error: error.into(), ..ReauthError::default() };
                self.reauth_failed(attempt, Some(duration_ms), fault);
            }
            ReauthOutcome::Failed(fault) => self.reauth_failed(attempt, Some(duration_ms), fault),
        }
    }

    /// An attempt ended after the source had offered a value by itself: that value is the one
    /// to be verified, and decides what the attempt was worth.
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

    /// The value that re-auth brought is not one that lives.
    pub(super) fn new_value_rejected(&mut self, pending_reauth: PendingReauth, fault: &CallError) {
        let error = format!("the new value is dead on arrival: {}", fault.error).into();
        let fault = ReauthError { error, status: fault.status, ..ReauthError::default() };
        self.reauth_failed(pending_reauth.attempt, Some(pending_reauth.duration_ms), fault);
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
            Validity::Unknown => None,
            Validity::Missing | Validity::Expired | Validity::Rejected => {
                self.schedule_reauth();
                self.token.due = self.token.due.max(not_before);
                Some(self.token.due)
            }
        };
        let retry_in_ms = next.map_or(0, |next| self.ms_until(next));
        self.notices.insert(at, Notice::ReauthFailed { attempt, duration_ms, fault, retry_in_ms });
    }

    /// A life that nothing extends may be followed up before it ends.
    pub(super) fn plan_early_reauth(&mut self, reading: &Reading) {
        self.token.early_reauth_at =
            if self.token.doubts < DOUBTS_TO_CONCLUDE { None } else { self.early_reauth(reading) };
    }

    /// The server responds again: an attempt that waits because one without a conclusion came
    /// before it starts now.
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

    /// When a new value is to be obtained for one that lives until `reading` says, and that
    /// nothing extends; `None` where that is not wanted.
    fn early_reauth(&self, reading: &Reading) -> Option<Moment> {
        let policy = self.context.policy.reauth?;
        let allowed = self.token.budget.next_attempt_at(&policy, self.now);
        Some(self.early_reauth_wanted(reading)?.max(allowed))
    }

    /// The same, whatever the budget says.
    pub(super) fn early_reauth_wanted(&self, reading: &Reading) -> Option<Moment> {
        self.context.policy.reauth?;
        let before = whole_millis(self.context.policy.reauth_before?);
        Some(Moment::from_millis(reading.expiry().as_millis().saturating_sub(before)))
    }

    /// The value that re-auth brought died although it was alive a moment ago; to be said
    /// before what has been said since `at`.
    pub(super) fn report_early_death(&mut self, at: usize) {
        let attempt = self.token.budget.counted();
        let retry_in_ms = self.ms_until(self.token.due);
        let error = "the new value died before half of its reported life was over; something \
                     else ends these sessions, such as another login with the same account";
        let fault = ReauthError { error: error.into(), ..ReauthError::default() };
        let duration_ms = None;
        self.notices.insert(at, Notice::ReauthFailed { attempt, duration_ms, fault, retry_in_ms });
    }

    /// The value in use was found alive: if it came from re-auth, that has succeeded; unless
    /// so little of it is left that no check can follow.
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
            "the new value lives for {} ms only, which is too short to check and renew it",
            reading.remaining_ms
        );
        let fault = ReauthError { error: error.into(), ..ReauthError::default() };
        let retry_in_ms = self.ms_until(self.token.due);
        let duration_ms = Some(duration_ms);
        self.notify(Notice::ReauthFailed { attempt, duration_ms, fault, retry_in_ms });
    }

    pub(super) fn persist_finished(&mut self, result: Result<(), Box<str>>) {
        if self.token.in_flight != Some(InFlight::Persist) {
            return;
        }
        self.token.in_flight = None;
        let Some(pending_write) = self.token.pending_write.take() else { return };
        if let Err(error) = result {
            let failures = pending_write.failures.saturating_add(1);
            let schedule = &self.context.policy.schedule;
            let pause = backoff(failures, schedule, None, self.now, self.context.draw);
            self.token.pending_write = Some(PendingWrite { due: self.now + pause, failures });
            self.notify(Notice::StoreFailed { error, retry_in_ms: whole_millis(pause) });
        }
    }
}
