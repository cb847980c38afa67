//! Answers about the value in use: alive, dead, or no conclusion, and what is done next.

use std::time::Duration;

use super::cadence::{SHORTEST_TIMEOUT, check_wait, hollow_wait};
use super::event::{Answer, Notice, ReplacedBy, Stage};
use super::policy::Renewal;
use super::reading::{Method, Reading};
use super::request::Wish;
use super::step::Turn;
use super::token::{Candidate, Flight, Standing, Task, Unstored};
use crate::outcome::{Fault, Outcome};
use crate::time::whole_millis;

impl Turn<'_> {
    pub(super) fn answered(&mut self, answer: Answer) {
        match self.token.flight {
            Some(Flight::Current(method)) => {
                self.token.flight = None;
                self.current_answered(method, answer);
            }
            Some(Flight::Candidate(method)) => {
                self.token.flight = None;
                self.candidate_answered(method, answer);
            }
            Some(Flight::Outdated(slot)) => {
                self.token.flight = None;
                if answer.replaced && slot == self.token.active {
                    self.adopt_renewed_value();
                }
            }
            Some(Flight::Reauth(_) | Flight::Store | Flight::Revoke) | None => {}
        }
    }

    fn current_answered(&mut self, method: Method, answer: Answer) {
        if answer.replaced {
            self.adopt_renewed_value();
            if !matches!(answer.outcome, Outcome::Alive { .. }) {
                self.forget_value();
            }
        }
        match answer.outcome {
            Outcome::Alive { remaining } => {
                self.alive(Reading {
                    sent: answer.sent,
                    received: answer.received,
                    remaining_ms: whole_millis(remaining),
                    by: method,
                });
            }
            Outcome::Expired(fault) => self.dead(Standing::Expired, fault),
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
    fn rejected(&mut self, fault: Fault) {
        self.token.task = match self.token.task {
            Task::ConfirmRejection { .. } | Task::ConfirmRefusal => {
                return self.dead(Standing::Rejected, fault);
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
    fn renew_refused(&mut self, fault: Fault) {
        self.token.renew_refused = true;
        if !self.give_the_proof_up() {
            self.failed(fault, true, Duration::ZERO);
        }
    }

    /// No answer: the same is tried again; but a renewing call that was only tried may have
    /// renewed all the same, or never answer, so a query comes next. One that is known to renew
    /// elsewhere on this server is not given up for that: it becomes the check.
    fn unanswered(&mut self, fault: Fault, at_least: Duration) {
        let known = self.context.renews_by == Some(Method::Renew);
        let given_up = self.token.task == Task::RetryRenew && !known;
        self.token.task = match self.token.task {
            Task::TryRenew => Task::ConfirmRenewal,
            Task::RetryRenew if known => Task::Check,
            task => task,
        };
        self.failed(fault, false, at_least);
        if given_up {
            self.give_the_proof_up();
        }
    }

    /// A renewing call that was only tried brought nothing: the regular checks go on.
    fn give_the_proof_up(&mut self) -> bool {
        let (
            Task::TryRenew | Task::RetryRenew,
            Standing::Alive(reading) | Standing::Unverified(reading),
        ) = (self.token.task, self.token.standing)
        else {
            return false;
        };
        self.plan_check(&reading);
        // Past its bound it is late already, however soon the next check is.
        self.token.room_from = self.token.room_from.min(reading.bound());
        self.doubt(&reading);
        true
    }

    /// No conclusion: the same is tried again after a pause of at least `at_least`.
    fn failed(&mut self, fault: Fault, misconfigured: bool, at_least: Duration) {
        self.token.failures = self.token.failures.saturating_add(1);
        self.token.troubled = true;
        let attempt = self.token.failures;
        let (pause, level) = self.pause(self.token.backoff_level);
        self.token.backoff_level = level;
        let pause = pause.max(at_least);
        self.token.due = self.now + pause;
        self.say(Notice::CheckFailed {
            fault,
            misconfigured,
            attempt,
            retry_in_ms: whole_millis(pause),
        });
    }

    /// The value in use was reported as alive: judge, report, and plan what follows.
    pub(super) fn alive(&mut self, reading: Reading) {
        let earlier = match self.token.standing {
            Standing::Alive(earlier) | Standing::Unverified(earlier) => Some(earlier),
            Standing::Missing | Standing::Unknown | Standing::Expired | Standing::Rejected => None,
        };
        let task = std::mem::replace(&mut self.token.task, Task::Check);
        // No life left is no life that was confirmed.
        let lives = reading.remaining_ms > 0;
        self.token.standing =
            if lives { Standing::Alive(reading) } else { Standing::Unverified(reading) };
        self.token.stage = Stage::Calm;
        self.token.forget_failures();
        if reading.remaining() >= SHORTEST_TIMEOUT {
            self.token.hollow = 0;
        } else if task == Task::Check {
            self.token.hollow = self.token.hollow.saturating_add(1);
        }
        self.plan_check(&reading);
        let renewed = earlier.and_then(|earlier| self.judge(task, &earlier, &reading));
        match renewed {
            // Whether queries do instead stays open, and there may be no time to find out.
            None => self.token.renew_refused = false,
            Some(_) if self.token.task == Task::Check => self.token.renew_unanswered = false,
            Some(_) => {}
        }
        if !self.token.proven {
            self.token.life_ms = self.token.life_ms.max(reading.remaining_ms);
        }
        self.token.budget.alive_at(reading.sent);
        self.plan_early_reauth(&reading);
        self.prove_reauth(&reading);
        if lives && std::mem::take(&mut self.token.troubled) {
            self.say(Notice::Recovered { remaining_ms: reading.remaining_ms });
        }
        self.say(Notice::Checked {
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
            hollow_wait(self.token.hollow, schedule)
        } else {
            check_wait(reading.remaining(), schedule, self.context.draw)
        };
        self.token.task = Task::Check;
        self.token.due = (reading.sent + wait).max(self.now);
        self.token.room_from = self.token.due;
    }

    /// The policy changed: the next check of a token that waits for it follows the new one.
    pub(super) fn policy_changed(&mut self) {
        if self.context.policy.renewal != Renewal::Auto
            && matches!(self.token.task, Task::TryRenew | Task::RetryRenew)
        {
            self.token.task = Task::Check;
        }
        if self.token.flight.is_none()
            && self.token.failures == 0
            && self.token.task == Task::Check
            && self.token.due > self.now
            && let Standing::Alive(reading) = self.token.standing
        {
            self.plan_check(&reading);
        }
        if self.context.policy.reauth.is_none() {
            self.token.wish = self.token.wish.filter(|wish| *wish != Wish::Reauth);
        }
        match self.token.standing {
            Standing::Alive(reading) | Standing::Unverified(reading) => {
                self.plan_early_reauth(&reading);
            }
            Standing::Unknown => {}
            Standing::Missing | Standing::Expired | Standing::Rejected => {
                if self.token.flight.is_none() {
                    self.seek_new_value();
                }
            }
        }
    }

    /// Another server is asked from now on: what the one before it has said of the values, and
    /// what it may still answer, does not count. An attempt under way decides as it would have.
    pub(super) fn server_changed(&mut self) {
        match self.token.flight {
            Some(Flight::Reauth(_)) => return,
            Some(Flight::Current(_) | Flight::Revoke) => {
                self.token.flight = Some(Flight::Outdated(self.token.active));
            }
            Some(Flight::Candidate(_)) => self.outdate_candidate(),
            Some(Flight::Outdated(_) | Flight::Store) | None => {}
        }
        if let Some(candidate) = &mut self.token.candidate {
            let obtained = candidate.obtained;
            *candidate = Candidate::new(self.now, obtained);
        }
        if self.token.standing != Standing::Missing {
            self.forget_value();
        }
    }

    /// The value in use is dead.
    fn dead(&mut self, standing: Standing, fault: Fault) {
        self.token.standing = standing;
        self.token.forget_failures();
        self.token.troubled = true;
        self.token.unstored = None;
        self.token.early = None;
        self.token.wish = None;
        let young = self.token.budget.dies_young(self.now);
        if young {
            self.token.budget.failed(self.now);
        }
        let proving = self.token.proving.take();
        if let Some(proving) = proving {
            self.dead_on_arrival(proving, &fault);
        } else if standing == Standing::Rejected {
            self.say(Notice::Rejected { fault, candidate: false });
        } else {
            self.say(Notice::Expired { fault, candidate: false });
        }
        let at = self.notices.len();
        if self.token.candidate.is_some() {
            self.take_spare();
        } else if proving.is_none() {
            self.seek_new_value();
        }
        if young {
            self.died_young(at);
        }
    }

    /// A renewing call answered with another value: that is the token from now on.
    pub(super) fn adopt_renewed_value(&mut self) {
        self.say(Notice::Replaced(ReplacedBy::Renewal));
        self.token.unstored = Some(Unstored { due: self.now, failures: 0 });
        self.token.unextendable = false;
        self.token.doubts = 0;
    }

    /// The value in use is another one, of which nothing is known yet.
    pub(super) fn forget_value(&mut self) {
        self.token.standing = Standing::Unknown;
        self.token.task = Task::Check;
        self.token.due = self.now;
        self.token.room_from = self.now;
        self.token.stage = Stage::Calm;
        self.token.forget_failures();
        self.token.hollow = 0;
        self.token.doubts = 0;
        self.token.settling = None;
        self.token.resumed = false;
        self.token.baseline = None;
        self.token.budget.forget_value();
        self.token.life_ms = 0;
        self.token.proven = false;
        self.token.unextendable = false;
        self.token.renew_refused = false;
        self.token.renew_unanswered = false;
        self.token.early = None;
        self.token.wish = None;
    }
}
