//! Interprets responses. Pure functions.
//!
//! Strict: a token is only declared dead by the API itself, inside its envelope; anything unclear
//! is transient. Never does I/O and never reads a clock.

use std::cell::OnceCell;
use std::time::{Duration, SystemTime};

use hyper::body::Bytes;
use hyper::http::HeaderMap;
use hyper::http::header::{AGE, CONTENT_ENCODING, DATE};

use super::context::{ClientCertificateState, RequestContext, Section};
use super::envelope::{self, ApiError, Envelope, Object, Stated, field};
use super::fast_path;
use super::retry_after;
use super::session::{LoginError, LoginErrorKind, Renewed};
use super::status::{ResponseError, ResponseErrorKind, StatusSource, kind_of, sentence};
use super::transport_error::lacks_certificate;
use crate::outcome::{CallError, Outcome};
use crate::secret::{Mistake, TokenValue};

/// A response before interpretation. Headers are read when they are needed, which is not the case
/// for the response of almost every check.
pub(super) struct RawResponse {
    /// The HTTP status.
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// The time at which its head arrived.
    pub(super) arrived: SystemTime,
    /// The pauses that its headers ask for: for any error, and until the quota is renewed. A body may
    /// state any number of errors, so they are read once.
    pub(super) pauses: OnceCell<(Option<Duration>, Option<Duration>)>,
    /// What is known about TLS client authentication with the server.
    pub(super) certificate: ClientCertificateState,
    pub(super) body: Body,
}

impl RawResponse {
    /// A response with this status and body, and without anything else.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn plain(status: u16, body: Body) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            arrived: SystemTime::UNIX_EPOCH,
            pauses: OnceCell::new(),
            certificate: ClientCertificateState::NotAskedFor,
            body,
        }
    }

    /// When it was sent: its `Date`, or else the time at which it arrived.
    pub(super) fn answered(&self) -> SystemTime {
        self.headers.get(DATE).and_then(retry_after::date).unwrap_or(self.arrived)
    }

    /// The pause that the server asks for if the response has this status.
    pub(super) fn pause(&self, status: u16) -> Option<Duration> {
        let (pause, quota_reset) = self.pauses.get_or_init(|| {
            let answered = self.answered();
            let pause = retry_after::pause(&self.headers, answered);
            (pause, retry_after::quota_reset(&self.headers, answered))
        });
        pause.or(quota_reset.filter(|_| status == 429))
    }

    /// The outcome of a check, unless it says what a token was like earlier: only a cache that ignores
    /// the request's `Cache-Control` sends an `Age` (RFC 9111, section 5.1).
    pub(super) fn unless_cached(&self, context: &RequestContext<'_>, outcome: Outcome) -> Outcome {
        let is_about_token =
            matches!(outcome, Outcome::Alive { .. } | Outcome::Expired(_) | Outcome::Rejected(_));
        let Some(age) = self.age().filter(|_| is_about_token) else { return outcome };
        let error = format!(
            "the response to {} is {age} s old: a cache has sent it, so nothing was renewed; \
             exclude the API from the cache in front of [server.{}]",
            context.call(),
            context.server
        );
        Outcome::Unavailable(CallError::new(error).with_status(self.status))
    }

    /// How long the response was in a cache, in seconds; `None` if it comes from the server.
    fn age(&self) -> Option<u64> {
        let age: u64 = self.headers.get(AGE)?.to_str().ok()?.trim().parse().ok()?;
        (age > 0).then_some(age)
    }

    /// The content encoding, although only `identity` was requested.
    fn encoding(&self, context: &RequestContext<'_>) -> Option<String> {
        let coding = self.headers.get(CONTENT_ENCODING)?;
        let coding = context.clean(&String::from_utf8_lossy(coding.as_bytes()));
        let none = coding.is_empty() || coding.eq_ignore_ascii_case("identity");
        (!none).then_some(coding)
    }
}

/// The body of a response.
pub(super) enum Body {
    /// All of it.
    Whole(Bytes),
    /// Longer than the limit; its beginning is useless.
    TooLong,
}

