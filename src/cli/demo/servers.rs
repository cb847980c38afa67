//! The simulated servers of the demo, with the files that a user would have.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use comfy_table::Table;
use secrecy::SecretString;
use tempfile::TempDir;

use crate::settings::Source;
use crate::simulator::{Behaviour, Endpoint, RenewsBy, Simulator};
use crate::token_source::read;

/// Life of a token from the demo's login, which expires several times during the demo.
const LOGIN_LIFETIME: Duration = Duration::from_secs(5);

/// The control socket, in the demo's folder.
pub(super) const SOCKET: &str = "control.sock";

const QUERIED: &str = "3f0c1d5e-queried";
const RENEWED: &str = "9a4b7c21-renewed";
const RELOGGED: &str = "5d2e8f90-relogged";
const REJECTED: &str = "c7716ab3-rejected";
const API_KEY: &str = "f81d4fae-demo-key";

/// The simulated servers.
pub(super) struct DemoServers {
    /// A server where any request renews.
    queries: Simulator,
    /// A server where only `RenewSessionToken` renews.
    renewals: Simulator,
    /// A server where no request renews.
    nothing: Simulator,
}

impl DemoServers {
    /// Starts the servers, and writes token files, key file and configuration.
    pub(super) async fn start(folder: &TempDir) -> io::Result<Self> {
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

[control]
socket = {socket}

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
            socket = file(SOCKET),
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

    /// Makes the server of the token `rejected` forget it.
    pub(super) fn forget_rejected(&self) {
        self.queries.forget(REJECTED);
    }

    /// The state of the tokens, as their servers see it.
    pub(super) fn tokens(&self, folder: &Path) -> Vec<DemoToken> {
        let tokens = [
            ("queried", &self.queries),
            ("renewed", &self.renewals),
            ("relogged", &self.nothing),
            ("rejected", &self.queries),
        ];
        let tokens = tokens.map(|(name, server)| {
            let source = Source::File(folder.join(format!("{name}.token")));
            let value = read(&source, &|_| None).ok().map(|found| found.value);
            let requests = server.requests();
            let [queries, renewals, logins] = [Endpoint::Query, Endpoint::Renew, Endpoint::Login]
                .map(|endpoint| {
                    let ours = requests.iter().filter(|request| {
                        request.endpoint == Some(endpoint)
                            && (name == "relogged" || request.value == value)
                    });
                    ours.count()
                });
            let left = value.as_ref().and_then(|value| server.remaining(value.expose()));
            DemoToken { name, left, queries, renewals, logins }
        });
        tokens.into()
    }
}

/// One token of the demo.
pub(super) struct DemoToken {
    pub(super) name: &'static str,
    /// Remaining life; `None` if it is dead.
    pub(super) left: Option<Duration>,
    /// Number of requests of each kind.
    pub(super) queries: usize,
    pub(super) renewals: usize,
    pub(super) logins: usize,
}

/// The tokens as a table.
pub(super) fn table(tokens: &[DemoToken]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["token", "at the end", "queries", "renewals", "logins"]);
    for token in tokens {
        let result = token
            .left
            .map_or("dead".to_owned(), |left| format!("alive, {:.1} s left", left.as_secs_f64()));
        let counts = [token.queries, token.renewals, token.logins].map(|count| count.to_string());
        table.add_row([token.name.to_owned(), result].into_iter().chain(counts));
    }
    format!("\nWhat the servers saw:\n{table}\n")
}
