//! Hash index from token values to the tokens that have them: finds whether a new value of one token
//! belongs to another.
//!
//! Built when it is first needed, so that tokens whose values never change cost nothing. Entries
//! are not removed when a value leaves its token: each hit is compared with the values themselves,
//! and the index is built again before outdated entries outnumber half of the tokens.

use std::collections::HashSet;

use hashbrown::HashTable;

use crate::scheduler::TokenId;

/// Outdated entries that are kept beyond half of the number of tokens.
const OUTDATED: usize = 1_000;

/// Entries of one value that a lookup compares at most: many tokens can share a value on purpose.
pub(super) const COMPARED: usize = 64;

/// The index from values to tokens. The registry compares the values themselves.
#[derive(Debug, Default)]
pub(super) struct ValueOwners {
    /// A part of each value's hash, and a token that has or had the value. `None`: not built.
    index: Option<HashTable<(u32, TokenId)>>,
    /// Its entries when it was built: with a candidate, a token has two.
    built_with: usize,
    /// Tokens that had the value of another token from the beginning: they share it on purpose.
    sharing: HashSet<TokenId>,
}

impl ValueOwners {
    /// An index without entries, with room for this number.
    pub(super) fn with_capacity(tokens: usize) -> Self {
        let index = Some(HashTable::with_capacity(tokens));
        Self { index, ..Self::default() }
    }

    pub(super) const fn is_built(&self) -> bool {
        self.index.is_some()
    }

    /// Whether the index is to be built again, as it has too many outdated entries for this number
    /// of tokens, or is not built.
    pub(super) fn is_outdated(&self, tokens: usize) -> bool {
        let kept = self.built_with.max(tokens) + tokens / 2 + OUTDATED;
        self.index.as_ref().is_none_or(|index| index.len() > kept)
    }

    /// Replaces the index. Tokens that share a value when it is built first share it on purpose.
    pub(super) fn rebuild(&mut self, new: Self) {
        if !self.is_built() {
            self.sharing.extend(new.sharing);
        }
        self.built_with = new.index.as_ref().map_or(0, HashTable::len);
        self.index = new.index;
    }

    /// The token has this value now.
    pub(super) fn add(&mut self, hash: u64, id: TokenId) {
        if let Some(index) = &mut self.index {
            index.insert_unique(spread(hash), (part(hash), id), |(part, _)| spread_part(*part));
        }
    }

    /// These tokens share a value on purpose.
    pub(super) fn share(&mut self, ids: [TokenId; 2]) {
        self.sharing.extend(ids);
    }

    pub(super) fn are_sharing(&self, ids: [TokenId; 2]) -> bool {
        ids.iter().all(|id| self.sharing.contains(id))
    }

    /// Tokens that may have this value, from at most this number of entries.
    pub(super) fn candidates(&self, hash: u64, entries: usize) -> impl Iterator<Item = TokenId> {
        let index = self.index.iter();
        let known = index.flat_map(move |index| index.iter_hash(spread(hash)).take(entries));
        known.filter(move |(known, _)| *known == part(hash)).map(|(_, id)| *id)
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
