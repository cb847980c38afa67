//! State of one token.

use super::reading::{Method, Reading};
use super::reauth_budget::{ReauthAttempts, ReauthBudget};
use super::types::{DeadlineStage, ReplacedBy, Slot};
use crate::outcome::Connection;
use crate::time::Moment;

/// Failed proofs in a row after which a value counts as not renewable. One is not enough: if the
/// server has just shortened the life to what was left of the old one, a renewed token looks the same
/// until time passes.
pub(super) const DOUBTS_TO_CONCLUDE: u8 = 2;

/// State of one token. Its values are stored elsewhere, by [`Slot`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state in disguise")]
pub struct Token {
    pub(super) validity: Validity,
    pub(super) task: Task,
    /// When the task is due.
    pub(super) due: Moment,
    pub(super) in_flight: Option<InFlight>,
    /// The slot of the current value.
    pub(super) active: Slot,
    pub(super) candidate: Option<Candidate>,
    pub(super) pending_write: Option<PendingWrite>,
    pub(super) pending_reauth: Option<PendingReauth>,
    pub(super) budget: ReauthBudget,
    /// When a new value is obtained although the current one is alive.
    pub(super) early_reauth_at: Option<Moment>,
    /// `Remaining` at the last proven renewal; before the first, the longest one reported.
    pub(super) life_ms: u64,
    /// The reading that the next one is compared with; `None`: the last one. An earlier one is kept
    /// while too little of the life has passed to evaluate a renewal, or a response was lagging.
    pub(super) baseline: Option<Reading>,
    /// A renewal of the current value has been proven.
    pub(super) proven: bool,
    /// When the next check was due as of the last reading. The retry room starts there.
    pub(super) retry_room_start: Moment,
    /// The part of the retry room that was reported as passed.
    pub(super) stage: DeadlineStage,
    /// Failures in a row.
    pub(super) failures: u16,
    /// Failures that raise the backoff: not the retries that only fill the time before the expiry.
    pub(super) backoff_level: u16,
    /// Readings in a row that left no room for a check before the expiry.
    pub(super) short_readings: u16,
    /// Evaluations in a row that saw no renewal, up to [`DOUBTS_TO_CONCLUDE`].
    pub(super) doubts: u8,
    /// The server reports the life before a renewal by this call, and the last reading showed a
    /// full life: the next one by this call cannot show growth.
    pub(super) lagging: Option<Method>,
    /// Everything known about the current value comes from an earlier run, or from before another
    /// replica asked about it: the next reading is compared with none.
    pub(super) restored: bool,
    /// An error was reported, and the token has not been alive since.
    pub(super) unrecovered: bool,
    /// It was reported that no call renews this value.
    pub(super) unrenewable: bool,
    /// The server refused the renewing call; the next check is a query.
    pub(super) renew_refused: bool,
    /// A renewing call had no response, or another replica has asked, and no proof has been
    /// concluded since. That may have renewed the token, so growth proves nothing about queries.
    pub(super) renew_unanswered: bool,
    /// A renewal may have spent the refresh token without a response, or there was none that the
    /// server accepts: the next renewal starts at this moment at the earliest, and a login replaces
    /// the value.
    pub(super) held_until: Option<Moment>,
    /// Another refresh token has come since the renewal in flight started.
    pub(super) refresh_replaced: bool,
    /// It was reported that the source has no value.
    pub(super) source_lost: bool,
    /// An operator paused the token.
    pub(super) paused: bool,
    /// Another replica asks about the token.
    pub(super) elsewhere: bool,
    /// What spends something is deferred, because another replica may be spending it.
    pub(super) deferral: Option<Deferral>,
    /// What an operator requested and has not started yet.
    pub(super) pending_request: Option<PendingRequest>,
    /// It was reported that no re-auth attempt is left, and none has started since.
    pub(super) exhaustion_reported: bool,
}

/// What is known about the current value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// There is no value.
    Missing,
    /// No response about the value yet.
    Unknown,
    /// The last response confirmed it, and its expiry is in the future.
    Alive(Reading),
    /// The last response confirmed it, but its expiry has passed since.
    Unverified(Reading),
    /// The server reported that it has expired.
    Expired,
    /// The server reported twice that it does not know the value, or it was revoked.
    Rejected,
}

