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

use std::time::Duration;

use super::check_timing::last_retry_room;
use super::context::Transition;
use super::event::Notice;
use super::token::{InFlight, Task, Validity};
use crate::outcome::CallError;
use crate::time::{Moment, whole_millis};

impl Transition<'_> {
    /// No value may be alive, but there may be a refresh token: a renewal starts at once.
    pub(super) fn plan_rotation(&mut self) {
        self.discard_rotation();
        self.token.backoff_level = 0;
        self.token.renewal_held = false;
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

    /// The source offers another refresh token, which is certainly not spent.
    pub(super) fn new_refresh_token(&mut self) {
        if !self.context.policy.rotates {
            return;
        }
        if !self.token.may_be_alive() {
            return self.plan_rotation();
        }
        self.token.renewal_held = false;
        self.token.expedite_retries(self.now);
        if let Some(reading) = self.token.reading() {
            self.plan_early_reauth(&reading);
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

    /// Whether a renewal that ended so is held: the refresh token may be spent, or there is none.
    pub(super) fn must_be_held(&self, fault: &CallError, misconfigured: bool) -> bool {
        self.context.policy.rotates && (fault.may_have_acted || misconfigured && fault.local)
    }

    /// When a check that failed is repeated: after the pause, or if its renewal is held, not before
    /// the last retry room. If it `is_lost` only now, the other value's renewal is held as well,
    /// because it would send the same refresh token.
    pub(super) fn retry_at(&mut self, pause: Duration, is_lost: bool) -> Moment {
        let at = self.now + pause;
        self.token.renewal_held |= is_lost;
        if is_lost && let Some(reading) = self.token.reading() {
            self.plan_early_reauth(&reading);
        }
        let Validity::Alive(reading) = self.token.validity else { return at };
        if !self.token.renewal_held {
            return at;
        }
        let room = last_retry_room(self.context.policy.timeout, reading.remaining());
        let expiry = reading.expiry();
        let last = Moment::from_millis(expiry.as_millis().saturating_sub(whole_millis(room)));
        let held_until = if self.now < last {
            last
        } else if is_lost {
            expiry
        } else {
            return at;
        };
        self.token.due = self.token.due.max(held_until);
        if let Some(candidate) = &mut self.token.candidate {
            candidate.due = candidate.due.max(held_until);
        }
        at.max(held_until)
    }
}
