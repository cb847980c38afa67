//! The validated configuration: past this point nothing else travels.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::lifecycle::{ReauthPolicy, Renewal, Schedule};

use super::maintenance_window::MaintenanceWindow;

/// Everything that the daemon needs to know, checked and with all defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where what must outlive a restart is kept.
    pub state_dir: PathBuf,
    /// How many re-auth hooks may run at once, all tokens together; at least 1.
    pub max_hooks: NonZeroU32,
    /// How long the state database keeps the value of a token that was removed.
    pub keep_removed: Duration,
    /// What is logged and how.
    pub log: Log,
    /// The interface for status and actions.
    pub control: Control,
    /// The servers, sorted by name.
    pub servers: Vec<Server>,
    /// The ways to a new token value, sorted by name.
    pub reauths: Vec<Reauth>,
    /// The tokens, sorted by name.
    pub tokens: Vec<Token>,
    /// What brings further tokens, sorted by name.
    pub inventories: Vec<Inventory>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// A tracing filter; a level on its own is meant for tokenkeep, dependencies stay at warn.
    pub level: String,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// journald if standard output is the journal, text on a terminal, else JSON.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// `key=value` pairs.
    Logfmt,
    /// For people.
    Text,
    /// Native fields of the systemd journal.
    Journald,
}

/// `[control]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The Unix socket.
    pub socket: PathBuf,
    /// Where metrics, health and the page are served, if at all.
    pub listen: Option<SocketAddr>,
    /// Whether what is served there names tokens.
    pub listen_names: bool,
    /// Further names, without ports, under which browsers may ask for the page.
    pub listen_hosts: Vec<String>,
}

/// `[server.NAME]`
#[derive(Clone, PartialEq)]
pub struct Server {
    /// Its name in the configuration.
    pub name: String,
    /// The base URL, which may have a path; https, or http where that is allowed.
    pub url: Url,
    /// Which call is the check.
    pub renewal: Renewal,
    /// The longest that a request may take, connecting included.
    pub timeout: Duration,
    /// The longest that connecting may take.
    pub connect_timeout: Duration,
    /// Requests under way at once, at most.
    pub max_in_flight: NonZeroU32,
    /// Requests started in a second, at most.
    pub rate_limit: NonZeroU32,
    /// A private authority that alone is trusted, PEM.
    pub ca_file: Option<PathBuf>,
    /// What the server's TLS recognises this client by.
    pub client_certificate: Option<ClientCertificate>,
    /// The proxy that all requests go through.
    pub proxy: Option<Url>,
    /// Where `USER:PASSWORD` for the proxy is read from.
    pub proxy_credentials: Option<KeySource>,
}

/// A certificate for TLS client authentication, in PEM form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, and the intermediate ones behind it.
    pub cert: KeySource,
    /// Its private key, not encrypted. May be the same file or credential.
    pub key: KeySource,
}

impl fmt::Debug for Server {
    /// All of it, but of URLs only what cannot be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            url,
            renewal,
            timeout,
            connect_timeout,
            max_in_flight,
            rate_limit,
            ca_file,
            client_certificate,
            proxy,
            proxy_credentials,
        } = self;
        f.debug_struct("Server")
            .field("name", name)
            .field("url", &bare(url))
            .field("renewal", renewal)
            .field("timeout", timeout)
            .field("connect_timeout", connect_timeout)
            .field("max_in_flight", max_in_flight)
            .field("rate_limit", rate_limit)
            .field("ca_file", ca_file)
            .field("client_certificate", client_certificate)
            .field("proxy", &proxy.as_ref().map(bare))
            .field("proxy_credentials", proxy_credentials)
            .finish()
    }
}

/// `url` without user name, password, query and fragment.
fn bare(url: &Url) -> String {
    let (scheme, host) = (url.scheme(), url.host_str().unwrap_or(""));
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = if url.cannot_be_a_base() { "" } else { url.path() };
    format!("{scheme}://{host}{port}{path}")
}

/// `[reauth.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reauth {
    /// Its name in the configuration.
    pub name: String,
    /// How the new value is had.
    pub method: ReauthMethod,
    /// The longest that an attempt may take.
    pub timeout: Duration,
    /// How often it may be tried.
    pub policy: ReauthPolicy,
    /// Failures of all its tokens together that may count within one window of `policy`;
    /// then nothing logs in by it until the window ends.
    pub max_failures_all: NonZeroU32,
    /// When nothing logs in by it; one window may overlap another.
    pub maintenance_windows: Vec<MaintenanceWindow>,
}

