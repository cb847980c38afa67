//! Builds the API clients of the configured servers. Reads the files that their settings name.

use super::ConfigEvent;
use crate::api::{CertificateWarning, Client, ClientError};
use crate::daemon::DaemonError;
use crate::daemon::tasks::blocking::{CLIENTS, blocking_among, wait_at_startup};
use crate::daemon::tokens::{ServerClient, ServerClients, ServerHandle, unusable};
use crate::scheduler::ServerId;
use crate::settings::{Location, Server, Settings, Warning, WarningKind};

/// An attempt to build a client: for which server, as it was configured then.
pub(crate) type BuiltClient = (ServerId, Server, Result<Client, ClientError>);

/// Builds the clients of the first configuration. Servers whose error may pass have none for now,
/// and are returned as well.
pub(crate) fn first_clients(
    servers: &[Server],
) -> Result<(ServerClients, Vec<(Server, ClientError)>), DaemonError> {
    let (mut clients, mut missing) = (ServerClients::new(), Vec::new());
    // Most servers have no files, and need no thread.
    let with_files = servers.iter().filter(|server| !server.files().is_empty()).cloned();
    let build = |server: Server| move || Client::new(&server);
    let mut built = wait_at_startup(with_files.map(build)).into_iter();
    for server in servers {
        let client = if server.files().is_empty() {
            Client::new(server)
        } else {
            built.next().flatten().unwrap_or_else(|| Err(ClientError::timed_out(server)))
        };
        let client = match client {
            Ok(client) => Ok(client),
            Err(error) if error.may_pass() => {
                let fault = unusable(&error);
                missing.push((server.clone(), error));
                Err(fault)
            }
            Err(error) => {
                return Err(DaemonError::Client { name: server.name.clone(), error });
            }
        };
        clients.insert(server.name.clone(), client);
    }
    Ok((clients, missing))
}

/// Builds the clients of servers that differ from the `old` ones: in their settings, or in a file
/// that these name.
pub(super) fn changed_clients(
    settings: &Settings,
    old: &[ServerHandle],
) -> Result<ServerClients, DaemonError> {
    let build = |server: &Server| {
        let name = server.name.clone();
        let old = old.iter().find(|old| old.settings == *server);
        let client = match old.map(|old| &old.client) {
            Some(Ok(client)) => client.reread(server),
            Some(Err(_)) | None => Client::new(server).map(Some),
        };
        match client {
            Ok(client) => client.map(|client| Ok((name, Ok(client)))),
            Err(error) => Some(Err(DaemonError::Client { name, error })),
        }
    };
    settings.servers.iter().filter_map(build).collect()
}

/// Builds a client that is missing. Has no timeout: a read that hangs cannot be cancelled, and
/// another one would hang as well.
pub(super) async fn build_missing(id: ServerId, server: Server) -> ConfigEvent {
    let build = move || {
        let client = Client::new(&server);
        (id, server, client)
    };
    ConfigEvent::ClientBuilt(Box::new(blocking_among(&CLIENTS, build).await))
}

/// Warnings about client certificates that servers do not accept at this time.
pub(crate) fn certificate_warnings(clients: &ServerClients) -> Vec<Warning> {
    let warning = |client: &ServerClient| client.as_ref().ok()?.certificate_warning();
    clients.values().filter_map(warning).map(certificate_warning).collect()
}

/// The same as a warning about the configuration.
pub(crate) fn certificate_warning(warning: CertificateWarning) -> Warning {
    let CertificateWarning { path, message, remedy } = warning;
    Warning {
        kind: WarningKind::ClientCertificate,
        location: Location::File(path),
        message,
        remedy,
        excerpt: None,
    }
}
