//! Sends one request, and reads the response.
//!
//! Owns the body limit, and the resending of a request whose reused connection ended. Interprets
//! nothing.

use std::time::Duration;

use hyper::body::Bytes;
use reqwest::header::{CONTENT_ENCODING, DATE, HeaderMap};
use reqwest::{Method, Request, Response};
use tokio::time::timeout;
use url::Url;

use super::connections::{Connections, Lease, Verdict};
use super::context::RequestContext;
use super::interpret::{Body, RawResponse};
use super::redact::clean;
use super::retry_after;
use super::status::ResponseError;
use super::transport_error::{RequestTimeouts, explain, is_out_of_descriptors, timed_out};
use crate::clock::wall_clock;
use crate::outcome::{CallError, Connection};
use crate::process;

/// Maximum size of a body in bytes. An envelope takes a few hundred.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// What to do if a reused connection ends before the response starts. The server may have processed
/// the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnEnd {
    /// Send it once more on a fresh connection.
    Resend,
    /// Fail: a second request might do more than the first.
    Fail,
}

/// Sends a `GET` for `url` and reads the response. On return, `lease` is the one that the response
/// or the error came from.
pub(super) async fn get(
    connections: &Connections,
    lease: &mut Lease,
    url: impl Fn() -> Url,
    on_end: OnEnd,
    timeouts: RequestTimeouts,
    context: &RequestContext<'_>,
) -> Result<RawResponse, ResponseError> {
    let answered = async {
        let mut sent = lease.http.execute(Request::new(Method::GET, url())).await;
        if let Err(error) = &sent
            && on_end == OnEnd::Resend
            && connections.reused_connection_ended(lease, error)
        {
            connections.judge(lease, Verdict::Inconclusive);
            *lease = connections.lease(Connection::Fresh);
            sent = lease.http.execute(Request::new(Method::GET, url())).await;
        }
        let response = sent?;
        connections.note_response(lease, &response);
        let status = response.status().as_u16();
        let (pause, quota_reset) = pauses(response.headers());
        let encoding = encoding(response.headers(), context);
        let certificate = connections.factory().certificate();
        let body = body(response).await?;
        Ok(RawResponse { status, pause, quota_reset, encoding, certificate, body })
    };
    // The library's own time-out would need another timer and wrapper per request.
    match timeout(timeouts.timeout, answered).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            let error = reqwest::Error::without_url(error);
            if is_out_of_descriptors(&error) {
                let fault = CallError {
                    local: true,
                    ..CallError::new(process::out_of_descriptors_message())
                };
                return Err(fault.into());
            }
            let factory = connections.factory();
            if let Some(tunnel) = factory.tunnel()
                && let Some(failure) = tunnel.refusal(&error, context.server).await
            {
                return Err(failure);
            }
            let certificate = factory.certificate();
            Err(explain(&error, timeouts, context, certificate).into())
        }
        Err(_) => Err(timed_out(timeouts.timeout).into()),
    }
}

async fn body(mut response: Response) -> Result<Body, reqwest::Error> {
    // An envelope usually arrives in one piece, which is not copied.
    let (mut whole, mut pieces) = (Bytes::new(), Vec::new());
    while let Some(chunk) = response.chunk().await? {
        if whole.len() + pieces.len() + chunk.len() > MAX_BODY_BYTES {
            return Ok(Body::TooLong);
        }
        if whole.is_empty() && pieces.is_empty() {
            whole = chunk;
        } else {
            pieces.extend_from_slice(&std::mem::take(&mut whole));
            pieces.extend_from_slice(&chunk);
        }
    }
    Ok(Body::Whole(if pieces.is_empty() { whole } else { pieces.into() }))
}

/// The pause that the server asks for, and the time until the quota is renewed.
fn pauses(headers: &HeaderMap) -> (Option<Duration>, Option<Duration>) {
    let answered =
        headers.get(DATE).and_then(retry_after::date).unwrap_or_else(|| wall_clock().into());
    (retry_after::pause(headers, answered), retry_after::quota_reset(headers, answered))
}

/// The content encoding of a body, unless it is `identity`.
fn encoding(headers: &HeaderMap, context: &RequestContext<'_>) -> Option<Box<str>> {
    let coding = headers.get(CONTENT_ENCODING)?;
    let coding = clean(&String::from_utf8_lossy(coding.as_bytes()), context.secret);
    let none = coding.is_empty() || coding.eq_ignore_ascii_case("identity");
    (!none).then(|| coding.into())
}
