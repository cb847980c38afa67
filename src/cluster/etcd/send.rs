//! Sends requests to etcd's JSON gateway: one endpoint after the other, with a token if etcd has
//! users. Interprets nothing but whether the request must be repeated.
//!
//! A request that changes something is repeated only if it was certainly not executed.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::body::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, Response};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::access::{Access, Endpoint, REQUEST_TIMEOUT};
use super::explain::{explain, hangs, no_response, too_long};
use super::interpret::{self, Failure};
use super::lines::{LineError, Lines, MAX_LONG_BYTES};
use crate::cluster::replica::{Reason, StoreError};

/// Maximum size of any other response, in bytes: a few of the largest records.
const MAX_BYTES: usize = 1024 * 1024;

/// Time for the head of a response that takes long because etcd has a million keys.
const PATIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// What happens if an endpoint does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// The next one is asked.
    Elsewhere,
    /// Nothing, unless the request was certainly not sent.
    Never,
}

/// Why there is no answer of any endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// A definite answer of etcd.
    Failed(Failure),
    /// None of the endpoints answered, or the one that may have executed the request.
    Unanswered(Reason),
}

impl From<NoAnswer> for StoreError {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::Failed(Failure::Refused(text) | Failure::Denied(text)) => {
                Self::Refused(text.into())
            }
            NoAnswer::Failed(failure) => Self::Unanswered(failure.into()),
            NoAnswer::Unanswered(reason) => Self::Unanswered(reason),
        }
    }
}

impl From<LineError> for Attempt {
    fn from(error: LineError) -> Self {
        Self::NoResponse(match error {
            LineError::TooLong => too_long(MAX_LONG_BYTES).into(),
            LineError::Ended(error) => Reason::silence(error),
        })
    }
}

/// Sends requests, and logs in.
pub(super) struct Sender {
    pub(super) access: Access,
    login: std::sync::Mutex<Login>,
    /// Held by the request that logs in.
    logging_in: Mutex<()>,
}

/// The last login at etcd.
#[derive(Clone, Default)]
struct Login {
    /// Number of logins so far.
    number: u64,
    /// What it returned; `None` if etcd has no users.
    token: Option<HeaderValue>,
    /// Whether requests use it. If not, the next one logs in first.
    is_valid: bool,
}

/// A request, and how its response is read.
struct Call<'a, T> {
    path: &'a str,
    /// A request without a body is a GET.
    body: Bytes,
    /// The response is a stream of lines. `read` gets the first line.
    streams: bool,
    read: &'a (dyn Fn(&[u8]) -> Result<T, Failure> + Sync),
    /// Time for the head of the response.
    limit: Duration,
    /// Maximum size of the response, in bytes.
    max_bytes: usize,
}

impl<'a, T> Call<'a, T> {
    /// A call whose response is not read yet.
    fn new(path: &'a str, body: Vec<u8>) -> Self {
        let read = &|_: &[u8]| Err(Failure::Unavailable("".into()));
        let (limit, max_bytes) = (REQUEST_TIMEOUT, MAX_BYTES);
        Self { path, body: body.into(), streams: false, read, limit, max_bytes }
    }
}

/// The answer of one endpoint, and what comes behind it.
type Exchanged<T> = Result<Result<(T, Lines), Failure>, Attempt>;

/// Why there is no response of one endpoint.
enum Attempt {
    /// The request was certainly not sent.
    NotSent(Reason),
    /// It may have been executed.
    NoResponse(Reason),
}

impl Sender {
    pub(super) fn new(access: Access) -> Self {
        Self { access, login: std::sync::Mutex::default(), logging_in: Mutex::default() }
    }

    /// Sends a request and reads the response with `read`.
    pub(super) async fn request<T>(
        &self,
        path: &str,
        body: Vec<u8>,
        repeat: Repeat,
        read: impl Fn(&[u8]) -> Result<T, Failure> + Sync,
    ) -> Result<T, NoAnswer> {
        let call = Call { read: &read, ..Call::new(path, body) };
        self.on_each(&call, repeat).await.map(|(answer, ..)| answer)
    }

