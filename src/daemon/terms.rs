//! What holds for a token: which server it is asked at, by which rules, and what an earlier run
//! has kept of it. Tokens of an inventory share all of that.

use std::sync::Arc;

use super::Daemon;
use super::roster::{Kept, Origin, Terms};
use crate::clock;
use crate::lifecycle::{Policy, SourceChange};
use crate::scheduler::{TokenId, TokenSpec};
use crate::settings::{Reauth, Server, Upkeep};
use crate::store::StoredValue;

impl Daemon {
    /// What holds for tokens that are kept so, and what the scheduler must know of them; `None`
    /// without the server, which validation rules out.
    pub(super) fn terms(
        &self,
        upkeep: &Upkeep,
        origin: Origin,
        policies: &mut Vec<Arc<Policy>>,
    ) -> Option<(Terms, TokenSpec)> {
        let server = self.roster.server_of(&upkeep.server)?;
        let way = upkeep.reauth.as_deref().and_then(|name| self.roster.reauth_of(name));
        let reauth = way.and_then(|way| self.roster.reauth(way)).cloned();
        let settings = &self.roster.remote(server).settings;
        let policy = policy(upkeep, settings, reauth.as_deref(), policies);
        let revoke_on_shutdown = upkeep.revoke_on_shutdown;
        let spec = TokenSpec { server, policy, reauth: way };
        Some((Terms { origin, server, reauth, revoke_on_shutdown }, spec))
    }

    /// A token that was not there before.
    pub(super) fn add_token(
        &mut self,
        name: &str,
        terms: &Arc<Terms>,
        spec: TokenSpec,
        line: u32,
    ) -> TokenId {
        // The number may be that of a token that was removed: nothing that is still to be told or
        // started is to be taken for the new one's.
        self.perform();
        let id = self.scheduler.add_token(spec, false, clock::now());
        self.roster.add(id, name, terms, line);
        if let Some((stored, removed)) = self.memory.absent.take_value(name, clock::now()) {
            if removed && let Some(store) = &mut self.store {
                // The store may have deleted it a moment ago, by the wall clock.
                let StoredValue { value, replaces } = stored.clone();
                drop(store.persist_value(name, value, replaces));
            }
            self.roster.recall(id, stored);
        }
        if let Some(count) = self.memory.absent.take_count(name) {
            self.recount_token(id, &count);
        }
        id
    }

    /// Gives a token other terms; returns whether they differ.
    pub(super) fn change_token(
        &mut self,
        id: TokenId,
        terms: &Arc<Terms>,
        spec: &TokenSpec,
    ) -> bool {
        let same_rules = self.scheduler.spec(id) == Some(spec);
        let Some(kept) = self.roster.token(id) else { return false };
        let (same_terms, same_origin) =
            (kept.terms() == terms, kept.terms().origin == terms.origin);
        let was_missing = kept.in_source().is_none();
        if same_rules && same_terms {
            return false;
        }
        // What was handed out on the old terms is started on these.
        self.perform();
        if !same_origin {
            self.roster.forget_source(id);
            self.refused.remove(id);
            if was_missing {
                // That the new source has no value either is an event of its own.
                let change = SourceChange::Reappeared;
                self.scheduler.source_changed(id, change, clock::now(), &mut self.outputs);
            }
        }
        self.roster.set_terms(id, terms);
        if !same_rules {
            self.scheduler.change_token(id, spec.clone(), clock::now(), &mut self.outputs);
        }
        true
    }

    /// A token that is not to be kept alive any longer.
    pub(super) fn let_go(&mut self, id: TokenId) {
        self.put_by(id);
        self.refused.remove(id);
        self.stocks.forget(id, self.roster.token(id).and_then(Kept::stock));
        self.unwritten.forget_token(id);
        self.watcher.remove_path(id.key());
        self.scheduler.remove_token(id);
        self.roster.remove(id);
        self.reconsider_refused(id);
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
