//! Fault injection for tests: replaces the response to a request.

use axum::body::Body;
use axum::http::Response;
use jiff::Timestamp;

use super::behaviour::Endpoint;

/// A fault that replaces a response.
#[derive(Debug)]
pub enum Fault {
    /// An error in the API's envelope.
    Error {
        /// The status.
        status: u16,
        /// The text.
        detail: String,
    },
    /// This response instead of the API's.
    Response(Response<Body>),
    /// No response at all; the connection stays open.
    Silence,
    /// The connection is reset before the response.
    Reset,
    /// The request takes effect, but the connection is reset before the response.
    AnswerLost,
}

/// Decides whether to inject a fault. Gets the endpoint, the token value or API key, and the time of
/// the server's clock.
pub type Interceptor =
    Box<dyn FnMut(Option<Endpoint>, Option<&str>, Timestamp) -> Option<Fault> + Send>;
