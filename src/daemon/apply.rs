//! Putting a configuration into force: at the start, and at a reload in place of the old one.
//!
//! What is the same in both is not disturbed. A configuration that cannot be put into force
//! whole is not put into force at all.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::deeds::Done;
use super::reading::Fresh;
use super::roster::{Origin, Remote, Terms};
use super::sources::Held;
use super::{Daemon, DaemonError};
use crate::api::Client;
use crate::clock;
use crate::control::Reloaded;
use crate::events::{self, Fields, Name, Severity};
use crate::keeper::{Limits, ReauthRoute, ReauthSpec, TokenId, TokenSpec};
use crate::settings::{Loaded, Reauth, ReauthMethod, Server, Settings, Warning};
use crate::store::Store;
use crate::systemd;

/// How many names a log line lists before it only counts.
const NAMES_IN_A_LINE: usize = 20;

/// Connections for every server that is new or changed, as against `old`. Reads files.
pub(super) fn clients(
    settings: &Settings,
    old: &[Server],
) -> Result<BTreeMap<String, Client>, DaemonError> {
    let known = |server: &Server| old.contains(server);
    let build = |server: &Server| {
        let name = server.name.clone();
        match Client::new(server) {
            Ok(client) => Ok((name, client)),
            Err(error) => Err(DaemonError::Client { name, error }),
        }
    };
    settings.servers.iter().filter(|server| !known(server)).map(build).collect()
}

/// What a reload did, by name.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) added: Vec<String>,
    pub(super) removed: Vec<String>,
    pub(super) changed: Vec<String>,
}

impl Daemon {
    /// Puts the first configuration into force, reads every source, and goes on where an
    /// earlier run left off.
    pub(super) fn apply_first(
        &mut self,
        settings: Settings,
        clients: BTreeMap<String, Client>,
        mut store: Option<Store>,
    ) {
        if let Some(store) = &mut store {
            self.recall_values(store);
        }
        self.apply(settings, clients);
        if let Some(store) = &mut store {
            self.recall_counts(store);
        }
        self.memory.held = Some(Held::default());
        let mut ids: Vec<TokenId> = self.roster.ids().map(|(id, _)| id).collect();
        ids.sort_unstable();
        for id in ids {
            self.look_now(id);
        }
        self.read_first();
        self.resume(store.as_mut());
        if let Some(store) = store {
            self.keep_on(store);
        }
    }

    /// Puts `settings` into force; `clients` are those of servers that are new or changed.
    fn apply(&mut self, settings: Settings, mut clients: BTreeMap<String, Client>) -> Changes {
        let mut changes = Changes::default();
        self.keeper.set_max_hooks(settings.max_hooks);
        for server in &settings.servers {
            if let Some(client) = clients.remove(&server.name) {
                self.put_server(server.clone(), client);
            }
        }
        let wanted: HashSet<&str> =
            settings.tokens.iter().map(|token| token.name.as_str()).collect();
        let gone: Vec<TokenId> = self
            .roster
            .ids()
            .filter(|(_, kept)| kept.stock().is_none() && !wanted.contains(kept.name()))
            .map(|(id, _)| id)
            .collect();
        for id in gone {
            let name = self.roster.token(id).map(|kept| kept.name().to_owned());
            changes.removed.extend(name);
            self.let_go(id);
        }
        for reauth in &settings.reauths {
            self.put_reauth(reauth);
        }
        self.close_for_quiet(clock::now());
        let mut policies = Vec::new();
        for token in &settings.tokens {
            let origin = Origin::Own(token.source.clone());
            if let Some((terms, spec)) = self.terms(&token.upkeep, origin, &mut policies) {
                self.put_token(&token.name, terms, spec, &mut changes);
            }
        }
        self.put_inventories(&settings.inventories, &mut policies, &mut changes);
        let own = self.roster.ids().filter(|(_, kept)| kept.stock().is_none());
        let files: Vec<_> = own.filter_map(|(id, kept)| Some((id.key(), kept.file()?))).collect();
        self.watcher.set_paths(files);
        self.settings = settings;
        self.remove_stale();
        changes
    }

