//! `demo`: runs the daemon against a simulated API in the same process, with token lives of seconds.
//!
//! Uses what a user would use: a configuration file, real sockets, and a real reauth command. The
//! table at the end is the view of the servers, not of the daemon.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use comfy_table::Table;
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::time::sleep;

use super::{CliError, print, runtime};
use crate::api::Client;
use crate::daemon::{Daemon, Loader};
use crate::event_log::{self, StdoutKind};
use crate::settings::{self, KeySource, Loaded};
use crate::simulator::{Behaviour, Endpoint, RenewsBy, Simulator};
use crate::token_source::{read, read_key};

/// How long the demo runs.
const DEMO_DURATION: Duration = Duration::from_secs(20);

/// When the server forgets the token `rejected`.
const FORGET_AFTER: Duration = Duration::from_secs(8);

/// Life of a token from the demo's login, which expires several times during the demo.
const LOGIN_LIFETIME: Duration = Duration::from_secs(5);

const INTRODUCTION: &str = "\
tokenkeep demo: four tokens with lives of seconds, on three simulated servers in this process.

  queried   lives 4 s; its server renews a token at every query
            look for: token_checked with renewed = true, about every 2.5 s
  renewed   lives 5 s; its server renews at RenewSessionToken only
            look for: renewal_learned with renews_by = renew
  relogged  lives 5 s; nothing renews it, so it expires, and a re-auth command gets a new one
            look for: renewal_not_observed, token_expired, reauth_started, reauth_succeeded
  rejected  lives 4 s; its server forgets it after 8 s
            look for: token_rejected (said after a second query), and that nothing else dies

It takes 20 s; Ctrl-C ends it before. No token value is ever printed.

";

/// Runs the demo.
pub(super) fn run() -> Result<(), CliError> {
    print(INTRODUCTION)?;
    let failed = |error: io::Error| CliError::Demo(error.to_string());
    let folder = tempfile::tempdir().map_err(failed)?;
    runtime()?.block_on(async {
        let servers = DemoServers::start(&folder).await.map_err(failed)?;
        let path = folder.path().join("tokenkeep.toml");
        let loader: Arc<Loader> = Arc::new(move || settings::load(&path, std::iter::empty()));
        let Loaded { settings, .. } = loader()?;
        let log = event_log::init(&settings.log, StdoutKind::detect())?;
        let daemon = Daemon::new(settings, loader, Some(log))?;
        let forget = async {
            sleep(FORGET_AFTER).await;
            servers.queries.forget(REJECTED);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = forget => {}
            ended = daemon.run(sleep(DEMO_DURATION)) => ended?,
        }
        print(&servers.table(folder.path()))
    })
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

const QUERIED: &str = "3f0c1d5e-queried";
const RENEWED: &str = "9a4b7c21-renewed";
const RELOGGED: &str = "5d2e8f90-relogged";
const REJECTED: &str = "c7716ab3-rejected";
const API_KEY: &str = "f81d4fae-demo-key";

/// The simulated servers.
struct DemoServers {
    /// A server where any request renews.
    queries: Simulator,
    /// A server where only `RenewSessionToken` renews.
    renewals: Simulator,
    /// A server where no request renews.
    nothing: Simulator,
}

impl DemoServers {
    /// Starts the servers, and writes token files, key file and configuration.
    async fn start(folder: &TempDir) -> io::Result<Self> {
        let renewing = |renews_by| Behaviour { renews_by, ..Behaviour::default() };
        let servers = Self {
            queries: Simulator::start(renewing(RenewsBy::Query)).await?,
            renewals: Simulator::start(renewing(RenewsBy::Renew)).await?,
            nothing: Simulator::start(Behaviour {
                api_key: Some(SecretString::from(API_KEY)),
                login_life: Some(LOGIN_LIFETIME),
                ..renewing(RenewsBy::Neither)
            })
            .await?,
        };
        servers.queries.add_token(QUERIED, Duration::from_secs(4));
        servers.queries.add_token(REJECTED, Duration::from_secs(4));
        servers.renewals.add_token(RENEWED, Duration::from_secs(5));
        servers.nothing.add_token(RELOGGED, LOGIN_LIFETIME);
        for (name, value) in [
            ("queried.token", QUERIED),
            ("renewed.token", RENEWED),
            ("relogged.token", RELOGGED),
            ("rejected.token", REJECTED),
            ("api.key", API_KEY),
        ] {
            let path = folder.path().join(name);
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            writeln!(file?, "{value}")?;
        }
        fs::write(folder.path().join("tokenkeep.toml"), servers.configuration(folder.path())?)?;
        Ok(servers)
    }

    fn configuration(&self, folder: &Path) -> io::Result<String> {
        let quoted = |path: &Path| toml::Value::from(path.display().to_string()).to_string();
        let file = |name: &str| quoted(&folder.join(name));
        Ok(format!(
            r#"state_dir = {state}

[server.by-query]
url = "{queries}"

[server.by-renew]
url = "{renewals}"

[server.by-nothing]
url = "{nothing}"

[reauth.login]
command = [{program}, "demo-login", "--key-file", {key}]
timeout = "5s"

[token.queried]
server = "by-query"
file = {queried}

[token.rejected]
server = "by-query"
file = {rejected}

[token.renewed]
server = "by-renew"
file = {renewed}

[token.relogged]
server = "by-nothing"
file = {relogged}
reauth = "login"
"#,
            state = file("state"),
            queries = self.queries.url(),
            renewals = self.renewals.url(),
            nothing = self.nothing.url(),
            program = quoted(&std::env::current_exe()?),
            key = file("api.key"),
            queried = file("queried.token"),
            rejected = file("rejected.token"),
            renewed = file("renewed.token"),
            relogged = file("relogged.token"),
        ))
    }

    /// The final state of the tokens, as their servers see it.
    fn table(&self, folder: &Path) -> String {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["token", "at the end", "queries", "renewals", "logins"]);
        for (name, server) in [
            ("queried", &self.queries),
            ("renewed", &self.renewals),
            ("relogged", &self.nothing),
            ("rejected", &self.queries),
        ] {
            let source = settings::Source::File(folder.join(format!("{name}.token")));
            let value = read(&source, &|_| None).ok().map(|found| found.value);
            let left = value.as_ref().and_then(|value| server.remaining(value.expose()));
            let result = left.map_or("dead".to_owned(), |left| {
                format!("alive, {:.1} s left", left.as_secs_f64())
            });
            let requests = server.requests();
            let count = |endpoint| {
                let ours = requests.iter().filter(|request| {
                    request.endpoint == Some(endpoint)
                        && (name == "relogged" || request.value == value)
                });
                ours.count().to_string()
            };
            let calls = [Endpoint::Query, Endpoint::Renew, Endpoint::Login].map(count);
            table.add_row([name.to_owned(), result].into_iter().chain(calls));
        }
        format!("\nWhat the servers saw:\n{table}\n")
    }
}
