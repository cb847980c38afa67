//! What can happen to a token, what its rules ask for, and what they report.

use std::time::Duration;

use super::next_action::Resource;
use super::operator_request::OperatorRequest;
use super::reading::Method;
use super::restore::PersistedLife;
use crate::outcome::{CallError, Connection, Outcome};
use crate::time::Moment;

/// One of the two places that a token's values are kept in. The value in use is in one,
/// a newcomer is put into the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Slot {
    /// The first place.
    #[default]
    A,
    /// The second place.
    B,
}

impl Slot {
    /// The other place.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// Something that happened to a token.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Time has passed; nothing else is known.
    TimerFired,
    /// An action with this need that is due may start now.
    Admitted(Resource),
    /// A call on the token was answered, or failed.
    CheckFinished(CheckResult),
    /// A re-auth attempt ended.
    ReauthFinished(ReauthResult),
    /// Writing the value in use to its store ended; the sentence says why it failed.
    PersistFinished(Result<(), Box<str>>),
    /// The configured source was read again.
    SourceChanged(SourceChange),
    /// The source's value has been put into the spare slot, and an earlier run knew this of it.
    Restored {
        /// What it knew.
        persisted: PersistedLife,
        /// It is asked about at once all the same.
        spot_check: bool,
    },
    /// What an earlier run knew of the server's tokens has proven wrong too often.
    RecheckRestored,
    /// The policy is another one from now on.
    PolicyChanged,
    /// Another server is asked about the token from now on.
    ServerChanged,
    /// The server is left alone until then, whatever is due.
    Throttled(Moment),
    /// There is reason to try again now what would be tried later.
    RetryNow,
    /// A person asks for something.
    OperatorRequested(OperatorRequest),
    /// A revocation ended.
    RevokeFinished(Result<(), CallError>),
    /// The server responds again after an outage: what waits for a retry is tried now, logins
    /// without a conclusion included.
    ServerRecovered,
    /// The action under way was not begun, or will never complete.
    Cancelled,
    /// Nobody will be there later: what is not stored yet is to be written now.
    ShuttingDown,
}

/// The end of one call on a token.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckResult {
    /// Before the request was sent.
    pub sent: Moment,
    /// After the answer came.
    pub received: Moment,
    /// What it means.
    pub outcome: Outcome,
    /// The answer named another value, which has been put into the slot of the one that was
    /// asked about: it is known by that from now on, and the reading is the new value's.
    pub replaced: bool,
}

/// The end of one re-auth attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct ReauthResult {
    /// What came of it.
    pub result: ReauthOutcome,
    /// How long it took.
    pub duration: Duration,
}

/// What a re-auth attempt brought.
#[derive(Debug, Clone, PartialEq)]
pub enum ReauthOutcome {
    /// A new value; it has been put into the spare slot.
    NewValue {
        /// It already stands in the token's own store.
        stored: bool,
    },
    /// The value that it should have replaced.
    SameValue,
    /// Nothing.
    Failed(ReauthError),
}

/// Why a re-auth attempt brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReauthError {
    /// One sentence for people; holds no secret.
    pub error: Box<str>,
    /// The hook's exit status, where it ended by itself.
    pub exit_status: Option<i32>,
    /// The status in the server's answer, where a server was asked.
    pub status: Option<u16>,
    /// The server's wish for quiet, where it had one.
    pub retry_after: Option<Duration>,
    /// A server was asked, and came to no conclusion or did not answer.
    pub unavailable: bool,
    /// The attempt came to no conclusion: neither the API's refusal nor a useless value. It
    /// counts toward no budget and is repeated.
    pub inconclusive: bool,
}

/// What a fresh look at a token's source found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceChange {
    /// Another value than the one in use, put into the spare slot.
    NewValue,
    /// No value; the sentence says why.
    Lost(Box<str>),
    /// A value, and it is the one that was offered before.
    Reappeared,
    /// The value in use: a candidate is not offered any more.
    Reverted,
}

/// Something to be done in the world. Its end comes back as an [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Call the server about the value in `slot`.
    Check {
        /// Which call.
        method: Method,
        /// Which value.
        slot: Slot,
        /// The longest that it may take.
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
    /// Have the server end the life of the value in `slot`.
    Revoke {
        /// Which value.
        slot: Slot,
        /// The longest that it may take.
        timeout: Duration,
    },
    /// Write the value in `slot` to the token's store, durably.
    Persist {
        /// Which value.
        slot: Slot,
    },
}

