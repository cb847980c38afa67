//! All tokens: the scheduler, the registry and the pending actions, which agree on every token.
//!
//! A token is added, replaced and removed by one method each, so that no part keeps anything of a
//! token that is gone. The main loop executes the pending actions; nothing here starts a task.

mod companions;
mod config_diff;
mod config_table;
mod deferred;
mod effective;
mod env_files;
mod file_retries;
mod foreign_values;
mod inventory_counts;
mod late_values;
mod listing;
mod named_table;
mod outages;
mod persistence;
mod record;
mod registry;
mod replaced_notices;
mod replica_values;
mod results;
mod retry_queue;
mod server_client;
mod source_changes;
mod source_read;
mod token_bit_set;
mod value_owners;
mod values;

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::config_diff::ConfigDiff;
pub(crate) use self::config_table::{InventoryId, TokenConfig, TokenOrigin};
pub(crate) use self::deferred::{DeferredSourceChanges, RestoreStage};
pub(crate) use self::env_files::{EnvFileWrite, EnvFiles};
pub(crate) use self::file_retries::FileWrite;
pub(crate) use self::inventory_counts::{ChangeCounts, InventoryCounts};
pub(crate) use self::late_values::ValueOwner;
pub(crate) use self::listing::{Listing, ListingChange};
pub(crate) use self::named_table::{NamedTable, ServerHandle};
pub(crate) use self::outages::Outage;
pub(crate) use self::persistence::window_end;
pub(crate) use self::record::DeathReason;
pub(crate) use self::registry::{TokenEntry, TokenRegistry};
pub(crate) use self::replica_values::Adoption;
pub(crate) use self::results::{ReauthOutput, ReplacedValue, WriteOutcome};
pub(crate) use self::server_client::{ServerClient, ServerClients, UNUSABLE, error_text, unusable};
pub(crate) use self::source_read::{ReadRequest, SourceRead, may_be_half_written, read_source};
pub(crate) use self::token_bit_set::TokenBitSet;

pub(crate) use self::effective::Effective;
use self::foreign_values::RefusedValues;
use self::outages::Outages;
use self::retry_queue::RetryQueue;
use super::companions::{CompanionSource, Companions};
use super::state::StateRecorder;
use crate::clock;
use crate::event_log::{EventLog, EventName, Fields};
use crate::file::FileStamp;
use crate::lifecycle::{Policy, ReplacedBy, SourceChange};
use crate::scheduler::{
    ReauthId, ReauthRoute, ReauthSpec, Scheduler, SchedulerOutput, ServerId, ServerLimits, Ticket,
    TokenId, TokenSpec,
};
use crate::settings::{KeepAlive, Reauth, ReauthMethod, Server};
use crate::token_source::Watcher;

/// All tokens, with everything that is kept by a token's number.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) scheduler: Scheduler,
    pub(crate) registry: TokenRegistry,
    pub(crate) servers: NamedTable<ServerHandle>,
    pub(crate) outages: Outages,
    pub(crate) reauths: NamedTable<Arc<Reauth>>,
    /// Sources that are to be read; those of one list by one task.
    pub(crate) reads: Vec<Vec<ReadRequest>>,
    pub(crate) recorder: StateRecorder,
    /// The refresh tokens.
    pub(crate) companions: Companions,
    /// Keys of the files of refresh tokens that may have changed.
    changed_companions: Vec<u32>,
    /// Watches the files of `[token.NAME]` tables.
    pub(crate) watcher: Watcher,
    /// Tokens whose files are watched once their disk responds: a disk that hangs must not stop the
    /// main loop.
    unwatched: HashSet<TokenId>,
    pub(crate) inventory_counts: InventoryCounts,
    pub(crate) deferred: DeferredSourceChanges,
    /// Where everything that happens to tokens is logged, and what else the daemon logs.
    pub(crate) log: EventLog,
    pub(crate) env_files: EnvFiles,
    /// Tokens whose new value could not be written to their file. It is kept in the state
    /// directory until then.
    file_retries: RetryQueue,
    /// Tokens with a new value that is not in their files yet, and where it comes from.
    replaced: HashMap<TokenId, ReplacedBy>,
    refused: RefusedValues,
    /// `None` without a cluster.
    pub(crate) listing: Option<Box<Listing>>,
}

