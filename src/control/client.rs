//! Client of the control socket, for the command line: HTTP over a Unix socket.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::http::response::Parts;
use axum::http::{Method, Request, StatusCode};
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::error::{ApiError, ApiErrorKind, ErrorEnvelope};
use super::routes::STATE_HEADER;
use super::types::{Reloaded, Reloading};
use crate::lifecycle::State;

/// Response timeout: longer than the daemon serves one connection.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum size of a response, in bytes: 30 times a page of a thousand tokens with the longest
/// names.
const MAX_RESPONSE_BYTES: usize = 32 * 1024 * 1024;

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

/// A client of one daemon. Each request has its own connection: the daemon closes old ones, possibly
/// during a request whose outcome would then be unknown.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// A client of the daemon that listens on `path`. Does not connect yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Gets the JSON document at `path`.
    ///
    /// # Errors
    ///
    /// See [`ControlClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ControlClientError> {
        read(&self.request(Method::GET, path).await?.1)
    }

    /// Gets the token value at `path`, and whether the token is known to be alive.
    ///
    /// # Errors
    ///
    /// See [`ControlClientError`].
    pub async fn get_value(&self, path: &str) -> Result<(String, bool), ControlClientError> {
        let (head, body) = self.request(Method::GET, path).await?;
        let verified =
            head.headers.get(STATE_HEADER).is_none_or(|state| state != State::Unverified.as_str());
        Ok((String::from_utf8(body).map_err(|_| invalid(&"it is not text"))?, verified))
    }

    /// Posts an action. Returns when the daemon has accepted it, not when it is done.
    ///
    /// # Errors
    ///
    /// See [`ControlClientError`].
    pub async fn post(&self, path: &str) -> Result<(), ControlClientError> {
        self.request(Method::POST, path).await.map(drop)
    }

    /// Starts a reload or waits for one. Returns `Ok(Err(_))` if the reload is still in progress
    /// after the daemon's timeout.
    ///
    /// # Errors
    ///
    /// See [`ControlClientError`].
    pub async fn reload(
        &self,
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
        &self,
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
        &self,
        method: Method,
        path: &str,
    ) -> Result<(Parts, Vec<u8>), ControlClientError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| {
            let path = self.path.clone();
            match error.kind() {
                io::ErrorKind::PermissionDenied => ControlClientError::PermissionDenied(path),
                _ => ControlClientError::NoDaemon { path, error },
            }
        })?;
        let unavailable = |error: hyper::Error| self.unavailable(&error.to_string());
        let (mut sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(unavailable)?;
        // Ends with the sender; the request reports its errors.
        tokio::spawn(connection.map(drop));
        let request = Request::builder().method(method).uri(path).header("host", "tokenkeep");
        let request = request.body(Body::empty()).map_err(|error| invalid(&error))?;
        let (head, body) = sender.send_request(request).await.map_err(unavailable)?.into_parts();
        let body = Limited::new(body, MAX_RESPONSE_BYTES)
            .collect()
            .await
            .map_err(|error| invalid(&error))?;
        Ok((head, body.to_bytes().to_vec()))
    }

    fn unavailable(&self, why: &str) -> ControlClientError {
        let error = io::Error::other(why.to_owned());
        ControlClientError::NoDaemon { path: self.path.clone(), error }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ControlClientError> {
    serde_json::from_slice(body).map_err(|error| invalid(&error))
}

fn invalid(why: &dyn fmt::Display) -> ControlClientError {
    ControlClientError::InvalidResponse(why.to_string())
}
