//! The session API of Sarus market data, seen from the daemon.
//!
//! Owns everything that is this API's own: addresses, envelope, statuses. What leaves the
//! module are outcomes and faults. Never lets out a type of the HTTP library, a URL with
//! a query, or a secret.
//!
//! Sending (`send`) and concluding (`interpret`) are apart, and the latter is pure.

mod connect;
mod endpoint;
mod envelope;
mod failure;
mod glance;
mod interpret;
mod quiet;
mod redact;
mod send;
mod transport;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

pub use self::connect::ClientError;
use self::endpoint::{Addresses, Endpoint};
use self::interpret::{Answer, Asked};
use self::transport::Limits;
use crate::outcome::{Connection, Fault, Outcome};
use crate::secret::TokenValue;
use crate::settings::Server;

/// One server's API. A clone shares the connections.
///
/// Each call takes the longest time that it may last, from connecting to the last byte of
/// the answer. How many calls run at once, and how often, is the caller's to limit.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    addresses: Addresses,
    server: String,
    connect_timeout: Duration,
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
pub struct LoginFault {
    /// What follows from it.
    pub kind: LoginFaultKind,
    /// What the server said.
    pub fault: Fault,
}

/// What follows from a failed login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginFaultKind {
    /// The API does not accept the key.
    Refused,
    /// The server asks for quiet.
    Throttled {
        /// How long the whole server is left alone: 1 s to 15 min.
        retry_after: Duration,
    },
    /// The request is refused for what it is: somebody has to mend something.
    Misconfigured,
    /// No conclusion; worth another try.
    Unavailable,
}

impl Client {
    /// A client for `server`. Reads `ca_file`; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// When `ca_file` cannot be read or holds no certificate, `proxy` cannot be used, or
    /// this machine trusts no certificate authority at all.
    pub fn new(server: &Server) -> Result<Self, ClientError> {
        Ok(Self(Arc::new(Inner {
            http: connect::client(server)?,
            addresses: Addresses::under(&server.url),
            server: server.name.clone(),
            connect_timeout: server.connect_timeout.min(server.timeout),
        })))
    }

    /// Asks for the token's remaining life (`QuerySessionToken`).
    pub async fn query(
        &self,
        token: &TokenValue,
        timeout: Duration,
        _connection: Connection,
    ) -> Outcome {
        let asked = self.asked(Endpoint::Query, token.expose());
        match self.call(&asked, &[("SessionToken", token.expose())], timeout).await {
            Ok(answer) => interpret::query(&asked, &answer),
            Err(fault) => Outcome::Unavailable(fault),
        }
    }

    /// Extends the token's life (`RenewSessionToken`).
    pub async fn renew(
        &self,
        token: &TokenValue,
        timeout: Duration,
        _connection: Connection,
    ) -> Renewed {
        let asked = self.asked(Endpoint::Renew, token.expose());
        match self.call(&asked, &[("SessionToken", token.expose())], timeout).await {
            Ok(answer) => interpret::renew(&asked, &answer, token),
            Err(fault) => Renewed { outcome: Outcome::Unavailable(fault), new_value: None },
        }
    }

    /// Opens a session of `minutes`, 1 to 1440, with an API key (`GetSessionToken`).
    ///
    /// # Errors
    ///
    /// When no usable token came back; [`LoginFault::kind`] tells what follows.
    pub async fn login(
        &self,
        api_key: &SecretString,
        minutes: u16,
        timeout: Duration,
    ) -> Result<TokenValue, LoginFault> {
        let key = api_key.expose_secret();
        let asked = self.asked(Endpoint::Login, key);
        let minutes = minutes.to_string();
        match self.call(&asked, &[("APIKey", key), ("Minutes", &minutes)], timeout).await {
            Ok(answer) => interpret::login(&asked, &answer),
            Err(fault) => Err(LoginFault { kind: LoginFaultKind::Unavailable, fault }),
        }
    }

    /// Ends the token's session (`RevokeSessionToken`).
    ///
    /// # Errors
    ///
    /// When the server did not confirm it. [`Fault::status`] is 401 or 410 where the token
    /// was dead already.
    pub async fn revoke(&self, token: &TokenValue, timeout: Duration) -> Result<(), Fault> {
        let asked = self.asked(Endpoint::Revoke, token.expose());
        let answer = self.call(&asked, &[("SessionToken", token.expose())], timeout).await?;
        interpret::revoke(&asked, &answer)
    }

    fn asked<'a>(&'a self, endpoint: Endpoint, secret: &'a str) -> Asked<'a> {
        Asked { server: &self.0.server, endpoint, secret }
    }

    async fn call(
        &self,
        asked: &Asked<'_>,
        parameters: &[(&str, &str)],
        timeout: Duration,
    ) -> Result<Answer, Fault> {
        let url = self.0.addresses.with(asked.endpoint, parameters);
        let limits = Limits { timeout, connect_timeout: self.0.connect_timeout };
        send::get(&self.0.http, url, limits, asked).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.0.server).finish_non_exhaustive()
    }
}
