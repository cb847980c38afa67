//! Context of a request, for error messages.

use std::borrow::Cow;
use std::fmt;

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

/// The section of the configuration that a connection belongs to, for remedies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Section<'a> {
    /// The server of this name.
    Server(&'a str),
    /// etcd.
    Cluster,
}

impl Section<'_> {
    /// The key with the URL.
    pub(super) const fn url_key(self) -> &'static str {
        match self {
            Self::Server(_) => "url",
            Self::Cluster => "etcd",
        }
    }
}

impl fmt::Display for Section<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(name) => write!(f, "[server.{name}]"),
            Self::Cluster => f.write_str("[cluster]"),
        }
    }
}

/// What is known about TLS client authentication with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientCertificateState {
    /// A certificate is configured.
    Configured,
    /// None is configured, and the server has asked for one.
    Lacking,
    /// None is configured, and the server has not asked for one.
    NotAskedFor,
}