    /// Sends a request that changes nothing, and may take long. If no endpoint answers in the usual
    /// time, each gets [`PATIENT_TIMEOUT`].
    pub(super) async fn patient_request<T>(
        &self,
        path: &str,
        body: Vec<u8>,
        read: impl Fn(&[u8]) -> Result<T, Failure> + Sync,
    ) -> Result<T, NoAnswer> {
        let max_bytes = MAX_LONG_BYTES;
        let mut call = Call { read: &read, max_bytes, ..Call::new(path, body) };
        let answer = match self.on_each(&call, Repeat::Elsewhere).await {
            Err(NoAnswer::Unanswered(_)) => {
                call.limit = PATIENT_TIMEOUT;
                self.on_each(&call, Repeat::Elsewhere).await
            }
            answer => answer,
        };
        answer.map(|(answer, ..)| answer)
    }

    /// Sends a request whose response is read by lines. The first one is read with `first`. Returns
    /// the endpoint as well.
    pub(super) async fn stream<T>(
        &self,
        path: &str,
        body: Vec<u8>,
        first: impl Fn(&[u8]) -> Result<T, Failure> + Sync,
    ) -> Result<(T, Lines, &Endpoint), NoAnswer> {
        let call = Call { streams: true, read: &first, ..Call::new(path, body) };
        self.on_each(&call, Repeat::Elsewhere).await
    }

    /// Asks one endpoint, without consequences for the order of the endpoints, or for the login of
    /// other requests. Without a `body`, the request is a GET.
    pub(super) async fn ask<T>(
        &self,
        endpoint: &Endpoint,
        path: &str,
        body: Vec<u8>,
        read: impl Fn(&[u8]) -> Result<T, Failure> + Sync,
    ) -> Result<T, Failure> {
        let call = Call { read: &read, ..Call::new(path, body) };
        let answer = match self.exchange(endpoint, &call, self.login().token).await {
            Ok(Err(Failure::LogIn)) => self.logged_in(endpoint, &call).await,
            answer => answer,
        };
        match answer {
            Ok(Ok((answer, _))) => Ok(answer),
            Ok(Err(failure)) => Err(failure),
            Err(Attempt::NotSent(error) | Attempt::NoResponse(error)) => {
                Err(Failure::Unavailable(error))
            }
        }
    }

    /// Asks one endpoint after the other, until one answers.
    async fn on_each<T>(
        &self,
        call: &Call<'_, T>,
        repeat: Repeat,
    ) -> Result<(T, Lines, &Endpoint), NoAnswer> {
        if let Some(error) = &self.access.unusable {
            return Err(NoAnswer::Unanswered(error.as_str().into()));
        }
        let mut errors: Vec<(String, Reason)> = Vec::new();
        // Collected first, because an endpoint that is given up changes the order.
        let endpoints: Vec<_> = self.access.in_order().collect();
        for endpoint in endpoints {
            let (error, may_have_acted) = match self.logged_in(endpoint, call).await {
                Ok(Ok((answer, lines))) => {
                    endpoint.rejected.store(false, Ordering::Relaxed);
                    self.access.answered(endpoint);
                    return Ok((answer, lines, endpoint));
                }
                // Another member of etcd may know the new token.
                Ok(Err(Failure::LogIn)) => {
                    ("it does not accept the token that etcd has issued".into(), false)
                }
                Err(Attempt::NotSent(error)) => (error, false),
                Ok(Err(Failure::Unavailable(error))) | Err(Attempt::NoResponse(error)) => {
                    (error, true)
                }
                Ok(Err(failure)) => {
                    self.access.answered(endpoint);
                    return Err(NoAnswer::Failed(failure));
                }
            };
            self.access.gave_up(endpoint);
            match errors.iter_mut().find(|(_, other)| *other == error) {
                Some((labels, _)) => *labels = format!("{labels}, {}", endpoint.label),
                None => errors.push((endpoint.label.clone(), error)),
            }
            if may_have_acted && repeat == Repeat::Never {
                break;
            }
        }
        let texts = errors.iter().map(|(labels, error)| format!("{labels}: {error}"));
        let text = format!("etcd does not answer ({})", texts.collect::<Vec<_>>().join("; "));
        // The kind does not depend on the order of the endpoints, and silence is the least telling one.
        let kinds = errors.into_iter().map(|(_, error)| error);
        let reason = kinds.max_by(|a, b| a.kind().cmp(b.kind()));
        let reason = reason.unwrap_or_else(|| Reason::silence(""));
        Err(NoAnswer::Unanswered(reason.with_text(text)))
    }