/// Interprets a response to `QuerySessionToken`.
pub(super) fn query(context: &RequestContext<'_>, response: &RawResponse) -> Outcome {
    let quick = match (response.status, &response.body) {
        (200, Body::Whole(body)) => fast_path::life(body),
        _ => None,
    };
    let remaining =
        quick.map_or_else(|| result(context, response).and_then(|result| remaining(&result)), Ok);
    let outcome = remaining.map_or_else(Outcome::from, |remaining| Outcome::Alive { remaining });
    response.unless_cached(context, outcome)
}

/// Interprets a response to `RenewSessionToken` with the value `sent`.
pub(super) fn renew(
    context: &RequestContext<'_>,
    response: &RawResponse,
    sent: &TokenValue,
) -> Renewed {
    let result = match result(context, response) {
        Ok(result) => result,
        Err(failure) => return Renewed::failed(failure.into()),
    };
    let named = match field(&result, "SessionToken") {
        None => Ok(None),
        Some(_) => session_token(&result).map(Some),
    };
    // A new value is kept even if the remaining life beside it is invalid, because the old one may
    // be dead.
    let (named, outcome) = match (named, remaining(&result)) {
        (Ok(named), Ok(remaining)) => (named, Outcome::Alive { remaining }),
        (Ok(named), Err(failure)) => (named, failure.into()),
        (Err(failure), _) => (None, failure.into()),
    };
    let outcome = response.unless_cached(context, outcome);
    let new_value = named.filter(|value| value != sent);
    Renewed { new_value, ..Renewed::failed(outcome) }
}

/// Interprets a response to `GetSessionToken`. Without a token, only two responses are conclusive:
/// a rejection in the API's own envelope, and a success with an unusable token.
pub(super) fn login(
    context: &RequestContext<'_>,
    response: &RawResponse,
) -> Result<TokenValue, LoginError> {
    let result = result(context, response).map_err(|ResponseError { kind, fault }| {
        let kind = match kind {
            ResponseErrorKind::Throttled(retry_after) => LoginErrorKind::Throttled { retry_after },
            ResponseErrorKind::Unavailable => LoginErrorKind::Unavailable,
            // A proxy's 403 or a wrong URL says nothing about the key.
            _ if !has_api_status(response) => LoginErrorKind::Unavailable,
            ResponseErrorKind::Misconfigured => LoginErrorKind::Misconfigured,
            ResponseErrorKind::Rejected | ResponseErrorKind::Expired => LoginErrorKind::Refused,
        };
        LoginError { kind, fault }
    })?;
    let useless = |fault| LoginError { kind: LoginErrorKind::Useless, fault };
    let token = session_token(&result).map_err(|failure| useless(failure.fault))?;
    match Mistake::of(token.expose()).filter(|mistake| mistake.is_certain()) {
        None => Ok(token),
        Some(mistake) => {
            let error = format!("the `SessionToken` in the response cannot be used: {mistake}");
            Err(useless(CallError::new(error).with_status(200)))
        }
    }
}

/// Whether the API itself reports an error with a status of its own.
fn has_api_status(response: &RawResponse) -> bool {
    let Body::Whole(body) = &response.body else { return false };
    Envelope::read(body).is_ok_and(|envelope| {
        envelope.errors.iter().any(|error| matches!(error.status, Stated::Status(_)))
    })
}

/// Interprets a response to `RevokeSessionToken`, whose `Result` repeats a status of its own.
pub(super) fn revoke(
    context: &RequestContext<'_>,
    response: &RawResponse,
) -> Result<(), CallError> {
    let result = result(context, response).map_err(|failure| failure.fault)?;
    match field(&result, "Status").and_then(envelope::status) {
        Some(status @ 300..) => {
            let detail = field(&result, "Detail").and_then(|detail| detail.as_str());
            Err(error_for_status(context, status, StatusSource::Api, detail))
        }
        Some(_) | None => Ok(()),
    }
}

/// The `Result` of a success: HTTP 200, no errors, and a result.
fn result(context: &RequestContext<'_>, response: &RawResponse) -> Result<Object, ResponseError> {
    let Body::Whole(body) = &response.body else {
        return Err(error_without_envelope(context, response, "is longer than 64 KiB"));
    };
    let envelope =
        Envelope::read(body).map_err(|reason| error_without_envelope(context, response, reason))?;
    // The list may be contradictory: the least final error counts.
    let failures = envelope.errors.iter().map(|error| api_error(context, response, error));
    if let Some(failure) = failures.min_by_key(|failure| failure.kind) {
        return Err(failure);
    }
    if response.status != 200 {
        return Err(error_without_envelope(context, response, "has no `Errors`"));
    }
    envelope.result.ok_or_else(|| {
        error_without_envelope(context, response, "has neither `Result` nor `Errors`")
    })
}

