//! Validates the merged configuration: compares keys, resolves references, fills in defaults.
//!
//! Single values have been checked by `schema_check`; here they are only converted. A key whose
//! value was rejected counts as present, so that it is not reported as missing.

mod cluster;
mod env_file;
mod inventory;
mod keep_alive;
mod notify;
mod profile;
mod reauth;
mod schedule;
mod server;
mod session;
mod token;

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::lifecycle::Schedule;
use crate::secret::looks_secret;

use super::collector::Collector;
use super::finding::{ConfigErrorKind, WarningKind};
use super::key_positions::{KeyPositions, join};
use super::model::{Control, Log, LogFormat, Settings};
use super::position::Position;
use super::raw::{Raw, RawControl, RawLog, RawReauth, RawSchedule};
use super::schema::LOG_FORMATS;
use super::suggestions::where_secrets_belong;
use crate::duration;
use crate::similarity::suggest;

pub(super) use server::{is_plain_http, with_defaults as server_with_defaults};

/// As many concurrent commands as a small machine can run without delaying the checks.
const MAX_HOOKS: NonZeroU32 = NonZeroU32::new(4).unwrap();
/// Long enough to restore a configuration that was removed by mistake.
const KEEP_REMOVED: Duration = Duration::from_secs(3_600);
/// The directory that `StateDirectory=tokenkeep` provides.
const STATE_DIR: &str = "/var/lib/tokenkeep";
/// The default control socket, in the directory that `RuntimeDirectory=tokenkeep` provides. Not
/// used if `control.socket` is configured or `$RUNTIME_DIRECTORY` is set.
pub const DEFAULT_SOCKET: &str = "/run/tokenkeep/control.sock";
/// Shows each check, without the details of dependencies.
const LEVEL: &str = "info";

/// Defaults of keys that are not configured, if they differ from the system's.
#[derive(Default)]
pub(super) struct ServiceDirectories {
    /// The state directory.
    pub(super) state: Option<String>,
    /// The control socket. A relative path is in the state directory.
    pub(super) socket: Option<PathBuf>,
}

/// Validates `raw`. If errors are reported, the result is incomplete.
pub(super) fn validate(
    raw: &Raw,
    given: ServiceDirectories,
    positions: &KeyPositions,
    collector: &mut Collector,
) -> Settings {
    let mut validator = Validator { positions, collector };
    let state_dir = raw.state_dir.clone().or(given.state);
    let general = validator.schedule(&[("schedule", &raw.schedule)], Schedule::default());
    let schedules: BTreeMap<&str, Schedule> = raw
        .server
        .iter()
        .map(|(name, server)| {
            (name.as_str(), validator.server_schedule(name, server, raw, general))
        })
        .collect();
    let state_dir = PathBuf::from(state_dir.unwrap_or_else(|| STATE_DIR.to_owned()));
    let socket = given.socket.map(|socket| state_dir.join(socket));
    let profiles = validator.profiles(raw);
    let settings = Settings {
        max_hooks: at_least_one(raw.max_hooks, MAX_HOOKS),
        keep_removed: duration_or(raw.keep_removed.as_deref(), KEEP_REMOVED),
        log: log(&raw.log),
        control: control(&raw.control, socket),
        state_dir,
        servers: raw
            .server
            .iter()
            .filter_map(|(name, raw)| validator.server(name, raw, &profiles))
            .collect(),
        reauths: raw.reauth.iter().filter_map(|(name, raw)| validator.reauth(name, raw)).collect(),
        tokens: raw
            .token
            .iter()
            .filter_map(|(name, token)| validator.token(name, token, raw, &schedules))
            .collect(),
        inventories: raw
            .inventory
            .iter()
            .filter_map(|(name, inventory)| validator.inventory(name, inventory, raw, &schedules))
            .collect(),
        notifies: raw.notify.iter().filter_map(|(name, raw)| validator.notify(name, raw)).collect(),
        profiles,
        cluster: raw.cluster.as_ref().and_then(|cluster| validator.cluster(cluster)),
    };
    validator.check_replicas(&settings, raw);
    validator.check_sessions(&settings, raw);
    validator.reject_shared_env_files(&settings);
    validator.warn_unused(raw, &settings);
    if raw.inventory.is_empty() {
        validator.warn_unmatched_patterns(&settings.notifies, &settings.tokens);
    }
    settings
}

fn log(raw: &RawLog) -> Log {
    Log {
        format: chosen(raw.format.as_deref(), &LOG_FORMATS).unwrap_or(LogFormat::Auto),
        level: raw.level.as_deref().unwrap_or(LEVEL).trim().to_owned(),
    }
}

fn control(raw: &RawControl, given: Option<PathBuf>) -> Control {
    let socket = raw.socket.as_deref().map(PathBuf::from).or(given);
    Control {
        socket: socket.unwrap_or_else(|| DEFAULT_SOCKET.into()),
        listen: raw.listen.as_deref().and_then(|address| address.parse().ok()),
        listen_names: raw.listen_names.unwrap_or(true),
        listen_hosts: raw.listen_hosts.clone().unwrap_or_default(),
    }
}

fn at_least_one(value: Option<u32>, default: NonZeroU32) -> NonZeroU32 {
    value.and_then(NonZeroU32::new).unwrap_or(default)
}

fn duration_or(text: Option<&str>, default: Duration) -> Duration {
    text.and_then(|text| duration::parse(text).ok()).unwrap_or(default)
}

