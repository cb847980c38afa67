//! New values: from the source, from re-auth; which value counts, and how it is kept.

use std::time::Duration;

use super::cadence::{SHORTEST_USEFUL_LIFE, backoff};
use super::event::{
    Answer, Notice, ReauthEnd, ReauthFault, Reauthenticated, ReplacedBy, SourceChange,
};
use super::reading::{Method, Reading};
use super::step::Turn;
use super::token::{Candidate, DOUBTS_FOR_A_VERDICT, Flight, Proving, Standing, Task, Unstored};
use crate::outcome::{Fault, Outcome};
use crate::time::{Moment, whole_millis};

impl Turn<'_> {
    pub(super) fn source_changed(&mut self, change: SourceChange) {
        match change {
            SourceChange::NewValue => {
                self.token.source_lost = false;
                self.new_value_in_source();
            }
            SourceChange::Restored => self.token.source_lost = false,
            SourceChange::Reverted => {
                self.token.source_lost = false;
                if self.token.candidate.is_some_and(|candidate| candidate.obtained.is_none()) {
                    self.outdate_candidate();
                    self.token.candidate = None;
                }
            }
            SourceChange::Lost(error) => self.source_lost(error),
        }
    }

    pub(super) fn new_value_in_source(&mut self) {
        self.outdate_candidate();
        match self.token.standing {
            Standing::Missing | Standing::Expired | Standing::Rejected => self.take_spare(),
            Standing::Unknown | Standing::Alive(_) | Standing::Unverified(_) => {
                // An attempt whose own value was not judged yet is worth what this one is.
                let obtained = self.token.candidate.and_then(|candidate| candidate.obtained);
                let obtained = obtained.map(|(proving, _)| (proving, true));
                self.token.candidate = Some(Candidate::new(self.now, obtained));
            }
        }
    }

    /// The source does not offer the candidate any more: an answer about it is of no use.
    pub(super) fn outdate_candidate(&mut self) {
        if let Some(Flight::Candidate(_)) = self.token.flight {
            self.token.flight = Some(Flight::Outdated(self.token.active.other()));
        }
    }

    fn source_lost(&mut self, error: Box<str>) {
        let in_use = match self.token.standing {
            Standing::Unknown | Standing::Alive(_) | Standing::Unverified(_) => true,
            Standing::Missing | Standing::Expired | Standing::Rejected => false,
        };
        if !std::mem::replace(&mut self.token.source_lost, true) {
            self.say(Notice::Missing { error, in_use });
        }
        if !in_use {
            self.token.troubled = true;
            if self.token.task == Task::Watch {
                self.seek_new_value();
            }
        }
    }

    /// The spare value takes the place of the one in use, and is asked about at once.
    pub(super) fn take_spare(&mut self) {
        self.token.active = self.token.active.other();
        self.token.unstored = None;
        self.token.proving = None;
        let candidate = self.token.candidate.take();
        let obtained = candidate.and_then(|candidate| candidate.obtained);
        let is_first = self.token.standing == Standing::Missing && !self.token.troubled;
        match obtained {
            Some(_) => self.say(Notice::Replaced(ReplacedBy::Reauth)),
            None if is_first => {}
            None => self.say(Notice::Replaced(ReplacedBy::Source)),
        }
        if let Some((proving, stored)) = obtained {
            self.token.proving = Some(proving);
            if !stored {
                self.token.unstored = Some(Unstored { due: self.now, failures: 0 });
            }
        }
        self.forget_value();
        // What came to no conclusion is tried again on a fresh connection, whatever it is now.
        if let Some(candidate) = candidate {
            self.token.failures = candidate.failures;
            self.token.backoff_level = candidate.backoff_level;
        }
    }

    pub(super) fn candidate_answered(&mut self, method: Method, answer: Answer) {
        let Some(mut candidate) = self.token.candidate else { return };
        match answer.outcome {
            Outcome::Alive { remaining } => {
                // An attempt whose own value was not judged yet is worth what this one is.
                let proving = self.token.proving;
                self.take_spare();
                self.token.proving = self.token.proving.or(proving);
                if answer.replaced {
                    self.adopt_renewed_value();
                }
                self.alive(Reading {
                    sent: answer.sent,
                    received: answer.received,
                    remaining_ms: whole_millis(remaining),
                    by: method,
                });
            }
            Outcome::Expired(fault) => {
                self.token.candidate = None;
                match candidate.obtained {
                    Some((proving, _)) => self.dead_on_arrival(proving, &fault),
                    None => self.say(Notice::Expired { fault, candidate: true }),
                }
            }
            Outcome::Rejected(fault) if candidate.suspected => {
                self.token.candidate = None;
                match candidate.obtained {
                    Some((proving, _)) => self.dead_on_arrival(proving, &fault),
                    None => self.say(Notice::Rejected { fault, candidate: true }),
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
        fault: Fault,
        misconfigured: bool,
        at_least: Duration,
    ) {
        let attempt = candidate.failures.saturating_add(1);
        let (pause, backoff_level) = self.pause(candidate.backoff_level);
        let pause = pause.max(at_least);
        let due = self.now + pause;
        self.token.candidate =
            Some(Candidate { due, failures: attempt, backoff_level, ..candidate });
        self.say(Notice::CheckFailed {
            fault,
            misconfigured,
            attempt,
            retry_in_ms: whole_millis(pause),
        });
    }

    /// A dead or missing value: re-auth as soon as the budget allows, or watch the source.
    pub(super) fn seek_new_value(&mut self) {
        let Some(policy) = self.context.policy.reauth else {
            self.token.task = Task::Watch;
            return;
        };
        self.token.task = Task::Reauth;
        self.token.due = self.token.budget.allows_from(&policy, self.now);
        if self.token.budget.is_exhausted(&policy, self.now)
            && !std::mem::replace(&mut self.token.given_up, true)
        {
            let attempt = self.token.budget.counted();
            let retry_in_ms = self.ms_until(self.token.due);
            self.say(Notice::ReauthExhausted { attempt, retry_in_ms });
        }
    }

    pub(super) fn reauthenticated(&mut self, end: ReauthEnd) {
        let Some(Flight::Reauth(attempt)) = self.token.flight else { return };
        self.token.flight = None;
        let duration_ms = whole_millis(end.duration);
        // Nothing is asked during an attempt: an unknown value has come from the source since
        // it began, perhaps put there by the attempt itself. A changed source wins.
        if self.token.standing == Standing::Unknown {
            return self.superseded(attempt, duration_ms, end.result);
        }
        match end.result {
            Reauthenticated::NewValue { stored } => {
                let obtained = Some((Proving { attempt, duration_ms }, stored));
                self.token.candidate = Some(Candidate::new(self.now, obtained));
                if !matches!(self.token.standing, Standing::Alive(_) | Standing::Unverified(_)) {
                    self.take_spare();
                }
            }
            Reauthenticated::SameValue => {
                let error = "it returned the value that it should have replaced; \
                             it must obtain a new session token";
                let fault = ReauthFault { error: error.into(), ..ReauthFault::default() };
                self.reauth_failed(attempt, Some(duration_ms), fault);
            }
            Reauthenticated::Failed(fault) => self.reauth_failed(attempt, Some(duration_ms), fault),
        }
    }

    /// An attempt ended after the source had offered a value by itself: that value is the one
    /// to be verified, and decides what the attempt was worth.
    fn superseded(&mut self, attempt: u32, duration_ms: u64, result: Reauthenticated) {
        match result {
            Reauthenticated::NewValue { .. } | Reauthenticated::SameValue => {
                self.token.proving = Some(Proving { attempt, duration_ms });
            }
            Reauthenticated::Failed(fault) => {
                self.token.budget.ended(&fault, self.now);
                let retry_in_ms = self.ms_until(self.token.due);
                let duration_ms = Some(duration_ms);
                self.say(Notice::ReauthFailed { attempt, duration_ms, fault, retry_in_ms });
            }
        }
    }

    /// The value that re-auth brought is not one that lives.
    pub(super) fn dead_on_arrival(&mut self, proving: Proving, fault: &Fault) {
        let error = format!("the new value is dead on arrival: {}", fault.error).into();
        let fault = ReauthFault { error, status: fault.status, ..ReauthFault::default() };
        self.reauth_failed(proving.attempt, Some(proving.duration_ms), fault);
    }

    fn reauth_failed(&mut self, attempt: u32, duration_ms: Option<u64>, fault: ReauthFault) {
        self.token.budget.ended(&fault, self.now);
        let at = self.notices.len();
        let wish = self.now + fault.retry_after.unwrap_or_default();
        let next = match self.token.standing {
            Standing::Alive(reading) | Standing::Unverified(reading) => {
                self.plan_early_reauth(&reading);
                self.token.early = self.token.early.map(|early| early.max(wish));
                self.token.early
            }
            Standing::Unknown => None,
            Standing::Missing | Standing::Expired | Standing::Rejected => {
                self.seek_new_value();
                self.token.due = self.token.due.max(wish);
                Some(self.token.due)
            }
        };
        let retry_in_ms = next.map_or(0, |next| self.ms_until(next));
        self.notices.insert(at, Notice::ReauthFailed { attempt, duration_ms, fault, retry_in_ms });
    }

    /// A life that nothing extends may be followed up before it ends.
    pub(super) fn plan_early_reauth(&mut self, reading: &Reading) {
        self.token.early = if self.token.doubts < DOUBTS_FOR_A_VERDICT {
            None
        } else {
            self.early_reauth(reading)
        };
    }

    /// The server responds again: an attempt that waits because one without a conclusion came
    /// before it starts now.
    pub(super) fn hurry_reauth(&mut self) {
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
            self.token.early = self.token.early.map(|early| early.min(at));
        }
    }

    /// When a new value is to be obtained for one that lives until `reading` says, and that
    /// nothing extends; `None` where that is not wanted.
    fn early_reauth(&self, reading: &Reading) -> Option<Moment> {
        let policy = self.context.policy.reauth?;
        let allowed = self.token.budget.allows_from(&policy, self.now);
        Some(self.early_reauth_wanted(reading)?.max(allowed))
    }

    /// The same, whatever the budget says.
    pub(super) fn early_reauth_wanted(&self, reading: &Reading) -> Option<Moment> {
        self.context.policy.reauth?;
        let before = whole_millis(self.context.policy.reauth_before?);
        Some(Moment::from_millis(reading.bound().as_millis().saturating_sub(before)))
    }

    /// The value that re-auth brought died although it was alive a moment ago; to be said
    /// before what has been said since `at`.
    pub(super) fn died_young(&mut self, at: usize) {
        let attempt = self.token.budget.counted();
        let retry_in_ms = self.ms_until(self.token.due);
        let error = "the new value died before half of its reported life was over; something \
                     else ends these sessions, such as another login with the same account";
        let fault = ReauthFault { error: error.into(), ..ReauthFault::default() };
        let duration_ms = None;
        self.notices.insert(at, Notice::ReauthFailed { attempt, duration_ms, fault, retry_in_ms });
    }

    /// The value in use was found alive: if it came from re-auth, that has succeeded; unless
    /// so little of it is left that no check can follow.
    pub(super) fn prove_reauth(&mut self, reading: &Reading) {
        let Some(Proving { attempt, duration_ms }) = self.token.proving.take() else { return };
        if reading.remaining() >= SHORTEST_USEFUL_LIFE {
            self.token.budget.verified(reading);
            return self.say(Notice::ReauthSucceeded { attempt, duration_ms });
        }
        self.token.budget.failed(self.now);
        let error = format!(
            "the new value lives for {} ms only, which is too short to check and renew it",
            reading.remaining_ms
        );
        let fault = ReauthFault { error: error.into(), ..ReauthFault::default() };
        let retry_in_ms = self.ms_until(self.token.due);
        let duration_ms = Some(duration_ms);
        self.say(Notice::ReauthFailed { attempt, duration_ms, fault, retry_in_ms });
    }

    pub(super) fn stored(&mut self, result: Result<(), Box<str>>) {
        if self.token.flight != Some(Flight::Store) {
            return;
        }
        self.token.flight = None;
        let Some(unstored) = self.token.unstored.take() else { return };
        if let Err(error) = result {
            let failures = unstored.failures.saturating_add(1);
            let schedule = &self.context.policy.schedule;
            let pause = backoff(failures, schedule, None, self.now, self.context.draw);
            self.token.unstored = Some(Unstored { due: self.now + pause, failures });
            self.say(Notice::StoreFailed { error, retry_in_ms: whole_millis(pause) });
        }
    }
}
