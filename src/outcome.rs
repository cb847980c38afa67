//! Outcome of a call about a token, whatever the API.
//!
//! The API adapters interpret responses as an [`Outcome`]. The pure cores act on it and never see
//! an endpoint, a body or a header.

use std::time::Duration;

use crate::time::Moment;

/// The remaining life of a token that does not expire: the longest life that is accepted.
pub const ENDLESS: Duration = Duration::from_secs(366 * 86_400);

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The token is alive.
    Alive {
        /// Remaining life as the server reported it, in whole milliseconds.
        remaining: Duration,
    },
    /// The API reports that the token has expired (410). Final.
    Expired(CallError),
    /// The API reports that it does not know the token (401). Final once a second query confirms
    /// it.
    Rejected(CallError),
    /// The server asks for a pause (429, or 503 with `Retry-After`).
    Throttled {
        /// How long no request is sent to the server: 1 s to 15 min.
        retry_after: Duration,
        /// What the server said.
        fault: CallError,
    },
    /// The request was rejected as such (400, 403, 404, 405, 3xx, other 4xx): the configuration or
    /// the server must be corrected.
    Misconfigured(CallError),
    /// Inconclusive (408, 425, 5xx, connection, TLS, time-out, a response that is not the API's).
    Unavailable(CallError),
}

/// Which connection a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Connection {
    /// A connection that earlier requests have left open, if there is one.
    #[default]
    Pooled,
    /// As [`Pooled`](Self::Pooled) if the pool was opened after this moment, else as
    /// [`Fresh`](Self::Fresh). Used past the expiry: older connections may be the cause that no check
    /// came in time.
    OpenedAfter(Moment),
    /// A connection opened for this request, after a new name lookup. Used after an inconclusive
    /// attempt, because the pooled connections may be the cause.
    Fresh,
}

/// Why a call failed. Contains no secret: the adapters mask token values in the server's words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state in disguise")]
pub struct CallError {
    /// The decisive status: the body's `Errors.Status`, else the HTTP status; `None` without a
    /// response.
    pub status: Option<u16>,
    /// The server's own explanation, `Errors.Detail`, shortened.
    pub detail: Option<Box<str>>,
    /// One sentence for people.
    pub error: Box<str>,
    /// Why there was no response, in fixed words; `None` if there was one, or the reason is unknown.
    pub no_response: Option<&'static str>,
    /// An operator must act: reported at level error.
    pub is_alarming: bool,
    /// This process could not send the request: it says nothing about the server.
    pub local: bool,
    /// The server may have processed a request that must not be repeated, such as a renewal that
    /// spends a refresh token.
    pub may_have_acted: bool,
    /// There is no refresh token that may be sent.
    pub no_refresh_token: bool,
}

impl CallError {
    /// An error with a sentence only.
    pub fn new(error: impl Into<Box<str>>) -> Self {
        Self { error: error.into(), ..Self::default() }
    }

    /// The same error with the decisive status.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    /// The class of the error in fixed words, for clients that may not see messages: `status 503`,
    /// `connection refused`.
    pub fn class(&self) -> String {
        match self.status {
            Some(200) => "unexpected response".to_owned(),
            Some(status) => format!("status {status}"),
            None => self.no_response.unwrap_or("no response").to_owned(),
        }
    }

    /// The same error with the server's explanation.
    #[must_use]
    pub fn with_detail(self, detail: impl Into<Box<str>>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }
}

/// Shorthands for tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::{CallError, Outcome};

    pub(crate) fn kind(outcome: &Outcome) -> &'static str {
        match outcome {
            Outcome::Alive { .. } => "alive",
            Outcome::Expired(_) => "expired",
            Outcome::Rejected(_) => "rejected",
            Outcome::Throttled { .. } => "throttled",
            Outcome::Misconfigured(_) => "misconfigured",
            Outcome::Unavailable(_) => "unavailable",
        }
    }

    pub(crate) fn fault(outcome: Outcome) -> CallError {
        match outcome {
            Outcome::Alive { .. } => panic!("alive"),
            Outcome::Throttled { fault, .. }
            | Outcome::Expired(fault)
            | Outcome::Rejected(fault)
            | Outcome::Misconfigured(fault)
            | Outcome::Unavailable(fault) => fault,
        }
    }
}