fn chosen<T: Copy>(word: Option<&str>, words: &[(&str, T)]) -> Option<T> {
    words.iter().find(|(known, _)| Some(*known) == word).map(|(_, value)| *value)
}

/// The state of the validation.
struct Validator<'a> {
    positions: &'a KeyPositions,
    collector: &'a mut Collector,
}

/// A `[schedule]` and its path. Lists of schedules have the nearest first.
type ScheduleLevel<'a> = (&'a str, &'a RawSchedule);

impl Validator<'_> {
    fn table_position(&self, table: &str) -> Position {
        self.positions.get(table).unwrap_or(Position::MAIN)
    }

    fn is_present(&self, table: &str, key: &str) -> bool {
        self.positions.get(&join(table, key)).is_some()
    }

    /// Reports an error of this key.
    fn error(
        &mut self,
        (table, key): (&str, &str),
        kind: ConfigErrorKind,
        message: String,
        remedy: impl Into<String>,
    ) {
        self.collector.error(self.positions.nearest(table, key), kind, message, remedy);
    }

    /// Warns about this key.
    fn warning(
        &mut self,
        (table, key): (&str, &str),
        kind: WarningKind,
        message: String,
        remedy: impl Into<String>,
    ) {
        self.collector.warning(self.positions.nearest(table, key), kind, message, remedy);
    }

    /// Reports `key` as missing in `table`, unless it is present with a rejected value.
    fn report_missing(&mut self, table: &str, key: &str, remedy: impl Into<String>) {
        if !self.is_present(table, key) {
            let message = format!("[{table}] has no `{key}`");
            let position = self.table_position(table);
            self.collector.error(position, ConfigErrorKind::Missing, message, remedy);
        }
    }

    /// Reports an error unless exactly one of `keys` is present in `table`.
    fn require_exactly_one(&mut self, table: &str, keys: &[&str]) -> bool {
        let written: Vec<&str> =
            keys.iter().copied().filter(|key| self.is_present(table, key)).collect();
        let all = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        match written[..] {
            [] => {
                let message = format!("[{table}] has none of {all}");
                let remedy = "write exactly one of them";
                let position = self.table_position(table);
                self.collector.error(position, ConfigErrorKind::Missing, message, remedy);
                false
            }
            [_] => true,
            [first, second, ..] => {
                let message = format!("[{table}] has both `{first}` and `{second}`");
                let remedy = format!("keep exactly one of {all}");
                let position =
                    self.positions.nearest(table, first).max(self.positions.nearest(table, second));
                self.collector.error(position, ConfigErrorKind::Conflict, message, remedy);
                false
            }
        }
    }

    /// Reports that `table.key` refers to `name`, but `section` has no such table.
    fn report_unknown_name<'a>(
        &mut self,
        (table, key): (&str, &str),
        (section, name): (&str, &str),
        known: impl Iterator<Item = &'a String>,
    ) {
        if self.positions.get(&join(section, name)).is_some() {
            return;
        }
        let message = format!(
            "`{}` names {name:?}, but there is no [{}]",
            join(table, key),
            join(section, name)
        );
        let remedy = match suggest(name, known.map(String::as_str)) {
            Some(near) => format!("did you mean {near:?}?"),
            None if looks_secret(name) => where_secrets_belong(key, table).to_owned(),
            None => format!("define [{}], or use another name", join(section, name)),
        };
        self.error((table, key), ConfigErrorKind::UnknownName, message, remedy);
    }

    /// Warns about tables that no token uses, and about a configuration without tokens.
    fn warn_unused(&mut self, raw: &Raw, settings: &Settings) {
        if raw.token.is_empty() && raw.inventory.is_empty() {
            let position = self.table_position("token");
            self.collector.warning(
                position,
                WarningKind::NoTokens,
                "no tokens configured; nothing to keep alive",
                "run `tokenkeep add NAME`, or add a [token.NAME] or an [inventory.NAME] with its \
                 server and source",
            );
            return;
        }
        let (mut servers, mut reauths) = (HashSet::new(), HashSet::new());
        for written in raw.token.values().chain(raw.inventory.values()) {
            servers.extend(&written.server);
            reauths.extend(&written.reauth);
        }
        let unused = raw
            .server
            .keys()
            .filter(|name| !servers.contains(name))
            .map(|name| join("server", name));
        // `init` writes the login of a profile beside its server, under the same name. Tokens with
        // a refresh token do not need it.
        let is_of_server = |(name, reauth): &(&String, &RawReauth)| {
            reauth.login == Some(true) && servers.contains(name)
        };
        let unused = unused.chain(
            raw.reauth
                .iter()
                .filter(|(name, _)| !reauths.contains(name))
                .filter(|login| !is_of_server(login))
                .map(|(name, _)| join("reauth", name)),
        );
        let named: HashSet<_> =
            raw.server.values().filter_map(|server| server.profile.as_ref()).collect();
        let profiles = raw.profile.keys().filter(|name| !named.contains(name));
        for path in profiles.map(|name| join("profile", name)) {
            let message = format!("no server uses [{path}]");
            let remedy = "write it as `profile` of a [server.NAME], or remove it";
            let position = self.table_position(&path);
            self.collector.warning(position, WarningKind::Unused, message, remedy);
        }
        for path in unused {
            let message = format!("no token uses [{path}]");
            let remedy = "use it in a token or an inventory, or remove it";
            let position = self.table_position(&path);
            self.collector.warning(position, WarningKind::Unused, message, remedy);
        }
        self.warn_shared_sources(&settings.tokens);
        self.warn_shared_inventories(&settings.inventories);
    }
}
