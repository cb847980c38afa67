//! What holds for a token: which server it is asked at, by which rules, and what an earlier run
//! has kept of it. Tokens of an inventory share all of that.

mod config_table;
mod entry;
pub(crate) mod file_retries;
mod record;
mod registry;
pub(crate) mod results;
pub(crate) mod server_client;
mod servers;
pub(crate) mod source_changes;
mod values;

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::clock;
use crate::daemon::Daemon;
use crate::keeper::{Keeper, Output, TokenId, TokenSpec};
use crate::lifecycle::Policy;
use crate::settings::{Reauth, Server, Upkeep};
use crate::store::Stored;

pub(crate) use self::config_table::{InventoryId, TokenConfig, TokenOrigin};
pub(crate) use self::entry::TokenEntry;
pub(crate) use self::record::DeathReason;
pub(crate) use self::registry::TokenRegistry;
pub(crate) use self::servers::ServerHandle;

/// The scheduler, the registry and the pending actions, which agree on every token.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) scheduler: Keeper,
    pub(crate) registry: TokenRegistry,
    /// What the scheduler has handed out and the main loop has not executed yet.
    pub(crate) actions: Vec<Output>,
}

impl Tokens {
    pub(crate) fn new(max_hooks: NonZeroU32, seed: u64) -> Self {
        Self {
            scheduler: Keeper::new(max_hooks, seed),
            registry: TokenRegistry::default(),
            actions: Vec::new(),
        }
    }
}

impl Daemon {
    /// What holds for tokens that are kept so, and what the keeper must know of them; `None`
    /// without the server, which validation rules out.
    pub(crate) fn terms(
        &self,
        upkeep: &Upkeep,
        origin: TokenOrigin,
        policies: &mut Vec<Arc<Policy>>,
    ) -> Option<(TokenConfig, TokenSpec)> {
        let server = self.tokens.registry.server_of(&upkeep.server)?;
        let way = upkeep.reauth.as_deref().and_then(|name| self.tokens.registry.reauth_of(name));
        let reauth = way.and_then(|way| self.tokens.registry.reauth(way)).cloned();
        let settings = &self.tokens.registry.remote(server).settings;
        let policy = policy(upkeep, settings, reauth.as_deref(), policies);
        let revoke_on_shutdown = upkeep.revoke_on_shutdown;
        let spec = TokenSpec { server, policy, reauth: way };
        Some((TokenConfig { origin, server, reauth, revoke_on_shutdown }, spec))
    }

    /// A token that was not there before.
    pub(crate) fn add_token(
        &mut self,
        name: &str,
        terms: &Arc<TokenConfig>,
        spec: TokenSpec,
        line: u32,
    ) -> TokenId {
        // The number may be that of a token that was removed: nothing that is still to be told or
        // started is to be taken for the new one's.
        self.perform();
        let id = self.tokens.scheduler.add_token(spec, false, clock::now());
        self.tokens.registry.add(id, name, terms, line);
        if let Some((stored, removed)) = self.memory.absent.take_value(name, clock::now()) {
            if removed && let Some(store) = &mut self.store {
                // The store may have deleted it a moment ago, by the wall clock.
                let Stored { value, replaces } = stored.clone();
                drop(store.keep_value(name, value, replaces));
            }
            self.tokens.registry.recall(id, stored);
        }
        if let Some(count) = self.memory.absent.take_count(name) {
            self.recount_token(id, &count);
        }
        id
    }

    /// Gives a token other terms; returns whether they differ.
    pub(crate) fn change_token(
        &mut self,
        id: TokenId,
        terms: &Arc<TokenConfig>,
        spec: &TokenSpec,
    ) -> bool {
        let same_rules = self.tokens.scheduler.spec(id) == Some(spec);
        let Some(kept) = self.tokens.registry.token(id) else { return false };
        let (same_terms, same_origin) =
            (kept.terms() == terms, kept.terms().origin == terms.origin);
        if same_rules && same_terms {
            return false;
        }
        // What was handed out on the old terms is started on these.
        self.perform();
        if !same_origin {
            self.tokens.registry.forget_source(id);
        }
        self.tokens.registry.set_terms(id, terms);
        if !same_rules {
            self.tokens.scheduler.change_token(
                id,
                spec.clone(),
                clock::now(),
                &mut self.tokens.actions,
            );
        }
        true
    }

    /// A token that is not to be kept alive any longer.
    pub(crate) fn let_go(&mut self, id: TokenId) {
        self.put_by(id);
        self.stocks.forget(id, self.tokens.registry.token(id).and_then(TokenEntry::stock));
        self.unwritten.forget_token(id);
        self.watcher.remove_path(id.key());
        self.tokens.scheduler.remove_token(id);
        self.tokens.registry.remove(id);
    }
}

/// A token's rules; tokens with the same ones share them.
fn policy(
    upkeep: &Upkeep,
    server: &Server,
    reauth: Option<&Reauth>,
    known: &mut Vec<Arc<Policy>>,
) -> Arc<Policy> {
    let policy = Policy {
        schedule: upkeep.schedule,
        timeout: server.timeout,
        renewal: server.renewal,
        reauth: reauth.map(|reauth| reauth.policy),
        reauth_before: upkeep.reauth_before,
    };
    known.iter().find(|known| ***known == policy).cloned().unwrap_or_else(|| {
        let policy = Arc::new(policy);
        known.push(Arc::clone(&policy));
        policy
    })
}