impl Tokens {
    /// No tokens. To be called within a runtime.
    pub(crate) fn new(max_hooks: NonZeroU32, keep_removed: Duration, seed: u64) -> Self {
        Self {
            scheduler: Scheduler::new(max_hooks, seed),
            registry: TokenRegistry::default(),
            servers: NamedTable::default(),
            outages: Outages::default(),
            reauths: NamedTable::default(),
            reads: Vec::new(),
            recorder: StateRecorder::new(keep_removed),
            companions: Companions::default(),
            changed_companions: Vec::new(),
            watcher: Watcher::new(),
            unwatched: HashSet::new(),
            inventory_counts: InventoryCounts::default(),
            deferred: DeferredSourceChanges::default(),
            log: EventLog::new(),
            env_files: EnvFiles::default(),
            file_retries: RetryQueue::default(),
            replaced: HashMap::new(),
            refused: RefusedValues::default(),
            listing: None,
        }
    }

    /// Adds a token whose name no token has, with its line in its inventory (0: none). It gets
    /// the value and the attempts that were kept for this name.
    pub(crate) fn add(
        &mut self,
        name: &str,
        config: &Arc<TokenConfig>,
        spec: TokenSpec,
        line: u32,
    ) -> TokenId {
        let id = self.scheduler.add_token(spec, false, clock::now());
        if self.registry.has_had(id) {
            // Notices of the token that had the number before are not this token's.
            self.scheduler.outputs.retain(
                |output| !matches!(output, SchedulerOutput::TokenNotice(of, _) if *of == id),
            );
        }
        self.registry.add(id, name, config, line);
        if config.env_file.is_some() {
            self.env_files.set(id, true);
        }
        if let Some(inventory) = config.origin.inventory() {
            let count = self.inventory_counts.of(inventory);
            count.tokens += 1;
            count.changes.added += 1;
        }
        if let Some(stored) = self.recorder.adopt_value(name) {
            self.registry.keep_restored_value(id, stored);
        }
        if let Some(source) = &config.refresh {
            self.companions.set_source(name, CompanionSource::Own(source.clone()));
        }
        if let Some(count) = self.recorder.adopt_count(name) {
            self.restore_reauth_attempts(id, &count);
        }
        self.note_added(id);
        id
    }

    /// Gives a token another configuration. Returns whether it differs from the current one.
    pub(crate) fn replace(
        &mut self,
        id: TokenId,
        config: &Arc<TokenConfig>,
        spec: &TokenSpec,
    ) -> bool {
        let same_spec = self.scheduler.spec(id) == Some(spec);
        let Some(entry) = self.registry.token(id) else { return false };
        let (same_config, same_origin) =
            (entry.config() == config, entry.config().origin == config.origin);
        if same_spec && same_config {
            return false;
        }
        let was_missing = entry.in_source().is_none();
        let same_refresh = entry.config().refresh == config.refresh;
        let same_env_file = entry.config().env_file == config.env_file;
        if entry.config().server != config.server {
            self.unlist(id);
        }
        // An action that has not started was meant for the configuration before.
        self.cancel_pending(id);
        if !same_origin {
            self.registry.forget_source(id);
            self.refused.remove(id);
            if was_missing {
                // That the new source has no value either is an event of its own.
                let (change, now) = (SourceChange::Reappeared, clock::now());
                self.scheduler.source_changed(id, change, now);
            }
        }
        self.registry.set_config(id, config);
        if !same_env_file {
            self.env_files.set(id, config.env_file.is_some());
        }
        if !same_spec {
            self.scheduler.change_token(id, spec.clone(), clock::now());
        }
        if !same_refresh {
            self.change_refresh_source(id);
        }
        self.log_replaced_if_stored(id);
        self.note_listing(id);
        true
    }

