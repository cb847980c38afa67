//! Context of a request, for error messages.

use super::endpoint::Endpoint;

/// The request that an error message is about, and the secret that must not appear in it.
pub(super) struct RequestContext<'a> {
    /// The server's name in the configuration.
    pub(super) server: &'a str,
    pub(super) endpoint: Endpoint,
    /// The token value or API key that was sent.
    pub(super) secret: &'a str,
}

/// What is known about TLS client authentication with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientCertificateState {
    /// A certificate is configured.
    Configured,
    /// None is configured, and the server has asked for one.
    Lacking,
    /// None is configured, and the server has not asked for one.
    NotAskedFor,
}
