//! Putting a configuration into force: at the start, and at a reload in place of the old one.
//!
//! What is the same in both is not disturbed. A configuration that cannot be put into force
//! whole is not put into force at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::Client;
use crate::daemon::config::apply::{Application, ConfigDiff};
use crate::daemon::tokens::server_client::ServerClient;
use crate::daemon::tokens::source_changes::DeferredSourceChanges;
use crate::daemon::tokens::{ServerHandle, TokenConfig, TokenEntry};
use crate::daemon::{Daemon, DaemonError};
use crate::events::{Fields, Name, Severity};
use crate::keeper::{Limits, ReauthRoute, ReauthSpec, TokenId, TokenSpec};
use crate::settings::{Place, Reauth, ReauthMethod, Server, Settings, Warning, WarningKind};
use crate::store::Store;

/// Connections for every server that is new or changed, as against `old`: in its settings, or in
/// a file that these name. Reads files.
pub(crate) fn clients(
    settings: &Settings,
    old: &[ServerHandle],
) -> Result<BTreeMap<String, ServerClient>, DaemonError> {
    let build = |server: &Server| {
        let name = server.name.clone();
        let old = old.iter().find(|remote| remote.settings == *server);
        let client = match old.map(|remote| &remote.client) {
            Some(ServerClient::Built(client)) => client.reread(server),
            Some(ServerClient::Unusable(_)) | None => Client::new(server).map(Some),
        };
        match client {
            Ok(client) => client.map(|client| Ok((name, ServerClient::Built(client)))),
            Err(error) => Some(Err(DaemonError::Client { name, error })),
        }
    };
    settings.servers.iter().filter_map(build).collect()
}

/// Client certificates that no server will accept at this time.
pub(crate) fn certificate_warnings(clients: &BTreeMap<String, ServerClient>) -> Vec<Warning> {
    let warning = |client: &ServerClient| {
        let ServerClient::Built(client) = client else { return None };
        let warning = client.certificate_warning()?;
        Some(Warning {
            kind: WarningKind::ClientCertificate,
            place: Place::File(warning.path.clone()),
            message: warning.message.clone(),
            remedy: warning.remedy.clone(),
            excerpt: None,
        })
    };
    clients.values().filter_map(warning).collect()
}

