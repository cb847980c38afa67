//! Types that events, actions and notices share with the token's state.

use std::time::Duration;

use super::reading::Method;
use crate::time::Moment;

/// One of the two slots for a token's values: the current value is in one, a candidate in the
/// other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Slot {
    /// The first slot.
    #[default]
    A,
    /// The second slot.
    B,
}

impl Slot {
    /// The other slot.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What an action needs before it may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A request to its server.
    Server,
    /// A re-auth attempt.
    Reauth,
    /// Nothing.
    None,
}

/// Something that an operator requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorRequest {
    /// Check the current value now.
    Check,
    /// Obtain a new value now, although the current one may be alive.
    Reauth,
    /// Neither check nor log in until [`Resume`](Self::Resume).
    Pause,
    /// End a pause, and check at once.
    Resume,
    /// Revoke the current value. What follows is the same as after any death.
    Revoke,
}

impl OperatorRequest {
    /// Every request.
    pub const ALL: [Self; 5] = [Self::Check, Self::Reauth, Self::Pause, Self::Resume, Self::Revoke];

    /// The word for it on the command line, in paths and in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Reauth => "reauth",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Revoke => "revoke",
        }
    }
}

/// Why a request cannot be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The value is dead, or there is none.
    #[error("the token has no value that could be alive; `reauth` obtains a new one")]
    NoValue,
    /// The token is paused.
    #[error("the token is paused; resume it first")]
    Paused,
    /// Another replica asks about the token.
    #[error("another replica asks about the token")]
    Elsewhere,
    /// The token has no `reauth` method.
    #[error("the token has no `reauth` in the configuration")]
    NoReauth,
    /// No attempt is left in this window.
    #[error("no attempt is left; the window ends in {} s", retry_in_ms.div_ceil(1_000))]
    Exhausted {
        /// Time until the window ends, in milliseconds.
        retry_in_ms: u64,
    },
    /// The `reauth` method admits no attempt: too many failures of all its tokens, or a maintenance
    /// window.
    #[error("its `reauth` method is paused for another {} s", retry_in_ms.div_ceil(1_000))]
    Held {
        /// Time until it admits attempts, in milliseconds.
        retry_in_ms: u64,
    },
}

/// The life of a value that is persisted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PersistedLife {
    /// Its expiry.
    pub expiry: Moment,
    /// Remaining life at the check, in milliseconds.
    pub remaining_ms: u64,
    /// A full life, in milliseconds; 0 if unknown.
    pub life_ms: u64,
    /// The call that was responded to.
    pub by: Method,
    /// A renewal of the value has been proven.
    pub proven: bool,
    /// It was reported that no call renews the value.
    pub unrenewable: bool,
    /// The response came in this boot of the machine, so `expiry` was measured by this clock.
    pub this_boot: bool,
}

/// Why a re-auth attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReauthError {
    /// One sentence for people; contains no secret.
    pub error: Box<str>,
    /// The exit status of the hook, if it ended by itself.
    pub exit_status: Option<i32>,
    /// The status in the response, if a request was sent.
    pub status: Option<u16>,
    /// How long the server asked to pause, if it did.
    pub retry_after: Option<Duration>,
    /// A request was sent, and the response was inconclusive or missing.
    pub unavailable: bool,
    /// The attempt was inconclusive: neither rejected by the API nor ended with a useless value. It
    /// counts toward no budget and is repeated.
    pub inconclusive: bool,
}

/// Why a new value is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReauthReason {
    /// The value has expired.
    Expired,
    /// The server does not know the value.
    Rejected,
    /// There is no value.
    Missing,
    /// The value expires soon and cannot be renewed.
    Expiring,
    /// An operator requested it.
    Requested,
}

impl ReauthReason {
    /// The reason as text for hooks and logs.
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

/// Where a new current value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplacedBy {
    /// A re-auth attempt.
    Reauth,
    /// The response to a renewing call.
    Renewal,
    /// The token's source.
    Source,
    /// Another replica.
    Replica,
}

impl ReplacedBy {
    /// The origin as text for the event log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reauth => "reauth",
            Self::Renewal => "renewal",
            Self::Source => "source",
            Self::Replica => "replica",
        }
    }
}

/// How much of the retry room has passed.
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
