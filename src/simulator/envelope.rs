//! Encodes responses in the API's JSON envelope.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::behaviour::ErrorStyle;
use super::world::Complaint;

/// The Julian date of the Unix epoch.
const UNIX_EPOCH_JULIAN: f64 = 2_440_587.5;

/// A response in the API's envelope.
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
    let mut response = Response::new(Body::from(envelope.to_string()));
    // A status that is not valid in HTTP is an error of the test.
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