    /// Removes the servers and `[reauth]` entries that are not configured any more: no token has
    /// them now, and requests in flight own what they need.
    fn remove_stale(&mut self) {
        // Notices are still to be written with their names.
        self.perform();
        let Settings { servers, reauths, .. } = &self.settings;
        for id in self.roster.stale_servers(servers) {
            let Some(remote) = self.roster.find_remote(id) else { continue };
            if self.keeper.census_of(id).total() > 0 {
                debug_assert!(false, "every token is on a configured server");
                continue;
            }
            let name = &remote.settings.name;
            let is_renamed = !servers.iter().any(|server| server.name == *name);
            self.figures.forget_server(id, is_renamed.then_some(name));
            self.keeper.remove_server(id);
            self.roster.remove_server(id);
        }
        for id in self.roster.stale_reauths(reauths) {
            if let Some(reauth) = self.roster.reauth(id) {
                self.figures.forget_reauth(&reauth.name);
            }
            self.keeper.remove_reauth(id);
            self.roster.remove_reauth(id);
        }
    }

    fn put_server(&mut self, server: Server, client: Client) {
        let limits = Limits { rate_limit: server.rate_limit, max_in_flight: server.max_in_flight };
        // Behind another address is another server: nothing is known of it yet.
        let same = self
            .roster
            .server_of(&server.name)
            .filter(|id| self.roster.remote(*id).settings.url == server.url);
        let id = match same {
            Some(id) => {
                self.keeper.set_limits(id, limits);
                id
            }
            None => self.keeper.add_server(limits),
        };
        self.roster.put_server(id, Remote { settings: server, client });
    }

    fn put_reauth(&mut self, reauth: &Reauth) {
        let spec = ReauthSpec {
            route: match reauth.method {
                ReauthMethod::ApiKey { .. } => ReauthRoute::Server,
                ReauthMethod::Command(_) => ReauthRoute::Hook,
            },
            max_failures: reauth.max_failures_all,
            window: reauth.policy.window,
        };
        let id = match self.roster.reauth_of(&reauth.name) {
            Some(id) if self.roster.reauth(id).is_some_and(|known| **known == *reauth) => return,
            Some(id) => {
                self.keeper.set_reauth(id, spec);
                id
            }
            None => self.keeper.add_reauth(spec),
        };
        self.roster.put_reauth(id, reauth.clone());
    }

    fn put_token(&mut self, name: &str, terms: Terms, spec: TokenSpec, changes: &mut Changes) {
        // What a token was in an inventory ends where a [token.NAME] begins.
        if let Some(id) = self.roster.id_of(name)
            && self.roster.token(id).is_some_and(|kept| kept.stock().is_some())
        {
            self.let_go(id);
        }
        let Some(id) = self.roster.id_of(name) else {
            self.add_token(name, &Arc::new(terms), spec, 0);
            changes.added.push(name.to_owned());
            return;
        };
        if self.change_token(id, &Arc::new(terms), &spec) {
            changes.changed.push(name.to_owned());
        }
    }

    /// SIGHUP: the configuration is read again, and this goes on meanwhile. Returns the reload's
    /// number.
    pub(super) fn reload(&mut self) -> u64 {
        let (number, now) = self.reloads.ask();
        if now {
            self.read_configuration();
        }
        number
    }

    fn read_configuration(&mut self) {
        self.told(systemd::reloading());
        let reading = self.reader.read(self.settings.servers.clone());
        self.queries.spawn(async { Done::Loaded(Box::new(reading.await)) });
    }

    pub(super) fn loaded(&mut self, fresh: Result<Fresh, String>) {
        if self.stopping {
            let error = Some("tokenkeep is stopping".to_owned());
            self.reloads.end(Reloaded { error, ..Reloaded::default() });
            return;
        }
        let outcome = match fresh {
            Ok(fresh) => self.replace_settings(fresh),
            Err(error) => self.reject(&error),
        };
        let next = self.reloads.end(outcome);
        self.told(systemd::ready(&super::status::sentence(clock::now(), &self.keeper)));
        if next {
            self.read_configuration();
        }
    }

