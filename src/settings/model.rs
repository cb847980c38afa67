//! The validated configuration: the only form that the rest of the program uses.
//!
//! Types that may contain secrets derive no `Debug`; `redaction` implements it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::event::EventName;
use crate::lifecycle::{ReauthPolicy, Renewal, Schedule};
use crate::profile::Profile;

use super::maintenance_window::MaintenanceWindow;
use super::name_pattern::NamePattern;

/// All settings of the daemon, validated, with defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The directory for state that must survive a restart.
    pub state_dir: PathBuf,
    /// Maximum number of re-auth commands that run at the same time, for all tokens; at least 1.
    pub max_hooks: NonZeroU32,
    /// How long the state database keeps the value of a removed token.
    pub keep_removed: Duration,
    /// Logging.
    pub log: Log,
    /// The control socket and the HTTP listener.
    pub control: Control,
    /// The servers, sorted by name.
    pub servers: Vec<Server>,
    /// The `reauth` methods, sorted by name.
    pub reauths: Vec<Reauth>,
    /// The tokens, sorted by name.
    pub tokens: Vec<Token>,
    /// The inventories, sorted by name.
    pub inventories: Vec<Inventory>,
    /// The receivers of events, sorted by name.
    pub notifies: Vec<Notify>,
    /// The configured profiles, sorted by name.
    pub profiles: Vec<ConfiguredProfile>,
    /// The cluster of replicas; `None` for a daemon alone.
    pub cluster: Option<Cluster>,
}

/// `[cluster]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The endpoints of etcd, at least one, without paths. https, or http if allowed.
    pub etcd: Vec<Url>,
    /// Name of this replica.
    pub name: String,
    /// The prefix of all keys, without a slash at the end.
    pub prefix: String,
    /// The user of etcd and the source of the password.
    pub user: Option<(String, KeySource)>,
    /// PEM file of a private certificate authority. No other authority is trusted.
    pub ca_file: Option<PathBuf>,
    /// The client certificate for TLS.
    pub client_certificate: Option<ClientCertificate>,
    /// The source of the key that seals values: 32 bytes in Base64.
    pub key: KeySource,
    /// The source of the previous key. Values that it sealed can still be opened.
    pub old_key: Option<KeySource>,
    /// How long a silent replica still counts: 3 s to 60 s.
    pub failover: Duration,
}

/// `[profile.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct ConfiguredProfile {
    /// The profile.
    pub profile: Arc<Profile>,
    /// Its table as written, merged from all files.
    pub table: toml::Table,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The format of a line.
    pub format: LogFormat,
    /// A tracing filter. A level alone applies to tokenkeep; dependencies stay at warn.
    pub level: String,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `Journald` if standard output is the journal, `Text` on a terminal, else `Json`.
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
    /// Address of the listener for metrics, health and the status page; `None` for no listener.
    pub listen: Option<SocketAddr>,
    /// Whether responses of the listener contain token names.
    pub listen_names: bool,
    /// Additional host names, without ports, that browsers may use for the status page.
    pub listen_hosts: Vec<String>,
}

/// `[server.NAME]`
#[derive(Clone, PartialEq)]
pub struct Server {
    /// Its name in the configuration.
    pub name: String,
    /// The base URL, which may have a path. https, or http if allowed.
    pub url: Url,
    /// The request that is used as the check.
    pub renewal: Renewal,
    /// Maximum duration of a request, including the connection.
    pub timeout: Duration,
    /// Maximum duration of connecting.
    pub connect_timeout: Duration,
    /// Maximum number of requests in flight.
    pub max_in_flight: NonZeroU32,
    /// Maximum number of requests per second.
    pub rate_limit: NonZeroU32,
    /// PEM file of a private certificate authority. No other authority is trusted.
    pub ca_file: Option<PathBuf>,
    /// The client certificate for TLS.
    pub client_certificate: Option<ClientCertificate>,
    /// The proxy for all requests.
    pub proxy: Option<Url>,
    /// The source of `USER:PASSWORD` for the proxy.
    pub proxy_credentials: Option<KeySource>,
    /// The API that it serves; `None` for the native one.
    pub profile: Option<Arc<Profile>>,
    /// Parameters of the profile's requests, by name.
    pub with: BTreeMap<String, Parameter>,
}

