//! Errors of the control API: a kind for programs, a sentence for people.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::text::printable;

/// Kind of an API error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiErrorKind {
    /// The request is invalid.
    BadRequest,
    /// The client lacks permission.
    Forbidden,
    /// The token or path does not exist.
    NotFound,
    /// The path does not support the method.
    MethodNotAllowed,
    /// The request conflicts with the token's state.
    Conflict,
    /// Another replica checks the token.
    Elsewhere,
    /// The daemon is stopping or did not respond in time, or etcd cannot be used.
    Unavailable,
}

/// An error of the control API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The kind, for programs.
    pub kind: ApiErrorKind,
    /// The message, for people. Contains no secret.
    pub message: String,
}

/// The JSON envelope of an error.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ErrorEnvelope {
    pub(super) error: ApiError,
}

impl ApiError {
    /// An error of this kind. `message` may quote the request: control characters are escaped.
    pub fn new(kind: ApiErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: printable(&message.into()).into_owned() }
    }

    /// The error for an unknown token.
    pub fn no_token(name: &str) -> Self {
        Self::new(ApiErrorKind::NotFound, format!("there is no token named {name:?}"))
    }

    /// The error for a request that only `replica` can do, because it checks the token.
    pub fn elsewhere(replica: &str) -> Self {
        let message = format!("replica {replica} checks this token; run the command there");
        Self::new(ApiErrorKind::Elsewhere, message)
    }

    /// The error for a request that needs etcd, which cannot be used.
    pub fn no_etcd(action: &str, reason: &str) -> Self {
        let message = format!("{action} needs etcd, which cannot be used: {reason}");
        Self::new(ApiErrorKind::Unavailable, message)
    }

    /// The error for a request about the cluster to a daemon alone.
    pub fn no_cluster() -> Self {
        let message = "this daemon is not in a cluster: its configuration has no [cluster]";
        Self::new(ApiErrorKind::NotFound, message)
    }

    /// The error for a request during shutdown.
    pub(super) fn stopping() -> Self {
        Self::new(ApiErrorKind::Unavailable, "the daemon is stopping")
    }
}

impl ApiErrorKind {
    const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict | Self::Elsewhere => StatusCode::CONFLICT,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.kind.status(), Json(ErrorEnvelope { error: self })).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_that_is_quoted_in_an_error_does_not_change_a_terminal() {
        let error = ApiError::new(ApiErrorKind::BadRequest, "unknown field `\u{1b}[2J\u{202e}`");
        assert_eq!(error.message, "unknown field `\\u{1b}[2J\\u{202e}`");
    }
}
