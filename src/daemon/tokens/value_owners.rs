//! Hash index from token values to the tokens that have them: finds whether a new value of one token
//! belongs to another.
//!
//! Built when it is first needed, so that tokens whose values never change cost nothing. Entries
//! are not removed when a value leaves its token: each hit is compared with the values themselves,
//! and the index is built again before outdated entries outnumber half of the tokens.

use std::collections::HashSet;
use std::hash::BuildHasher as _;

use hashbrown::HashTable;

use super::registry::{TokenEntry, TokenRegistry};
use crate::lifecycle::Slot;
use crate::scheduler::TokenId;
use crate::secret::ValueRef;

/// Outdated entries that are kept beyond half of the number of tokens.
const OUTDATED: usize = 1_000;

/// Entries of one value that a lookup compares at most: many tokens can share a value on purpose.
const COMPARED: usize = 64;

#[derive(Debug, Default)]
pub(super) struct ValueOwners {
    /// A part of each value's hash, and a token that has or had the value. `None`: not built.
    index: Option<HashTable<(u32, TokenId)>>,
    /// Tokens that had the value of another token from the beginning: they share it on purpose.
    sharing: HashSet<TokenId>,
}

impl ValueOwners {
    /// The token has this value now.
    pub(super) fn add(&mut self, hash: u64, id: TokenId) {
        if let Some(index) = &mut self.index {
            index.insert_unique(spread(hash), (part(hash), id), |(part, _)| spread_part(*part));
        }
    }

    /// The token is removed, and its number can be reused.
    pub(super) fn forget(&mut self, id: TokenId) {
        self.sharing.remove(&id);
    }
}

/// The part of a hash that the index stores.
const fn part(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The hash of an entry, known from the stored part alone.
const fn spread(hash: u64) -> u64 {
    spread_part(part(hash))
}

const fn spread_part(part: u32) -> u64 {
    (part as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl TokenRegistry {
    /// Another token that has this value, unless `id` has it too or shares it on purpose: because
    /// both have the same source, or had the same value before.
    pub(crate) fn owner_of(&mut self, value: ValueRef<'_>, id: TokenId) -> Option<TokenId> {
        if self.token(id).is_none_or(|entry| has(entry, value)) {
            return None;
        }
        self.build_owners();
        let owner = self.holder(value, id)?;
        let is_shared = self.owners.sharing.contains(&id) && self.owners.sharing.contains(&owner);
        let source = |id| self.token(id).and_then(TokenEntry::source);
        let same_source = || source(id).is_some_and(|own| source(owner) == Some(own));
        (!is_shared && !same_source()).then_some(owner)
    }

    /// The token `id`, which had no value, begins with this value: if another token has it, both
    /// share it on purpose.
    pub(crate) fn begins_with(&mut self, value: ValueRef<'_>, id: TokenId) {
        // Values that are there before the index is built are found when it is.
        if self.owners.index.is_some()
            && let Some(other) = self.holder(value, id)
        {
            self.owners.sharing.extend([id, other]);
        }
    }

    /// A token other than `id` that has this value, according to the index.
    fn holder(&self, value: ValueRef<'_>, id: TokenId) -> Option<TokenId> {
        let hash = self.keys.hash_one(value.expose().as_bytes());
        let entries = self.owners.index.as_ref()?.iter_hash(spread(hash)).take(COMPARED);
        let others = entries.filter(|(known, other)| *known == part(hash) && *other != id);
        let mut holders = others.map(|(_, other)| *other);
        holders.find(|other| self.token(*other).is_some_and(|entry| has(entry, value)))
    }

    /// Builds the index, unless it is there and few of its entries are outdated.
    fn build_owners(&mut self) {
        let limit = self.len() + self.len() / 2 + OUTDATED;
        if self.owners.index.as_ref().is_some_and(|index| index.len() <= limit) {
            return;
        }
        let mut sharing = HashSet::new();
        let mut index = HashTable::<(u32, TokenId)>::with_capacity(self.len());
        for (id, entry) in self.ids() {
            for value in values(entry) {
                let hash = self.keys.hash_one(value.expose().as_bytes());
                let same = |(known, other): &&(u32, TokenId)| {
                    *known == part(hash)
                        && self.token(*other).is_some_and(|entry| has(entry, value))
                };
                let known = index.iter_hash(spread(hash)).find(same);
                if let Some((_, other)) = known {
                    sharing.extend([id, *other]);
                } else {
                    let entry = (part(hash), id);
                    index.insert_unique(spread(hash), entry, |(part, _)| spread_part(*part));
                }
            }
        }
        // Values of the startup are compared once, at the first change.
        if self.owners.index.is_none() {
            self.owners.sharing.extend(sharing);
        }
        self.owners.index = Some(index);
    }
}

fn values(entry: TokenEntry<'_>) -> impl Iterator<Item = ValueRef<'_>> {
    [Slot::A, Slot::B].into_iter().filter_map(move |slot| entry.value(slot))
}

fn has(entry: TokenEntry<'_>, value: ValueRef<'_>) -> bool {
    values(entry).any(|own| own == value)
}
