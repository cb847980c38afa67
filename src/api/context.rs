//! Context of a request, for error messages.

use std::borrow::Cow;

use super::endpoint::Endpoint;
use super::redact::clean;

/// The request that an error message is about, and the secrets that must not appear in it.
#[derive(Clone, Copy)]
pub(super) struct RequestContext<'a> {
    /// The server's name in the configuration.
    pub(super) server: &'a str,
    pub(super) endpoint: Endpoint,
    /// The name of the profile that describes the request; `None` for the native API.
    pub(super) profile: Option<&'a str>,
    /// Everything secret that was sent.
    pub(super) secrets: &'a [&'a str],
}

impl RequestContext<'_> {
    /// The name of the call.
    pub(super) fn call(&self) -> Cow<'static, str> {
        match self.profile {
            None => self.endpoint.name().into(),
            Some(profile) => format!("`{}` of profile {profile}", self.endpoint.call()).into(),
        }
    }

    /// `text` of the server on one line, without the secrets, cut to a sentence's length.
    pub(super) fn clean(&self, text: &str) -> String {
        clean(text, self.secrets)
    }
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
