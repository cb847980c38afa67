//! Current and candidate value: which one is current, when it is checked, and whether it is
//! persisted.

use super::backoff::{backoff, short_reading_wait};
use super::check_timing::{SHORTEST_TIMEOUT, check_wait};
use super::context::Transition;
use super::event::Notice;
use super::reading::Reading;
use super::token::{InFlight, PendingWrite, Task, Validity};
use super::types::{DeadlineStage, ReplacedBy};
use crate::time::whole_millis;

impl Transition<'_> {
    /// Makes the candidate the current value, to be checked at once.
    pub(super) fn promote_candidate(&mut self) {
        self.token.active = self.token.active.other();
        self.token.pending_write = None;
        self.token.pending_reauth = None;
        let candidate = self.token.candidate.take();
        let obtained = candidate.and_then(|candidate| candidate.obtained);
        let from_elsewhere = candidate.and_then(|candidate| candidate.from_elsewhere);
        let is_first = self.token.validity == Validity::Missing && !self.token.unrecovered;
        match (from_elsewhere, obtained) {
            (Some(by), _) => self.notify(Notice::Replaced(by)),
            (None, Some(_)) => self.notify(Notice::Replaced(ReplacedBy::Reauth)),
            (None, None) if is_first => {}
            (None, None) => self.notify(Notice::Replaced(ReplacedBy::Source)),
        }
        if let Some((pending_reauth, stored)) = obtained {
            self.token.pending_reauth = Some(pending_reauth);
            if !stored {
                self.token.pending_write = Some(PendingWrite { due: self.now, failures: 0 });
            }
        }
        if from_elsewhere.is_some() {
            self.token.pending_write = Some(PendingWrite { due: self.now, failures: 0 });
        }
        self.reset_value();
        if from_elsewhere.is_some() {
            self.token.budget.inherit_probation();
        }
        // After an inconclusive check the retry uses a fresh connection, also for the promoted
        // value.
        if let Some(candidate) = candidate {
            self.token.failures = candidate.failures;
            self.token.backoff_level = candidate.backoff_level;
        }
    }

    /// The source no longer offers the candidate: the result of its check is discarded.
    pub(super) fn discard_candidate_check(&mut self) {
        if let Some(InFlight::Candidate(_)) = self.token.in_flight {
            self.token.in_flight = Some(InFlight::Discarded(self.token.active.other()));
        }
    }

    /// A renewing call responded with a new value, which becomes the current one.
    pub(super) fn adopt_renewed_value(&mut self) {
        if !self.token.may_be_alive() {
            self.reset_value();
        }
        self.notify(Notice::Replaced(ReplacedBy::Renewal));
        self.token.pending_write = Some(PendingWrite { due: self.now, failures: 0 });
        self.token.unrenewable = false;
        self.token.doubts = 0;
    }

    /// The current value changed: nothing is known about it.
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
        self.token.deferral = None;
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
        self.token.due = self.token.not_held((reading.sent + wait).max(self.now));
        self.token.retry_room_start = self.token.due;
    }

    pub(super) fn persist_finished(&mut self, result: Result<(), Box<str>>) {
        match self.token.in_flight {
            Some(InFlight::Persist) => self.token.in_flight = None,
            Some(InFlight::Discarded(_)) => return self.token.in_flight = None,
            Some(_) | None => return,
        }
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
