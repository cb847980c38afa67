//! Configuration of a simulated server.

use std::time::Duration;

use jiff::SignedDuration;
use secrecy::SecretString;

/// An endpoint of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `QuerySessionToken`
    Query,
    /// `RenewSessionToken`
    Renew,
    /// `GetSessionToken`
    Login,
    /// `RevokeSessionToken`
    Revoke,
}

impl Endpoint {
    /// The endpoint named `name`, the last segment of the path.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "QuerySessionToken" => Some(Self::Query),
            "RenewSessionToken" => Some(Self::Renew),
            "GetSessionToken" => Some(Self::Login),
            "RevokeSessionToken" => Some(Self::Revoke),
            _ => None,
        }
    }
}

/// Which request renews a token. The API's reference is ambiguous about the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RenewsBy {
    /// Any successful request, including a query.
    #[default]
    Query,
    /// Only `RenewSessionToken`.
    Renew,
    /// No request.
    Neither,
}

/// Which remaining life a renewing request reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reports {
    /// The life after the renewal.
    #[default]
    After,
    /// The life before the renewal.
    Before,
}

/// How an error is sent. The body contains `Errors` in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ErrorStyle {
    /// With the error's own status as the HTTP status.
    #[default]
    AsHttpStatus,
    /// With HTTP 200.
    InBodyOnly,
}

/// Behaviour of a simulated server. The default follows the API's reference: any request renews,
/// there is no latency, and logins are rejected.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// What renews a token.
    pub renews_by: RenewsBy,
    /// Which remaining life a renewing request reports.
    pub reports: Reports,
    /// How errors are sent.
    pub errors: ErrorStyle,
    /// Whether lives are reported in whole seconds, rounded down.
    pub whole_seconds: bool,
    /// Whether `RenewSessionToken` returns a new value and invalidates the old one.
    pub rotates: bool,
    /// Whether every request fails with status 500.
    pub maintenance: bool,
    /// Offset of the server's clock from this machine's clock.
    pub clock_offset: SignedDuration,
    /// Latency of a request: one half before it takes effect, one half after.
    pub latency: Duration,
    /// Path of the base URL, such as `/api/v2`; empty for none.
    pub path_prefix: String,
    /// The key that `GetSessionToken` accepts; `None` rejects all keys.
    pub api_key: Option<SecretString>,
    /// The life of a token from `GetSessionToken`, instead of the requested `Minutes`.
    pub login_life: Option<Duration>,
}
