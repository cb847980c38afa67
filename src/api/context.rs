//! What a request was about, for the words of its error.

use super::endpoint::Endpoint;

/// What was asked: decides the words of a fault, and what must not stand in them.
pub(super) struct RequestContext<'a> {
    /// The server's name in the configuration.
    pub(super) server: &'a str,
    pub(super) endpoint: Endpoint,
    /// The token value or API key that was sent.
    pub(super) secret: &'a str,
}

/// What is known of TLS client authentication with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientCertificateState {
    /// A certificate is configured.
    Configured,
    /// None is configured, and the server has asked for one.
    Lacking,
    /// None is configured, and the server has not asked for one.
    NotAskedFor,
}
