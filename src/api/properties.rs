//! Properties of how responses are read, for arbitrary input. See `crate::fuzzing`.

use std::time::{Duration, SystemTime};

use hyper::body::Bytes;
use hyper::http::{HeaderMap, HeaderName, HeaderValue};

use super::context::RequestContext;
use super::endpoint::Endpoint;
use super::envelope::{self, ApiError, Envelope, MAX_REMAINING_MS, Stated, field};
use super::interpret::{self, Body, RawResponse};
use super::profile::sarus;
use super::status::{ResponseErrorKind, StatusSource, kind_of};
use super::{fast_path, redact, retry_after};
use crate::outcome::{CallError, Outcome};
use crate::secret::TokenValue;

/// A value that inputs may echo.
const SECRET: &str = "0b5f1e0e-52cf-4d4c-a8c0-9a3f6d1c2e77";

/// Characters of a secret that no text may show in a row.
const RUN: usize = 8;

/// HTTP statuses that mean different things.
const STATUSES: [u16; 7] = [200, 204, 401, 404, 410, 429, 503];

/// The shortest and the longest pause.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15 * 60));

/// For every `body`: the fast path, the full path and the profile `sarus` agree; a body that is cut
/// short is never read; nothing is concluded about the token but from the API's own words; no text of the server
/// shows the secret.
///
/// # Panics
///
/// If the property does not hold.
pub fn envelope(body: &[u8]) {
    let read = Envelope::read(body);
    let life = read.as_ref().ok().and_then(life_without_errors);
    let seen = fast_path::life(body);
    assert!(seen.is_none() || seen == life, "fast path: {seen:?}, full path: {life:?}");
    if read.is_ok() {
        let body = body.trim_ascii_end();
        for end in [body.len() - 1, body.len() / 2] {
            assert!(Envelope::read(&body[..end]).is_err(), "cut at {end}, and read all the same");
        }
    }
    let errors = read.as_ref().map(|envelope| &*envelope.errors).unwrap_or_default();
    for status in STATUSES {
        let whole = Body::Whole(Bytes::copy_from_slice(body));
        check_query(&RawResponse::plain(status, whole), errors, life);
    }
    for status in [200, 410] {
        check_others(status, body, errors);
    }
}

/// The life that a whole reading finds where no error stands beside it.
fn life_without_errors(envelope: &Envelope) -> Option<Duration> {
    let result = envelope.result.as_ref().filter(|_| envelope.errors.is_empty())?;
    envelope::life(field(result, "Remaining")?)
}

fn asked(endpoint: Endpoint) -> RequestContext<'static> {
    RequestContext { server: "sarus", endpoint, profile: None, secrets: &[SECRET] }
}

fn check_query(answer: &RawResponse, errors: &[ApiError], life: Option<Duration>) {
    let outcome = interpret::query(&asked(Endpoint::Query), answer);
    check_profile(answer, &outcome, errors);
    let alive = match outcome {
        Outcome::Alive { remaining } => Some(remaining),
        _ => None,
    };
    assert_eq!(alive, life.filter(|_| answer.status == 200), "status {}", answer.status);
    check_outcome(answer.status, &outcome, errors);
}

/// The profile `sarus` finds the same life, and no death that the native reading does not find.
/// Lists are left out, because a profile reads the elements of each.
fn check_profile(answer: &RawResponse, outcome: &Outcome, errors: &[ApiError]) {
    let Body::Whole(body) = &answer.body else { return };
    if memchr::memchr(b'[', body).is_some() {
        return;
    }
    let (by_profile, native) =
        (sarus::essence(&sarus::query(SECRET, answer)), sarus::essence(outcome));
    let is_final = |(kind, _)| matches!(kind, "alive" | "expired" | "rejected");
    let has_status = errors.iter().any(|error| matches!(error.status, Stated::Status(_)));
    let is_dead = matches!(native.0, "expired" | "rejected");
    if is_final(by_profile) || native.0 == "alive" || is_dead && has_status {
        assert_eq!(by_profile, native, "the profile, and the native reading");
    }
    let sent = TokenValue::parse(SECRET).expect("a value");
    let renewed = interpret::renew(&asked(Endpoint::Renew), answer, &sent);
    assert_eq!(sarus::renew(SECRET, answer).new_value, renewed.new_value);
    let login = interpret::login(&asked(Endpoint::Login), answer);
    assert_eq!(sarus::login(SECRET, answer).ok(), login.ok());
    let is_revoked = interpret::revoke(&asked(Endpoint::Revoke), answer).is_ok();
    assert!(!is_revoked || sarus::revoke(SECRET, answer).is_ok(), "revoked natively only");
}

