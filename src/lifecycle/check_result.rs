//! Results of checks: the value is alive, dead or undecided, and what follows.

use std::time::Duration;

use super::check_timing::SHORTEST_TIMEOUT;
use super::context::Transition;
use super::event::{CheckResult, Notice};
use super::reading::{Method, Reading};
use super::token::{Candidate, InFlight, Task, Validity};
use super::types::DeadlineStage;
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
                    if self.token.elsewhere {
                        self.reset_value();
                    }
                } else if let Outcome::Unavailable(fault) = &result.outcome
                    && self.must_be_held(fault)
                {
                    self.hold_renewal();
                }
            }
            Some(InFlight::Reauth { .. } | InFlight::Persist | InFlight::Revoke) | None => {}
        }
    }

    fn current_checked(&mut self, method: Method, result: CheckResult) {
        if result.replaced {
            self.adopt_renewed_value();
            if !matches!(result.outcome, Outcome::Alive { .. }) {
                self.reset_value();
            }
        }
        let is_overdue = self.token.is_taken_over() && !self.token.unrecovered;
        if let Task::Rotate { rejected } = self.token.task {
            return self.not_rotated(result.outcome, rejected);
        }
        match result.outcome {
            Outcome::Alive { remaining } => {
                let reading = Reading {
                    sent: result.sent,
                    received: result.received,
                    remaining_ms: whole_millis(remaining),
                    by: method,
                };
                self.alive(reading);
                if result.cannot_renew {
                    self.cannot_renew(&reading);
                }
            }
            Outcome::Expired(fault) => self.mark_dead(Validity::Expired, fault),
            Outcome::Rejected(fault) => self.rejected(fault),
            Outcome::Misconfigured(fault) if method == Method::Renew => {
                if fault.no_refresh_token {
                    self.conclude_unverifiable(&fault);
                }
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
        if is_overdue {
            self.warn_of_overdue_token();
        }
    }

    /// A 401. It is final once a second query confirms it. If the query contradicts a 401 to a
    /// trial renewal, the server does not permit the renewing call.
    fn rejected(&mut self, fault: CallError) {
        self.token.task = match self.token.task {
            Task::ConfirmRejection { .. } | Task::ConfirmRefusal => {
                return self.mark_dead(Validity::Rejected, fault);
            }
            Task::TryRenew | Task::RetryRenew => Task::ConfirmRefusal,
            Task::ConfirmGrowth | Task::ConfirmRenewal => Task::ConfirmRejection { in_proof: true },
            Task::Rotate { .. } => Task::Rotate { rejected: true },
            Task::Watch | Task::Check | Task::Reauth => Task::ConfirmRejection { in_proof: false },
        };
        // The server has responded, so the second query need not wait for a recovery.
        self.token.backoff_level = 0;
        self.failed(fault, false, Duration::ZERO);
    }

    /// The server refuses the renewing call. This concludes a trial renewal, and a check where
    /// queries are permitted instead.
    fn renew_refused(&mut self, fault: CallError) {
        self.token.renew_refused = true;
        if !self.abandon_proof() {
            self.failed(fault, true, Duration::ZERO);
        }
    }

    /// No response: the same call is retried. A trial renewal without a response may have renewed
    /// the token, so a query follows. If renewals are known to work on this server, renewing
    /// becomes the check.
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

    /// A trial renewal gave no result: regular checks continue.
    fn abandon_proof(&mut self) -> bool {
        let (
            Task::TryRenew | Task::RetryRenew,
            Validity::Alive(reading) | Validity::Unverified(reading),
        ) = (self.token.task, self.token.validity)
        else {
            return false;
        };
        self.plan_check(&reading);
        // Past the expiry the retry room has already begun, however soon the next check is.
        self.token.retry_room_start = self.token.retry_room_start.min(reading.expiry());
        self.renewal_not_observed(&reading);
        true
    }

    /// An inconclusive result: retries after a pause of at least `at_least`.
    fn failed(&mut self, fault: CallError, misconfigured: bool, at_least: Duration) {
        self.token.failures = self.token.failures.saturating_add(1);
        self.token.unrecovered = true;
        let attempt = self.token.failures;
        let (pause, level) = self.retry_pause(self.token.backoff_level);
        self.token.backoff_level = level;
        if self.must_be_held(&fault) {
            self.hold_renewal();
        }
        self.token.due = self.token.not_held(self.now + pause.max(at_least));
        let retry_in_ms = self.ms_until(self.token.due);
        self.notify(Notice::CheckFailed { fault, misconfigured, attempt, retry_in_ms });
    }

    /// A renewal without a living value obtained none. If it cannot obtain one soon, a login does.
    fn not_rotated(&mut self, outcome: Outcome, rejected: bool) {
        let has_reauth = self.context.policy.reauth.is_some();
        match outcome {
            Outcome::Expired(fault) => {
                self.notify(Notice::Expired { fault, candidate: false });
                self.give_up_rotation();
            }
            Outcome::Rejected(fault) if rejected => {
                self.notify(Notice::Rejected { fault, candidate: false });
                self.give_up_rotation();
            }
            Outcome::Rejected(fault) => self.rejected(fault),
            Outcome::Misconfigured(fault) if fault.no_refresh_token => self.no_refresh_token(),
            Outcome::Misconfigured(fault) if has_reauth => self.log_in_instead(fault, true),
            Outcome::Misconfigured(fault) => self.failed(fault, true, Duration::ZERO),
            Outcome::Unavailable(fault) if fault.may_have_acted && has_reauth => {
                self.log_in_instead(fault, false);
            }
            Outcome::Unavailable(fault) => self.failed(fault, false, Duration::ZERO),
            Outcome::Throttled { retry_after, fault } => self.failed(fault, false, retry_after),
            Outcome::Alive { .. } => {
                let fault = CallError::new("the response to the renewal contains no new value");
                self.not_rotated(Outcome::Misconfigured(fault), rejected);
            }
        }
    }

    /// The current value is alive: evaluates the renewal, reports, and plans the next check.
    pub(super) fn alive(&mut self, reading: Reading) {
        let earlier = match self.token.validity {
            Validity::Alive(earlier) | Validity::Unverified(earlier) => Some(earlier),
            Validity::Missing | Validity::Unknown | Validity::Expired | Validity::Rejected => None,
        };
        let is_taken_over = self.token.is_taken_over()
            || earlier.is_none()
                && self.token.renew_unanswered
                && self.token.pending_reauth.is_none();
        let task = std::mem::replace(&mut self.token.task, Task::Check);
        // No remaining life does not confirm a life.
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
        let full_ms = self.token.life_ms;
        let renewed = earlier.and_then(|earlier| self.evaluate_renewal(task, &earlier, &reading));
        if renewed == Some(true) {
            self.expedite_if_capped(full_ms, &reading);
        }
        match renewed {
            // Whether queries renew is still open, and there may be no time to find out.
            None => self.token.renew_refused = false,
            Some(_) if self.token.task == Task::Check => self.token.renew_unanswered = false,
            Some(_) => {}
        }
        if !self.token.proven {
            self.token.life_ms = self.token.life_ms.max(reading.remaining_ms);
        }
        self.token.budget.on_alive(reading.sent);
        if is_taken_over {
            self.token.budget.take_over_probation(&reading);
        }
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

    /// The current value is dead.
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

    pub(super) fn candidate_checked(&mut self, method: Method, result: CheckResult) {
        let Some(mut candidate) = self.token.candidate else { return };
        match result.outcome {
            Outcome::Alive { remaining } => {
                // An attempt whose own value was not verified is judged by this value.
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
            // The API cannot tell whether the candidate lives, and neither value can be renewed: the
            // newer one counts.
            Outcome::Misconfigured(fault)
                if fault.no_refresh_token && self.must_be_held(&fault) =>
            {
                self.promote_candidate();
                self.conclude_unverifiable(&fault);
                self.failed(fault, true, Duration::ZERO);
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
        if self.must_be_held(&fault) {
            self.hold_renewal();
        }
        let due = self.token.not_held(self.now + pause.max(at_least));
        let retry_in_ms = self.ms_until(due);
        self.token.candidate =
            Some(Candidate { due, failures: attempt, backoff_level, ..candidate });
        self.notify(Notice::CheckFailed { fault, misconfigured, attempt, retry_in_ms });
    }
}
