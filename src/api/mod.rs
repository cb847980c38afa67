//! The session API of Sarus market data, seen from the daemon.
//!
//! Owns everything that is this API's own: addresses, envelope, statuses. What leaves the
//! module are outcomes and faults. Never lets out a type of the HTTP library, a URL with
//! a query, or a secret.
//!
//! Sending (`request`) and concluding (`interpret`) are apart, and the latter is pure.

mod certificate;
mod connections;
mod endpoint;
mod envelope;
mod fast_path;
mod http_client;
mod interpret;
mod json_repair;
mod materials;
mod redact;
mod request;
mod retry_after;
mod status;
mod transport_error;
mod tunnel;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

pub use self::connections::ConnectionLimits;
use self::connections::{Connections, Lease, Verdict};
use self::endpoint::{Endpoint, EndpointUrls};
pub use self::http_client::ClientError;
use self::interpret::{RawResponse, RequestContext};
pub use self::materials::CertificateWarning;
use self::materials::Materials;
use self::request::OnEnd;
use self::status::ResponseError;
use self::transport_error::RequestTimeouts;
use crate::outcome::{CallError, Connection, Outcome};
use crate::secret::TokenValue;
use crate::settings::Server;

/// One server's API. A clone shares the connections.
///
/// Each call takes the longest time that it may last, from connecting to the last byte of
/// the answer. How many calls run at once, and how often, is the caller's to limit.
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

/// The answer to [`Client::renew`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// The conclusion about the token, [`Outcome::Alive`] if it was renewed.
    pub outcome: Outcome,
    /// The value that the server gave in place of the one sent, if it names another. It is
    /// there even when the rest of the answer made no sense: the old value may be dead.
    pub new_value: Option<TokenValue>,
}

/// Why [`Client::login`] gave no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", fault.error)]
pub struct LoginError {
    /// What follows from it.
    pub kind: LoginErrorKind,
    /// What the server said.
    pub fault: CallError,
}

/// What follows from a failed login.
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
    /// No conclusion: no response, a 5xx, or a response that is not the API's own.
    Unavailable,
}

impl LoginErrorKind {
    /// Whether the attempt came to no conclusion, so that it counts toward no limit.
    pub const fn is_inconclusive(self) -> bool {
        match self {
            Self::Throttled { .. } | Self::Unavailable => true,
            Self::Refused | Self::Misconfigured | Self::Useless => false,
        }
    }
}

impl Client {
    /// A client for `server`. Reads the files that it names; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or used, `proxy` cannot be used, or this machine trusts no
    /// certificate authority at all.
    pub fn new(server: &Server) -> Result<Self, ClientError> {
        Self::with_limits(server, ConnectionLimits::default())
    }

    /// The same with other limits for its connections than the default ones.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn with_limits(server: &Server, limits: ConnectionLimits) -> Result<Self, ClientError> {
        Self::from_materials(server, Materials::read(server)?, limits)
    }

    /// Reads the files of `server` again: another client if one of them has changed, or the
    /// system's authorities have. `server` is what this client was made for.
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

    /// What is wrong with the client certificate although it can be used.
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

    /// Asks for the token's remaining life (`QuerySessionToken`). If a reused connection ends
    /// before the response, the query is sent once more on a fresh one, in the same time.
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

    /// Extends the token's life (`RenewSessionToken`). Sent once more as a query is, but not on
    /// a server that has replaced a value in a renewal: the second renewal would then name a
    /// value that the first has ended.
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
            Err(failure) => Renewed { outcome: failure.into(), new_value: None },
        };
        self.0.connections.judge(&lease, Verdict::from(&renewed.outcome));
        if renewed.new_value.is_some() {
            self.0.replaces_values.store(true, Ordering::Relaxed);
        }
        renewed
    }

    /// Opens a session of `minutes`, 1 to 1440, with an API key (`GetSessionToken`), on a fresh
    /// connection. It is sent once: each request that arrives may open a session.
    ///
    /// # Errors
    ///
    /// When no usable token came back; [`LoginError::kind`] tells what follows.
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

    /// Ends the token's session (`RevokeSessionToken`), on a fresh connection: it is rare, and
    /// nothing tries it again.
    ///
    /// # Errors
    ///
    /// When the server did not confirm it. [`CallError::status`] is 401 or 410 where the token
    /// was dead already.
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

    /// Sends a request. The lease that comes with the response is what it came from.
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