    /// Sends a request with a token, if etcd has users. A token that is not valid is renewed once.
    async fn logged_in<T>(&self, endpoint: &Endpoint, call: &Call<'_, T>) -> Exchanged<T> {
        let mut login = self.login();
        if !login.is_valid && self.access.user.is_some() {
            if let Err(failure) = self.log_in(endpoint, login.number).await? {
                return Ok(Err(failure));
            }
            login = self.login();
        }
        match self.exchange(endpoint, call, login.token.clone()).await {
            Ok(Err(Failure::LogIn)) => {}
            Err(Attempt::NoResponse(error)) => {
                self.distrust(&login);
                return Err(Attempt::NoResponse(error));
            }
            answer => return answer,
        }
        match self.log_in(endpoint, login.number).await? {
            Ok(()) => self.exchange(endpoint, call, self.login().token).await,
            Err(failure) => Ok(Err(failure)),
        }
    }

    fn login(&self) -> Login {
        self.login.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// After a request without a response, the next one logs in. An etcd that was restored or replaced
    /// does not refuse a token that was issued at a later index of its log: it waits for that index.
    fn distrust(&self, login: &Login) {
        let mut current = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        if current.number == login.number && current.token.is_some() {
            current.is_valid = false;
        }
    }

    /// Logs in, unless another request has done so since the login `number`.
    async fn log_in(
        &self,
        endpoint: &Endpoint,
        number: u64,
    ) -> Result<Result<(), Failure>, Attempt> {
        let Some((user, password)) = &self.access.user else {
            return Ok(Err(Failure::LogIn));
        };
        // The request that logs in may have to wait for another endpoint.
        let waiting = timeout(REQUEST_TIMEOUT * 2, self.logging_in.lock()).await;
        let _one = waiting.map_err(|_| Attempt::NotSent(no_response(REQUEST_TIMEOUT)))?;
        if self.login().number != number {
            return Ok(Ok(()));
        }
        let body = json!({ "name": user, "password": password.expose_secret() }).to_string();
        let path = "/v3/auth/authenticate";
        let call = Call { read: &interpret::token, ..Call::new(path, body.into_bytes()) };
        let token = match self.exchange(endpoint, &call, None).await {
            Ok(Ok((token, _))) => Some(token),
            Ok(Err(Failure::NoUsers)) => None,
            // The request itself was not sent.
            Ok(Err(Failure::Unavailable(error))) => return Err(Attempt::NotSent(error)),
            Ok(Err(failure)) => {
                endpoint.rejected.store(true, Ordering::Relaxed);
                return Ok(Err(failure));
            }
            Err(Attempt::NotSent(error) | Attempt::NoResponse(error)) => {
                return Err(Attempt::NotSent(error));
            }
        };
        let token = token.and_then(|token| HeaderValue::try_from(token).ok()).map(|mut token| {
            token.set_sensitive(true);
            token
        });
        let login = Login { number: number + 1, token, is_valid: true };
        *self.login.lock().unwrap_or_else(PoisonError::into_inner) = login;
        Ok(Ok(()))
    }

    /// Sends a request to one endpoint, and reads the response.
    async fn exchange<T>(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_, T>,
        token: Option<HeaderValue>,
    ) -> Exchanged<T> {
        let response = open(endpoint, call, token).await?;
        let status = response.status().as_u16();
        let mut lines = Lines::of(response);
        if status != 200 {
            let body = lines.rest(MAX_BYTES).await.map_err(Attempt::NoResponse)?;
            return Ok(Err(interpret::error(status, &body, self.access.context())));
        }
        let text = if call.streams {
            let line = timeout(REQUEST_TIMEOUT, lines.next()).await;
            line.map_err(|_| Attempt::NoResponse(hangs(REQUEST_TIMEOUT)))??
        } else {
            lines.rest(call.max_bytes).await.map_err(Attempt::NoResponse)?
        };
        Ok((call.read)(&text).map(|answer| (answer, lines)))
    }
}

/// Sends a request, and waits for the head of the response.
async fn open<T>(
    endpoint: &Endpoint,
    call: &Call<'_, T>,
    token: Option<HeaderValue>,
) -> Result<Response, Attempt> {
    let method = if call.body.is_empty() { Method::GET } else { Method::POST };
    let mut request = Request::new(method, endpoint.url(call.path));
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(token) = token {
        headers.insert(AUTHORIZATION, token);
    }
    if !call.body.is_empty() {
        *request.body_mut() = Some(call.body.clone().into());
    }
    match timeout(call.limit, endpoint.http().execute(request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) if error.is_connect() || error.is_dns() => {
            Err(Attempt::NotSent(explain(&error, endpoint)))
        }
        Ok(Err(error)) => Err(Attempt::NoResponse(explain(&error, endpoint))),
        Err(_) => Err(Attempt::NoResponse(hangs(call.limit))),
    }
}
