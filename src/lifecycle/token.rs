//! What is known of one token, and when it next wants something.

use std::time::Duration;

use super::check_timing::SHORTEST_TIMEOUT;
use super::event::{DeadlineStage, Slot};
use super::operator_request::PendingRequest;
use super::reading::{Method, Reading};
use super::reauth_budget::{ReauthAttempts, ReauthBudget};
use crate::outcome::Connection;
use crate::time::Moment;

/// Failed proofs in a row after which a life counts as one that nothing extends. One is
/// not enough: a life that the server has just shortened to what an old one would have
/// left looks the same, until time passes.
pub(super) const DOUBTS_TO_CONCLUDE: u8 = 2;

/// One token's state. Its values are kept elsewhere, by [`Slot`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state in disguise")]
pub struct Token {
    pub(super) validity: Validity,
    pub(super) task: Task,
    /// When the task is due.
    pub(super) due: Moment,
    pub(super) in_flight: Option<InFlight>,
    /// Where the value in use is kept.
    pub(super) active: Slot,
    pub(super) candidate: Option<Candidate>,
    pub(super) pending_write: Option<PendingWrite>,
    pub(super) pending_reauth: Option<PendingReauth>,
    pub(super) budget: ReauthBudget,
    /// When a new value is to be obtained although the one in use still lives.
    pub(super) early_reauth_at: Option<Moment>,
    /// `Remaining` at the last proven renewal; before the first, the longest one reported.
    pub(super) life_ms: u64,
    /// The reading that the next is compared with, where that is not the last one: too little
    /// of the life had passed since to judge by the last one.
    pub(super) baseline: Option<Reading>,
    /// A renewal of the value in use has been proven.
    pub(super) proven: bool,
    /// When the next check was due as of the last reading: there the retry room begins.
    pub(super) retry_room_start: Moment,
    /// What of the retry room's end has been reported.
    pub(super) stage: DeadlineStage,
    /// Failures in a row.
    pub(super) failures: u16,
    /// Those of them that raise the backoff: not the retries that only fill the time before
    /// the expiry.
    pub(super) backoff_level: u16,
    /// Readings in a row that left no room for a check before the expiry.
    pub(super) short_readings: u16,
    /// Times in a row that no call was seen to extend the life, up to the verdict.
    pub(super) doubts: u8,
    /// The server reports the life from before a renewal by this call, and the last reading
    /// showed a whole one: the next by this call cannot show growth.
    pub(super) lagging: Option<Method>,
    /// All that is known of the value in use comes from an earlier run.
    pub(super) restored: bool,
    /// Trouble was reported, and the token has not been found alive since.
    pub(super) unrecovered: bool,
    /// It was reported that no call extends this value's life.
    pub(super) unrenewable: bool,
    /// The renewing call was refused for this token; the next check queries.
    pub(super) renew_refused: bool,
    /// The answer to a renewing call did not come, and no proof has been concluded since: it may
    /// have extended the life all the same, so growth says nothing of queries.
    pub(super) renew_unanswered: bool,
    /// It was reported that the source has no value.
    pub(super) source_lost: bool,
    /// A person wants it to be left alone.
    pub(super) paused: bool,
    /// What a person has asked for and did not begin yet.
    pub(super) pending_request: Option<PendingRequest>,
    /// It was reported that no re-auth attempt is left, and none has started since.
    pub(super) exhaustion_reported: bool,
}

/// What is known of the value in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// There is no value.
    Missing,
    /// No answer about the value has come yet.
    Unknown,
    /// The last answer said that it lives, and its expiry is ahead.
    Alive(Reading),
    /// The last answer said that it lived, but its expiry has passed since.
    Unverified(Reading),
    /// The server said that its life is over.
    Expired,
    /// The server said, twice, that it does not know the value.
    Rejected,
}

/// What is to be done next about the value in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Nothing, until the source offers a value.
    Watch,
    /// The regular check.
    Check,
    /// A second query, after a 401. If that came amid a proof, the proof goes on from its
    /// start once the token turns out to live.
    ConfirmRejection { in_proof: bool },
    /// A query, after a 401 to a renewing call that was only tried.
    ConfirmRefusal,
    /// A second call at once, after a reading that did not grow.
    ConfirmGrowth,
    /// A renewing call, after two readings that did not grow.
    TryRenew,
    /// A query, after a renewing call whose own answer showed no growth or did not come.
    ConfirmRenewal,
    /// A renewing call once more, after one whose answer did not come and a query that
    /// showed no growth.
    RetryRenew,
    /// Obtain a new value.
    Reauth,
}

