//! Types that events, actions and notices share with the token's state.

use std::time::Duration;

use super::reading::Method;
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

/// What an action of a token needs before it may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A place among its server's requests.
    Server,
    /// A re-auth attempt's place.
    Reauth,
    /// Nothing.
    None,
}

/// Something that a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorRequest {
    /// Ask about the value in use now.
    Check,
    /// Obtain a new value now, although the one in use may live.
    Reauth,
    /// Neither ask nor log in until [`Resume`](Self::Resume).
    Pause,
    /// Go on after a pause, with a check at once.
    Resume,
    /// End the life of the value in use; what follows is what follows any death.
    Revoke,
}

/// Why a request changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The value is dead, or there is none.
    #[error("there is no living value to ask about; `reauth` obtains a new one")]
    NoValue,
    /// The token is paused.
    #[error("the token is paused; resume it first")]
    Paused,
    /// The token has no way to a new value.
    #[error("the token has no `reauth` in the configuration")]
    NoReauth,
    /// No attempt is left in this window.
    #[error("no attempt is left; the window ends in {} s", retry_in_ms.div_ceil(1_000))]
    Exhausted {
        /// Time until the window ends, in milliseconds.
        retry_in_ms: u64,
    },
    /// The way to new values is left alone: too many failures of all its tokens, or `quiet`.
    #[error("its way to new values is left alone for another {} s", retry_in_ms.div_ceil(1_000))]
    Held {
        /// Time until it opens, in milliseconds.
        retry_in_ms: u64,
    },
}

/// What of a life must outlive a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PersistedLife {
    /// The moment until which the value is known to live.
    pub expiry: Moment,
    /// What was left of its life when it was asked about, in milliseconds.
    pub remaining_ms: u64,
    /// A whole life, in milliseconds; 0 if unknown.
    pub life_ms: u64,
    /// The call that was answered.
    pub by: Method,
    /// A renewal of the value has been proven.
    pub proven: bool,
    /// It was told that no call extends the value's life.
    pub unrenewable: bool,
    /// The response came in this boot of the machine, so `expiry` was measured by this clock.
    pub this_boot: bool,
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