/// The error of a response that says nothing in the API's own words: the HTTP status, or if that
/// claims success, `reason` (which continues "the answer").
pub(super) fn error_without_envelope(
    context: &RequestContext<'_>,
    response: &RawResponse,
    reason: &str,
) -> ResponseError {
    let status = response.status;
    let is_success = if context.profile.is_some() { status / 100 == 2 } else { status == 200 };
    let mut failure = if is_success {
        protocol_error(context, reason).with_status(status)
    } else {
        ResponseError {
            kind: kind_of(status, StatusSource::Http, response.pause(status)),
            fault: error_for_status(context, status, StatusSource::Http, None),
        }
    };
    if let Some(encoding) = response.encoding(context) {
        failure.fault.error = format!(
            "{}; its body is encoded as {encoding}, although only `identity` was requested: check \
             whether a proxy in front of [server.{}] compresses responses",
            failure.fault.error, context.server
        )
        .into();
    }
    // Responses of web servers that require a client certificate and can still respond.
    if response.certificate == ClientCertificateState::Lacking
        && matches!(status, 400 | 401 | 403 | 495 | 496)
    {
        let sentence = lacks_certificate(Section::Server(context.server));
        failure.fault.error = format!("{}; {sentence}", failure.fault.error).into();
    }
    failure
}

/// The error of one entry of `Errors`.
fn api_error(
    context: &RequestContext<'_>,
    response: &RawResponse,
    error: &ApiError,
) -> ResponseError {
    let detail = error.detail.as_deref();
    let status = match error.status {
        Stated::Status(status) => status,
        Stated::Nothing if response.status != 200 => response.status,
        Stated::Nothing | Stated::Gibberish => {
            let failure = protocol_error(context, "has `Errors` without a usable `Status`");
            return ResponseError { fault: with_detail(failure.fault, context, detail), ..failure };
        }
    };
    ResponseError {
        kind: kind_of(status, StatusSource::Api, response.pause(status)),
        fault: error_for_status(context, status, StatusSource::Api, detail),
    }
}

fn remaining(result: &Object) -> Result<Duration, ResponseError> {
    field(result, "Remaining").and_then(envelope::life).ok_or_else(|| {
        ResponseError::unavailable(
            "unexpected response: its `Remaining` is missing, or is not a number of milliseconds \
             from 0 to 366 days",
        )
        .with_status(200)
    })
}

fn session_token(result: &Object) -> Result<TokenValue, ResponseError> {
    let text = field(result, "SessionToken").and_then(|value| value.as_str());
    let text = text.ok_or("it is missing, or is not text".to_owned());
    text.and_then(|text| TokenValue::parse(text).map_err(|fault| fault.to_string())).map_err(
        |reason| {
            ResponseError::unavailable(format!(
                "unexpected response: its `SessionToken` cannot be used: {reason}"
            ))
            .with_status(200)
        },
    )
}

/// A 200 with unexpected content. It never declares a token dead.
fn protocol_error(context: &RequestContext<'_>, reason: &str) -> ResponseError {
    ResponseError::unavailable(format!("unexpected response to {}: it {reason}", context.call()))
        .with_status(200)
}

fn error_for_status(
    context: &RequestContext<'_>,
    status: u16,
    source: StatusSource,
    detail: Option<&str>,
) -> CallError {
    let sentence = sentence(status, source, context);
    with_detail(CallError::new(sentence).with_status(status), context, detail)
}

pub(super) fn with_detail(
    fault: CallError,
    context: &RequestContext<'_>,
    detail: Option<&str>,
) -> CallError {
    match detail.map(|detail| context.clean(detail)) {
        Some(detail) if !detail.is_empty() => fault.with_detail(detail),
        Some(_) | None => fault,
    }
}

#[cfg(test)]
#[path = "interpret_tests.rs"]
mod tests;