    fn replace_settings(&mut self, fresh: Fresh) -> Reloaded {
        let Fresh { loaded: Loaded { settings, warnings, files }, clients } = fresh;
        if takes_all_away(&self.settings, &settings) {
            let file = files.first().map(|file| file.display().to_string()).unwrap_or_default();
            return self.reject(&format!(
                "{file}: no server and no token is left in it, as if it had been cut short; \
                 write it anew, or stop the service if nothing is to be kept alive"
            ));
        }
        let level =
            (settings.log.level != self.settings.log.level).then(|| settings.log.level.clone());
        let needs_restart = needs_restart(&self.settings, &settings);
        let by_name = self.apply(settings, clients);
        self.warn(&warnings);
        self.look_at_all();
        self.read_all();
        let [added, removed, changed] =
            [&by_name.added, &by_name.removed, &by_name.changed].map(|names| list(names));
        let fields = Fields {
            added: added.as_deref(),
            removed: removed.as_deref(),
            changed: changed.as_deref(),
            needs_restart: needs_restart.as_deref(),
            ..Fields::default()
        };
        let (name, severity) = (Name::ConfigReloaded, Severity::Info);
        // Whoever waits for this line sees it, if the old level or the new one lets it through.
        let visible = events::enabled(severity);
        if visible {
            self.say(name, severity, "the new configuration holds", fields);
        }
        if let (Some(level), Some(log)) = (level, &self.log)
            && let Err(error) = log.reload_filter(&level)
        {
            let error = error.to_string();
            let fields = Fields { error: Some(&error), ..Fields::default() };
            self.say(Name::ConfigWarning, Severity::Warn, "the old log level goes on", fields);
        }
        if !visible {
            self.say(name, severity, "the new configuration holds", fields);
        }
        Reloaded { applied: true, error: None, added, removed, changed, needs_restart }
    }

    fn reject(&mut self, error: &str) -> Reloaded {
        self.say(
            Name::ConfigRejected,
            Severity::Error,
            "the new configuration is refused whole; the old one goes on",
            Fields { error: Some(error), ..Fields::default() },
        );
        Reloaded { error: Some(error.to_owned()), ..Reloaded::default() }
    }

    /// Tells what a configuration should do without.
    pub fn warn(&mut self, warnings: &[Warning]) {
        for warning in warnings {
            let (place, error) = (warning.place.to_string(), warning.remedy.clone());
            self.say(
                Name::ConfigWarning,
                Severity::Warn,
                &warning.message,
                Fields { path: Some(&place), error: Some(&error), ..Fields::default() },
            );
        }
    }
}

/// Whether nothing is left of what there was: a file that is being written or was cut short is
/// as valid as an empty one, and nobody needs a daemon that keeps nothing.
fn takes_all_away(old: &Settings, new: &Settings) -> bool {
    let kept_some = !old.tokens.is_empty() || !old.inventories.is_empty();
    kept_some && new.servers.is_empty()
}

/// The settings that only a restart can change, where they differ.
fn needs_restart(old: &Settings, new: &Settings) -> Option<String> {
    let settings = [
        ("state_dir", old.state_dir != new.state_dir),
        ("log.format", old.log.format != new.log.format),
        ("control.socket", old.control.socket != new.control.socket),
        ("control.listen", old.control.listen != new.control.listen),
        ("control.listen_hosts", old.control.listen_hosts != new.control.listen_hosts),
        ("control.listen_names", old.control.listen_names != new.control.listen_names),
    ];
    let named: Vec<_> =
        settings.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    (!named.is_empty()).then(|| named.join(","))
}

/// Names for a log line; `None` for none.
fn list(names: &[String]) -> Option<String> {
    let told = names.iter().take(NAMES_IN_A_LINE).map(String::as_str).collect::<Vec<_>>().join(",");
    match names.len() {
        0 => None,
        len if len <= NAMES_IN_A_LINE => Some(told),
        len => Some(format!("{told} and {} more", len - NAMES_IN_A_LINE)),
    }
}
