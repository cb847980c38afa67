//! Client of the control socket, for the command line: HTTP over a Unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::http::response::Parts;
use axum::http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::error::{ApiError, ApiErrorKind, ErrorEnvelope};
use super::routes::{STATE_HEADER, UNVERIFIED};
use super::types::{Reloaded, Reloading};
use crate::clock;
use crate::time::Moment;

/// Response timeout: longer than the daemon serves one connection.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum size of a response, in bytes: 30 times a page of a thousand tokens with the longest
/// names.
const MAX_RESPONSE_BYTES: usize = 32 * 1024 * 1024;

/// How long a connection is reused. The daemon closes older connections, possibly during a request
/// whose outcome would then be unknown.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(2);

/// Errors of a request to the daemon.
#[derive(Debug, thiserror::Error)]
pub enum ControlClientError {
    /// No daemon responds.
    #[error(
        "no daemon answers on {}: {error}; start it, or name its socket with --socket",
        path.display()
    )]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        error: io::Error,
    },
    /// The user may not open the socket.
    #[error(
        "{} may not be opened: run this as root, or as a member of the socket's group",
        .0.display()
    )]
    PermissionDenied(PathBuf),
    /// The response does not have the documented form.
    #[error("the daemon's response cannot be read: {0}")]
    InvalidResponse(String),
    /// The daemon returned an error.
    #[error("{0}")]
    Api(ApiError),
}

impl ControlClientError {
    /// The kind of the error that the daemon returned, if it returned one.
    pub const fn kind(&self) -> Option<ApiErrorKind> {
        match self {
            Self::Api(error) => Some(error.kind),
            Self::NoDaemon { .. } | Self::PermissionDenied(_) | Self::InvalidResponse(_) => None,
        }
    }
}

/// A request about a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadRequest {
    /// Starts a reload.
    New {
        /// Whether to wait for its outcome, up to a timeout.
        wait: bool,
    },
    /// Waits for the outcome of a reload in progress.
    Wait(Reloading),
}

/// A client of one daemon. Reconnects if the daemon has closed the connection.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Body>,
    driver: JoinHandle<()>,
    since: Moment,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// A client of the daemon that listens on `path`. Does not connect yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), connection: None }
    }

    /// Gets the JSON document at `path`.
    ///
    /// # Errors
    ///
    /// See [`ControlClientError`].
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ControlClientError> {
        read(&self.request(Method::GET, path).await?.1)
    }

    /// Gets the token value at `path`, and whether the token is known to be alive.
    ///
    /// # Errors
    ///
    /// See [`ControlClientError`].
    pub async fn get_value(&mut self, path: &str) -> Result<(String, bool), ControlClientError> {
        let (head, body) = self.request(Method::GET, path).await?;
        let verified = head.headers.get(STATE_HEADER).is_none_or(|state| state != UNVERIFIED);
        let text = String::from_utf8(body);
        let text =
            text.map_err(|_| ControlClientError::InvalidResponse("it is not text".to_owned()))?;
        Ok((text, verified))
    }

    /// Posts an action. Returns when the daemon has accepted it, not when it is done.
    ///
    /// # Errors
    ///
    /// See [`ControlClientError`].
    pub async fn post(&mut self, path: &str) -> Result<(), ControlClientError> {
        self.request(Method::POST, path).await.map(drop)
    }

    /// Starts a reload or waits for one. Returns `Ok(Err(_))` if the reload is still in progress
    /// after the daemon's timeout.
    ///
    /// # Errors
    ///
    /// See [`ControlClientError`].
    pub async fn reload(
        &mut self,
        request: ReloadRequest,
    ) -> Result<Result<Reloaded, Reloading>, ControlClientError> {
        let (method, path) = match request {
            ReloadRequest::New { wait } => (Method::POST, format!("/v1/reload?wait={wait}")),
            ReloadRequest::Wait(Reloading { number }) => {
                (Method::GET, format!("/v1/reload?number={number}"))
            }
        };
        let (head, body) = self.request(method, &path).await?;
        if head.status == StatusCode::ACCEPTED { read(&body).map(Err) } else { read(&body).map(Ok) }
    }

    async fn request(
        &mut self,
        method: Method,
        path: &str,
    ) -> Result<(Parts, Vec<u8>), ControlClientError> {
        let response = timeout(RESPONSE_TIMEOUT, self.send(method, path)).await;
        let (head, body) =
            response.unwrap_or_else(|_| Err(self.unavailable("it does not respond")))?;
        if head.status.is_success() {
            return Ok((head, body));
        }
        let envelope: ErrorEnvelope = read(&body)?;
        Err(ControlClientError::Api(envelope.error))
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
    ) -> Result<(Parts, Vec<u8>), ControlClientError> {
        loop {
            let is_fresh =
                |connection: &Connection| clock::now().since(connection.since) < MAX_CONNECTION_AGE;
            let pooled = self.connection.take().filter(is_fresh);
            let reused = pooled.is_some();
            let mut connection = match pooled {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let request = Request::builder().method(method.clone()).uri(path);
            let request = request.header("host", "tokenkeep").body(Body::empty());
            let request =
                request.map_err(|error| ControlClientError::InvalidResponse(error.to_string()))?;
            let sent = match connection.sender.ready().await {
                Ok(()) => connection.sender.try_send_request(request).await.map_err(|error| {
                    // A request that was not sent can be retried.
                    (error.message().is_some(), error.into_error())
                }),
                Err(error) => Err((true, error)),
            };
            match sent {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await;
                    let body = body
                        .map_err(|error| ControlClientError::InvalidResponse(error.to_string()))?;
                    self.connection = Some(connection);
                    return Ok((head, body.to_bytes().to_vec()));
                }
                Err((true, _)) if reused => {}
                Err((_, error)) => return Err(self.unavailable(&error.to_string())),
            }
        }
    }

    async fn connect(&self) -> Result<Connection, ControlClientError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| {
            let path = self.path.clone();
            match error.kind() {
                io::ErrorKind::PermissionDenied => ControlClientError::PermissionDenied(path),
                _ => ControlClientError::NoDaemon { path, error },
            }
        })?;
        let connected = handshake(TokioIo::new(stream)).await;
        let (sender, connection) =
            connected.map_err(|error| self.unavailable(&error.to_string()))?;
        let driver = tokio::spawn(async move {
            // The next request notices that the connection is closed.
            let _ = connection.await;
        });
        Ok(Connection { sender, driver, since: clock::now() })
    }

    fn unavailable(&self, why: &str) -> ControlClientError {
        let error = io::Error::other(why.to_owned());
        ControlClientError::NoDaemon { path: self.path.clone(), error }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ControlClientError> {
    serde_json::from_slice(body)
        .map_err(|error| ControlClientError::InvalidResponse(error.to_string()))
}
