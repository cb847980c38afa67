//! What an answer means: pure functions from an answer to a conclusion.
//!
//! Owns the strictness. A token is given up only on the API's own word, inside its
//! envelope; whatever cannot be made out is transient. Never does I/O, never reads a clock.

use std::time::Duration;

use hyper::body::Bytes;

use super::connect::ClientCertificateState;
use super::endpoint::Endpoint;
use super::envelope::{self, ApiError, Envelope, Object, Stated, field};
use super::failure::{Failure, FailureKind, Voice, kind_of, sentence};
use super::glance;
use super::redact::clean;
use super::transport::lacks_certificate;
use super::{LoginFault, LoginFaultKind, Renewed};
use crate::outcome::{Fault, Outcome};
use crate::secret::{Mistake, TokenValue};

/// What was asked: decides the words of a fault, and what must not stand in them.
pub(super) struct Asked<'a> {
    /// The server's name in the configuration.
    pub(super) server: &'a str,
    pub(super) endpoint: Endpoint,
    /// The token value or API key that was sent.
    pub(super) secret: &'a str,
}

/// What came back.
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// What the `Retry-After` header asks for, or one that stands in for it.
    pub(super) pause: Option<Duration>,
    /// How long it takes until the quota of requests is renewed.
    pub(super) quota_reset: Option<Duration>,
    /// How the body is encoded, although `identity` was asked for.
    pub(super) encoding: Option<Box<str>>,
    /// What is known of TLS client authentication with the server.
    pub(super) certificate: ClientCertificateState,
    pub(super) body: Body,
}

impl Answer {
    /// How long the server asks to be left alone if the response has this status.
    fn pause(&self, status: u16) -> Option<Duration> {
        self.pause.or(self.quota_reset.filter(|_| status == 429))
    }
}

/// An answer's body.
pub(super) enum Body {
    /// All of it.
    Whole(Bytes),
    /// Longer than is read; its beginning is of no use.
    TooLong,
}

/// The answer to `QuerySessionToken`.
pub(super) fn query(asked: &Asked<'_>, answer: &Answer) -> Outcome {
    if let (200, Body::Whole(body)) = (answer.status, &answer.body)
        && let Some(remaining) = glance::life(body)
    {
        return Outcome::Alive { remaining };
    }
    match result(asked, answer).and_then(|result| remaining(&result)) {
        Ok(remaining) => Outcome::Alive { remaining },
        Err(failure) => failure.into(),
    }
}

/// The answer to `RenewSessionToken` with the value `sent`.
pub(super) fn renew(asked: &Asked<'_>, answer: &Answer, sent: &TokenValue) -> Renewed {
    let result = match result(asked, answer) {
        Ok(result) => result,
        Err(failure) => return Renewed { outcome: failure.into(), new_value: None },
    };
    let named = match field(&result, "SessionToken") {
        None => Ok(None),
        Some(_) => session_token(&result).map(Some),
    };
    // A new value is worth keeping even where the life beside it makes no sense: the old
    // one may be dead by now.
    let (named, outcome) = match (named, remaining(&result)) {
        (Ok(named), Ok(remaining)) => (named, Outcome::Alive { remaining }),
        (Ok(named), Err(failure)) => (named, failure.into()),
        (Err(failure), _) => (None, failure.into()),
    };
    Renewed { outcome, new_value: named.filter(|value| value != sent) }
}

/// The answer to `GetSessionToken`. Only two things conclude the attempt without a token: a
/// refusal in the API's own envelope, and a success whose token cannot be used.
pub(super) fn login(asked: &Asked<'_>, answer: &Answer) -> Result<TokenValue, LoginFault> {
    let result = result(asked, answer).map_err(|Failure { kind, fault }| {
        let kind = match kind {
            FailureKind::Throttled(retry_after) => LoginFaultKind::Throttled { retry_after },
            FailureKind::Unavailable => LoginFaultKind::Unavailable,
            // A proxy's 403 or a wrong address says nothing about the key.
            _ if !states_a_status(answer) => LoginFaultKind::Unavailable,
            FailureKind::Misconfigured => LoginFaultKind::Misconfigured,
            FailureKind::Rejected | FailureKind::Expired => LoginFaultKind::Refused,
        };
        LoginFault { kind, fault }
    })?;
    let useless = |fault| LoginFault { kind: LoginFaultKind::Useless, fault };
    let token = session_token(&result).map_err(|failure| useless(failure.fault))?;
    match Mistake::of(token.expose()).filter(|mistake| mistake.is_certain()) {
        None => Ok(token),
        Some(mistake) => {
            let error = format!("the `SessionToken` in the answer cannot be used: {mistake}");
            Err(useless(Fault::new(error).with_status(200)))
        }
    }
}

/// Whether the API itself speaks of an error, with a status of its own.
fn states_a_status(answer: &Answer) -> bool {
    let Body::Whole(body) = &answer.body else { return false };
    Envelope::read(body).is_ok_and(|envelope| {
        envelope.errors.iter().any(|error| matches!(error.status, Stated::Status(_)))
    })
}

