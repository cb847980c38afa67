//! What a replica knows. Changes nothing.

use std::sync::Arc;

use super::claims;
use super::{
    ClaimCounts, KeyId, Member, Overdue, Replica, SpendId, StoreRevision, TokenHash, TokenKey,
};
use crate::time::Moment;

impl Replica {
    /// Whether another replica checks the token because this one does not reach its server.
    pub fn is_helped(&self, token: &TokenKey) -> bool {
        self.view.names(token.server()) && !self.is_asker(token)
    }

    /// Whether this replica asks about the token.
    pub fn asks(&self, token: &TokenKey) -> bool {
        self.view.asks(token)
    }

    /// Whether this replica knows who asks about what. Before that, it asks about everything.
    pub fn has_view(&self) -> bool {
        self.view.exists()
    }

    /// The replica that asks about the token by computation; `None` before there is a view.
    pub fn asker(&self, token: &TokenKey) -> Option<&Arc<str>> {
        self.view.asker(token)
    }

    /// Whether this replica asks about the token by computation.
    pub fn is_asker(&self, token: &TokenKey) -> bool {
        self.view.asker(token) == Some(&self.settings.name)
    }

    /// Whether all living replicas can ask about the same tokens, as far as this token is concerned.
    pub fn agrees(&self, token: TokenHash) -> bool {
        self.view.agrees(token.slot())
    }

    /// The names of the living replicas, sorted, this one included.
    pub fn members(&self) -> Vec<Arc<str>> {
        self.view.members().cloned().collect()
    }

    /// The records of the living replicas in etcd, sorted by name.
    pub fn member_records(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Member>)> {
        self.mirror.members.iter().filter_map(|(name, (_, member))| Some((name, member.as_ref()?)))
    }

    /// Who spends for the token, and since when, as far as this replica has seen.
    pub fn claim_of(&self, token: TokenHash) -> Option<(&Arc<str>, Moment)> {
        self.mirror.claims.get(&token).map(|seen| (&seen.claim.replica, seen.seen))
    }

    /// When the claim of another replica for a token, if there is one, is to be over.
    pub fn overdue(&self, token: TokenHash) -> Option<Overdue> {
        let seen = self.mirror.claims.get(&token)?;
        let replica = &seen.claim.replica;
        (*replica != self.settings.name).then(|| Overdue {
            replica: replica.clone(),
            since: seen.seen + seen.claim.limit,
            free_at: claims::free_at(seen, &self.settings),
        })
    }

    /// How many claims came to what.
    pub fn claim_counts(&self) -> ClaimCounts {
        self.claims.counts
    }

    /// The key that seals new values; `None` before `meta` was read.
    pub fn seal_key(&self) -> Option<KeyId> {
        let (meta, _) = self.mirror.meta.as_ref()?;
        meta.as_ref().ok().map(|meta| meta.key)
    }

    /// The newest state of etcd that this replica has seen.
    pub fn seen(&self) -> Option<StoreRevision> {
        self.seen
    }

    /// The claims under way, as far as this replica has seen: which token, who, and since when.
    pub fn claims(&self) -> impl Iterator<Item = (&TokenKey, &Arc<str>, Moment)> {
        self.mirror.claims.values().map(|seen| (&seen.token, &seen.claim.replica, seen.seen))
    }

    /// How many of the tokens that this replica lists each living replica asks about, by name.
    pub fn shares(&self) -> Vec<(Arc<str>, usize)> {
        self.view.shares()
    }

    /// Why etcd cannot be used at present; `None` if it can.
    pub fn unreachable(&self) -> Option<&str> {
        self.membership.trouble.map(|_| &**self.membership.error.text())
    }

    /// Whether this replica is a member, and etcd can be used.
    pub fn is_joined(&self) -> bool {
        self.membership.hold_reason().is_none()
    }

    /// Whether a granted spending may still begin at `now`. If not, [`Replica::spent`] follows
    /// without a value.
    pub fn may_begin(&self, id: SpendId, now: Moment) -> bool {
        self.claims.may_begin(id, &self.mirror, now)
    }

    /// The revision of the value that was in etcd when the claim for this spending was sent; 0: there
    /// was none. `None`: the spending is not known.
    pub fn spends_over(&self, id: SpendId) -> Option<u64> {
        self.claims.base(id)
    }

    /// Whether a value of this replica was sent to etcd, and no response has confirmed it.
    pub fn has_unstored_values(&self) -> bool {
        // Without etcd, a published value is still in its source.
        let is_usable = self.membership.trouble.is_none();
        self.claims.has_unstored() || (is_usable && !self.publications.is_idle())
    }

    /// The attempts of a token that count, as far as this replica has seen.
    pub fn counted(&self, token: TokenHash) -> u32 {
        self.mirror.counted(token)
    }

    /// Whether a value is being put into etcd that does not come from a spending.
    #[cfg(test)]
    pub(crate) fn is_publishing(&self, token: TokenHash) -> bool {
        self.publications.has(token)
    }
}
