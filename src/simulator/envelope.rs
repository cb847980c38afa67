//! How the simulated server writes its answers.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, Response, StatusCode};
use futures_util::{StreamExt, stream};
use headers::{HeaderMapExt, RetryAfter as RetryAfterHeader};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::behaviour::ErrorStyle;
use super::trouble::RetryAfter;
use super::world::Complaint;

/// The Julian date of the Unix epoch.
const UNIX_EPOCH_JULIAN: f64 = 2_440_587.5;

/// How long the headers get to leave before the connection is reset behind them.
const HEAD_START: Duration = Duration::from_millis(20);

/// An answer in the API's envelope.
pub(super) fn enveloped(
    answer: Result<Value, Complaint>,
    style: ErrorStyle,
    server_time: Timestamp,
    took: Duration,
) -> Response<Body> {
    let days = server_time.as_duration().as_secs_f64() / 86_400.0;
    let mut envelope = json!({
        "ServerDateTime": server_time.to_string(),
        "TimeStamp": UNIX_EPOCH_JULIAN + days,
        "ExecutionTime": took.as_secs_f64() * 1000.0,
    });
    let status = match answer {
        Ok(result) => {
            envelope["Result"] = result;
            200
        }
        Err(Complaint { status, detail }) => {
            envelope["Errors"] = json!({ "Status": status, "Detail": detail });
            if style == ErrorStyle::AsHttpStatus { status } else { 200 }
        }
    };
    with_body(status, "application/json", envelope.to_string())
}

/// A proxy's own page.
pub(super) fn html(status: u16) -> Response<Body> {
    let page = format!("<!doctype html><title>{status}</title><h1>Gateway says {status}</h1>");
    with_body(status, "text/html", page)
}

/// Any bytes as the body.
pub(super) fn with_body(
    status: u16,
    content_type: &'static str,
    body: impl Into<Body>,
) -> Response<Body> {
    let mut response = Response::new(body.into());
    // A status that HTTP cannot carry is the caller's slip: it gets the nearest to it.
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A request for quiet, in the words of a gateway.
pub(super) fn quiet(
    status: u16,
    retry_after: RetryAfter,
    server_time: Timestamp,
) -> Response<Body> {
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
pub(super) fn redirect(to: &str) -> Response<Body> {
    let mut response = html(302);
    if let Ok(location) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// JSON white space without end.
pub(super) fn endless() -> Response<Body> {
    const CHUNK: &[u8] = &[b' '; 4096];
    let chunks = stream::repeat_with(|| Ok::<_, Infallible>(CHUNK));
    with_body(200, "application/json", Body::from_stream(chunks))
}

/// The beginning of an answer, and then an error where the rest should be.
pub(super) fn broken_off() -> Response<Body> {
    let beginning = stream::once(async { Ok("{\"Result\":{\"Remai") });
    let end = stream::once(async {
        tokio::time::sleep(HEAD_START).await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    with_body(200, "application/json", Body::from_stream(beginning.chain(end)))
}
