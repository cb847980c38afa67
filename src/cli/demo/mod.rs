//! `demo`: runs the daemon against a simulated API in the same process, with token lives of seconds.
//!
//! Uses what a user would use: a configuration file, real sockets, and a real reauth command. On a
//! terminal it shows a screen; elsewhere the log lines of the daemon. The results at the end are the
//! view of the servers, not of the daemon.

mod live;
mod servers;

use std::fs;
use std::io::{self, IsTerminal as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use self::live::LiveScreen;
use self::servers::DemoServers;
use super::{CliError, print, runtime};
use crate::api::Client;
use crate::control::{self, InheritedSockets};
use crate::daemon::{Daemon, Loader};
use crate::event_log::{self, StdoutKind};
use crate::settings::{self, KeySource, Loaded};
use crate::token_source::read_key;

/// How long the demo runs.
const DEMO_DURATION: Duration = Duration::from_secs(20);

/// When the server forgets the token `rejected`.
const FORGET_AFTER: Duration = Duration::from_secs(8);

const INTRODUCTION: &str = "\
tokenkeep demo: four tokens with lives of seconds, on three simulated servers in this process.

  queried   lives 4 s; its server renews a token at every query
            look for: token_checked with renewed = true, about every 2.5 s
  renewed   lives 5 s; its server renews at RenewSessionToken only
            look for: renewal_learned with renews_by = renew
  relogged  lives 5 s; nothing renews it, so it expires, and a re-auth command gets a new one
            look for: renewal_not_observed, token_expired, reauth_started, reauth_succeeded
  rejected  lives 4 s; its server forgets it after 8 s
            look for: token_rejected (logged after a second query), and that nothing else dies

";

/// Run a 20-second demonstration against a simulated API
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Serve the page too, on this address [default: a free port of 127.0.0.1], and run until Ctrl-C
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = "127.0.0.1:0")]
    listen: Option<SocketAddr>,
}

/// Runs the demo.
pub(super) fn run(demo: &Demo) -> Result<(), CliError> {
    let failed = |error: io::Error| CliError::Demo(error.to_string());
    let page = demo.listen.map(Page::open).transpose()?;
    let is_live =
        io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    if !is_live {
        print(INTRODUCTION)?;
        print(&match &page {
            None => "It takes 20 s; Ctrl-C ends it before. No token value is ever printed.\n\n"
                .to_owned(),
            Some(Page { url, .. }) => format!(
                "The page is at {url}. Ctrl-C ends the demo. No token value is ever printed.\n\n"
            ),
        })?;
    }
    let folder = tempfile::tempdir().map_err(failed)?;
    runtime()?.block_on(async {
        let servers = DemoServers::start(&folder).await.map_err(failed)?;
        let path = folder.path().join("tokenkeep.toml");
        let loader: Arc<Loader> = Arc::new(move || settings::load(&path, std::iter::empty()));
        let Loaded { settings, .. } = loader()?;
        // The screen shows the events in its own way.
        let log = if is_live {
            None
        } else {
            Some(event_log::init(&settings.log, StdoutKind::detect())?)
        };
        let mut daemon = Daemon::new(settings, loader, log)?;
        let (url, listener) = page.map(|page| (page.url, page.listener)).unzip();
        if is_live || listener.is_some() {
            let listeners = listener.into_iter().collect();
            daemon.open_control(InheritedSockets { listeners, ..InheritedSockets::default() });
        }
        let forget = async {
            sleep(FORGET_AFTER).await;
            servers.forget_rejected();
            std::future::pending::<()>().await;
        };
        let end = async {
            match url {
                Some(_) => std::future::pending().await,
                None => sleep(DEMO_DURATION).await,
            }
        };
        if !is_live {
            let end = async {
                tokio::select! {
                    () = end => {}
                    () = output_closed() => {}
                }
            };
            tokio::select! {
                () = forget => {}
                ended = daemon.run(end) => ended?,
            }
            return print(&servers::table(&servers.tokens(folder.path())));
        }
        let mut screen = LiveScreen::new(&folder.path().join(servers::SOCKET), url.clone());
        let ended = tokio::select! {
            () = forget => Ok(()),
            ended = Box::pin(daemon.run(end)) => ended.map_err(CliError::from),
            lost = screen.run() => lost,
        };
        print(&screen.finish(&servers.tokens(folder.path())))?;
        ended
    })
}

/// Ends when the program that reads standard output, through a pipe, is gone.
#[expect(
    deprecated,
    reason = "its successor is unsafe for the sake of types that change the descriptor they show; \
              `OwnedFd` never does"
)]
async fn output_closed() {
    // A regular file cannot be registered, and is never closed by another program.
    if let Ok(output) = io::stdout().as_fd().try_clone_to_owned()
        && let Ok(output) = AsyncFd::with_interest(output, Interest::ERROR)
        && output.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// The listener of the page.
struct Page {
    url: String,
    listener: TcpListener,
}

impl Page {
    fn open(address: SocketAddr) -> Result<Self, CliError> {
        let failed = |error: io::Error| CliError::Demo(format!("{address}: {error}"));
        let listener = control::listen(address).map_err(failed)?;
        let mut local = listener.local_addr().map_err(failed)?;
        if local.ip().is_unspecified() {
            local.set_ip(if local.is_ipv4() {
                Ipv4Addr::LOCALHOST.into()
            } else {
                Ipv6Addr::LOCALHOST.into()
            });
        }
        Ok(Self { url: format!("http://{local}/"), listener })
    }
}

/// The reauth command: logs in at the server that the daemon names, and prints the token.
pub(super) fn log_in(key_file: PathBuf) -> Result<(), CliError> {
    let failed = |error: &dyn std::error::Error| CliError::Demo(error.to_string());
    let name = "simulated";
    let url = std::env::var("TOKENKEEP_URL").map_err(|error| failed(&error))?;
    let folder = tempfile::tempdir().map_err(|error| failed(&error))?;
    let path = folder.path().join("login.toml");
    fs::write(&path, format!("[server.{name}]\nurl = \"{url}\"\n"))
        .map_err(|error| failed(&error))?;
    let loaded = settings::load(&path, std::iter::empty())?;
    let key = read_key(&KeySource::File(key_file), &|_| None).map_err(|error| failed(&error))?;
    let token = runtime()?.block_on(async {
        let client = Client::new(&loaded.settings.servers[0]).map_err(|error| failed(&error))?;
        client.login(&key.value, 1, Duration::from_secs(5)).await.map_err(|error| failed(&error))
    })?;
    print(&format!("{}\n", token.expose()))
}