impl Daemon {
    /// Puts the first configuration into force, reads every source, and goes on where an
    /// earlier run left off.
    pub(crate) fn apply_first(
        &mut self,
        clients: BTreeMap<String, ServerClient>,
        mut store: Option<Store>,
    ) {
        if let Some(store) = &mut store {
            self.recall_values(store);
        }
        let mut application = Application::new(self, Arc::clone(&self.settings), clients);
        while self.apply_some(&mut application) {}
        if let Some(store) = &mut store {
            self.recall_counts(store);
        }
        self.memory.held = Some(DeferredSourceChanges::default());
        let mut ids: Vec<TokenId> = self.tokens.registry.ids().map(|(id, _)| id).collect();
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

    /// Removes the servers and `[reauth]` entries that are not configured any more: no token has
    /// them now, and requests in flight own what they need.
    pub(crate) fn remove_stale(&mut self) {
        // Notices are still to be written with their names.
        self.perform();
        let Settings { servers, reauths, .. } = &*self.settings;
        for id in self.tokens.registry.stale_servers(servers) {
            let Some(remote) = self.tokens.registry.find_remote(id) else { continue };
            if self.tokens.scheduler.census_of(id).total() > 0 {
                debug_assert!(false, "every token is on a configured server");
                continue;
            }
            let name = &remote.settings.name;
            let is_renamed = !servers.iter().any(|server| server.name == *name);
            if is_renamed && let Some(store) = &self.store {
                store.forget_lesson(name);
            }
            self.figures.forget_server(id, is_renamed.then_some(name));
            self.tokens.scheduler.remove_server(id);
            self.tokens.registry.remove_server(id);
        }
        for id in self.tokens.registry.stale_reauths(reauths) {
            if let Some(reauth) = self.tokens.registry.reauth(id) {
                self.figures.forget_reauth(&reauth.name);
            }
            self.tokens.scheduler.remove_reauth(id);
            self.tokens.registry.remove_reauth(id);
        }
    }

    pub(crate) fn put_server(&mut self, server: Server, client: ServerClient) {
        let limits = Limits { rate_limit: server.rate_limit, max_in_flight: server.max_in_flight };
        // Behind another address is another server: nothing is known of it yet.
        let same = self
            .tokens
            .registry
            .server_of(&server.name)
            .filter(|id| self.tokens.registry.remote(*id).settings.url == server.url);
        let id = match same {
            Some(id) => {
                self.tokens.scheduler.set_limits(id, limits);
                id
            }
            None => self.tokens.scheduler.add_server(limits),
        };
        let was_unusable =
            self.tokens.registry.find_remote(id).is_some_and(|old| !old.client.is_built());
        let is_usable = client.is_built();
        self.tokens.registry.put_server(id, ServerHandle { settings: server, client });
        if was_unusable && is_usable {
            self.report_usable_server(id);
        }
    }

    pub(crate) fn put_reauth(&mut self, reauth: &Reauth) {
        let spec = ReauthSpec {
            route: match reauth.method {
                ReauthMethod::ApiKey { .. } => ReauthRoute::Server,
                ReauthMethod::Command(_) => ReauthRoute::Hook,
            },
            max_failures: reauth.max_failures_all,
            window: reauth.policy.window,
        };
        let id = match self.tokens.registry.reauth_of(&reauth.name) {
            Some(id) if self.tokens.registry.reauth(id).is_some_and(|known| **known == *reauth) => {
                return;
            }
            Some(id) => {
                self.tokens.scheduler.set_reauth(id, spec);
                id
            }
            None => self.tokens.scheduler.add_reauth(spec),
        };
        self.tokens.registry.put_reauth(id, reauth.clone());
    }

    pub(crate) fn put_token(
        &mut self,
        name: &str,
        terms: TokenConfig,
        spec: TokenSpec,
        changes: &mut ConfigDiff,
    ) {
        // What a token was in an inventory ends where a [token.NAME] begins.
        if let Some(id) = self.tokens.registry.id_of(name)
            && self.tokens.registry.token(id).is_some_and(|kept| kept.stock().is_some())
        {
            self.let_go(id);
        }
        let Some(id) = self.tokens.registry.id_of(name) else {
            let id = self.add_token(name, &Arc::new(terms), spec, 0);
            changes.added.push(name.to_owned());
            return self.watch(id);
        };
        if self.change_token(id, &Arc::new(terms), &spec) {
            changes.changed.push(name.to_owned());
            self.watch(id);
        }
    }

    /// Watches the file of a `[token.NAME]`, if its value is in one.
    fn watch(&mut self, id: TokenId) {
        match self.tokens.registry.token(id).and_then(TokenEntry::file) {
            Some(path) => self.watcher.set_path(id.key(), path),
            None => self.watcher.remove_path(id.key()),
        }
    }

    /// Logs the warnings about a configuration, except those that the one before had too.
    pub fn warn(&mut self, warnings: &[Warning]) {
        self.given.begin();
        for warning in warnings {
            // As a package installs it, the configuration is empty, and nothing is wrong yet.
            let is_fresh =
                warning.kind == WarningKind::NoTokens && self.settings.servers.is_empty();
            let severity = if is_fresh { Severity::Info } else { Severity::Warn };
            let (place, error) = (warning.place.to_string(), warning.remedy.clone());
            if !self.given.add((&place, &warning.message, &error)) {
                continue;
            }
            self.say(
                Name::ConfigWarning,
                severity,
                &warning.message,
                Fields { path: Some(&place), error: Some(&error), ..Fields::default() },
            );
        }
    }
}
