//! Several replicas share the tokens: which one asks about this one, and values of the others.
//!
//! What another replica asks about rests here: nothing that is planned for it is executed, except
//! that a value from its own source is verified, and that values are written.

use std::time::Duration;

use super::check_timing::{SHORTEST_TIMEOUT, check_wait};
use super::context::Transition;
use super::event::Notice;
use super::token::{Candidate, InFlight, Task, Token, Validity};
use super::types::{DeadlineStage, ReplacedBy};

/// How long a value that another replica obtained counts as verified by it, where a check would
/// spend its refresh token. Replicas that all ask would spend one after the other without pause.
const LONGEST_TRUST: Duration = Duration::from_secs(60);

impl Token {
    /// Whether this replica asks about the token, and not another one.
    pub const fn is_asked(&self) -> bool {
        !self.elsewhere
    }

    /// Whether the token has no value because its source has not been read yet.
    pub fn awaits_source(&self) -> bool {
        self.validity == Validity::Missing && self.task == Task::Watch && !self.source_lost
    }

    /// Whether everything known about the current value comes from before another replica asked
    /// about it, or from an earlier run and a renewing call had no response since.
    pub const fn is_taken_over(&self) -> bool {
        self.restored && self.renew_unanswered
    }
}

impl Transition<'_> {
    /// This replica asks about the token from now on, or another one does.
    pub(super) fn asked(&mut self, here: bool, spot_check: bool) {
        if here == self.token.is_asked() {
            return;
        }
        self.token.elsewhere = !here;
        if here {
            return self.take_over(spot_check);
        }
        if let Some(InFlight::Current(_)) = self.token.in_flight {
            self.token.in_flight = Some(InFlight::Discarded(self.token.active));
        }
    }

    /// Checks the token at once. What is known about it is from before another replica asked: it
    /// orders the wait queue, and proves nothing. A restored schedule whose next check is not due
    /// yet continues.
    fn take_over(&mut self, spot_check: bool) {
        if let Validity::Alive(reading) = self.token.validity
            && self.token.is_restored()
            && !self.token.is_taken_over()
            && self.token.due > self.now
        {
            if spot_check {
                self.token.due = self.now;
            }
            return self.plan_early_reauth(&reading);
        }
        self.token.due = self.token.not_held(self.now);
        self.token.retry_room_start = self.token.due;
        match self.token.validity {
            Validity::Alive(reading) | Validity::Unverified(reading) => {
                if reading.expiry() <= self.now {
                    self.token.validity = Validity::Unverified(reading);
                }
                self.token.restored = true;
                self.token.renew_unanswered = true;
                self.plan_early_reauth(&reading);
            }
            Validity::Unknown => {
                self.token.renew_unanswered = true;
                self.plan_reauth_of_unknown();
            }
            Validity::Missing | Validity::Expired | Validity::Rejected => self.replace_dead_value(),
        }
    }

    /// Plans how a value is obtained for a token that had none when another replica asked about it.
    fn replace_dead_value(&mut self) {
        let is_missing = self.token.validity == Validity::Missing;
        if self.token.candidate.is_some() {
            self.discard_candidate_check();
            self.promote_candidate();
        } else if is_missing && !self.token.source_lost {
            // The source has not been read yet.
        } else if self.context.policy.rotates {
            self.token.source_lost = false;
            self.plan_rotation();
        } else {
            if is_missing && !std::mem::replace(&mut self.token.unrecovered, true) {
                let error = "the source has no value".into();
                self.notify(Notice::Missing { error, in_use: false });
            }
            self.schedule_reauth();
        }
    }

    /// Forgets what only the replica that asks needs.
    pub(super) fn rest_elsewhere(&mut self) {
        if self.token.is_asked() {
            return;
        }
        let token = &mut self.token;
        token.task = if token.may_be_alive() { Task::Check } else { Task::Watch };
        (token.failures, token.backoff_level, token.short_readings) = (0, 0, 0);
        token.stage = DeadlineStage::Calm;
        (token.lagging, token.baseline) = (None, None);
        (token.early_reauth_at, token.pending_request) = (None, None);
        token.deferral = token.deferral.filter(|_| token.candidate.is_some());
        if token.budget.forget_window(self.now) {
            token.exhaustion_reported = false;
        }
        if !token.restored {
            token.due = token.reading().map_or(token.retry_room_start, |reading| reading.sent);
        }
        token.retry_room_start = token.due;
    }

    /// A token whose expiry passed while another replica asked about it has had no response since
    /// either.
    pub(super) fn warn_of_overdue_token(&mut self) {
        let confirms = matches!(self.token.task, Task::ConfirmRejection { .. });
        if self.token.failures > 0 && self.token.is_from_earlier_boot() && !confirms {
            self.notify(Notice::Unverified);
        }
    }

    /// Another replica has obtained or verified a value, or an action has that began before the token
    /// was removed and added again.
    pub(super) fn new_value_from_elsewhere(&mut self, by: ReplacedBy) {
        let counts_at_once = self.token.elsewhere || self.context.policy.rotates;
        if counts_at_once || !self.token.may_be_alive() {
            return self.adopt_from_elsewhere(by);
        }
        self.new_value_in_source();
        if let Some(candidate) = &mut self.token.candidate {
            candidate.from_elsewhere = Some(by);
        }
    }

    /// The value counts at once: nothing that is known here is better, or its check would spend its
    /// refresh token.
    fn adopt_from_elsewhere(&mut self, by: ReplacedBy) {
        self.discard_candidate_check();
        if let Some(InFlight::Current(_) | InFlight::Persist | InFlight::Revoke) =
            self.token.in_flight
        {
            self.token.in_flight = Some(InFlight::Discarded(self.token.active));
        }
        // An attempt whose own value was not verified is judged by this value.
        let obtained = self.token.candidate.and_then(|candidate| candidate.obtained);
        let obtained = obtained.map(|(pending_reauth, _)| (pending_reauth, true));
        let candidate =
            Candidate { from_elsewhere: Some(by), ..Candidate::new(self.now, obtained) };
        self.token.candidate = Some(candidate);
        let life = Duration::from_millis(self.token.life_ms);
        self.promote_candidate();
        if self.context.policy.rotates && self.token.is_asked() && life >= SHORTEST_TIMEOUT {
            let wait = check_wait(life, &self.context.policy.schedule, self.context.draw);
            self.token.due = self.now + wait.min(LONGEST_TRUST);
            self.token.retry_room_start = self.token.due;
        }
    }
}