/// The answer to `RevokeSessionToken`: its `Result` repeats a status of its own.
pub(super) fn revoke(asked: &Asked<'_>, answer: &Answer) -> Result<(), Fault> {
    let result = result(asked, answer).map_err(|failure| failure.fault)?;
    match field(&result, "Status").and_then(envelope::status) {
        Some(status @ 300..) => {
            let detail = field(&result, "Detail").and_then(|detail| detail.as_str());
            Err(told(asked, status, Voice::Api, detail))
        }
        Some(_) | None => Ok(()),
    }
}

/// The `Result` of an answer that is a success: HTTP 200, no errors, and a result.
fn result(asked: &Asked<'_>, answer: &Answer) -> Result<Object, Failure> {
    let Body::Whole(body) = &answer.body else {
        return Err(without_errors(asked, answer, "is longer than 64 KiB"));
    };
    let envelope = Envelope::read(body).map_err(|reason| without_errors(asked, answer, reason))?;
    // The list may disagree with itself: the least final conclusion holds.
    let failures = envelope.errors.iter().map(|error| failure_of(asked, answer, error));
    if let Some(failure) = failures.min_by_key(|failure| failure.kind) {
        return Err(failure);
    }
    if answer.status != 200 {
        return Err(without_errors(asked, answer, "has no `Errors`"));
    }
    envelope
        .result
        .ok_or_else(|| without_errors(asked, answer, "has neither `Result` nor `Errors`"))
}

/// The failure in an answer whose body does not tell it: the HTTP status does, or, where
/// that claims success, `reason` (to follow "the answer").
fn without_errors(asked: &Asked<'_>, answer: &Answer, reason: &str) -> Failure {
    let status = answer.status;
    let mut failure = if status == 200 {
        protocol_error(asked.endpoint, reason)
    } else {
        Failure {
            kind: kind_of(status, Voice::Http, answer.pause(status)),
            fault: told(asked, status, Voice::Http, None),
        }
    };
    if let Some(encoding) = &answer.encoding {
        failure.fault.error = format!(
            "{}; its body is encoded as {encoding}, although only `identity` was asked for: does \
             something on the way to [server.{}] compress?",
            failure.fault.error, asked.server
        )
        .into();
    }
    // What a web server says that wants a client certificate and can still send a response.
    if answer.certificate == ClientCertificateState::Lacking
        && matches!(status, 400 | 401 | 403 | 495 | 496)
    {
        let sentence = lacks_certificate(asked.server);
        failure.fault.error = format!("{}; {sentence}", failure.fault.error).into();
    }
    failure
}

/// The failure that one of the API's errors tells.
fn failure_of(asked: &Asked<'_>, answer: &Answer, error: &ApiError) -> Failure {
    let detail = error.detail.as_deref();
    let status = match error.status {
        Stated::Status(status) => status,
        Stated::Nothing if answer.status != 200 => answer.status,
        Stated::Nothing | Stated::Gibberish => {
            let failure = protocol_error(asked.endpoint, "has `Errors` without a usable `Status`");
            return Failure { fault: with_detail(failure.fault, asked, detail), ..failure };
        }
    };
    Failure {
        kind: kind_of(status, Voice::Api, answer.pause(status)),
        fault: told(asked, status, Voice::Api, detail),
    }
}

fn remaining(result: &Object) -> Result<Duration, Failure> {
    field(result, "Remaining").and_then(envelope::life).ok_or_else(|| {
        Failure::unavailable(
            "the answer is not the API's: its `Remaining` is missing, or no number of \
             milliseconds from 0 to 366 days",
        )
        .with_status(200)
    })
}

fn session_token(result: &Object) -> Result<TokenValue, Failure> {
    let text = field(result, "SessionToken").and_then(|value| value.as_str());
    let text = text.ok_or("it is missing, or no text".to_owned());
    text.and_then(|text| TokenValue::parse(text).map_err(|fault| fault.to_string())).map_err(
        |reason| {
            Failure::unavailable(format!(
                "the answer is not the API's: its `SessionToken` cannot be used: {reason}"
            ))
            .with_status(200)
        },
    )
}

/// A 200 that does not hold what the API would send. It never tells of a token's death.
fn protocol_error(endpoint: Endpoint, reason: &str) -> Failure {
    Failure::unavailable(format!("the answer to {} is not the API's: it {reason}", endpoint.name()))
        .with_status(200)
}

fn told(asked: &Asked<'_>, status: u16, voice: Voice, detail: Option<&str>) -> Fault {
    let sentence = sentence(status, voice, asked.endpoint, asked.server);
    with_detail(Fault::new(sentence).with_status(status), asked, detail)
}

fn with_detail(fault: Fault, asked: &Asked<'_>, detail: Option<&str>) -> Fault {
    match detail.map(|detail| clean(detail, asked.secret)) {
        Some(detail) if !detail.is_empty() => fault.with_detail(detail),
        Some(_) | None => fault,
    }
}

#[cfg(test)]
#[path = "interpret_tests.rs"]
mod tests;