/// What is under way for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InFlight {
    /// A call about the value in use.
    Current(Method),
    /// A call about the candidate.
    Candidate(Method),
    /// A call about the value in this slot, whose answer does not count any more.
    Discarded(Slot),
    /// A re-auth attempt with its number.
    Reauth(u32),
    /// The value in use is being written.
    Persist,
    /// The value in use is being revoked.
    Revoke,
}

/// A value that the source offers, or re-auth has brought, while the one in use has not been
/// found dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// When it is to be asked about.
    pub(super) due: Moment,
    /// Failures in a row.
    pub(super) failures: u16,
    /// Those of them that raise the backoff.
    pub(super) backoff_level: u16,
    /// A first 401 has come.
    pub(super) suspected: bool,
    /// It came from re-auth: the attempt, and whether it stands in the store already.
    pub(super) obtained: Option<(PendingReauth, bool)>,
}

/// The value in use is not in its store yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PendingWrite {
    /// When it is to be written.
    pub(super) due: Moment,
    /// Failures in a row.
    pub(super) failures: u16,
}

/// The value in use came from re-auth and has not been found alive or dead yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PendingReauth {
    pub(super) attempt: u32,
    pub(super) duration_ms: u64,
}

impl Candidate {
    /// A value that has just come.
    pub(super) const fn new(due: Moment, obtained: Option<(PendingReauth, bool)>) -> Self {
        Self { due, failures: 0, backoff_level: 0, suspected: false, obtained }
    }
}

impl Token {
    /// A token whose value has been put into [`Slot::A`], to be checked from `now` on.
    pub const fn with_value(now: Moment) -> Self {
        Self {
            validity: Validity::Unknown,
            task: Task::Check,
            due: now,
            in_flight: None,
            active: Slot::A,
            candidate: None,
            pending_write: None,
            pending_reauth: None,
            budget: ReauthBudget::new(),
            early_reauth_at: None,
            life_ms: 0,
            baseline: None,
            proven: false,
            retry_room_start: now,
            stage: DeadlineStage::Calm,
            failures: 0,
            backoff_level: 0,
            short_readings: 0,
            doubts: 0,
            lagging: None,
            restored: false,
            unrecovered: false,
            unrenewable: false,
            renew_refused: false,
            renew_unanswered: false,
            source_lost: false,
            paused: false,
            pending_request: None,
            exhaustion_reported: false,
        }
    }

    /// A token without a value. The reason is still to be told by
    /// [`SourceChange::Lost`](super::SourceChange::Lost).
    pub const fn without_value(now: Moment) -> Self {
        let mut token = Self::with_value(now);
        token.validity = Validity::Missing;
        token.task = Task::Watch;
        token
    }

    /// What is known of the value in use.
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// Where the value in use is kept.
    pub const fn active_slot(&self) -> Slot {
        self.active
    }

    /// Whether another value than the one in use is to be judged.
    pub const fn has_candidate(&self) -> bool {
        self.candidate.is_some()
    }

