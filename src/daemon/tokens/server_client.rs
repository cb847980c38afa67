//! The API client of one server, or the error that keeps it from being built.
//!
//! If a file that a server needs cannot be read at start, the daemon runs without a client for
//! this server. Every call then fails as if the server were unavailable, so no token is taken for
//! dead. The daemon tries to build the client again every [`RETRY`] until it works.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use crate::api::{Client, ClientError, LoginFault, LoginFaultKind, Renewed};
use crate::clock;
use crate::daemon::tasks::Completion;
use crate::daemon::tasks::blocking::{DISK, blocking_among, with_disk_timeout};
use crate::daemon::tokens::ServerHandle;
use crate::daemon::{Daemon, DaemonError};
use crate::events::{Fields, Name, Severity};
use crate::keeper::ServerId;
use crate::outcome::{Connection, Fault, Outcome};
use crate::secret::TokenValue;
use crate::settings::{Server, Token};
use crate::time::Moment;

/// Time between two attempts to build a client.
const RETRY: Duration = Duration::from_secs(2);

/// What requests to a server are sent with.
#[derive(Debug, Clone)]
pub(crate) enum ServerClient {
    /// A client.
    Built(Client),
    /// The reason why there is none yet.
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
    ) -> Result<TokenValue, LoginFault> {
        match self {
            Self::Built(client) => client.login(api_key, minutes, timeout).await,
            Self::Unusable(error) => {
                Err(LoginFault { kind: LoginFaultKind::Unavailable, fault: fault(error) })
            }
        }
    }

    /// [`Client::revoke`]
    pub(crate) async fn revoke(&self, token: &TokenValue, timeout: Duration) -> Result<(), Fault> {
        match self {
            Self::Built(client) => client.revoke(token, timeout).await,
            Self::Unusable(error) => Err(fault(error)),
        }
    }
}

fn fault(error: &Arc<str>) -> Fault {
    Fault::new(&**error)
}

/// Clients by the names of their servers.
pub(crate) type ServerClients = BTreeMap<String, ServerClient>;

/// When the clients that could not be built are tried again.
#[derive(Debug, Default)]
pub(crate) struct ClientRetries {
    due: Option<Moment>,
}

impl ClientRetries {
    pub(crate) const fn due(&self) -> Option<Moment> {
        self.due
    }
}

/// An attempt to build a client: for which server, as it was configured then.
pub(crate) type Built = (ServerId, Server, Result<Client, ClientError>);

impl Daemon {
    /// Reports a server that has no client at start.
    pub(crate) fn report_unusable_server(&mut self, server: &Server, error: &ClientError) {
        let on_it = |token: &&Token| token.upkeep.server == server.name;
        let tokens = self.settings.tokens.iter().filter(on_it).count();
        let text = error_text(error);
        let path = error.path().map(|path| path.display().to_string());
        let message = format!(
            "{}: no request can be sent, and no token of this server is checked: {text}; trying \
             again every {} s",
            server.name,
            RETRY.as_secs(),
        );
        let fields = Fields {
            server: Some(&server.name),
            error: Some(&text),
            path: path.as_deref(),
            tokens: u64::try_from(tokens).ok(),
            retry_in_ms: u64::try_from(RETRY.as_millis()).ok(),
            ..Fields::default()
        };
        self.say(Name::ServerUnavailable, Severity::Error, &message, fields);
        self.client_retries.due = Some(clock::now() + RETRY);
    }

    /// Tries to build the missing clients, if that is due.
    pub(crate) fn retry_clients(&mut self, now: Moment) {
        if self.stopping || self.client_retries.due.is_none_or(|due| due > now) {
            return;
        }
        self.client_retries.due = None;
        let unusable: Vec<_> = self
            .tokens
            .registry
            .remotes()
            .filter(|(_, remote)| !remote.client.is_built())
            .map(|(id, remote)| (id, remote.settings.clone()))
            .collect();
        if unusable.is_empty() {
            return;
        }
        self.queries.spawn(async {
            let built = with_disk_timeout(blocking_among(&DISK, move || {
                let build = |(id, server): (_, Server)| {
                    let client = Client::new(&server);
                    (id, server, client)
                };
                unusable.into_iter().map(build).collect::<Vec<Built>>()
            }));
            Completion::ClientsBuilt(built.await.unwrap_or_default())
        });
    }

    /// Clients were tried again: those that were built are used from now on.
    pub(crate) fn clients_built(&mut self, built: Vec<Built>) {
        for (id, settings, client) in built {
            let Ok(client) = client else { continue };
            // A reload may have replaced the server meanwhile.
            let Some(remote) = self.tokens.registry.find_remote(id) else { continue };
            if remote.client.is_built() || remote.settings != settings {
                continue;
            }
            let client = ServerClient::Built(client);
            self.tokens.registry.put_server(id, ServerHandle { settings, client });
            self.report_usable_server(id);
        }
        if self.tokens.registry.remotes().any(|(_, remote)| !remote.client.is_built()) {
            self.client_retries.due = Some(clock::now() + RETRY);
        }
    }

    /// Whether a server can be asked and is not known to be down.
    pub(crate) fn is_available(&self, id: ServerId) -> bool {
        self.tokens.scheduler.is_available(id)
            && self.tokens.registry.find_remote(id).is_some_and(|remote| remote.client.is_built())
    }

    /// A server that had no client has one now.
    pub(crate) fn report_usable_server(&mut self, id: ServerId) {
        // If its circuit breaker is open, the first conclusive response is reported.
        if let Some(remote) = self.tokens.registry.find_remote(id)
            && self.tokens.scheduler.is_available(id)
        {
            let name = remote.settings.name.clone();
            let fields = Fields { server: Some(&name), ..Fields::default() };
            let message = format!("{name}: requests can be sent now");
            self.say(Name::ServerRecovered, Severity::Info, &message, fields);
        }
    }
}

/// Builds the clients of the first configuration. Servers whose error may pass have none for now,
/// and are returned as well.
pub(crate) fn first_clients(
    servers: &[Server],
) -> Result<(ServerClients, Vec<(Server, ClientError)>), DaemonError> {
    let (mut clients, mut unusable) = (BTreeMap::new(), Vec::new());
    for server in servers {
        let client = match Client::new(server) {
            Ok(client) => ServerClient::Built(client),
            Err(error) if error.may_pass() => {
                let client = ServerClient::Unusable(error_text(&error).into());
                unusable.push((server.clone(), error));
                client
            }
            Err(error) => {
                return Err(DaemonError::Client { name: server.name.clone(), error });
            }
        };
        clients.insert(server.name.clone(), client);
    }
    Ok((clients, unusable))
}

/// An error with what the system said.
fn error_text(error: &ClientError) -> String {
    match error.source() {
        Some(source) => format!("{error} ({source})"),
        None => error.to_string(),
    }
}