    /// Removes a token. A value that its source cannot hold is kept for a time, and so are its
    /// re-auth attempts.
    pub(crate) fn remove(&mut self, id: TokenId) {
        self.unlist(id);
        self.stash_value(id);
        self.stash_reauth_attempts(id);
        if let Some(entry) = self.registry.token(id) {
            self.companions.release(entry.name(), self.recorder.keep_removed);
        }
        self.refused.remove(id);
        if let Some(inventory) = self.registry.token(id).and_then(TokenEntry::inventory) {
            let count = self.inventory_counts.of(inventory);
            count.tokens = count.tokens.saturating_sub(1);
        }
        self.deferred.forget_token(id);
        self.env_files.forget_token(id);
        self.file_retries.remove(id);
        self.replaced.remove(&id);
        self.unwatched.remove(&id);
        self.watcher.remove_path(id.key());
        self.unwatch_refresh_file(id);
        self.scheduler.remove_token(id);
        self.registry.remove(id);
        self.reconsider_refused(id);
    }

    /// Returns an action that did not start, or will never complete, to the scheduler.
    pub(crate) fn cancel(&mut self, ticket: Ticket) {
        self.scheduler.cancel(ticket, clock::now());
    }

    /// Whether actions wait to be started, or so much else waits that it should be executed first.
    pub(crate) fn has_pending_tasks(&self) -> bool {
        /// Few enough to look at between any two steps of a reload.
        const LOOKED_AT: usize = 64;
        let is_action = |output: &SchedulerOutput| matches!(output, SchedulerOutput::Action(..));
        self.scheduler.outputs.len() > LOOKED_AT || self.scheduler.outputs.iter().any(is_action)
    }

    fn cancel_pending(&mut self, id: TokenId) {
        let pending = |output: &mut SchedulerOutput| match output {
            SchedulerOutput::Action(ticket, _) => ticket.token == id,
            SchedulerOutput::TokenNotice(..)
            | SchedulerOutput::ServerNotice(..)
            | SchedulerOutput::ReauthExhausted { .. } => false,
        };
        let cancelled: Vec<_> = self.scheduler.outputs.extract_if(.., pending).collect();
        for output in cancelled {
            if let SchedulerOutput::Action(ticket, _) = output {
                self.cancel(ticket);
            }
        }
    }

    /// The configuration of a token with these settings, for the registry and the scheduler,
    /// without an `env_file` and the source of a refresh token; `None` if its server is unknown,
    /// which validation rules out. `policies` are known ones: tokens with equal policies share them.
    pub(crate) fn config_for(
        &self,
        keep_alive: &KeepAlive,
        origin: TokenOrigin,
        has_refresh: bool,
        policies: &mut Vec<Arc<Policy>>,
    ) -> Option<(TokenConfig, TokenSpec)> {
        let server = self.servers.id_of(&keep_alive.server)?;
        let method = keep_alive.reauth.as_deref().and_then(|name| self.reauths.id_of(name));
        let reauth = method.and_then(|method| self.reauths.get(method)).cloned();
        let settings = &self.servers[server].settings;
        let policy = policy(keep_alive, settings, reauth.as_deref(), has_refresh, policies);
        let revoke_on_shutdown = keep_alive.revoke_on_shutdown;
        let spec = TokenSpec { server, policy, reauth: method };
        let (env_file, refresh) = (None, None);
        let config = TokenConfig { origin, server, reauth, revoke_on_shutdown, env_file, refresh };
        Some((config, spec))
    }

    /// Watches the files of a `[token.NAME]`: that of its refresh token, and that of its value once
    /// a read of it has ended.
    pub(crate) fn watch_files(&mut self, id: TokenId) {
        let file = self.registry.token(id).and_then(TokenEntry::file);
        if !self.watcher.is_watched(id.key(), file.as_deref()) {
            self.watcher.remove_path(id.key());
            self.unwatched.insert(id);
        }
        self.watch_refresh_file(id);
    }

    /// The disk of the token's file responds: watches the file, and reads it again if it has
    /// changed since the read that found this stamp.
    fn watch_value_file(&mut self, id: TokenId, read: Option<FileStamp>) {
        if !self.unwatched.remove(&id) {
            return;
        }
        if let Some(path) = self.registry.token(id).and_then(TokenEntry::file)
            && self.watcher.set_path(id.key(), path) != read
        {
            self.request_reads([id]);
        }
    }

