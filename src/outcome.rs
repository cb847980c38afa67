//! What an answer about a token means, whatever API gave it.
//!
//! The adapters conclude an [`Outcome`]; the core acts on it and never sees an endpoint,
//! a body or a header.

use std::time::Duration;

/// The conclusion from one call that reads a token's remaining life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The token lives.
    Alive {
        /// Life left as the server reported it, in whole milliseconds.
        remaining: Duration,
    },
    /// The server says in its own words that the token's life is over (410). Final.
    Expired(CallError),
    /// The server says in its own words that it does not know the token (401).
    /// Final once a second query has said so too.
    Rejected(CallError),
    /// The server asks for quiet (429, or 503 with `Retry-After`).
    Throttled {
        /// How long the whole server is left alone: 1 s to 15 min.
        retry_after: Duration,
        /// What the server said.
        fault: CallError,
    },
    /// The request was refused for what it is (400, 403, 404, 405, 3xx, other 4xx):
    /// somebody has to mend the configuration or the server.
    Misconfigured(CallError),
    /// No conclusion can be drawn (408, 425, 5xx, connection, TLS, time-out, an answer
    /// that is not the API's).
    Unavailable(CallError),
}

/// Which connection a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Connection {
    /// One that earlier requests have left open, if there is one.
    #[default]
    Pooled,
    /// One that is opened for this request, after a new name lookup. Used where the last attempt
    /// came to no conclusion, as the pooled connections may be what is broken.
    Fresh,
}

/// Why a call did not end well. Holds no secret: adapters take token values out of the
/// server's words before they get here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallError {
    /// The status that decided: the body's `Errors.Status`, else the HTTP status;
    /// `None` where no answer came.
    pub status: Option<u16>,
    /// The server's own explanation, `Errors.Detail`, shortened.
    pub detail: Option<Box<str>>,
    /// One sentence for people.
    pub error: Box<str>,
    /// An operator must act: it is reported at level error.
    pub is_alarming: bool,
    /// This process could not even ask: it says nothing of the server.
    pub local: bool,
}

impl CallError {
    /// A fault with a sentence and nothing else known.
    pub fn new(error: impl Into<Box<str>>) -> Self {
        Self { error: error.into(), ..Self::default() }
    }

    /// The same fault, with the status that decided.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    /// The same fault, with the server's explanation.
    #[must_use]
    pub fn with_detail(self, detail: impl Into<Box<str>>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }
}
