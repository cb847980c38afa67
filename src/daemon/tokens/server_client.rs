//! The API client of one server, or the error that keeps it from being built.
//!
//! If a file that a server needs cannot be read at startup, the daemon runs without a client for
//! this server. Every call then fails as if the server were unavailable, so no token is taken for
//! dead.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use crate::api::{Client, ClientError, LoginError, LoginErrorKind, Renewed};
use crate::outcome::{CallError, Connection, Outcome};
use crate::secret::TokenValue;

/// The class of the error of a server without a client.
pub(crate) const UNUSABLE: &str = "a file of its configuration cannot be used";

/// The client of a server.
#[derive(Debug, Clone)]
pub(crate) enum ServerClient {
    /// A client.
    Built(Client),
    /// Why there is no client yet.
    Unusable(Arc<str>),
}

impl ServerClient {
    pub(crate) const fn is_built(&self) -> bool {
        matches!(self, Self::Built(_))
    }

    /// [`Client::query`]; without a client, the outcome is inconclusive.
    pub(crate) async fn query(
        &self,
        token: &TokenValue,
        timeout: Duration,
        connection: Connection,
    ) -> Outcome {
        match self {
            Self::Built(client) => client.query(token, timeout, connection).await,
            Self::Unusable(error) => Outcome::Unavailable(fault(error)),
        }
    }

    /// [`Client::renew`]; without a client, the outcome is inconclusive.
    pub(crate) async fn renew(
        &self,
        token: &TokenValue,
        timeout: Duration,
        connection: Connection,
    ) -> Renewed {
        match self {
            Self::Built(client) => client.renew(token, timeout, connection).await,
            Self::Unusable(error) => {
                Renewed { outcome: Outcome::Unavailable(fault(error)), new_value: None }
            }
        }
    }

    /// [`Client::login`]; without a client, the attempt is inconclusive.
    pub(crate) async fn login(
        &self,
        api_key: &SecretString,
        minutes: u16,
        timeout: Duration,
    ) -> Result<TokenValue, LoginError> {
        match self {
            Self::Built(client) => client.login(api_key, minutes, timeout).await,
            Self::Unusable(error) => {
                Err(LoginError { kind: LoginErrorKind::Unavailable, fault: fault(error) })
            }
        }
    }

    /// [`Client::revoke`]
    pub(crate) async fn revoke(
        &self,
        token: &TokenValue,
        timeout: Duration,
    ) -> Result<(), CallError> {
        match self {
            Self::Built(client) => client.revoke(token, timeout).await,
            Self::Unusable(error) => Err(fault(error)),
        }
    }
}

fn fault(error: &Arc<str>) -> CallError {
    CallError { no_response: Some(UNUSABLE), ..CallError::new(&**error) }
}

/// Clients by the names of their servers.
pub(crate) type ServerClients = BTreeMap<String, ServerClient>;

/// An error with its cause.
pub(crate) fn error_text(error: &ClientError) -> String {
    match error.source() {
        Some(source) => format!("{error} ({source})"),
        None => error.to_string(),
    }
}
