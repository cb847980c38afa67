//! Renewals that spend a refresh token, and must therefore not be repeated at will.
//!
//! The refresh token itself is not known here: the task that renews reads it, and stores the next
//! one before it completes. Two rules follow:
//!
//! - A renewal needs no value. A token without a living value first tries its refresh token, and
//!   logs in only if there is none, or the server rejects it.
//! - A server that sees a spent refresh token again may end every value that came from it. After a
//!   lost response the renewal is *held*: while the value is alive, it is repeated once in the last
//!   retry room, and then not before the expiry. Meanwhile a login replaces the value, if one is
//!   configured.

use super::check_timing::last_retry_room;
use super::context::Transition;
use super::event::Notice;
use super::reading::Reading;
use super::token::{InFlight, Task, Validity};
use crate::outcome::CallError;
use crate::time::{Moment, whole_millis};

impl Transition<'_> {
    /// No value may be alive, but there may be a refresh token: a renewal starts at once.
    pub(super) fn plan_rotation(&mut self) {
        self.discard_rotation();
        self.token.backoff_level = 0;
        self.token.held_until = None;
        self.token.task = Task::Rotate { rejected: false };
        self.token.due = self.now;
    }

    /// The result of a renewal without a living value is outdated. A new value in it still counts
    /// if no other one has come meanwhile.
    pub(super) fn discard_rotation(&mut self) {
        if let Some(InFlight::Current(_)) = self.token.in_flight {
            self.token.in_flight = Some(InFlight::Discarded(self.token.active));
        }
    }

    /// The source offers another refresh token. What the server said of the one before does not
    /// count.
    pub(super) fn new_refresh_token(&mut self) {
        if !self.context.policy.rotates {
            return;
        }
        if !self.token.may_be_alive() {
            return self.plan_rotation();
        }
        self.token.held_until = None;
        self.token.refresh_replaced = self.token.in_flight.is_some();
        if let Task::ConfirmRejection { .. } = self.token.task {
            self.token.task = Task::Check;
        }
        if let Some(candidate) = &mut self.token.candidate {
            candidate.suspected = false;
        }
        self.token.expedite_retries(self.now);
        match self.token.reading() {
            Some(reading) => self.plan_early_reauth(&reading),
            None => self.token.early_reauth_at = None,
        }
    }

    /// There is neither a value nor a refresh token.
    pub(super) fn no_refresh_token(&mut self) {
        if self.token.validity == Validity::Missing && !self.token.source_lost {
            let error = "the source has no value, and there is no refresh token".into();
            self.notify(Notice::Missing { error, in_use: false });
        }
        self.give_up_rotation();
    }

    /// The refresh token obtains no value: a login does, or the sources are watched.
    pub(super) fn give_up_rotation(&mut self) {
        self.token.forget_failures();
        self.token.unrecovered = true;
        self.token.source_lost |= self.token.validity == Validity::Missing;
        self.schedule_reauth();
    }

    /// The same after a result that is not final.
    pub(super) fn log_in_instead(&mut self, fault: CallError, misconfigured: bool) {
        let (at, attempt) = (self.notices.len(), self.token.failures.saturating_add(1));
        self.give_up_rotation();
        let retry_in_ms = self.ms_until(self.token.due);
        let failed = Notice::CheckFailed { fault, misconfigured, attempt, retry_in_ms };
        self.notices.insert(at, failed);
    }

    /// Whether a renewal that ended so is held: the refresh token may be spent, or there is none. If
    /// another one has come meanwhile, a lost request may have sent either of them: the task that
    /// was started before may have read it later.
    pub(super) const fn must_be_held(&self, fault: &CallError) -> bool {
        let is_absent = fault.no_refresh_token && !self.token.refresh_replaced;
        self.context.policy.rotates && (fault.may_have_acted || is_absent)
    }

    /// The value is alive, but nothing renews it: a login replaces it.
    pub(super) fn cannot_renew(&mut self, reading: &Reading) {
        if self.context.policy.rotates && !self.token.refresh_replaced && !reading.is_endless() {
            self.token.held_until = Some(self.now);
            self.plan_early_reauth(reading);
        }
    }

    /// Holds the next renewal, of the candidate too, which would send the same refresh token: until
    /// the last retry room, or if that has begun, until the expiry. A login replaces the value.
    pub(super) fn hold_renewal(&mut self) {
        let held_until = match self.token.validity {
            Validity::Alive(reading) => {
                let room = last_retry_room(self.context.policy.timeout, reading.remaining());
                let expiry = reading.expiry().as_millis();
                let last = Moment::from_millis(expiry.saturating_sub(whole_millis(room)));
                if self.now < last { last } else { reading.expiry() }
            }
            // How much there is to lose is not known. A slow server may still be at work.
            _ if self.is_life_unknown() => self.now + self.context.policy.timeout,
            _ => self.now,
        };
        self.token.held_until = Some(held_until);
        self.token.due = self.token.due.max(held_until);
        if let Some(candidate) = &mut self.token.candidate {
            candidate.due = candidate.due.max(held_until);
        }
        match self.token.reading() {
            Some(reading) => self.plan_early_reauth(&reading),
            None if self.token.may_be_alive() => self.plan_reauth_of_unknown(),
            None => {}
        }
    }

    /// Plans a login in place of a held renewal if it is not known how long the value lives. A login
    /// whose value is being verified is not repeated before that has failed.
    pub(super) fn plan_reauth_of_unknown(&mut self) {
        let wanted = self.token.held_until.is_some() && self.token.pending_reauth.is_none();
        let not_before = self.token.early_reauth_at.unwrap_or_default();
        let allowed = self.next_attempt_at().filter(|_| wanted);
        self.token.early_reauth_at = allowed.map(|at| at.max(not_before));
    }

    /// The value of a login cannot be verified, as it came without a refresh token. It is given time,
    /// because it may live: further logins are spread over the window of the budget.
    pub(super) fn conclude_unverifiable(&mut self, fault: &CallError) {
        if !self.must_be_held(fault) || self.token.validity != Validity::Unknown {
            return;
        }
        let (Some(pending_reauth), Some(policy)) =
            (self.token.pending_reauth.take(), self.context.policy.reauth)
        else {
            return;
        };
        let allowed = self.token.budget.next_attempt_at(&policy, self.now);
        let next = allowed.max(self.now + policy.window / policy.max_attempts.get());
        self.token.early_reauth_at = Some(next);
        self.unverifiable(pending_reauth, fault);
    }

    /// Whether the value may be alive, and no response of this boot tells for how long.
    fn is_life_unknown(&self) -> bool {
        self.token.validity == Validity::Unknown || self.token.is_from_earlier_boot()
    }
}