/// What is planned for the current value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Nothing until the source offers a value.
    Watch,
    /// The regular check.
    Check,
    /// A second query after a 401. If the 401 interrupted a proof, the proof restarts once the
    /// token is alive.
    ConfirmRejection { in_proof: bool },
    /// A query after a 401 to a trial renewal.
    ConfirmRefusal,
    /// A second call at once, after a reading without growth.
    ConfirmGrowth,
    /// A trial renewal, after two readings without growth.
    TryRenew,
    /// A query after a renewing call that showed no growth or had no response.
    ConfirmRenewal,
    /// A second trial renewal, after one without a response and a query without growth.
    RetryRenew,
    /// Obtain a value with the refresh token: a renewing call without a value that may be alive.
    Rotate {
        /// The first 401 was received.
        rejected: bool,
    },
    /// Obtain a new value.
    Reauth,
}

/// The action in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InFlight {
    /// A check of the current value.
    Current(Method),
    /// A check of the candidate.
    Candidate(Method),
    /// A check of the value in this slot, whose result is discarded.
    Discarded(Slot),
    /// A re-auth attempt.
    Reauth {
        /// Its number.
        attempt: u32,
        /// An operator requested it.
        requested: bool,
        /// The budget without it.
        earlier: ReauthBudget,
    },
    /// A write of the current value.
    Persist,
    /// A revocation of the current value.
    Revoke,
}

/// A value from the source or from re-auth that is not verified, while the current one may be
/// alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// When its check is due.
    pub(super) due: Moment,
    /// Failures in a row.
    pub(super) failures: u16,
    /// Failures that raise the backoff.
    pub(super) backoff_level: u16,
    /// The first 401 was received.
    pub(super) suspected: bool,
    /// If it came from re-auth: the attempt, and whether the store already contains the value.
    pub(super) obtained: Option<(PendingReauth, bool)>,
    /// How another replica has obtained it, or an action for a token of this name that was removed.
    /// The store does not contain it.
    pub(super) from_elsewhere: Option<ReplacedBy>,
}

/// Actions that spend something start at `until` at the earliest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deferral {
    pub(super) until: Moment,
    /// So do checks: they spend a refresh token.
    pub(super) checks: bool,
}

/// The current value is not persisted yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PendingWrite {
    /// When the write is due.
    pub(super) due: Moment,
    /// Failures in a row.
    pub(super) failures: u16,
}

/// The current value came from re-auth and is not verified yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PendingReauth {
    pub(super) attempt: u32,
    pub(super) duration_ms: u64,
}

/// An operator request that waits for its resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PendingRequest {
    Reauth,
    Revoke,
}

impl Validity {
    /// Whether there is a value that may be alive.
    pub(super) const fn may_be_alive(self) -> bool {
        matches!(self, Self::Unknown | Self::Alive(_) | Self::Unverified(_))
    }
}

impl Candidate {
    /// Whether the token's own source offers it.
    pub(super) const fn is_from_source(&self) -> bool {
        self.obtained.is_none() && self.from_elsewhere.is_none()
    }

    /// A new candidate.
    pub(super) const fn new(due: Moment, obtained: Option<(PendingReauth, bool)>) -> Self {
        Self {
            due,
            failures: 0,
            backoff_level: 0,
            suspected: false,
            obtained,
            from_elsewhere: None,
        }
    }
}

