//! The hook for tests: what happens in place of a call's answer.

use axum::body::Body;
use axum::http::Response;
use jiff::Timestamp;

use super::behaviour::Endpoint;

/// One way in which a call goes wrong.
#[derive(Debug)]
pub enum Fault {
    /// An error in the API's envelope.
    Error {
        /// Its status.
        status: u16,
        /// Its explanation.
        detail: String,
    },
    /// This response in place of the API's.
    Response(Response<Body>),
    /// No answer, ever.
    Silence,
    /// The connection is reset before a word of the answer.
    Reset,
    /// The call takes effect, but the connection is reset before its answer.
    AnswerLost,
}

/// Decides whether a call goes wrong. It gets the endpoint, the token value or API key, and what
/// the server's clock shows.
pub type Interceptor =
    Box<dyn FnMut(Option<Endpoint>, Option<&str>, Timestamp) -> Option<Fault> + Send>;