    /// Adds a server, or replaces its settings and client.
    pub(crate) fn put_server(&mut self, server: Server, client: ServerClient) {
        let limits =
            ServerLimits { rate_limit: server.rate_limit, max_in_flight: server.max_in_flight };
        // A server at another address, or with another API, is another server: nothing is known of it yet.
        let same = self.servers.id_of(&server.name).filter(|id| {
            let known = &self.servers[*id].settings;
            known.url == server.url && known.profile == server.profile
        });
        let id = match same {
            Some(id) => {
                self.scheduler.set_limits(id, limits);
                id
            }
            None => self.scheduler.add_server(limits),
        };
        self.set_client(id, server, client);
    }

    /// Gives a server a client, and logs if it had none.
    pub(crate) fn set_client(&mut self, id: ServerId, settings: Server, client: ServerClient) {
        let had_none = self.servers.get(id).is_some_and(|old| old.client.is_err());
        let recovers = had_none && client.is_ok() && self.scheduler.is_available(id);
        // If its circuit breaker is open, the first conclusive response is logged.
        if recovers {
            let name = &settings.name;
            let fields = Fields { server: Some(name), ..Fields::default() };
            let message = format!("{name}: requests can be sent again");
            self.log.event(EventName::ServerRecovered, &message, fields);
        }
        self.servers.put(id, ServerHandle { settings, client });
    }

    /// Removes a server that no token uses. Requests in flight own what they need.
    pub(crate) fn remove_server(&mut self, id: ServerId) {
        self.scheduler.remove_server(id);
        self.outages.remove(id);
        self.servers.remove(id);
    }

    /// Whether a server has a client and is not known to be unavailable.
    pub(crate) fn is_available(&self, id: ServerId) -> bool {
        self.scheduler.is_available(id)
            && self.servers.get(id).is_some_and(|server| server.client.is_ok())
    }

    /// Adds a `[reauth]` method, or replaces its settings.
    pub(crate) fn put_reauth(&mut self, reauth: &Reauth) {
        let spec = ReauthSpec {
            route: match reauth.method {
                ReauthMethod::ApiKey { .. } | ReauthMethod::Login { .. } => ReauthRoute::Server,
                ReauthMethod::Command(_) => ReauthRoute::Hook,
            },
            max_failures: reauth.max_failures_all,
            window: reauth.policy.window,
        };
        let id = match self.reauths.id_of(&reauth.name) {
            Some(id) if self.reauths.get(id).is_some_and(|known| **known == *reauth) => return,
            Some(id) => {
                self.scheduler.set_reauth(id, spec);
                id
            }
            None => self.scheduler.add_reauth(spec),
        };
        self.reauths.put(id, Arc::new(reauth.clone()));
    }

    /// Removes a `[reauth]` method that no token uses.
    pub(crate) fn remove_reauth(&mut self, id: ReauthId) {
        self.scheduler.remove_reauth(id);
        self.reauths.remove(id);
    }
}

/// The name of a token and of its server, as fields of an event.
pub(crate) fn names_of<'a>(
    servers: &'a NamedTable<ServerHandle>,
    entry: TokenEntry<'a>,
) -> Fields<'a> {
    let server = &servers[entry.config().server].settings.name;
    Fields { token: Some(entry.name()), server: Some(server), ..Fields::default() }
}

/// A token's policy; tokens with equal policies share one.
fn policy(
    keep_alive: &KeepAlive,
    server: &Server,
    reauth: Option<&Reauth>,
    has_refresh: bool,
    known: &mut Vec<Arc<Policy>>,
) -> Arc<Policy> {
    let effective = Effective::new(server.renewal, server.profile.as_deref(), has_refresh);
    let policy = Policy {
        schedule: keep_alive.schedule,
        timeout: server.timeout,
        renewal: effective.renewal,
        reauth: reauth.map(|reauth| reauth.policy),
        reauth_before: keep_alive.reauth_before,
        assumed: effective.assumed,
        rotates: effective.rotates,
    };
    known.iter().find(|known| ***known == policy).cloned().unwrap_or_else(|| {
        let policy = Arc::new(policy);
        known.push(Arc::clone(&policy));
        policy
    })
}

#[cfg(test)]
mod tests;