impl Server {
    /// The files that its settings name.
    pub fn files(&self) -> Vec<&Path> {
        let certificate = self.client_certificate.as_ref();
        let keys = certificate.into_iter().flat_map(|it| [&it.cert, &it.key]);
        let keys = keys.chain(&self.proxy_credentials).filter_map(|key| match key {
            KeySource::File(path) => Some(path),
            KeySource::Credential(_) => None,
        });
        let with = self.with.values().filter_map(|parameter| match parameter {
            Parameter::File(path) => Some(path),
            Parameter::Text(_) | Parameter::Credential(_) | Parameter::Env(_) => None,
        });
        self.ca_file.iter().chain(keys).chain(with).map(PathBuf::as_path).collect()
    }
}

/// The source of a parameter of a profile.
#[derive(Clone, PartialEq, Eq)]
pub enum Parameter {
    /// The text itself.
    Text(String),
    /// A file, read when it is needed.
    File(PathBuf),
    /// A name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// An environment variable.
    Env(String),
}

/// A certificate for TLS client authentication, in PEM form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, followed by intermediate certificates.
    pub cert: KeySource,
    /// Its private key, unencrypted. May be the same file or credential.
    pub key: KeySource,
}

/// `[reauth.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reauth {
    /// Its name in the configuration.
    pub name: String,
    /// How a new value is obtained.
    pub method: ReauthMethod,
    /// Maximum duration of an attempt.
    pub timeout: Duration,
    /// Limits of attempts.
    pub policy: ReauthPolicy,
    /// Maximum number of failures of all its tokens together within one window of `policy`. At the
    /// limit, logins with this method stop until the window ends.
    pub max_failures_all: NonZeroU32,
    /// Times without logins. Windows may overlap.
    pub maintenance_windows: Vec<MaintenanceWindow>,
}

/// How a new token value is obtained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReauthMethod {
    /// An external command: the program, then its arguments.
    Command(Vec<String>),
    /// `GetSessionToken` with an API key.
    ApiKey {
        /// The source of the key, read at each attempt.
        key: KeySource,
        /// The requested life in minutes, 1 to 1440.
        minutes: u16,
    },
    /// The login call of the profile of the token's server.
    Login {
        /// Parameters of the request, by name. They override those of the server.
        with: BTreeMap<String, Parameter>,
        /// The requested life in minutes, 1 to 1440.
        minutes: u16,
    },
}

/// The source of a secret other than a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file.
    File(PathBuf),
    /// A name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

impl From<&KeySource> for Parameter {
    fn from(source: &KeySource) -> Self {
        match source {
            KeySource::File(path) => Self::File(path.clone()),
            KeySource::Credential(name) => Self::Credential(name.clone()),
        }
    }
}

/// `[token.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its name in the configuration.
    pub name: String,
    /// The source of its value.
    pub source: Source,
    /// The source of its refresh token; only the daemon reads it.
    pub refresh: Option<Source>,
    /// The file for applications that read the value from their environment.
    pub env_file: Option<EnvFile>,
    /// How the token is kept alive.
    pub keep_alive: KeepAlive,
    /// Whether the token has its own gauges in the metrics.
    pub metrics: bool,
}

/// A file with the current value as an environment variable, for `EnvironmentFile=` and shells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFile {
    /// The file. An absolute path that no other key names.
    pub path: PathBuf,
    /// The name of the variable: letters, digits and `_`, not beginning with a digit.
    pub variable: String,
    /// The group that may read the file, by name or number; `None` for no group.
    pub group: Option<String>,
}

