//! Events, actions and notices of one token.

use std::time::Duration;

use super::reading::Method;
use super::reauth_budget::ReauthAttempts;
use super::types::{
    DeadlineStage, OperatorRequest, PersistedLife, ReauthError, ReauthReason, ReplacedBy, Resource,
    Slot,
};
use crate::outcome::{CallError, Connection, Outcome};
use crate::time::Moment;

/// Something that happened to a token.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A timer fired.
    TimerFired,
    /// The action that is due and needs this resource may start now.
    Admitted(Resource),
    /// A check has finished.
    CheckFinished(CheckResult),
    /// A re-auth attempt has finished.
    ReauthFinished(ReauthResult),
    /// Writing the current value to its store has finished; the error says why it failed.
    PersistFinished(Result<(), Box<str>>),
    /// The configured source was read again.
    SourceChanged(SourceChange),
    /// The source's value is in the spare slot, and an earlier run persisted its life.
    Restored {
        /// What the earlier run persisted.
        persisted: PersistedLife,
        /// Checks the token at once all the same.
        spot_check: bool,
    },
    /// Persisted lives of the server's tokens are unreliable.
    RecheckRestored,
    /// The policy changed.
    PolicyChanged,
    /// The token moved to another server.
    ServerChanged,
    /// The server asked for a pause until then.
    Throttled(Moment),
    /// A retry that is planned for later is worth trying now.
    RetryNow,
    /// An operator requested something.
    OperatorRequested(OperatorRequest),
    /// A revocation has finished.
    RevokeFinished(Result<(), CallError>),
    /// The server responds again after an outage: planned retries start now, and so do logins after
    /// an inconclusive one.
    ServerRecovered,
    /// The action in flight did not start, or will never complete.
    Cancelled,
    /// The action in flight did not start: another replica may be spending what it needs until this
    /// moment. It counts toward nothing.
    Deferred(Moment),
    /// What was deferred may start now.
    Released,
    /// Whether this replica asks about the token has changed.
    Asked {
        /// It does; otherwise another one does.
        here: bool,
        /// Checks a restored token at once all the same.
        spot_check: bool,
    },
    /// The attempts that count were counted elsewhere too.
    AttemptsCounted(ReauthAttempts),
    /// The daemon is shutting down: pending writes start now.
    ShuttingDown,
}

/// Result of one check.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckResult {
    /// Before the request was sent.
    pub sent: Moment,
    /// After the response arrived.
    pub received: Moment,
    /// What the response means.
    pub outcome: Outcome,
    /// The response named a new value, which is in the slot of the checked one. The reading belongs
    /// to the new value.
    pub replaced: bool,
    /// A renewal was due, but the value could only be queried: there is no refresh token that the
    /// server accepts.
    pub cannot_renew: bool,
}

/// Result of one re-auth attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct ReauthResult {
    /// What it came to.
    pub result: ReauthOutcome,
    /// How long it took.
    pub duration: Duration,
}

/// What a re-auth attempt came to.
#[derive(Debug, Clone, PartialEq)]
pub enum ReauthOutcome {
    /// A new value, which is in the spare slot.
    NewValue {
        /// The token's store already contains it.
        stored: bool,
    },
    /// The value that was to be replaced.
    SameValue,
    /// No value.
    Failed(ReauthError),
}

/// What reading a token's source again found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceChange {
    /// Another value than the current one, which is in the spare slot.
    NewValue,
    /// Another value, which is in the spare slot, and which the store does not contain yet: from
    /// another replica, or from an action that began before the token was removed and added again.
    Obtained(ReplacedBy),
    /// No value; the text says why.
    Lost(Box<str>),
    /// The same value as before it was missing.
    Reappeared,
    /// The current value: the source no longer offers a candidate.
    Reverted,
    /// Another refresh token than before, which only the task that renews reads. Matters only where
    /// renewing spends a refresh token.
    NewRefreshToken,
}

