//! One request and the answer to it, or the sentence why there is none.
//!
//! Owns the reading of a body within its limit. Concludes nothing from it.

use std::time::Duration;

use hyper::body::Bytes;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Method, Request, Response};
use tokio::time::timeout;
use url::Url;

use super::interpret::{Answer, Asked, Body};
use super::quiet;
use super::transport::{Limits, explain, no_answer_within};
use crate::clock::wall_clock;
use crate::outcome::Fault;

/// The longest body that is read, in bytes. An envelope takes a few hundred.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Sends a `GET` for `url` and reads the answer.
pub(super) async fn get(
    http: &Client,
    url: Url,
    limits: Limits,
    asked: &Asked<'_>,
) -> Result<Answer, Fault> {
    let answered = async {
        let response = http.execute(Request::new(Method::GET, url)).await?;
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        Ok(Answer { status, retry_after, body: body(response).await? })
    };
    // The library's own limit would be a timer and a wrapper more for each request.
    match timeout(limits.timeout, answered).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            let error: reqwest::Error = error;
            Err(Fault::new(explain(&error.without_url(), limits, asked)))
        }
        Err(_) => Err(Fault::new(no_answer_within(limits.timeout))),
    }
}

async fn body(mut response: Response) -> Result<Body, reqwest::Error> {
    // An envelope comes in one piece, which is then taken as it is.
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

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let asked = headers.get(RETRY_AFTER)?;
    let answered = headers.get(DATE).and_then(quiet::date).unwrap_or_else(|| wall_clock().into());
    quiet::asked(asked, answered)
}
