//! Client of the Sarus market data session API.
//!
//! Owns everything specific to this API: URLs, envelope, statuses. It returns outcomes and errors,
//! and never a type of the HTTP library, a URL with a query, or a secret.
//!
//! Sending (`request`) and interpreting (`interpret`) are separate; the latter is pure.
//!
//! From top to bottom; a file uses only files below it:
//!
//! ```text
//! request                 sends, reads the body, resends once
//! webhook                 posts to URLs outside the API
//! interpret  connections  meaning of a response; pools
//! http_client  fast_path  settings of the HTTP library; reads the usual response
//! transport_error  tunnel
//! envelope  materials  status  context
//! client_error  retry_after  redact  json_repair  certificate
//! endpoint
//! ```

mod certificate;
mod client_error;
mod connections;
mod context;
mod endpoint;
mod envelope;
mod fast_path;
mod http_client;
mod interpret;
mod json_repair;
mod materials;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;
mod redact;
mod request;
mod retry_after;
mod status;
mod transport_error;
mod tunnel;
mod webhook;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

pub use self::client_error::ClientError;
pub use self::connections::ConnectionLimits;
use self::connections::{Connections, Lease, Verdict};
use self::context::RequestContext;
use self::endpoint::{Endpoint, EndpointUrls};
use self::interpret::RawResponse;
pub use self::materials::CertificateWarning;
use self::materials::Materials;
use self::request::OnEnd;
use self::status::ResponseError;
use self::transport_error::RequestTimeouts;
pub use self::webhook::{HeaderLine, WebhookClient};
use crate::outcome::{CallError, Connection, Outcome};
use crate::secret::TokenValue;
use crate::settings::Server;

/// Client of one server. Clones share the connections.
///
/// Each call has a time-out, from connecting to the last byte of the response. The caller limits
/// the rate and the number of concurrent calls.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    connections: Connections,
    urls: EndpointUrls,
    server: String,
    connect_timeout: Duration,
    /// Whether a renewal on this server has replaced a value.
    replaces_values: AtomicBool,
}

/// Result of [`Client::renew`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// The outcome; [`Outcome::Alive`] if the token was renewed.
    pub outcome: Outcome,
    /// The new value, if the server replaced the one sent. It is set even if the rest of the
    /// response is invalid, because the old value may be dead.
    pub new_value: Option<TokenValue>,
    /// The new refresh token, if the response names one.
    pub new_refresh: Option<TokenValue>,
}

/// Result of a login by a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// The token value.
    pub value: TokenValue,
    /// The refresh token that belongs to it, if the response names one.
    pub refresh: Option<TokenValue>,
}

impl Renewed {
    /// A renewal without a new value.
    pub(crate) const fn failed(outcome: Outcome) -> Self {
        Self { outcome, new_value: None, new_refresh: None }
    }
}

/// Why [`Client::login`] returned no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", fault.error)]
pub struct LoginError {
    /// What follows from it.
    pub kind: LoginErrorKind,
    /// What the server said.
    pub fault: CallError,
}

/// What a failed login means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginErrorKind {
    /// The API does not accept the key.
    Refused,
    /// The server asks for a pause.
    Throttled {
        /// How long no request may be sent to the server: 1 s to 15 min.
        retry_after: Duration,
    },
    /// The API rejects the request itself: the configuration or the account must be corrected.
    Misconfigured,
    /// The API reports success without a usable token. A session was probably opened.
    Useless,
    /// Inconclusive: no response, a 5xx, or a response that is not the API's own.
    Unavailable,
}

impl LoginErrorKind {
    /// Whether the attempt was inconclusive, so that it counts toward no limit.
    pub const fn is_inconclusive(self) -> bool {
        match self {
            Self::Throttled { .. } | Self::Unavailable => true,
            Self::Refused | Self::Misconfigured | Self::Useless => false,
        }
    }
}

impl Client {
    /// A client for `server`. Reads the files that it names, and opens no connection yet.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or used, `proxy` is invalid, or this machine trusts no certificate
    /// authority.
    pub fn new(server: &Server) -> Result<Self, ClientError> {
        Self::with_limits(server, ConnectionLimits::default())
    }