/// How a new token value is had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReauthMethod {
    /// An external command: the program, then its arguments.
    Command(Vec<String>),
    /// `GetSessionToken` with an API key.
    ApiKey {
        /// Where the key is read from, at each attempt.
        key: KeySource,
        /// The life asked for, in minutes, 1 to 1440.
        minutes: u16,
    },
}

/// Where a secret other than a token is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file.
    File(PathBuf),
    /// A name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// `[token.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its name in the configuration.
    pub name: String,
    /// Where its value comes from.
    pub source: Source,
    /// How it is kept alive.
    pub keep_alive: KeepAlive,
    /// Whether the metrics have gauges of its own.
    pub metrics: bool,
}

/// How tokens are kept alive: what a `[token.NAME]` and an `[inventory.NAME]` say alike.
#[derive(Debug, Clone, PartialEq)]
pub struct KeepAlive {
    /// The name of the server; it exists in [`Settings::servers`].
    pub server: String,
    /// The name of the way to a new value; it exists in [`Settings::reauths`].
    pub reauth: Option<String>,
    /// How long before the end of a value that nothing extends a new one is asked for, 100 ms
    /// to 24 h; `None`: once it has ended. Always `None` without `reauth`.
    pub reauth_before: Option<Duration>,
    /// Whether the value is revoked when the service stops.
    pub revoke_on_shutdown: bool,
    /// Who may fetch the value over the control socket, besides root and the daemon's user.
    pub readers: Vec<Reader>,
    /// When to check, the nearest `[schedule]` of each key applied.
    pub schedule: Schedule,
}

/// Somebody who may fetch a token's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reader {
    /// A user, by name or number.
    User(String),
    /// A group, by name or number.
    Group(String),
}

impl Reader {
    /// What marks a group.
    pub(super) const GROUP: char = '@';
}

impl From<&str> for Reader {
    fn from(text: &str) -> Self {
        match text.strip_prefix(Self::GROUP) {
            Some(group) => Self::Group(group.to_owned()),
            None => Self::User(text.to_owned()),
        }
    }
}

impl fmt::Display for Reader {
    /// As it is configured.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => f.write_str(user),
            Self::Group(group) => write!(f, "{}{group}", Self::GROUP),
        }
    }
}

/// `[inventory.NAME]`: tokens by the thousand.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    /// Its name in the configuration.
    pub name: String,
    /// Where its tokens come from.
    pub source: InventorySource,
    /// How each of them is kept alive.
    pub keep_alive: KeepAlive,
}

impl Inventory {
    /// Where its tokens come from as a whole, for people: a path, or a command's program.
    pub fn whole(&self) -> String {
        match &self.source {
            InventorySource::File { path, .. } | InventorySource::Dir(path) => {
                path.display().to_string()
            }
            InventorySource::Command { command, .. } => {
                command.first().cloned().unwrap_or_default()
            }
        }
    }

    /// Where the token called `name` stands, which is on `line` if it is on any (0: on none).
    pub fn location(&self, name: &str, line: u32) -> String {
        match &self.source {
            InventorySource::Dir(path) => path.join(name).display().to_string(),
            InventorySource::File { .. } | InventorySource::Command { .. } => {
                format!("{}:{line}", self.whole())
            }
        }
    }
}

/// Where an inventory's tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InventorySource {
    /// A file of JSON lines, watched.
    File {
        /// The file.
        path: PathBuf,
        /// Whether one bad line makes the whole file unusable.
        strict: bool,
    },
    /// A folder, watched, with a file for each token, which is called as the token.
    Dir(PathBuf),
    /// An external command that prints JSON lines: run at the start and at a reload.
    Command {
        /// The program, then its arguments.
        command: Vec<String>,
        /// The longest that it may take.
        timeout: Duration,
        /// Whether one bad line makes all of its output unusable.
        strict: bool,
    },
}

/// Where a token's value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A file, watched; a new value is written back to it.
    File(PathBuf),
    /// A name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// An environment variable.
    Env(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_shows_no_secret_of_its_urls() {
        let server = Server {
            name: "s".to_owned(),
            url: "https://user:S3CR3T@h:81/path?key=S3CR3T#S3CR3T".parse().unwrap(),
            renewal: Renewal::Auto,
            timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            max_in_flight: NonZeroU32::MIN,
            rate_limit: NonZeroU32::MIN,
            ca_file: None,
            client_certificate: None,
            proxy_credentials: None,
            proxy: Some("http://user:S3CR3T@p:3128".parse().unwrap()),
        };
        let shown = format!("{server:?}");
        assert!(!shown.contains("S3CR3T") && !shown.contains("user"), "{shown}");
        assert!(shown.contains("\"https://h:81/path\""), "{shown}");
        assert!(shown.contains("\"http://p:3128/\""), "{shown}");
    }
}