/// How tokens are kept alive: the keys that `[token.NAME]` and `[inventory.NAME]` have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct KeepAlive {
    /// The name of the server; it exists in [`Settings::servers`].
    pub server: String,
    /// The name of the `reauth` method; it exists in [`Settings::reauths`].
    pub reauth: Option<String>,
    /// When a new value is requested if the current one cannot be renewed: this long before its
    /// expiry, 100 ms to 24 h. `None`: after the expiry. Always `None` without `reauth`.
    pub reauth_before: Option<Duration>,
    /// Whether the value is revoked when the service stops.
    pub revoke_on_shutdown: bool,
    /// Users and groups that may read the value over the control socket, besides root and the
    /// daemon's user.
    pub readers: Vec<Reader>,
    /// The schedule of checks. For each key, the nearest `[schedule]` counts.
    pub schedule: Schedule,
}

/// A user or group that may read a token's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reader {
    /// A user, by name or number.
    User(String),
    /// A group, by name or number.
    Group(String),
}

impl Reader {
    /// Prefix of a group.
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
    /// In the notation of the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => f.write_str(user),
            Self::Group(group) => write!(f, "{}{group}", Self::GROUP),
        }
    }
}

/// `[inventory.NAME]`: many tokens from one source.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    /// Its name in the configuration.
    pub name: String,
    /// The source of its tokens.
    pub source: InventorySource,
    /// How its tokens are kept alive.
    pub keep_alive: KeepAlive,
}

impl Inventory {
    /// The source as messages show it: a path, or the program of a command.
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

    /// Location of the token `name`, which is on `line` of the source; 0 if the source has no
    /// lines.
    pub fn location(&self, name: &str, line: u32) -> String {
        match &self.source {
            InventorySource::Dir(path) => path.join(name).display().to_string(),
            InventorySource::File { .. } | InventorySource::Command { .. } => {
                format!("{}:{line}", self.whole())
            }
        }
    }
}

/// The source of an inventory's tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InventorySource {
    /// A file of JSON lines, watched.
    File {
        /// The file.
        path: PathBuf,
        /// Whether one invalid line makes the whole file invalid.
        strict: bool,
    },
    /// A directory, watched, with one file per token. The file name is the name of the token.
    Dir(PathBuf),
    /// An external command that prints JSON lines. Runs at startup and at each reload.
    Command {
        /// The program, then its arguments.
        command: Vec<String>,
        /// Maximum duration of the command.
        timeout: Duration,
        /// Whether one invalid line makes all of the output invalid.
        strict: bool,
    },
}

/// `[notify.NAME]`: a command or a webhook that receives events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// Its name in the configuration.
    pub name: String,
    /// The events that it receives. `None`: events of level error, and `token_recovered`.
    pub events: Option<Vec<EventName>>,
    /// It receives events of these tokens only. `None`: all events, also those that concern no
    /// token.
    pub tokens: Option<Vec<NamePattern>>,
    /// What receives the events.
    pub target: NotifyTarget,
    /// Maximum duration of an attempt, 100 ms to 10 min.
    pub timeout: Duration,
}

/// What receives the events of a `[notify.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotifyTarget {
    /// An external command: the program, then its arguments.
    Command(Vec<String>),
    /// An HTTP request.
    Webhook(Webhook),
}

/// An HTTP request for each event.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where the event is posted to. https, or http to this machine. Its path may be a secret.
    pub url: Url,
    /// A name in `$CREDENTIALS_DIRECTORY`: a header line of the request.
    pub header_credential: Option<String>,
    /// PEM file of a private certificate authority. No other authority is trusted.
    pub ca_file: Option<PathBuf>,
    /// The proxy for the requests.
    pub proxy: Option<Url>,
}

impl Webhook {
    /// The URL without its path, for messages.
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// The source of a token's value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A file, watched. A new value is written back to it.
    File(PathBuf),
    /// A name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// An environment variable.
    Env(String),
}
