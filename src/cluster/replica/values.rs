//! Values that this replica puts into etcd without a spending: a new one from an operator or a source.
//!
//! A value is put only over the one that was the newest when it was verified, and not while a
//! replica spends for the token.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::claims::{Claims, Parts, free_at};
use super::operations::Purpose;
use super::mirror::Mirror;
use super::types::{Key, Output, Record, ReplicaSettings, TokenHash, TokenKey, Transaction};
use crate::time::Moment;

/// Transactions that are under way at once. A new inventory can bring thousands of values.
const AT_ONCE: usize = 32;

/// The values that wait to be put into etcd.
#[derive(Debug, Default)]
pub(super) struct Publications {
    waiting: BTreeMap<TokenHash, Publication>,
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
        match self.waiting.get_mut(&token.hash()) {
            Some(publication) if publication.sent => publication.next = Some(value),
            _ => {
                let hash = token.hash();
                let new =
                    Publication { token, value, base, sent: false, stored: None, next: None };
                self.waiting.insert(hash, new);
            }
        }
    }

    /// Sends what can be sent; drops what a newer value has replaced.
    pub(super) fn send(&mut self, claims: &Claims, parts: &mut Parts) {
        let mirror = parts.mirror;
        let value_of = |publication: &Publication| Key::Value(publication.token.clone());
        self.waiting.retain(|_, p| p.sent || mirror.revision(&value_of(p)) == p.base);
        for (hash, publication) in &mut self.waiting {
            if self.under_way >= AT_ONCE {
                break;
            }
            let claim = mirror.claims.get(hash);
            let free = claim.is_none_or(|seen| free_at(seen, parts.settings) <= parts.now);
            if publication.sent || !free || claims.is_spending(*hash) {
                continue;
            }
            let [value, key] = [value_of(publication), Key::Claim(publication.token.clone())];
            let transaction = Transaction {
                expected: vec![
                    (value.clone(), publication.base),
                    (key.clone(), mirror.revision(&key)),
                ],
                puts: vec![(value.clone(), Record::Value(publication.value.clone()))],
                deletes: claim.map(|_| key.clone()).into_iter().collect(),
                reads: vec![value, key],
                ..Transaction::default()
            };
            publication.sent = true;
            self.under_way += 1;
            parts.operations.start(Purpose::Publish(*hash), transaction, parts.floor, parts.out);
        }
    }

    /// A value was written at revision `done`, or was not. What was read or written is in the mirror.
    pub(super) fn published(&mut self, hash: TokenHash, done: Option<u64>, parts: &mut Parts) {
        let Some(mut publication) = self.waiting.remove(&hash) else { return };
        self.under_way = self.under_way.saturating_sub(1);
        let newest = parts.mirror.revision(&Key::Value(publication.token.clone()));
        publication.sent = false;
        if let Some(revision) = done.or(publication.stored) {
            let token = publication.token.clone();
            parts.out.push(Output::Published { token, revision });
            if let Some(next) = publication.next.take() {
                self.add(publication.token, next, revision);
            }
        } else if newest == publication.base {
            // A claim was in the way.
            if let Some(next) = publication.next.take() {
                publication.value = next;
            }
            self.waiting.insert(hash, publication);
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

    /// Whether no value is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way == 0
    }

    /// Forgets all values: what they replace was in another etcd.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// When [`Publications::send`] has something to do that no result triggers.
    pub(super) fn next_wake(
        &self,
        claims: &Claims,
        mirror: &Mirror,
        settings: &ReplicaSettings,
    ) -> Option<Moment> {
        if self.under_way >= AT_ONCE {
            return None;
        }
        let waiting = self.waiting.iter();
        let waiting = waiting.filter(|(hash, value)| !value.sent && !claims.is_spending(**hash));
        let claims = waiting.filter_map(|(hash, _)| mirror.claims.get(hash));
        claims.map(|seen| free_at(seen, settings)).min()
    }
}
