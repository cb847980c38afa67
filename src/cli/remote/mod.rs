//! The commands that speak to a running daemon over its control socket.
//!
//! They see and steer what the daemon lets them; nothing here knows more of a token than the
//! daemon tells.

mod actions;
mod monitor;
pub(super) mod paths;
mod progress;
mod reload;
mod screen;
mod status;
mod story;
mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

pub(super) use self::actions::{Action, Names, Revoke, Token};
pub(super) use self::reload::Reload;
pub(super) use self::status::Status;

use super::{Failure, complain, runtime};
use crate::control::client::{Client, ClientFault};
use crate::control::{Listing, Order, Page, ProblemKind, Story};
use crate::settings::{self, FaultKind, Faults};

/// How long the configuration is read for the sake of the socket's path.
const READING: Duration = Duration::from_secs(5);

/// How the daemon is found.
#[derive(Debug, Clone, Args)]
pub(super) struct Where {
    /// The daemon's control socket; without this the one that the configuration names
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
}

impl Where {
    /// The daemon, with a warning on standard error if the configuration has errors.
    pub(super) async fn client(&self, config: &Path) -> Client {
        let (client, warning) = self.find(config).await;
        if let Some(warning) = warning {
            complain(&format!("warning: {warning}"));
        }
        client
    }

    /// The daemon, and what keeps it from being found for certain. A configuration that has
    /// errors by now may be another than the one that the daemon runs by, but its socket is
    /// probably the same.
    pub(super) async fn find(&self, config: &Path) -> (Client, Option<String>) {
        if let Some(socket) = &self.socket {
            return (Client::new(socket), None);
        }
        let path = config.to_owned();
        let reading = spawn_blocking(move || {
            settings::load(&path, std::env::vars_os())
                .map(|loaded| loaded.settings.control.socket)
                .map_err(|faults| (faults, settings::find_socket(&path, std::env::vars_os())))
        });
        match timeout(READING, reading).await {
            Ok(Ok(Ok(socket))) => (Client::new(&existing(socket)), None),
            Ok(Ok(Err((faults, socket)))) => {
                let socket = socket.unwrap_or_else(default_socket);
                (Client::new(&socket), doubtful(config, &faults, &socket))
            }
            Ok(Err(_)) => (Client::new(&default_socket()), None),
            Err(_) => {
                let (config, socket) = (config.display(), default_socket());
                let warning = format!(
                    "reading {config} hangs; the daemon is looked for at {}",
                    socket.display()
                );
                (Client::new(&socket), Some(warning))
            }
        }
    }
}

/// The socket of a daemon whose configuration names none.
fn default_socket() -> PathBuf {
    let socket = settings::runtime_socket(std::env::vars_os());
    existing(socket.unwrap_or_else(|| settings::DEFAULT_SOCKET.into()))
}

/// `socket`, or the system's one if `socket` comes from the `$RUNTIME_DIRECTORY` of another
/// service, which runs this command.
fn existing(socket: PathBuf) -> PathBuf {
    let default = Path::new(settings::DEFAULT_SOCKET);
    let directory = socket.parent().unwrap_or(Path::new("")).to_string_lossy();
    // A daemon's own one, which happens to be missing: no other daemon may get the command.
    let is_own = directory.contains("tokenkeep");
    let is_given = settings::runtime_socket(std::env::vars_os()).as_deref() == Some(&*socket);
    if is_given && !is_own && !socket.exists() { default.to_owned() } else { socket }
}

/// The warning that the configuration has errors and `socket` may be wrong. Operators who may
/// use the daemon need not be able to read the system's configuration.
fn doubtful(config: &Path, faults: &Faults, socket: &Path) -> Option<String> {
    let fault = faults.iter().next()?;
    let unreadable = faults.iter().all(|fault| fault.kind == FaultKind::Unreadable);
    if unreadable && config == Path::new(settings::DEFAULT_PATH) {
        return None;
    }
    let more = match faults.count() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let (place, message, socket) = (&fault.place, &fault.message, socket.display());
    Some(format!("{place}: {message}{more}; the daemon is looked for at {socket}"))
}

/// Something that is asked of a daemon.
pub(super) trait Errand {
    /// Does it, and gives the status to exit with.
    async fn run(self, client: &mut Client) -> Result<u8, Failure>;

    /// How the daemon is found.
    fn place(&self) -> &Where;
}

/// Does what the daemon is needed for.
pub(super) fn run(errand: impl Errand, config: &Path) -> Result<(), Failure> {
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let mut client = errand.place().client(config).await;
        errand.run(&mut client).await
    });
    // A configuration that hangs must not hold up the end.
    runtime.shutdown_background();
    match ended? {
        0 => Ok(()),
        status => Err(Failure::Told { status }),
    }
}

impl Failure {
    /// The exit status for what the daemon, or its absence, has said.
    pub(super) const fn status_of(fault: &ClientFault) -> u8 {
        match fault {
            ClientFault::NoDaemon { .. } => super::EX_UNAVAILABLE,
            ClientFault::NotAllowed(_) => super::EX_NOPERM,
            ClientFault::Answer(_) => super::EX_SOFTWARE,
            ClientFault::Refused(problem) => match problem.kind {
                ProblemKind::Forbidden => super::EX_NOPERM,
                ProblemKind::Unavailable => super::EX_UNAVAILABLE,
                ProblemKind::BadRequest => super::EX_USAGE,
                ProblemKind::NotFound | ProblemKind::MethodNotAllowed | ProblemKind::Conflict => 1,
            },
        }
    }
}

/// Whether a name is a pattern of names. It may be a token's own all the same.
fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// The token of this name; `None` where there is none, and the name is a pattern.
async fn named(client: &mut Client, name: &str) -> Result<Option<Box<Story>>, ClientFault> {
    match client.get(&paths::token(name, &[])).await {
        Ok(story) => Ok(Some(Box::new(story))),
        Err(fault) if is_pattern(name) && fault.kind() == Some(ProblemKind::NotFound) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// All tokens that fit `filter`, page by page, with the counts of all of them.
async fn all(client: &mut Client, filter: Option<&str>) -> Result<Page, ClientFault> {
    let filter = filter.map(str::to_owned);
    let mut listing =
        Listing { filter, order: Order::Any, limit: Some(1_000), ..Listing::default() };
    let mut all: Page = client.get(&paths::tokens(&listing)).await?;
    while let Some(next) = all.next.take() {
        listing.cursor = Some(next);
        let page: Page = client.get(&paths::tokens(&listing)).await?;
        all.tokens.extend(page.tokens);
        (all.counts, all.next) = (page.counts, page.next);
    }
    all.matched = Some(all.tokens.len());
    Ok(all)
}