    /// Whether an effect is under way.
    pub const fn is_busy(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether a re-auth attempt is under way.
    pub const fn is_reauthenticating(&self) -> bool {
        matches!(self.in_flight, Some(InFlight::Reauth(_)))
    }

    /// Whether a value that re-auth has brought is yet to be verified, and kept nowhere else.
    pub fn has_unpersisted_candidate(&self) -> bool {
        let obtained = self.candidate.and_then(|candidate| candidate.obtained);
        obtained.is_some_and(|(_, stored)| !stored)
    }

    /// The moment until which the token is known to live, past or ahead; `None` while
    /// nothing is known, or the value is known to be dead.
    pub fn expiry(&self) -> Option<Moment> {
        self.reading().map(|reading| reading.expiry())
    }

    /// The reading that the expiry comes from.
    pub fn reading(&self) -> Option<Reading> {
        match self.validity {
            Validity::Alive(reading) | Validity::Unverified(reading) => Some(reading),
            Validity::Missing | Validity::Unknown | Validity::Expired | Validity::Rejected => None,
        }
    }

    /// Whether the last call on the value in use, or on a candidate, came to no conclusion.
    pub fn is_failing(&self) -> bool {
        self.failures > 0 || self.candidate.is_some_and(|candidate| candidate.failures > 0)
    }

    pub(super) const fn forget_failures(&mut self) {
        self.failures = 0;
        self.backoff_level = 0;
    }

    /// The connection for the next call on the value in use: a fresh one after a call without
    /// a conclusion, for the second query after a 401, and past the expiry, as what the pool
    /// holds may be what is broken.
    pub(super) fn current_connection(&self, now: Moment) -> Connection {
        let is_overdue = self.expiry().is_some_and(|expiry| expiry <= now);
        if self.failures > 0 || is_overdue { Connection::Fresh } else { Connection::Pooled }
    }

    /// The same for a candidate.
    pub(super) fn candidate_connection(&self) -> Connection {
        let failed = self.candidate.is_some_and(|candidate| candidate.failures > 0);
        if failed { Connection::Fresh } else { Connection::Pooled }
    }

    /// Whether the server has said anything of the value in use since this boot of the machine.
    pub const fn had_response(&self) -> bool {
        !matches!(self.validity, Validity::Missing | Validity::Unknown)
            && !self.is_from_earlier_boot()
    }

    /// Whether it waits to log in once more after an attempt without a conclusion.
    pub fn is_reauth_inconclusive(&self) -> bool {
        self.budget.is_inconclusive()
            && (self.task == Task::Reauth || self.early_reauth_at.is_some())
    }

    /// Whether something was said to be wrong with it, and nothing since that it lives.
    pub const fn is_unrecovered(&self) -> bool {
        self.unrecovered
    }

    /// The re-auth attempts that must outlive a restart; `None` if there are none.
    pub fn attempts(&self) -> Option<ReauthAttempts> {
        let attempts = self.budget.attempts();
        (attempts.counted > 0).then_some(attempts)
    }

    /// Takes over the attempts that an earlier run has made.
    pub fn restore_attempts(&mut self, attempts: ReauthAttempts) {
        self.budget = ReauthBudget::restored(attempts);
    }

    /// Brings the calls that wait for a retry forward to `now`. Not a write: that a response
    /// can be expected again says nothing of the disk.
    pub(super) fn expedite_retries(&mut self, now: Moment) {
        if self.failures > 0 {
            self.due = self.due.min(now);
        }
        if let Some(candidate) = &mut self.candidate {
            candidate.due = candidate.due.min(now);
        }
    }

    /// Brings a write that waits for a retry forward to `now`.
    pub(super) fn expedite_write(&mut self, now: Moment) {
        if let Some(pending_write) = &mut self.pending_write {
            pending_write.due = pending_write.due.min(now);
        }
    }

    /// When the passing of time alone becomes worth a report.
    pub fn next_deadline_warning(&self) -> Option<Moment> {
        let Validity::Alive(reading) = self.validity else { return None };
        // Who holds a token back knows that its life runs out.
        if self.paused {
            return None;
        }
        Some(match (self.room(&reading), self.stage) {
            (Some(room), DeadlineStage::Calm) => self.retry_room_start + room / 2,
            (Some(room), DeadlineStage::Half) => self.retry_room_start + room * 9 / 10,
            (Some(_), DeadlineStage::NineTenths) | (None, _) => self.unverified_at(&reading),
        })
    }

    /// How much of the retry room is gone at `now`.
    pub(super) fn stage_at(&self, reading: &Reading, now: Moment) -> DeadlineStage {
        match self.room(reading) {
            Some(room) if now >= self.retry_room_start + room * 9 / 10 => DeadlineStage::NineTenths,
            Some(room) if now >= self.retry_room_start + room / 2 => DeadlineStage::Half,
            Some(_) | None => DeadlineStage::Calm,
        }
    }

    /// When a token without an answer stops being called alive: at its expiry, or where the
    /// last check was due too late for that, once it had the shortest time-out to answer.
    pub(super) fn unverified_at(&self, reading: &Reading) -> Moment {
        reading.expiry().max(self.retry_room_start + SHORTEST_TIMEOUT)
    }

    /// The time from the planned check to the expiry, where it is worth a warning: a life
    /// that nothing extends is meant to be used up.
    fn room(&self, reading: &Reading) -> Option<Duration> {
        let room = reading.expiry().since(self.retry_room_start);
        (room >= SHORTEST_TIMEOUT && self.doubts < DOUBTS_TO_CONCLUDE).then_some(room)
    }
}