    /// A client with other connection limits than the default ones.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn with_limits(server: &Server, limits: ConnectionLimits) -> Result<Self, ClientError> {
        Self::from_materials(server, Materials::read(server)?, limits)
    }

    /// Reads the files of `server` again. Returns a new client if one of them or the system's
    /// authorities have changed. `server` is what this client was created for.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn reread(&self, server: &Server) -> Result<Option<Self>, ClientError> {
        let materials = Materials::read(server)?;
        if materials.fingerprint == self.0.connections.factory().fingerprint() {
            return Ok(None);
        }
        Self::from_materials(server, materials, ConnectionLimits::default()).map(Some)
    }

    /// A problem of the client certificate that does not prevent its use.
    pub fn certificate_warning(&self) -> Option<&CertificateWarning> {
        self.0.connections.factory().warning()
    }

    fn from_materials(
        server: &Server,
        materials: Materials,
        limits: ConnectionLimits,
    ) -> Result<Self, ClientError> {
        Ok(Self(Arc::new(Inner {
            connections: Connections::new(server, materials, limits)?,
            urls: EndpointUrls::under(&server.url),
            server: server.name.clone(),
            connect_timeout: server.connect_timeout.min(server.timeout),
            replaces_values: AtomicBool::new(false),
        })))
    }

    /// Reads the token's remaining life (`QuerySessionToken`). If a reused connection ends before
    /// the response, the query is sent once more on a fresh one, within the same time-out.
    pub async fn query(
        &self,
        token: &TokenValue,
        timeout: Duration,
        connection: Connection,
    ) -> Outcome {
        let context = self.context(Endpoint::Query, token.expose());
        let parameters = [("SessionToken", token.expose())];
        let (response, lease) =
            self.call(&context, &parameters, timeout, connection, OnEnd::Resend).await;
        let outcome = match response {
            Ok(response) => interpret::query(&context, &response),
            Err(failure) => failure.into(),
        };
        self.0.connections.judge(&lease, Verdict::from(&outcome));
        outcome
    }

    /// Renews the token (`RenewSessionToken`). It is resent like a query, unless the server has
    /// replaced a value in a renewal: the second request would then name a value that the first has
    /// ended.
    pub async fn renew(
        &self,
        token: &TokenValue,
        timeout: Duration,
        connection: Connection,
    ) -> Renewed {
        let context = self.context(Endpoint::Renew, token.expose());
        let parameters = [("SessionToken", token.expose())];
        let replaces_values = self.0.replaces_values.load(Ordering::Relaxed);
        let on_end = if replaces_values { OnEnd::Fail } else { OnEnd::Resend };
        let (response, lease) = self.call(&context, &parameters, timeout, connection, on_end).await;
        let renewed = match response {
            Ok(response) => interpret::renew(&context, &response, token),
            Err(failure) => Renewed::failed(failure.into()),
        };
        self.0.connections.judge(&lease, Verdict::from(&renewed.outcome));
        if renewed.new_value.is_some() {
            self.0.replaces_values.store(true, Ordering::Relaxed);
        }
        renewed
    }

    /// Opens a session of `minutes`, 1 to 1440, with an API key (`GetSessionToken`), on a fresh
    /// connection. It is sent once, because each request that arrives may open a session.
    ///
    /// # Errors
    ///
    /// If the response contains no usable token; [`LoginError::kind`] tells what that means.
    pub async fn login(
        &self,
        api_key: &SecretString,
        minutes: u16,
        timeout: Duration,
    ) -> Result<TokenValue, LoginError> {
        let key = api_key.expose_secret();
        let context = self.context(Endpoint::Login, key);
        let minutes = minutes.to_string();
        let parameters = [("APIKey", key), ("Minutes", &*minutes)];
        let (response, lease) =
            self.call(&context, &parameters, timeout, Connection::Fresh, OnEnd::Fail).await;
        let login = match response {
            Ok(response) => interpret::login(&context, &response),
            Err(ResponseError { fault, .. }) => {
                Err(LoginError { kind: LoginErrorKind::Unavailable, fault })
            }
        };
        let conclusive = match &login {
            Ok(_) => true,
            Err(fault) => fault.kind == LoginErrorKind::Refused,
        };
        let verdict = if conclusive { Verdict::Conclusive } else { Verdict::Inconclusive };
        self.0.connections.judge(&lease, verdict);
        login
    }

    /// Ends the token's session (`RevokeSessionToken`) on a fresh connection, because it is rare
    /// and is not retried.
    ///
    /// # Errors
    ///
    /// If the server did not confirm it. [`CallError::status`] is 401 or 410 if the token was
    /// already dead.
    pub async fn revoke(&self, token: &TokenValue, timeout: Duration) -> Result<(), CallError> {
        let context = self.context(Endpoint::Revoke, token.expose());
        let parameters = [("SessionToken", token.expose())];
        let (response, lease) =
            self.call(&context, &parameters, timeout, Connection::Fresh, OnEnd::Fail).await;
        let revoked = response
            .map_err(|failure| failure.fault)
            .and_then(|response| interpret::revoke(&context, &response));
        let verdict = if revoked.is_ok() { Verdict::Conclusive } else { Verdict::Inconclusive };
        self.0.connections.judge(&lease, verdict);
        revoked
    }

    fn context<'a>(&'a self, endpoint: Endpoint, secret: &'a str) -> RequestContext<'a> {
        RequestContext { server: &self.0.server, endpoint, secret }
    }

    /// Sends a request. The returned lease is the one that the response came from.
    async fn call(
        &self,
        context: &RequestContext<'_>,
        parameters: &[(&str, &str)],
        timeout: Duration,
        connection: Connection,
        on_end: OnEnd,
    ) -> (Result<RawResponse, ResponseError>, Lease) {
        let Inner { connections, urls, connect_timeout, .. } = &*self.0;
        let url = || urls.with(context.endpoint, parameters);
        let timeouts = RequestTimeouts { timeout, connect_timeout: *connect_timeout };
        let mut lease = connections.lease(connection);
        let response = request::get(connections, &mut lease, url, on_end, timeouts, context).await;
        (response, lease)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.0.server).finish_non_exhaustive()
    }
}