impl Token {
    /// A token whose value is in [`Slot::A`], checked from `now` on.
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
            held_until: None,
            refresh_replaced: false,
            source_lost: false,
            paused: false,
            elsewhere: false,
            deferral: None,
            pending_request: None,
            exhaustion_reported: false,
        }
    }

    /// A token without a value. [`SourceChange::Lost`](super::SourceChange::Lost) must follow with
    /// the reason.
    pub const fn without_value(now: Moment) -> Self {
        let mut token = Self::with_value(now);
        token.validity = Validity::Missing;
        token.task = Task::Watch;
        token
    }

    /// What is known about the current value.
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// The slot of the current value.
    pub const fn active_slot(&self) -> Slot {
        self.active
    }

    /// Whether a candidate waits for verification.
    pub const fn has_candidate(&self) -> bool {
        self.candidate.is_some()
    }

    /// Whether an action is in flight.
    pub const fn is_busy(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether a re-auth attempt is in flight.
    pub const fn is_reauthenticating(&self) -> bool {
        matches!(self.in_flight, Some(InFlight::Reauth { .. }))
    }

    /// Whether a value from re-auth is neither verified nor persisted.
    pub fn has_unpersisted_candidate(&self) -> bool {
        let obtained = self.candidate.and_then(|candidate| candidate.obtained);
        obtained.is_some_and(|(_, stored)| !stored)
    }

    /// The expiry of the current value, past or future; `None` if it is unknown, or the value is
    /// dead.
    pub fn expiry(&self) -> Option<Moment> {
        self.reading().map(|reading| reading.expiry())
    }

    /// The reading of the expiry.
    pub fn reading(&self) -> Option<Reading> {
        match self.validity {
            Validity::Alive(reading) | Validity::Unverified(reading) => Some(reading),
            Validity::Missing | Validity::Unknown | Validity::Expired | Validity::Rejected => None,
        }
    }

    /// Whether the last check of the current value or of a candidate was inconclusive.
    pub fn is_failing(&self) -> bool {
        self.failures > 0 || self.candidate.is_some_and(|candidate| candidate.failures > 0)
    }

    pub(super) const fn forget_failures(&mut self) {
        self.failures = 0;
        self.backoff_level = 0;
        self.held_until = None;
    }

    /// When a check that is planned for `at` may start.
    pub(super) fn not_held(&self, at: Moment) -> Moment {
        at.max(self.held_until.unwrap_or_default())
    }

    /// Whether there is a value that may be alive.
    pub(super) const fn may_be_alive(&self) -> bool {
        self.validity.may_be_alive()
    }

    /// The connection for the next check of the current value. A fresh one after an inconclusive
    /// check and for the second query after a 401, because the pooled connections may be the cause.
    /// Past the expiry, connections from before it may be the cause. Connections opened after it are as
    /// good as fresh ones, and spare a server that comes back after an outage a handshake for each token.
    pub(super) fn current_connection(&self, now: Moment) -> Connection {
        if self.failures > 0 {
            return Connection::Fresh;
        }
        match self.expiry() {
            Some(expiry) if expiry <= now && !self.is_taken_over() => {
                Connection::OpenedAfter(expiry)
            }
            _ => Connection::Pooled,
        }
    }

    /// The same for a candidate.
    pub(super) fn candidate_connection(&self) -> Connection {
        let failed = self.candidate.is_some_and(|candidate| candidate.failures > 0);
        if failed { Connection::Fresh } else { Connection::Pooled }
    }

    /// Whether the server has responded about the current value since this boot.
    pub const fn had_response(&self) -> bool {
        !matches!(self.validity, Validity::Missing | Validity::Unknown)
            && !self.is_from_earlier_boot()
    }

    /// Whether it waits for another login after an inconclusive one.
    pub fn is_reauth_inconclusive(&self) -> bool {
        self.budget.is_inconclusive()
            && (self.task == Task::Reauth || self.early_reauth_at.is_some())
    }

    /// Whether an error was reported, and no recovery since.
    pub const fn is_unrecovered(&self) -> bool {
        self.unrecovered
    }

    /// The re-auth attempts that are persisted; `None` if there are none.
    pub fn attempts(&self) -> Option<ReauthAttempts> {
        let attempts = self.budget.attempts();
        (attempts.counted > 0).then_some(attempts)
    }

    /// Starts planned retries at `now`. Not a write: a response of the server says nothing about
    /// the disk.
    pub(super) fn expedite_retries(&mut self, now: Moment) {
        let now = self.not_held(now);
        if self.failures > 0 {
            self.due = self.due.min(now);
        }
        if let Some(candidate) = &mut self.candidate {
            candidate.due = candidate.due.min(now);
        }
    }

    /// Starts a planned retry of a write at `now`.
    pub(super) fn expedite_write(&mut self, now: Moment) {
        if let Some(pending_write) = &mut self.pending_write {
            pending_write.due = pending_write.due.min(now);
        }
    }

    /// Whether the expiry was measured in an earlier boot. Then it only orders the wait queue.
    pub(super) const fn is_from_earlier_boot(&self) -> bool {
        self.restored && matches!(self.validity, Validity::Unverified(_))
    }

    /// Whether a re-auth attempt was requested and may start: not before the current value was
    /// checked, because the result is compared with it. An attempt that starts before for another
    /// reason fulfils the request.
    pub(super) fn wants_new_value(&self) -> bool {
        self.pending_request == Some(PendingRequest::Reauth)
            && self.candidate.is_none()
            && self.validity != Validity::Unknown
    }

    /// Whether an operator paused the token.
    pub const fn is_paused(&self) -> bool {
        self.paused
    }
}
