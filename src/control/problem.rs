//! Why a request was not fulfilled: a kind that programs match on, a sentence for people.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::text::printable;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The request cannot be understood.
    BadRequest,
    /// The caller may not do that.
    Forbidden,
    /// There is no such token, or no such path.
    NotFound,
    /// The path knows no such method.
    MethodNotAllowed,
    /// It makes no sense in the token's state.
    Conflict,
    /// The daemon stops, or is not done in time.
    Unavailable,
}

/// Why a request was not fulfilled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// For programs.
    pub kind: ProblemKind,
    /// For people; holds no secret.
    pub message: String,
}

/// A problem's envelope.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Enveloped {
    pub(super) error: Problem,
}

impl Problem {
    /// A problem of this kind. `message` may quote the request: characters that a terminal
    /// would not show as they are, are escaped.
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, message: printable(&message.into()).into_owned() }
    }

    /// There is no token called `name`.
    pub fn no_token(name: &str) -> Self {
        Self::new(ProblemKind::NotFound, format!("there is no token called {name:?}"))
    }

    /// The daemon ends before it could answer.
    pub(super) fn stopping() -> Self {
        Self::new(ProblemKind::Unavailable, "the daemon is stopping")
    }
}

impl ProblemKind {
    const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.kind.status(), Json(Enveloped { error: self })).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_that_is_quoted_in_an_error_does_not_change_a_terminal() {
        let problem = Problem::new(ProblemKind::BadRequest, "unknown field `\u{1b}[2J\u{202e}`");
        assert_eq!(problem.message, "unknown field `\\u{1b}[2J\\u{202e}`");
    }
}
