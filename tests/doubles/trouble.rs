//! What can be made to go wrong, for one token or for all, once or until called off.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, Response, StatusCode};
use futures_util::{StreamExt as _, stream};
use headers::{HeaderMapExt as _, RetryAfter as RetryAfterHeader};
use jiff::Timestamp;
use tokenkeep::simulator::{Endpoint, Fault, Simulator};

/// How long the headers get to leave before the connection is reset behind them.
const HEAD_START: Duration = Duration::from_millis(20);

/// One way in which a call goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// An error in the API's envelope.
    Error {
        /// Its status.
        status: u16,
        /// Its explanation.
        detail: String,
    },
    /// A request for quiet: status 429 or 503, say, with or without `Retry-After`.
    Quiet {
        /// The HTTP status.
        status: u16,
        /// The header.
        retry_after: RetryAfter,
    },
    /// A proxy's page in place of the API's answer.
    Html {
        /// The HTTP status.
        status: u16,
    },
    /// These bytes as the body: empty, cut short, of another shape.
    Body {
        /// The HTTP status.
        status: u16,
        /// The body.
        body: Vec<u8>,
    },
    /// A 302 to this address.
    Redirect {
        /// The `Location` header.
        to: String,
    },
    /// A body that never ends.
    EndlessBody,
    /// No answer, ever.
    Silence,
    /// The connection is reset before a word of the answer.
    Reset,
    /// The connection is reset after the headers and a part of the body.
    ResetAfterHeaders,
    /// The call takes effect, but the connection is reset before its answer.
    AnswerLost,
}

/// The `Retry-After` header of a [`Trouble::Quiet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryAfter {
    /// None is sent.
    Unsaid,
    /// As a number of seconds.
    Seconds(u64),
    /// As a date this far ahead on the server's clock, in whole seconds.
    Date(Duration),
}

/// Which calls go wrong, how and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What goes wrong.
    pub(crate) trouble: Trouble,
    /// The token value (or API key) that it goes wrong for; `None`: for all.
    pub(crate) value: Option<String>,
    /// The endpoint that it goes wrong at; `None`: at all.
    pub(crate) endpoint: Option<Endpoint>,
    /// How often; `None`: until it is called off.
    pub(crate) times: Option<u32>,
}

impl Plan {
    /// `trouble` for the next call.
    pub(crate) fn once(trouble: Trouble) -> Self {
        Self { trouble, value: None, endpoint: None, times: Some(1) }
    }

    /// `trouble` for every call, until it is called off.
    pub(crate) fn always(trouble: Trouble) -> Self {
        Self { times: None, ..Self::once(trouble) }
    }

    /// The same for one token only.
    #[must_use]
    pub(crate) fn for_token(self, value: &str) -> Self {
        Self { value: Some(value.to_owned()), ..self }
    }

    /// The same at one endpoint only.
    #[must_use]
    pub(crate) fn at(self, endpoint: Endpoint) -> Self {
        Self { endpoint: Some(endpoint), ..self }
    }

    /// Whether a call goes wrong; counts it if so.
    pub(crate) fn take(&mut self, endpoint: Option<Endpoint>, value: Option<&str>) -> bool {
        let goes_wrong = self.times != Some(0) && self.concerns(endpoint, value);
        if goes_wrong {
            self.times = self.times.map(|times| times - 1);
        }
        goes_wrong
    }

    /// Whether it concerns a call.
    fn concerns(&self, endpoint: Option<Endpoint>, value: Option<&str>) -> bool {
        (self.endpoint.is_none() || self.endpoint == endpoint)
            && (self.value.is_none() || self.value.as_deref() == value)
    }
}

/// Troubles of a simulated server.
pub(crate) trait PlanFaults {
    /// Lets something go wrong. Plans count in the order in which they were made.
    fn plan_fault(&self, plan: Plan);

    /// Calls off all that was to go wrong.
    fn clear_faults(&self);
}

impl PlanFaults for Simulator {
    fn plan_fault(&self, mut plan: Plan) {
        self.intercept(Box::new(move |endpoint, value, server_time| {
            plan.take(endpoint, value).then(|| plan.trouble.fault(server_time))
        }));
    }

    fn clear_faults(&self) {
        self.clear_interceptors();
    }
}

impl Trouble {
    fn fault(&self, server_time: Timestamp) -> Fault {
        Fault::Response(match self {
            Self::Error { status, detail } => {
                return Fault::Error { status: *status, detail: detail.clone() };
            }
            Self::Silence => return Fault::Silence,
            Self::Reset => return Fault::Reset,
            Self::AnswerLost => return Fault::AnswerLost,
            Self::Quiet { status, retry_after } => quiet(*status, *retry_after, server_time),
            Self::Html { status } => html(*status),
            Self::Body { status, body } => with_body(*status, "application/json", body.clone()),
            Self::Redirect { to } => redirect(to),
            Self::EndlessBody => endless(),
            Self::ResetAfterHeaders => broken_off(),
        })
    }
}

/// A proxy's own page.
fn html(status: u16) -> Response<Body> {
    let page = format!("<!doctype html><title>{status}</title><h1>Gateway says {status}</h1>");
    with_body(status, "text/html", page)
}

/// Any bytes as the body.
fn with_body(status: u16, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    // A status that HTTP cannot carry is the caller's slip: it gets the nearest to it.
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A request for quiet, in the words of a gateway.
fn quiet(status: u16, retry_after: RetryAfter, server_time: Timestamp) -> Response<Body> {
    let mut response = html(status);
    let header = match retry_after {
        RetryAfter::Unsaid => return response,
        RetryAfter::Seconds(seconds) => RetryAfterHeader::delay(Duration::from_secs(seconds)),
        RetryAfter::Date(ahead) => {
            let until = server_time.checked_add(ahead).unwrap_or(Timestamp::MAX);
            RetryAfterHeader::date(until.into())
        }
    };
    response.headers_mut().typed_insert(header);
    response
}

/// A redirect to another address.
fn redirect(to: &str) -> Response<Body> {
    let mut response = html(302);
    if let Ok(location) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// JSON white space without end.
fn endless() -> Response<Body> {
    const CHUNK: &[u8] = &[b' '; 4096];
    let chunks = stream::repeat_with(|| Ok::<_, Infallible>(CHUNK));
    with_body(200, "application/json", Body::from_stream(chunks))
}

/// The beginning of an answer, and then an error where the rest should be.
fn broken_off() -> Response<Body> {
    let beginning = stream::once(async { Ok("{\"Result\":{\"Remai") });
    let end = stream::once(async {
        tokio::time::sleep(HEAD_START).await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    with_body(200, "application/json", Body::from_stream(beginning.chain(end)))
}
