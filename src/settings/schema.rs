//! The schema of the configuration: every key, its table and the kind of its value.
//!
//! Limits of single values are defined here; relations between keys are in `validate`.

use std::time::Duration;

use crate::lifecycle::{Renewal, Schedule};
use crate::profile::keys;

use super::model::LogFormat;

/// A key or table.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
}

/// The content of a [`Field`].
#[derive(Debug)]
pub(super) enum Shape {
    /// A value.
    Value(Kind),
    /// One table with these keys.
    Table(&'static [Field]),
    /// Tables with these keys and user-defined names.
    Named(&'static [Field]),
    /// Parameters of a profile: user-defined names, each with a text or a table with the keys of
    /// [`SOURCE`].
    Parameters,
    /// Profiles: tables with user-defined names, which `profile` checks.
    Profiles,
}

/// The kind of a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A path.
    Path,
    /// A path that begins with a slash.
    AbsolutePath,
    /// A path that fits into the address of a Unix socket.
    SocketPath,
    /// The name of a server or re-auth.
    Reference,
    /// The name of a systemd credential.
    Credential,
    /// The name of an environment variable.
    Variable,
    /// The name of an environment variable for programs and shells.
    ShellVariable,
    /// A group, by name or number.
    Group,
    /// A tracing filter.
    Filter,
    /// An http or https URL without credentials or query.
    Url,
    /// http or https URLs without credentials, path or query.
    Endpoints,
    /// The name of a replica.
    ReplicaName,
    /// A prefix of keys in etcd.
    KeyPrefix,
    /// The name of a user of a server.
    UserName,
    /// An IP address with a port.
    Address,
    /// A program and its arguments.
    Command,
    /// Daily maintenance windows.
    MaintenanceWindows,
    /// Users and groups.
    Readers,
    /// Names of hosts.
    Hosts,
    /// Names of events.
    Events,
    /// Names of tokens, or patterns for them.
    TokenPatterns,
    /// A parameter of a profile.
    Parameter,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A duration in this range, both ends included.
    Duration(Duration, Duration),
    /// A number from 0 to 1, both included.
    Fraction,
    /// A number between 0 and 1, both excluded.
    OpenFraction,
    /// A whole number in this range, both ends included.
    Integer(i64, i64),
    /// True or false.
    Boolean,
}

/// One year. A longer duration is a typing error, and sums of such durations do not overflow.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);
/// 30 days: longer than any session.
const LONGEST_KEPT: Duration = Duration::from_secs(30 * 86_400);
/// One day: the maximum pause between two retries.
const LONGEST_RETRY: Duration = Duration::from_secs(86_400);
/// The minimum time for a request, whatever else shortens it.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);
/// Ten minutes: a server that takes longer is unavailable.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);
/// One hour: a person may have to confirm a re-authentication on another device.
const LONGEST_HOOK: Duration = Duration::from_secs(3_600);
/// One day: the maximum life of a token in the API.
const LONGEST_LEAD: Duration = Duration::from_secs(86_400);
/// A replica sends three beats in this time, and etcd may need one second to elect a leader.
const SHORTEST_FAILOVER: Duration = Duration::from_secs(3);
/// A token with a shorter life would expire before another replica checks it.
const LONGEST_FAILOVER: Duration = Duration::from_secs(60);
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Words for [`LogFormat`].
pub(super) const LOG_FORMATS: [(&str, LogFormat); 5] = [
    ("auto", LogFormat::Auto),
    ("json", LogFormat::Json),
    ("logfmt", LogFormat::Logfmt),
    ("text", LogFormat::Text),
    ("journald", LogFormat::Journald),
];

/// Words for [`Renewal`].
pub(super) const RENEWALS: [(&str, Renewal); 3] =
    [("auto", Renewal::Auto), ("query", Renewal::Query), ("renew", Renewal::Renew)];

const fn value(name: &'static str, kind: Kind) -> Field {
    Field { name, shape: Shape::Value(kind) }
}

const fn words<T: Copy, const N: usize>(table: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut words = [""; N];
    let mut at = 0;
    while at < N {
        words[at] = table[at].0;
        at += 1;
    }
    words
}

/// The whole configuration.
pub(super) const ROOT: &[Field] = &[
    value("state_dir", Kind::Path),
    // More concurrent processes would not help to keep tokens alive.
    value("max_hooks", Kind::Integer(1, 1_000)),
    value("keep_removed", Kind::Duration(Duration::ZERO, LONGEST_KEPT)),
    Field { name: "log", shape: Shape::Table(LOG) },
    Field { name: "control", shape: Shape::Table(CONTROL) },
    Field { name: "schedule", shape: Shape::Table(SCHEDULE) },
    Field { name: "cluster", shape: Shape::Table(CLUSTER) },
    Field { name: "server", shape: Shape::Named(SERVER) },
    Field { name: "reauth", shape: Shape::Named(REAUTH) },
    Field { name: "token", shape: Shape::Named(TOKEN) },
    Field { name: "inventory", shape: Shape::Named(INVENTORY) },
    Field { name: "notify", shape: Shape::Named(NOTIFY) },
    Field { name: "profile", shape: Shape::Profiles },
];

const LOG: &[Field] =
    &[value("format", Kind::Choice(&words(&LOG_FORMATS))), value("level", Kind::Filter)];

const CONTROL: &[Field] = &[
    value("socket", Kind::SocketPath),
    value("listen", Kind::Address),
    value("listen_names", Kind::Boolean),
    value("listen_hosts", Kind::Hosts),
];

const CLUSTER: &[Field] = &[
    value("etcd", Kind::Endpoints),
    value("allow_http", Kind::Boolean),
    value("name", Kind::ReplicaName),
    value("prefix", Kind::KeyPrefix),
    value("failover", Kind::Duration(SHORTEST_FAILOVER, LONGEST_FAILOVER)),
    value("user", Kind::UserName),
    Field { name: "password", shape: Shape::Table(SECRET_SOURCE) },
    value("ca_file", Kind::Path),
    value("client_cert_file", Kind::Path),
    value("client_key_file", Kind::Path),
    Field { name: "key", shape: Shape::Table(SECRET_SOURCE) },
    Field { name: "old_key", shape: Shape::Table(SECRET_SOURCE) },
];

/// The source of a secret of the daemon itself.
const SECRET_SOURCE: &[Field] = &[value("file", Kind::Path), value("credential", Kind::Credential)];

const SCHEDULE: &[Field] = &[
    value("check_after", Kind::OpenFraction),
    value("jitter", Kind::Fraction),
    value("min_interval", Kind::Duration(MILLISECOND, LONGEST)),
    value("max_interval", Kind::Duration(MILLISECOND, LONGEST)),
    value("retry_initial", Kind::Duration(Schedule::SHORTEST_RETRY_INITIAL, LONGEST_RETRY)),
    value("retry_max", Kind::Duration(Schedule::SHORTEST_RETRY_INITIAL, LONGEST_RETRY)),
];

const SERVER: &[Field] = &[
    value("url", Kind::Url),
    value("allow_http", Kind::Boolean),
    value("profile", Kind::Reference),
    PARAMETERS,
    value("renewal", Kind::Choice(&words(&RENEWALS))),
    value("timeout", Kind::Duration(SHORTEST_TIMEOUT, LONGEST_TIMEOUT)),
    value("connect_timeout", Kind::Duration(SHORTEST_TIMEOUT, LONGEST_TIMEOUT)),
    // The number of local ports.
    value("max_in_flight", Kind::Integer(1, 65_535)),
    // Ten times the rate that one core can send.
    value("rate_limit", Kind::Integer(1, 1_000_000)),
    value("ca_file", Kind::Path),
    value("client_cert_file", Kind::Path),
    value("client_cert_credential", Kind::Credential),
    value("client_key_file", Kind::Path),
    value("client_key_credential", Kind::Credential),
    value("proxy", Kind::Url),
    value("proxy_credentials_file", Kind::Path),
    value("proxy_credential", Kind::Credential),
    Field { name: "schedule", shape: Shape::Table(SCHEDULE) },
];

/// Parameters of the profile's requests.
const PARAMETERS: Field = Field { name: "with", shape: Shape::Parameters };

/// The source of a value, if it is a table.
pub(super) const SOURCE: &[Field] = &[
    value("file", Kind::Path),
    value("credential", Kind::Credential),
    value("env", Kind::Variable),
];

const REAUTH: &[Field] = &[
    value("command", Kind::Command),
    value("api_key_file", Kind::Path),
    value("api_key_credential", Kind::Credential),
    value("login", Kind::Boolean),
    PARAMETERS,
    // The API's own limits.
    value("minutes", Kind::Integer(1, 1_440)),
    value("timeout", Kind::Duration(SHORTEST_TIMEOUT, LONGEST_HOOK)),
    value("delay", Kind::Duration(Schedule::SHORTEST_RETRY_INITIAL, LONGEST_RETRY)),
    value("delay_max", Kind::Duration(Schedule::SHORTEST_RETRY_INITIAL, LONGEST_RETRY)),
    // Effectively unlimited, and short enough for a log line.
    value("max_attempts", Kind::Integer(1, 1_000_000)),
    value("window", Kind::Duration(SECOND, LONGEST)),
    value("max_failures_all", Kind::Integer(1, 1_000_000)),
    value("quiet", Kind::MaintenanceWindows),
    REAUTH_BEFORE,
];

/// A time shorter than a request would be too late.
const REAUTH_BEFORE: Field = value("reauth_before", Kind::Duration(SHORTEST_TIMEOUT, LONGEST_LEAD));

const TOKEN: &[Field] = &[
    value("server", Kind::Reference),
    value("file", Kind::Path),
    value("credential", Kind::Credential),
    value("env", Kind::Variable),
    Field { name: "refresh", shape: Shape::Table(SOURCE) },
    value("env_file", Kind::AbsolutePath),
    value("env_name", Kind::ShellVariable),
    value("env_group", Kind::Group),
    value("reauth", Kind::Reference),
    REAUTH_BEFORE,
    value("revoke_on_shutdown", Kind::Boolean),
    value("readers", Kind::Readers),
    value("metrics", Kind::Boolean),
    Field { name: "schedule", shape: Shape::Table(SCHEDULE) },
];

const INVENTORY: &[Field] = &[
    value("server", Kind::Reference),
    value("file", Kind::Path),
    value("dir", Kind::Path),
    value("command", Kind::Command),
    value("strict", Kind::Boolean),
    value("timeout", Kind::Duration(SHORTEST_TIMEOUT, LONGEST_HOOK)),
    value("reauth", Kind::Reference),
    REAUTH_BEFORE,
    value("revoke_on_shutdown", Kind::Boolean),
    value("readers", Kind::Readers),
    Field { name: "schedule", shape: Shape::Table(SCHEDULE) },
];

const NOTIFY: &[Field] = &[
    value("events", Kind::Events),
    value("tokens", Kind::TokenPatterns),
    value("command", Kind::Command),
    value("webhook", Kind::Url),
    value("webhook_header_credential", Kind::Credential),
    value("ca_file", Kind::Path),
    value("proxy", Kind::Url),
    value("timeout", Kind::Duration(SHORTEST_TIMEOUT, LONGEST_TIMEOUT)),
];

/// The field called `name` among `fields`.
pub(super) fn find(fields: &'static [Field], name: &str) -> Option<&'static Field> {
    fields.iter().find(|field| field.name == name)
}

/// Whether a table with these keys names the source of a value.
pub(super) fn is_source(fields: &[Field]) -> bool {
    fields.first().is_some_and(|field| field.name == "file")
}

/// The tables that have the key `name`, in TOML notation: `[schedule]`, `[server.NAME]`.
pub(super) fn tables_with_key(name: &str) -> Vec<String> {
    let mut homes = Vec::new();
    if find(ROOT, name).is_some_and(|field| matches!(field.shape, Shape::Value(_))) {
        homes.push("the top of the file".to_owned());
    }
    for field in ROOT {
        match field.shape {
            Shape::Table(keys) if find(keys, name).is_some() => {
                homes.push(format!("[{}]", field.name));
            }
            Shape::Named(keys) if find(keys, name).is_some() => {
                homes.push(format!("[{}.NAME]", field.name));
            }
            Shape::Profiles if keys::PROFILE.iter().any(|key| key.name == name) => {
                homes.push(format!("[{}.NAME]", field.name));
            }
            _ => {}
        }
    }
    homes
}

/// The kinds of all keys called `name`.
pub(super) fn kinds_of_key(name: &str) -> Vec<Kind> {
    fn collect(fields: &[Field], name: &str, kinds: &mut Vec<Kind>) {
        for field in fields {
            match field.shape {
                Shape::Value(kind) if field.name == name => kinds.push(kind),
                Shape::Value(_) | Shape::Parameters | Shape::Profiles => {}
                Shape::Table(keys) | Shape::Named(keys) => collect(keys, name, kinds),
            }
        }
    }
    let mut kinds = Vec::new();
    collect(ROOT, name, &mut kinds);
    kinds
}

/// Whether a key or table is called `name`.
pub(super) fn is_schema_name(name: &str) -> bool {
    let mut of_profiles = keys::PROFILE.iter().chain(keys::CALL).chain(keys::DEATH);
    find(ROOT, name).is_some()
        || name == PARAMETERS.name
        || !kinds_of_key(name).is_empty()
        || of_profiles.any(|key| key.name == name)
}

/// Whether `name` is a key of profiles whose value is a place or a word, and not a secret.
pub(super) fn is_harmless_in_profiles(name: &str) -> bool {
    ["assume", "at", "endless", "life", "means", "once", "status", "unit", "without"]
        .contains(&name)
}

/// Whether a key of this name suggests that its value is a secret.
pub(super) fn names_a_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    ["token", "key", "passw", "secret", "value", "credential", "bearer"]
        .iter()
        .any(|part| name.contains(part))
}

impl Kind {
    /// Whether environment variables contain the value as plain text instead of TOML.
    pub(super) const fn is_text(self) -> bool {
        !matches!(
            self,
            Self::Command
                | Self::MaintenanceWindows
                | Self::Readers
                | Self::Events
                | Self::Endpoints
                | Self::TokenPatterns
                | Self::Fraction
                | Self::OpenFraction
                | Self::Integer(..)
                | Self::Boolean
        )
    }

    /// Whether messages may show the value. False if a secret could be there by mistake.
    pub(super) const fn may_be_shown(self) -> bool {
        !matches!(
            self,
            Self::Path
                | Self::AbsolutePath
                | Self::SocketPath
                | Self::Credential
                | Self::Variable
                | Self::ShellVariable
                | Self::Group
                | Self::Url
                | Self::Endpoints
                | Self::UserName
                | Self::Command
                | Self::Parameter
        )
    }
}
