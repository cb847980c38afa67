//! Sessions that the server renewed or opened: the results of renewals and logins.

use std::time::Duration;

use crate::outcome::{CallError, Outcome};
use crate::secret::TokenValue;

/// Result of [`Client::renew`](super::Client::renew).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// The outcome; [`Outcome::Alive`] if the token was renewed.
    pub outcome: Outcome,
    /// The new value, if the server replaced the one sent. It is set even if the rest of the
    /// response is invalid, because the old value may be dead.
    pub new_value: Option<TokenValue>,
    /// The new refresh token, if the response names one that differs from the one sent. It is set
    /// even if the rest of the response is invalid. Store it, because the one sent may be void.
    pub new_refresh: Option<TokenValue>,
    /// Why the new refresh token in the response cannot be used; `None` if it can, or there is none.
    /// If it is set, the one sent may be void, and there is no other.
    pub refresh_error: Option<Box<str>>,
}

/// Result of a login by a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// The token value.
    pub value: TokenValue,
    /// The refresh token that belongs to it, if the response names one.
    pub refresh: Option<TokenValue>,
    /// Why the refresh token in the response cannot be used.
    pub refresh_error: Option<Box<str>>,
}

impl Renewed {
    /// A renewal without a new value.
    pub(crate) const fn failed(outcome: Outcome) -> Self {
        Self { outcome, new_value: None, new_refresh: None, refresh_error: None }
    }
}

/// Why [`Client::login`](super::Client::login) returned no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", fault.error)]
pub struct LoginError {
    /// What the error means.
    pub kind: LoginErrorKind,
    /// What the server said.
    pub fault: CallError,
}

/// What a failed login means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginErrorKind {
    /// The API does not accept the key.
    Refused,
    /// The server asks for a pause.
    Throttled {
        /// How long no request may be sent to the server: 1 s to 15 min.
        retry_after: Duration,
    },
    /// The API rejects the request itself: the configuration or the account must be corrected.
    Misconfigured,
    /// The API reports success without a usable token. A session was probably opened.
    Useless,
    /// Inconclusive: no response, a 5xx, or a response that is not the API's own.
    Unavailable,
}

impl LoginErrorKind {
    /// Whether the attempt was inconclusive, so that it counts toward no limit.
    pub const fn is_inconclusive(self) -> bool {
        match self {
            Self::Throttled { .. } | Self::Unavailable => true,
            Self::Refused | Self::Misconfigured | Self::Useless => false,
        }
    }
}
