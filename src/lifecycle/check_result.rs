//! Answers about the value in use: alive, dead, or no conclusion, and what is done next.

use std::time::Duration;

use super::check_timing::{SHORTEST_TIMEOUT, check_wait, short_reading_wait};
use super::event::{CheckResult, DeadlineStage, Notice, ReplacedBy};
use super::operator_request::PendingRequest;
use super::policy::Renewal;
use super::reading::{Method, Reading};
use super::token::{Candidate, InFlight, PendingWrite, Task, Validity};
use super::transition::Transition;
use crate::outcome::{CallError, Outcome};
use crate::time::whole_millis;

impl Transition<'_> {
    pub(super) fn check_finished(&mut self, result: CheckResult) {
        match self.token.in_flight {
            Some(InFlight::Current(method)) => {
                self.token.in_flight = None;
                self.current_checked(method, result);
            }
            Some(InFlight::Candidate(method)) => {
                self.token.in_flight = None;
                self.candidate_checked(method, result);
            }
            Some(InFlight::Discarded(slot)) => {
                self.token.in_flight = None;
                if result.replaced && slot == self.token.active {
                    self.adopt_renewed_value();
                }
            }
            Some(InFlight::Reauth(_) | InFlight::Persist | InFlight::Revoke) | None => {}
        }
    }

    fn current_checked(&mut self, method: Method, result: CheckResult) {
        if result.replaced {
            self.adopt_renewed_value();
            if !matches!(result.outcome, Outcome::Alive { .. }) {
                self.reset_value();
            }
        }
        match result.outcome {
            Outcome::Alive { remaining } => {
                self.alive(Reading {
                    sent: result.sent,
                    received: result.received,
                    remaining_ms: whole_millis(remaining),
                    by: method,
                });
            }
            Outcome::Expired(fault) => self.mark_dead(Validity::Expired, fault),
            Outcome::Rejected(fault) => self.rejected(fault),
            Outcome::Misconfigured(fault) if method == Method::Renew => {
                self.renew_refused(fault);
            }
            Outcome::Misconfigured(fault) => self.failed(fault, true, Duration::ZERO),
            Outcome::Throttled { retry_after, fault } => {
                self.unanswered(fault, retry_after);
            }
            Outcome::Unavailable(fault) => {
                self.token.renew_unanswered |= method == Method::Renew;
                self.unanswered(fault, Duration::ZERO);
            }
        }
    }

    /// A 401: final when a second query says so too. Where that contradicts one to a renewing
    /// call that was only tried, it is this call that the server does not permit.
    fn rejected(&mut self, fault: CallError) {
        self.token.task = match self.token.task {
            Task::ConfirmRejection { .. } | Task::ConfirmRefusal => {
                return self.mark_dead(Validity::Rejected, fault);
            }
            Task::TryRenew | Task::RetryRenew => Task::ConfirmRefusal,
            Task::ConfirmGrowth | Task::ConfirmRenewal => Task::ConfirmRejection { in_proof: true },
            Task::Watch | Task::Check | Task::Reauth => Task::ConfirmRejection { in_proof: false },
        };
        // The server has responded, so the second query need not wait for it to be back.
        self.token.backoff_level = 0;
        self.failed(fault, false, Duration::ZERO);
    }

    /// The renewing call itself is refused: where it was only tried, or queries are
    /// permitted instead, that is an answer too.
    fn renew_refused(&mut self, fault: CallError) {
        self.token.renew_refused = true;
        if !self.abandon_proof() {
            self.failed(fault, true, Duration::ZERO);
        }
    }

    /// No answer: the same is tried again; but a renewing call that was only tried may have
    /// renewed all the same, or never answer, so a query comes next. One that is known to renew
    /// elsewhere on this server is not given up for that: it becomes the check.
    fn unanswered(&mut self, fault: CallError, at_least: Duration) {
        let known = self.context.renews_by == Some(Method::Renew);
        let exhaustion_reported = self.token.task == Task::RetryRenew && !known;
        self.token.task = match self.token.task {
            Task::TryRenew => Task::ConfirmRenewal,
            Task::RetryRenew if known => Task::Check,
            task => task,
        };
        self.failed(fault, false, at_least);
        if exhaustion_reported {
            self.abandon_proof();
        }
    }

    /// A renewing call that was only tried brought nothing: the regular checks go on.
    fn abandon_proof(&mut self) -> bool {
        let (
            Task::TryRenew | Task::RetryRenew,
            Validity::Alive(reading) | Validity::Unverified(reading),
        ) = (self.token.task, self.token.validity)
        else {
            return false;
        };
        self.plan_check(&reading);
        // Past its expiry it is late already, however soon the next check is.
        self.token.retry_room_start = self.token.retry_room_start.min(reading.expiry());
        self.renewal_not_observed(&reading);
        true
    }

    /// No conclusion: the same is tried again after a pause of at least `at_least`.
    fn failed(&mut self, fault: CallError, misconfigured: bool, at_least: Duration) {
        self.token.failures = self.token.failures.saturating_add(1);
        self.token.unrecovered = true;
        let attempt = self.token.failures;
        let (pause, level) = self.retry_pause(self.token.backoff_level);
        self.token.backoff_level = level;
        let pause = pause.max(at_least);
        self.token.due = self.now + pause;
        self.notify(Notice::CheckFailed {
            fault,
            misconfigured,
            attempt,
            retry_in_ms: whole_millis(pause),
        });
    }

    /// The value in use was reported as alive: judge, report, and plan what follows.
    pub(super) fn alive(&mut self, reading: Reading) {
        let earlier = match self.token.validity {
            Validity::Alive(earlier) | Validity::Unverified(earlier) => Some(earlier),
            Validity::Missing | Validity::Unknown | Validity::Expired | Validity::Rejected => None,
        };
        let task = std::mem::replace(&mut self.token.task, Task::Check);
        // No life left is no life that was confirmed.
        let lives = reading.remaining_ms > 0;
        self.token.validity =
            if lives { Validity::Alive(reading) } else { Validity::Unverified(reading) };
        self.token.stage = DeadlineStage::Calm;
        self.token.forget_failures();
        if reading.remaining() >= SHORTEST_TIMEOUT {
            self.token.short_readings = 0;
        } else if task == Task::Check {
            self.token.short_readings = self.token.short_readings.saturating_add(1);
        }
        self.plan_check(&reading);
        let renewed = earlier.and_then(|earlier| self.evaluate_renewal(task, &earlier, &reading));
        match renewed {
            // Whether queries do instead stays open, and there may be no time to find out.
            None => self.token.renew_refused = false,
            Some(_) if self.token.task == Task::Check => self.token.renew_unanswered = false,
            Some(_) => {}
        }
        if !self.token.proven {
            self.token.life_ms = self.token.life_ms.max(reading.remaining_ms);
        }
        self.token.budget.on_alive(reading.sent);
        self.plan_early_reauth(&reading);
        self.conclude_reauth(&reading);
        if lives && std::mem::take(&mut self.token.unrecovered) {
            self.notify(Notice::Recovered { remaining_ms: reading.remaining_ms });
        }
        self.notify(Notice::Checked {
            remaining_ms: reading.remaining_ms,
            next_check_ms: self.ms_until(self.token.due),
            renewed,
            is_step: self.token.task != Task::Check,
        });
    }

    /// Plans the regular check that follows a reading.
    pub(super) fn plan_check(&mut self, reading: &Reading) {
        let schedule = &self.context.policy.schedule;
        let wait = if reading.remaining() < SHORTEST_TIMEOUT {
            short_reading_wait(self.token.short_readings, schedule)
        } else {
            check_wait(reading.remaining(), schedule, self.context.draw)
        };
        self.token.task = Task::Check;
        self.token.due = (reading.sent + wait).max(self.now);
        self.token.retry_room_start = self.token.due;
    }

    /// The policy changed: the next check of a token that waits for it follows the new one.
    pub(super) fn policy_changed(&mut self) {
        if self.context.policy.renewal != Renewal::Auto
            && matches!(self.token.task, Task::TryRenew | Task::RetryRenew)
        {
            self.token.task = Task::Check;
        }
        if self.token.in_flight.is_none()
            && self.token.failures == 0
            && self.token.task == Task::Check
            && self.token.due > self.now
            && let Validity::Alive(reading) = self.token.validity
        {
            self.plan_check(&reading);
        }
        if self.context.policy.reauth.is_none() {
            self.token.pending_request =
                self.token.pending_request.filter(|wish| *wish != PendingRequest::Reauth);
        }
        match self.token.validity {
            Validity::Alive(reading) | Validity::Unverified(reading) => {
                self.plan_early_reauth(&reading);
            }
            Validity::Unknown => {}
            Validity::Missing | Validity::Expired | Validity::Rejected => {
                if self.token.in_flight.is_none() {
                    self.schedule_reauth();
                }
            }
        }
    }

    /// Another server is asked from now on: what the one before it has said of the values, and
    /// what it may still answer, does not count. An attempt under way decides as it would have.
    pub(super) fn server_changed(&mut self) {
        match self.token.in_flight {
            Some(InFlight::Reauth(_)) => return,
            Some(InFlight::Current(_) | InFlight::Revoke) => {
                self.token.in_flight = Some(InFlight::Discarded(self.token.active));
            }
            Some(InFlight::Candidate(_)) => self.discard_candidate_check(),
            Some(InFlight::Discarded(_) | InFlight::Persist) | None => {}
        }
        if let Some(candidate) = &mut self.token.candidate {
            let obtained = candidate.obtained;
            *candidate = Candidate::new(self.now, obtained);
        }
        if self.token.validity != Validity::Missing {
            self.reset_value();
        }
    }

    /// The value in use is dead.
    fn mark_dead(&mut self, validity: Validity, fault: CallError) {
        self.token.validity = validity;
        self.token.forget_failures();
        self.token.unrecovered = true;
        self.token.pending_write = None;
        self.token.early_reauth_at = None;
        self.token.pending_request = None;
        let early_death = self.token.budget.dies_early(self.now);
        if early_death {
            self.token.budget.failed(self.now);
        }
        let pending_reauth = self.token.pending_reauth.take();
        if let Some(pending_reauth) = pending_reauth {
            self.new_value_rejected(pending_reauth, &fault);
        } else if validity == Validity::Rejected {
            self.notify(Notice::Rejected { fault, candidate: false });
        } else {
            self.notify(Notice::Expired { fault, candidate: false });
        }
        let at = self.notices.len();
        if self.token.candidate.is_some() {
            self.promote_candidate();
        } else if pending_reauth.is_none() {
            self.schedule_reauth();
        }
        if early_death {
            self.report_early_death(at);
        }
    }

    /// A renewing call answered with another value: that is the token from now on.
    pub(super) fn adopt_renewed_value(&mut self) {
        self.notify(Notice::Replaced(ReplacedBy::Renewal));
        self.token.pending_write = Some(PendingWrite { due: self.now, failures: 0 });
        self.token.unrenewable = false;
        self.token.doubts = 0;
    }

    /// The value in use is another one, of which nothing is known yet.
    pub(super) fn reset_value(&mut self) {
        self.token.validity = Validity::Unknown;
        self.token.task = Task::Check;
        self.token.due = self.now;
        self.token.retry_room_start = self.now;
        self.token.stage = DeadlineStage::Calm;
        self.token.forget_failures();
        self.token.short_readings = 0;
        self.token.doubts = 0;
        self.token.lagging = None;
        self.token.restored = false;
        self.token.baseline = None;
        self.token.budget.reset_value();
        self.token.life_ms = 0;
        self.token.proven = false;
        self.token.unrenewable = false;
        self.token.renew_refused = false;
        self.token.renew_unanswered = false;
        self.token.early_reauth_at = None;
        self.token.pending_request = None;
    }
}