/// Something to execute. Its result comes back as an [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Check the value in `slot`.
    Check {
        /// Which call.
        method: Method,
        /// Which value. Where renewing spends a refresh token, a renewing call may come without a
        /// value, or with a dead one: it obtains a new one, which is put into this slot.
        slot: Slot,
        /// The longest time that it may take.
        timeout: Duration,
        /// Which connection the request uses.
        connection: Connection,
    },
    /// Obtain a new value.
    Reauth {
        /// Why.
        reason: ReauthReason,
        /// The attempt's number in the current window, from 1.
        attempt: u32,
    },
    /// Revoke the value in `slot` on the server.
    Revoke {
        /// Which value.
        slot: Slot,
        /// The longest time that it may take.
        timeout: Duration,
    },
    /// Write the value in `slot` to the token's store, durably.
    Persist {
        /// Which value.
        slot: Slot,
    },
}

/// Something to report. Each notice is emitted once, when it becomes true.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A check found the token alive.
    Checked {
        /// Reported remaining life.
        remaining_ms: u64,
        /// Time until the next check.
        next_check_ms: u64,
        /// Whether the token was renewed since the reading before; `None` if that cannot be
        /// evaluated.
        renewed: Option<bool>,
        /// A step of the proof of renewal: the next call follows at once.
        is_step: bool,
    },
    /// A check was inconclusive and will be retried.
    CheckFailed {
        /// Why.
        fault: CallError,
        /// The configuration or the server must be corrected.
        misconfigured: bool,
        /// Failures in a row, this one included.
        attempt: u16,
        /// Time until the retry.
        retry_in_ms: u64,
    },
    /// A large part of the retry room has passed without a response.
    Expiring {
        /// How much of it.
        stage: DeadlineStage,
        /// Time until the expiry.
        dies_in_ms: u64,
    },
    /// The server reports that the token has expired.
    Expired {
        /// What the server said.
        fault: CallError,
        /// The value is a candidate; the current value is not affected.
        candidate: bool,
    },
    /// The server reports twice that it does not know the value.
    Rejected {
        /// What the server said.
        fault: CallError,
        /// The value is a candidate; the current value is not affected.
        candidate: bool,
    },
    /// The source has no value.
    Missing {
        /// Why.
        error: Box<str>,
        /// An earlier value remains current.
        in_use: bool,
    },
    /// The server has revoked the value, as an operator requested.
    Revoked,
    /// The server did not confirm the revocation.
    RevokeFailed {
        /// Why.
        fault: CallError,
    },
    /// The expiry has passed without a response.
    Unverified,
    /// The token is alive again after an error was reported.
    Recovered {
        /// Reported remaining life.
        remaining_ms: u64,
    },
    /// No permitted call renews this value.
    RenewalNotObserved {
        /// Time until the expiry.
        dies_in_ms: u64,
    },
    /// The current value was replaced. The first value from a source is not reported, unless it was
    /// reported as missing.
    Replaced(ReplacedBy),
    /// A reading proved that this call renews tokens on the token's server.
    RenewsBy(Method),
    /// A re-auth attempt starts.
    ReauthStarted {
        /// Why.
        reason: ReauthReason,
        /// Its number in the current window, from 1.
        attempt: u32,
    },
    /// The value of a re-auth attempt was verified.
    ReauthSucceeded {
        /// Number of the attempt.
        attempt: u32,
        /// How long it took.
        duration_ms: u64,
    },
    /// A re-auth attempt obtained no value, or a dead one.
    ReauthFailed {
        /// Number of the attempt.
        attempt: u32,
        /// How long it took; `None` if it was reported before.
        duration_ms: Option<u64>,
        /// Why.
        fault: ReauthError,
        /// Time until the next attempt.
        retry_in_ms: u64,
    },
    /// No attempt is left in this window.
    ReauthExhausted {
        /// Attempts made in this window.
        attempt: u32,
        /// Time until the window ends.
        retry_in_ms: u64,
    },
    /// The current value could not be written to its store; it is used from memory.
    StoreFailed {
        /// Why.
        error: Box<str>,
        /// Time until the retry.
        retry_in_ms: u64,
    },
}
