//! Applies a configuration step by step, so that a reload can do what is due in between.
//!
//! Servers come first, then the tokens that are removed, then those that are added or replaced: a
//! token that is renamed keeps its file to itself, and a token that was not reached yet stays as
//! it was. At the end, servers and `[reauth]` methods that no token uses are released.

use std::sync::Arc;

use super::maintenance_windows;
use crate::clock;
use crate::daemon::inventories::{Inventories, InventoryRollout};
use crate::daemon::metrics::Metrics;
use crate::daemon::tokens::{
    ConfigDiff, ServerClients, ServerHandle, TokenConfig, TokenEntry, TokenOrigin, Tokens,
};
use crate::lifecycle::Policy;
use crate::scheduler::TokenSpec;
use crate::settings::Settings;

/// Where an application is.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Next is this token of the old configuration, which may be gone from the new one.
    Remove(usize),
    /// Next is this token of the new configuration.
    Put(usize),
    /// Tokens of inventories are replaced or removed.
    RollOut,
}

/// A configuration that is being applied.
#[derive(Debug)]
pub(crate) struct Application {
    old: Arc<Settings>,
    new: Arc<Settings>,
    stage: Stage,
    /// Tokens with equal policies share one.
    policies: Vec<Arc<Policy>>,
    rollouts: Vec<InventoryRollout>,
    pub(super) diff: ConfigDiff,
}

impl Application {
    /// Begins to apply the `new` settings in place of the `old` ones, with the clients of servers
    /// that are new or changed.
    pub(crate) fn new(
        old: Arc<Settings>,
        new: Arc<Settings>,
        mut clients: ServerClients,
        tokens: &mut Tokens,
    ) -> Self {
        tokens.scheduler.set_max_hooks(new.max_hooks);
        tokens.recorder.keep_removed = new.keep_removed;
        tokens.watcher.read_mounts();
        for server in &new.servers {
            if let Some(client) = clients.remove(&server.name) {
                tokens.put_server(server.clone(), client);
            }
        }
        Self {
            old,
            new,
            stage: Stage::Remove(0),
            policies: Vec::new(),
            rollouts: Vec::new(),
            diff: ConfigDiff::default(),
        }
    }

    /// Applies a little more. Returns false once all is applied.
    pub(crate) fn step(&mut self, tokens: &mut Tokens, inventories: &mut Inventories) -> bool {
        match self.stage {
            Stage::Remove(next) => {
                if let Some(token) = self.old.tokens.get(next) {
                    self.stage = Stage::Remove(next + 1);
                    let name = &token.name;
                    if self.new.tokens.binary_search_by(|token| token.name.cmp(name)).is_err() {
                        remove_own(name, tokens, &mut self.diff);
                    }
                } else {
                    self.new.reauths.iter().for_each(|reauth| tokens.put_reauth(reauth));
                    maintenance_windows::close(tokens, clock::now());
                    self.stage = Stage::Put(0);
                }
            }
            Stage::Put(next) => {
                let Self { new, policies, diff, .. } = self;
                if let Some(token) = new.tokens.get(next) {
                    self.stage = Stage::Put(next + 1);
                    let origin = TokenOrigin::Own(token.source.clone());
                    let config = tokens.config_for(
                        &token.keep_alive,
                        origin,
                        token.refresh.is_some(),
                        policies,
                    );
                    if let Some((mut config, spec)) = config {
                        config.env_file.clone_from(&token.env_file);
                        config.refresh.clone_from(&token.refresh);
                        put_own(&token.name, (config, spec), tokens, diff);
                    }
                } else {
                    self.rollouts = inventories.apply(&new.inventories, policies, tokens, diff);
                    self.stage = Stage::RollOut;
                }
            }
            Stage::RollOut => match self.rollouts.last_mut() {
                None => return false,
                Some(rollout) => {
                    if !rollout.step(tokens) {
                        self.rollouts.pop();
                    }
                }
            },
        }
        true
    }
}

/// A `[token.NAME]` is not configured any more.
fn remove_own(name: &str, tokens: &mut Tokens, diff: &mut ConfigDiff) {
    let is_own = |entry: TokenEntry<'_>| entry.inventory().is_none();
    if let Some(id) = tokens.registry.id_of(name)
        && tokens.registry.token(id).is_some_and(is_own)
    {
        diff.removed.push(name.to_owned());
        tokens.remove(id);
    }
}

/// Adds or replaces a `[token.NAME]`.
fn put_own(
    name: &str,
    (config, spec): (TokenConfig, TokenSpec),
    tokens: &mut Tokens,
    diff: &mut ConfigDiff,
) {
    // A token of an inventory ends where a [token.NAME] begins.
    if let Some(id) = tokens.registry.id_of(name)
        && tokens.registry.token(id).is_some_and(|entry| entry.inventory().is_some())
    {
        tokens.remove(id);
    }
    let config = Arc::new(config);
    if let Some(id) = tokens.registry.id_of(name) {
        if tokens.replace(id, &config, &spec) {
            diff.changed.push(name.to_owned());
            tokens.watch_files(id);
        }
    } else {
        let id = tokens.add(name, &config, spec, 0);
        diff.added.push(name.to_owned());
        tokens.watch_files(id);
    }
}

/// Removes the servers and `[reauth]` methods that are not configured any more: no token uses
/// them, and requests in flight own what they need. To be called when no action or notice is
/// pending, as these are logged with the names.
pub(super) fn release_unused(settings: &Settings, tokens: &mut Tokens, metrics: &mut Metrics) {
    let Settings { servers, reauths, .. } = settings;
    for id in tokens.servers.stale(|name| servers.iter().any(|server| server.name == name)) {
        let Some(ServerHandle { settings: server, .. }) = tokens.servers.get(id) else {
            continue;
        };
        if tokens.scheduler.state_counts_of(id).total() > 0 {
            debug_assert!(false, "every token is on a configured server");
            continue;
        }
        let is_renamed = !servers.iter().any(|configured| configured.name == server.name);
        if is_renamed && let Some(writer) = tokens.recorder.shared_writer() {
            writer.delete_renewal_method(&server.name);
        }
        metrics.forget_server(id, is_renamed.then_some(&server.name));
        tokens.remove_server(id);
    }
    for id in tokens.reauths.stale(|name| reauths.iter().any(|reauth| reauth.name == name)) {
        if let Some(reauth) = tokens.reauths.get(id) {
            metrics.forget_reauth(&reauth.name);
        }
        tokens.remove_reauth(id);
    }
}
