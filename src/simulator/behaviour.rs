//! How a simulated server behaves as long as nothing goes wrong.

use std::time::Duration;

use jiff::SignedDuration;
use secrecy::SecretString;

/// One of the API's calls.
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
    /// The endpoint that answers at `name`, the last part of an address.
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

/// What puts a token back to its full life. The API's reference says both of the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RenewsBy {
    /// Any successful call, a query included.
    #[default]
    Query,
    /// `RenewSessionToken` alone.
    Renew,
    /// Nothing: each token lives once.
    Neither,
}

/// Which life a call that renews reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reports {
    /// The full one.
    #[default]
    After,
    /// What was left when the call came.
    Before,
}

/// How an error is sent. Its `Errors` stand in the body either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ErrorStyle {
    /// With the error's own status as the HTTP status.
    #[default]
    AsHttpStatus,
    /// With HTTP 200.
    InBodyOnly,
}

/// How a simulated server behaves. The default is the API as its reference has it: any
/// call renews, no latency, nobody can log in.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// What renews a token.
    pub renews_by: RenewsBy,
    /// Which life a renewing call reports.
    pub reports: Reports,
    /// How errors are sent.
    pub errors: ErrorStyle,
    /// Report lives in whole seconds, rounded down.
    pub whole_seconds: bool,
    /// `RenewSessionToken` gives a new value; the old one is unknown from then on.
    pub rotates: bool,
    /// Every call is answered with status 500.
    pub maintenance: bool,
    /// How far the server's clock is ahead of this machine's.
    pub clock_offset: SignedDuration,
    /// How long a call takes: one half before it takes effect, one half after.
    pub latency: Duration,
    /// The base URL's path, such as `/api/v2`; empty for none.
    pub path_prefix: String,
    /// The key that `GetSessionToken` accepts; `None`: it accepts none.
    pub api_key: Option<SecretString>,
    /// The life of a token from `GetSessionToken`, in place of the `Minutes` asked for.
    pub login_life: Option<Duration>,
}
