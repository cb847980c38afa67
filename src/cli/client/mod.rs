//! Commands that use the control socket of a running daemon.

mod actions;
mod cluster;
mod events;
mod nagios;
mod progress;
mod reload;
mod status;
pub(super) mod table;
pub(super) mod terminal;
pub(super) mod times;
mod token_detail;
pub(super) mod urls;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

pub(super) use self::actions::{Revoke, Token, TokenArgs};
pub(super) use self::cluster::Cluster;
pub(super) use self::events::Events;
pub(super) use self::reload::{Reload, UNCHANGED, reload};
pub(super) use self::status::Status;

use super::{CliError, eprint_message, runtime};
use crate::control::client::{Client, ControlClientError};
use crate::control::{ApiErrorKind, ListParams, Order, TokenDetail, TokenPage};
use crate::settings::{self, ConfigErrorKind, ConfigErrors, Installation};

/// Timeout for reading the configuration to find the socket path.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Name and value of an environment variable.
type Variable = (OsString, OsString);

/// How the daemon is found.
#[derive(Debug, Clone, Args)]
pub(super) struct SocketArgs {
    /// Control socket of the daemon [default: the one in the configuration]
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
}

impl SocketArgs {
    /// A client of the daemon, whose environment is `environment`. Prints a warning if the
    /// configuration has errors.
    pub(super) async fn client(
        &self,
        installation: &Installation,
        environment: impl Iterator<Item = Variable>,
    ) -> Client {
        let (client, warning) = self.connect(installation, environment).await;
        if let Some(warning) = warning {
            eprint_message(&format!("warning: {warning}"));
        }
        client
    }

    /// A client of the daemon, and a warning if the socket path is uncertain. If the configuration
    /// has errors, the daemon runs with an earlier one, but its socket is probably the same.
    pub(super) async fn connect(
        &self,
        installation: &Installation,
        environment: impl Iterator<Item = Variable>,
    ) -> (Client, Option<String>) {
        if let Some(socket) = &self.socket {
            return (Client::new(socket), None);
        }
        let chosen = installation.clone();
        let environment = environment.collect::<Vec<_>>();
        let reading = spawn_blocking(move || {
            let loaded = chosen.load(environment.iter().cloned());
            loaded.map(|loaded| loaded.settings.control.socket).map_err(|faults| {
                (faults, settings::find_socket(chosen.config(), environment.into_iter()))
            })
        });
        let default = || default_socket(installation);
        match timeout(READ_TIMEOUT, reading).await {
            Ok(Ok(Ok(socket))) => (Client::new(&existing_socket(socket, installation)), None),
            Ok(Ok(Err((faults, socket)))) => {
                let socket = socket.unwrap_or_else(default);
                (
                    Client::new(&socket),
                    doubtful_socket_warning(installation.config(), &faults, &socket),
                )
            }
            Ok(Err(_)) => (Client::new(&default()), None),
            Err(_) => {
                let (config, socket) = (installation.config().display(), default());
                let warning = format!(
                    "{config} could not be read in time; trying the daemon at {}",
                    socket.display()
                );
                (Client::new(&socket), Some(warning))
            }
        }
    }
}

/// The default socket path.
fn default_socket(installation: &Installation) -> PathBuf {
    let socket = settings::runtime_socket(std::env::vars_os());
    existing_socket(socket.unwrap_or_else(|| installation.default_socket()), installation)
}

/// `socket`, or the default socket of `installation` if `socket` comes from the
/// `$RUNTIME_DIRECTORY` of another service that runs this command.
fn existing_socket(socket: PathBuf, installation: &Installation) -> PathBuf {
    let directory = socket.parent().unwrap_or(Path::new("")).to_string_lossy();
    // If tokenkeep's own socket is missing, no other daemon may get the command.
    let is_own = directory.contains("tokenkeep");
    let is_given = settings::runtime_socket(std::env::vars_os()).as_deref() == Some(&*socket);
    if is_given && !is_own && !socket.exists() { installation.default_socket() } else { socket }
}

/// The warning that the configuration has errors and `socket` may be wrong. Operators who may
/// use the daemon need not be able to read the system's configuration.
fn doubtful_socket_warning(config: &Path, faults: &ConfigErrors, socket: &Path) -> Option<String> {
    let error = faults.iter().next()?;
    let unreadable = faults.iter().all(|error| error.kind == ConfigErrorKind::Unreadable);
    if unreadable && config == Path::new(settings::DEFAULT_PATH) {
        return None;
    }
    let more = match faults.count() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let (place, message, socket) = (&error.location, &error.message, socket.display());
    Some(format!("{place}: {message}{more}; trying the daemon at {socket}"))
}

/// A command that needs a running daemon.
pub(super) trait DaemonCommand {
    /// Runs the command and returns the exit status.
    async fn run(self, client: &mut Client) -> Result<u8, CliError>;

    /// The arguments that select the daemon.
    fn socket_args(&self) -> &SocketArgs;
}

/// Runs a command on the daemon.
pub(super) fn run(
    command: impl DaemonCommand,
    installation: &Installation,
) -> Result<(), CliError> {
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let mut client = command.socket_args().client(installation, std::env::vars_os()).await;
        command.run(&mut client).await
    });
    // A hung configuration file must not block the exit.
    runtime.shutdown_background();
    match result? {
        0 => Ok(()),
        status => Err(CliError::AlreadyReported { status }),
    }
}

impl CliError {
    /// The exit status for an error of the client.
    pub(super) const fn status_of(error: &ControlClientError) -> u8 {
        match error {
            ControlClientError::NoDaemon { .. } => super::EX_UNAVAILABLE,
            ControlClientError::PermissionDenied(_) => super::EX_NOPERM,
            ControlClientError::InvalidResponse(_) => super::EX_SOFTWARE,
            ControlClientError::Api(error) => match error.kind {
                ApiErrorKind::Forbidden => super::EX_NOPERM,
                ApiErrorKind::Unavailable | ApiErrorKind::Elsewhere => super::EX_UNAVAILABLE,
                ApiErrorKind::BadRequest => super::EX_USAGE,
                ApiErrorKind::NotFound
                | ApiErrorKind::MethodNotAllowed
                | ApiErrorKind::Conflict => 1,
            },
        }
    }
}

/// Whether a name contains wildcards. It may still be the name of a token.
fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// The token with this name; `None` if there is none and the name is a pattern.
async fn find_token(
    client: &mut Client,
    name: &str,
) -> Result<Option<Box<TokenDetail>>, ControlClientError> {
    match client.get(&urls::token(name, &[])).await {
        Ok(detail) => Ok(Some(Box::new(detail))),
        Err(error) if is_pattern(name) && error.kind() == Some(ApiErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Fetches all pages of tokens that match `filter`.
async fn fetch_all(
    client: &mut Client,
    filter: Option<&str>,
) -> Result<TokenPage, ControlClientError> {
    let filter = filter.map(str::to_owned);
    let mut params =
        ListParams { filter, order: Order::Any, limit: Some(1_000), ..ListParams::default() };
    let mut all: TokenPage = client.get(&urls::tokens(&params)).await?;
    while let Some(next) = all.next.take() {
        params.cursor = Some(next);
        let page: TokenPage = client.get(&urls::tokens(&params)).await?;
        all.tokens.extend(page.tokens);
        (all.counts, all.next) = (page.counts, page.next);
    }
    all.matched = Some(all.tokens.len());
    Ok(all)
}
