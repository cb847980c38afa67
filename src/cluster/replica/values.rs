//! Values that this replica puts into etcd without a spending: a new one from an operator or a source.
//!
//! A value is put only over the one that was the newest when it was verified, and not while a
//! replica spends for the token.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::claims::{Claims, Parts, free_at};
use super::mirror::Mirror;
use super::operations::Purpose;
use super::token_key::{TokenHash, TokenKey};
use super::types::{Key, Output, Record, ReplicaSettings, Transaction};
use crate::time::Moment;

/// Transactions that are under way at once. A new inventory can bring thousands of values.
const AT_ONCE: usize = 32;

/// The values that wait to be put into etcd.
#[derive(Debug, Default)]
pub(super) struct Publications {
    waiting: BTreeMap<TokenHash, Publication>,
    /// Those that can be sent, as far as is known.
    ready: BTreeSet<TokenHash>,
    /// Those for whose token a replica spends.
    blocked: BTreeSet<TokenHash>,
    under_way: usize,
}

#[derive(Debug)]
struct Publication {
    token: TokenKey,
    value: Arc<[u8]>,
    /// Revision of the value that it replaces; 0: etcd has none.
    base: u64,
    sent: bool,
    /// Its revision, once it was seen in etcd.
    stored: Option<u64>,
    /// A still newer value that was verified while this one was under way.
    next: Option<Arc<[u8]>>,
}

impl Publications {
    /// Puts a value into etcd as soon as possible, unless a newer one than `base` comes first.
    pub(super) fn add(&mut self, token: TokenKey, value: Arc<[u8]>, base: u64) {
        let hash = token.hash();
        match self.waiting.get_mut(&hash) {
            Some(publication) if publication.sent => publication.next = Some(value),
            _ => {
                let new = Publication { token, value, base, sent: false, stored: None, next: None };
                self.waiting.insert(hash, new);
                self.ready.insert(hash);
            }
        }
    }

    /// Sends what can be sent; drops what a newer value has replaced.
    pub(super) fn send(&mut self, claims: &Claims, parts: &mut Parts) {
        let mirror = parts.mirror;
        let is_free = |hash: &TokenHash| {
            let standing = mirror.claims.get(hash);
            let is_standing =
                standing.is_some_and(|seen| free_at(seen, parts.settings) > parts.now);
            !is_standing && !claims.is_spending(*hash)
        };
        let free: Vec<_> = self.blocked.iter().filter(|hash| is_free(hash)).copied().collect();
        for hash in free {
            self.blocked.remove(&hash);
            self.ready.insert(hash);
        }
        while self.under_way < AT_ONCE {
            let Some(hash) = self.ready.pop_first() else { break };
            let Some(publication) = self.waiting.get_mut(&hash) else { continue };
            let [value, claim] =
                [Key::Value(publication.token.clone()), Key::Claim(publication.token.clone())];
            if mirror.revision(&value) != publication.base {
                let dropped = self.waiting.remove(&hash);
                parts.out.extend(dropped.map(|dropped| Output::Dropped(dropped.token)));
                continue;
            }
            if !is_free(&hash) {
                self.blocked.insert(hash);
                continue;
            }
            let standing = mirror.revision(&claim);
            let transaction = Transaction {
                expected: vec![(value.clone(), publication.base), (claim.clone(), standing)],
                puts: vec![(value.clone(), Record::Value(publication.value.clone()))],
                deletes: (standing > 0).then(|| claim.clone()).into_iter().collect(),
                reads: vec![value, claim],
                ..Transaction::default()
            };
            publication.sent = true;
            self.under_way += 1;
            parts.operations.start(Purpose::Publish(hash), transaction, parts.floor, parts.out);
        }
    }

    /// A value was written at revision `done`, or was not. What was read or written is in the mirror.
    pub(super) fn published(&mut self, hash: TokenHash, done: Option<u64>, parts: &mut Parts) {
        let Some(publication) = self.waiting.remove(&hash) else { return };
        self.under_way = self.under_way.saturating_sub(1);
        let Publication { token, value, base, stored, next, .. } = publication;
        if let Some(revision) = done.or(stored) {
            parts.out.push(Output::Published { token: token.clone(), revision, value });
            if let Some(next) = next {
                self.add(token, next, revision);
            }
        } else {
            // A claim was in the way, or a newer value.
            self.add(token, next.unwrap_or(value), base);
        }
        parts.out.push(Output::Released(Some(hash)));
    }

    /// A value was seen in etcd. Returns whether it is one of these.
    pub(super) fn recognize(&mut self, hash: TokenHash, seen: &[u8], revision: u64) -> bool {
        match self.waiting.get_mut(&hash) {
            Some(publication) if publication.sent && *publication.value == *seen => {
                publication.stored = Some(revision);
                true
            }
            _ => false,
        }
    }

    /// Whether a value of the token is on its way to etcd.
    pub(super) fn is_under_way(&self, hash: TokenHash) -> bool {
        self.waiting.get(&hash).is_some_and(|publication| publication.sent)
    }

    /// Whether a value of this token is on its way, or waits for that.
    #[cfg(test)]
    pub(super) fn has(&self, hash: TokenHash) -> bool {
        self.waiting.contains_key(&hash)
    }

    /// Whether no value is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way == 0
    }

    /// Drops all values: what they replace was in another etcd.
    pub(super) fn clear(&mut self, out: &mut Vec<Output>) {
        let dropped = std::mem::take(self).waiting.into_values();
        out.extend(dropped.map(|dropped| Output::Dropped(dropped.token)));
    }

    /// When [`Publications::send`] has something to do that no result triggers.
    pub(super) fn next_wake(
        &self,
        claims: &Claims,
        mirror: &Mirror,
        settings: &ReplicaSettings,
    ) -> Option<Moment> {
        let blocked = self.blocked.iter().filter(|hash| !claims.is_spending(**hash));
        let standing = blocked.filter_map(|hash| mirror.claims.get(hash));
        standing.map(|seen| free_at(seen, settings)).min()
    }
}