fn check_outcome(status: u16, outcome: &Outcome, errors: &[ApiError]) {
    let says = |wanted| {
        errors.iter().any(|error| match error.status {
            Stated::Status(status) => status == wanted,
            Stated::Nothing => status == wanted,
            Stated::Gibberish => false,
        })
    };
    match outcome {
        Outcome::Alive { remaining } => {
            assert!(*remaining <= Duration::from_millis(MAX_REMAINING_MS));
        }
        Outcome::Expired(fault) => {
            assert!(says(410), "expired, which the API has not said");
            check_fault(fault, SECRET);
        }
        Outcome::Rejected(fault) => {
            assert!(says(401), "rejected, which the API has not said");
            check_fault(fault, SECRET);
        }
        Outcome::Throttled { retry_after, fault } => {
            check_pause(*retry_after);
            check_fault(fault, SECRET);
        }
        Outcome::Misconfigured(fault) | Outcome::Unavailable(fault) => check_fault(fault, SECRET),
    }
}

fn check_others(status: u16, body: &[u8], errors: &[ApiError]) {
    let answer = RawResponse::plain(status, Body::Whole(Bytes::copy_from_slice(body)));
    let success = status == 200 && errors.is_empty();
    let sent = TokenValue::parse(SECRET).expect("a value");
    let renewed = interpret::renew(&asked(Endpoint::Renew), &answer, &sent);
    check_outcome(status, &renewed.outcome, errors);
    if let Some(value) = renewed.new_value {
        assert!(success && value != sent, "a new value out of an error, or the old one");
    }
    match interpret::login(&asked(Endpoint::Login), &answer) {
        Ok(_) => assert!(success, "a login that succeeds by an error"),
        Err(login) => check_fault(&login.fault, SECRET),
    }
    match interpret::revoke(&asked(Endpoint::Revoke), &answer) {
        Ok(()) => assert!(success, "a revocation that succeeds by an error"),
        Err(fault) => check_fault(&fault, SECRET),
    }
}

pub(super) fn check_fault(fault: &CallError, secret: &str) {
    assert!(!fault.error.is_empty(), "a fault without a sentence");
    let detail = fault.detail.as_deref().unwrap_or_default();
    assert!(detail.chars().count() <= 203, "a detail longer than a sentence: {detail}");
    assert!(!detail.contains(char::is_control), "a control character: {detail:?}");
    for text in [&*fault.error, detail] {
        let shown = |run: &[u8]| text.as_bytes().windows(RUN).any(|window| window == run);
        assert!(!secret.as_bytes().windows(RUN).any(shown), "the secret is shown: {text}");
    }
}

pub(super) fn check_pause(pause: Duration) {
    assert!((PAUSES.0..=PAUSES.1).contains(&pause), "a pause of {pause:?}");
}

/// For the headers in `input`, one on each line: a pause lasts from 1 s to 15 min, follows only
/// from the statuses that ask for one, and a number of seconds or milliseconds is taken as such.
///
/// # Panics
///
/// If the property does not hold.
pub fn retry_after(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(at + 1..).unwrap_or_default().trim_ascii();
        let name = HeaderName::from_bytes(&line[..at]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(784_123_200);
    let answered = headers.get("date").and_then(retry_after::date).unwrap_or(noon);
    let pause = retry_after::pause(&headers, answered);
    let quota_reset = retry_after::quota_reset(&headers, answered);
    for (name, unit) in [("retry-after", 1_000), ("retry-after-ms", 1)] {
        let is_first = name == "retry-after" || !headers.contains_key("retry-after");
        if let Some(number) = whole_number(&headers, name).filter(|_| is_first) {
            assert_eq!(pause, Some(Duration::from_millis(number * unit)), "{name}");
        }
    }
    for status in STATUSES {
        for source in [StatusSource::Api, StatusSource::Http] {
            for asked in [pause, quota_reset] {
                match kind_of(status, source, asked) {
                    ResponseErrorKind::Throttled(pause) => {
                        assert!(status == 429 || (status == 503 && asked.is_some()));
                        check_pause(pause);
                        // It never asks sooner than it may.
                        let asked = asked.unwrap_or_default().min(PAUSES.1);
                        assert!(pause >= asked, "{pause:?} instead of {asked:?}");
                    }
                    _ => assert_ne!(status, 429, "a 429 without a pause"),
                }
            }
        }
    }
}

/// The value of a header that is nothing but a few digits.
fn whole_number(headers: &HeaderMap, name: &str) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?;
    let is_number = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// See [`redact::properties`].
///
/// # Panics
///
/// If the property does not hold.
pub fn redaction(input: &[u8]) {
    redact::properties::property(input);
}
