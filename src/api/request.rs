//! Sends one request, and reads the response.
//!
//! Owns the body limit, and the resending of a request whose reused connection ended. Interprets
//! nothing.

use std::cell::OnceCell;
use std::time::Duration;

use hyper::body::Bytes;
use reqwest::{Request, Response};
use tokio::time::timeout;

use super::connections::{Connections, Lease, Verdict};
use super::context::RequestContext;
use super::interpret::{Body, RawResponse};
use super::status::ResponseError;
use super::transport_error::{RequestTimeouts, explain, is_out_of_descriptors, timed_out};
use crate::clock::wall_clock;
use crate::outcome::{CallError, Connection};
use crate::process;

/// Maximum size of a body in bytes. An envelope takes a few hundred.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The share of its timeout for which a request waits for a connection that another one opens. A token
/// with little time left has a short timeout.
const PATIENCE: u32 = 10;

/// What to do if a reused connection ends before the response starts. The server may have processed
/// the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnEnd {
    /// Send it once more on a fresh connection.
    Resend,
    /// Fail: a second request might do more than the first.
    Fail,
    /// Fail, and set [`CallError::may_have_acted`] unless the request was certainly not sent.
    FailAsUnknown,
}

/// How a request is sent.
#[derive(Clone, Copy)]
pub(super) struct Sending {
    /// From connecting to the last byte of the response.
    pub(super) timeout: Duration,
    pub(super) connection: Connection,
    pub(super) on_end: OnEnd,
}

/// Sends the `request` and reads the response. On return, `lease` is the one that the response or
/// the error came from.
pub(super) async fn send(
    connections: &Connections,
    lease: &mut Lease,
    request: impl Fn() -> Result<Request, ResponseError>,
    on_end: OnEnd,
    timeouts: RequestTimeouts,
    context: &RequestContext<'_>,
) -> Result<RawResponse, ResponseError> {
    let first = request()?;
    let answered = async {
        // What must not be repeated has its whole timeout for the response.
        let opening = match on_end {
            OnEnd::Resend => connections.wait_for_first(lease, timeouts.timeout / PATIENCE).await,
            OnEnd::Fail | OnEnd::FailAsUnknown => None,
        };
        let mut sent = lease.http.execute(first).await;
        drop(opening);
        if let Err(error) = &sent
            && on_end == OnEnd::Resend
            && connections.reused_connection_ended(lease, error)
            && let Ok(again) = request()
        {
            connections.judge(lease, Verdict::Inconclusive);
            *lease = connections.lease(Connection::Fresh);
            sent = lease.http.execute(again).await;
        }
        let mut response = sent?;
        connections.note_response(lease, &response);
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let arrived = wall_clock().into();
        let certificate = connections.factory().certificate();
        let body = body(response).await?;
        let pauses = OnceCell::new();
        Ok(RawResponse { status, headers, arrived, pauses, certificate, body })
    };
    let is_unknown = on_end == OnEnd::FailAsUnknown;
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
            let fault = explain(&error, timeouts, context, certificate);
            let may_have_acted = is_unknown && !error.is_connect() && !error.is_dns();
            Err(CallError { may_have_acted, ..fault }.into())
        }
        Err(_) => {
            let fault = timed_out(timeouts.timeout);
            Err(CallError { may_have_acted: is_unknown, ..fault }.into())
        }
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