/// Why a new value is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReauthReason {
    /// The life is over.
    Expired,
    /// The server does not know the value.
    Rejected,
    /// There is no value.
    Missing,
    /// The life is about to end, and nothing extends it.
    Expiring,
    /// A person has asked for it.
    Requested,
}

impl ReauthReason {
    /// The word that hooks and logs get.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Missing => "missing",
            Self::Expiring => "expiring",
            Self::Requested => "requested",
        }
    }
}

/// Something to be told to people. Each is reported when it becomes true, once.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A check found the token alive.
    Checked {
        /// The reported life.
        remaining_ms: u64,
        /// Time until the next check.
        next_check_ms: u64,
        /// Whether the token was renewed since the reading before; `None`: cannot be judged.
        renewed: Option<bool>,
        /// A step of a proof of renewal: the next call follows at once, and concludes it or is a
        /// step too.
        is_step: bool,
    },
    /// A check came to no conclusion and will be retried.
    CheckFailed {
        /// Why.
        fault: CallError,
        /// The configuration or the server has to be mended by somebody.
        misconfigured: bool,
        /// Failures in a row, this one included.
        attempt: u16,
        /// Time until the retry.
        retry_in_ms: u64,
    },
    /// A good part of the retry room is gone without an answer.
    Expiring {
        /// How much of it.
        stage: DeadlineStage,
        /// Time until the expiry.
        dies_in_ms: u64,
    },
    /// The server says that the life is over.
    Expired {
        /// What the server said.
        fault: CallError,
        /// The value is one that the source offered; the one in use is not concerned.
        candidate: bool,
    },
    /// The server says, twice, that it does not know the value.
    Rejected {
        /// What the server said.
        fault: CallError,
        /// The value is one that the source offered; the one in use is not concerned.
        candidate: bool,
    },
    /// The source has no value.
    Missing {
        /// Why.
        error: Box<str>,
        /// An earlier value is still in use.
        in_use: bool,
    },
    /// The server has ended the life of the value, as a person asked for.
    Revoked,
    /// The server did not confirm that it has.
    RevokeFailed {
        /// Why.
        fault: CallError,
    },
    /// The expiry has passed without an answer.
    Unverified,
    /// The token is alive again, after trouble was reported.
    Recovered {
        /// The reported life.
        remaining_ms: u64,
    },
    /// No permitted call extends this value's life.
    RenewalNotObserved {
        /// Time until it dies.
        dies_in_ms: u64,
    },
    /// Another value is the current one from now on. A first value from the source is not
    /// reported, unless it was reported to be missing.
    Replaced(ReplacedBy),
    /// A reading proved that this call extends lives on the token's server.
    RenewsBy(Method),
    /// A re-auth attempt starts.
    ReauthStarted {
        /// Why.
        reason: ReauthReason,
        /// Its number in the current window, from 1.
        attempt: u32,
    },
    /// A re-auth attempt brought a value that was found alive.
    ReauthSucceeded {
        /// Its number.
        attempt: u32,
        /// How long it took.
        duration_ms: u64,
    },
    /// A re-auth attempt brought nothing, or nothing that lives.
    ReauthFailed {
        /// Its number.
        attempt: u32,
        /// How long it took; `None` where that was told before.
        duration_ms: Option<u64>,
        /// Why.
        fault: ReauthError,
        /// Time until the next attempt.
        retry_in_ms: u64,
    },
    /// No attempt is left in this window.
    ReauthExhausted {
        /// Attempts made in it.
        attempt: u32,
        /// Time until the window ends.
        retry_in_ms: u64,
    },
    /// A value could not be written to its store; it is used from memory.
    StoreFailed {
        /// Why.
        error: Box<str>,
        /// Time until the next try.
        retry_in_ms: u64,
    },
}

/// Where a new current value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplacedBy {
    /// A re-auth attempt.
    Reauth,
    /// The response to a renewing call.
    Renewal,
    /// The token's source.
    Source,
}

impl ReplacedBy {
    /// The word that the event log uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reauth => "reauth",
            Self::Renewal => "renewal",
            Self::Source => "source",
        }
    }
}

/// How much of the retry room is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum DeadlineStage {
    /// Less than half.
    #[default]
    Calm,
    /// Half.
    Half,
    /// Nine tenths.
    NineTenths,
}
