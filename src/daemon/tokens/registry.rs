//! Who is who: the tokens behind the keeper's numbers, with their names and values.
//!
//! Holds the only copies of names and token values that the daemon keeps, in an arena; nobody
//! else knows how. Decides nothing about them.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::HashTable;

use super::config_table::{ConfigTable, TokenConfig};
use super::entry::TokenEntry;
use super::record::{ColdFields, TokenRecord};
use super::servers::Servers;
use crate::arena::{Arena, Handle};
use crate::keeper::TokenId;

/// All tokens and servers, by number and by name.
#[derive(Debug, Default)]
pub(crate) struct TokenRegistry {
    pub(super) arena: Arena,
    pub(super) rows: Vec<Option<TokenRecord>>,
    pub(super) more: HashMap<TokenId, ColdFields>,
    /// By the hash of their names, which stand in the arena.
    pub(super) names: HashTable<TokenId>,
    pub(super) keys: RandomState,
    /// The token that has a value, by the value's hash: made when it is first needed. An entry
    /// may be outdated.
    pub(super) owners: Option<HashMap<u64, TokenId>>,
    pub(super) terms: ConfigTable,
    pub(super) remotes: Servers,
}

impl TokenRegistry {
    pub(crate) fn token(&self, id: TokenId) -> Option<TokenEntry<'_>> {
        let row = self.rows.get(id.index())?.as_ref()?;
        Some(TokenEntry { roster: self, id, row })
    }

    pub(crate) fn id_of(&self, name: &str) -> Option<TokenId> {
        let named = |id: &TokenId| self.name(*id) == name.as_bytes();
        self.names.find(self.keys.hash_one(name.as_bytes()), named).copied()
    }

    /// The same for many names, at a third of the time for each: what takes time is that each
    /// stands somewhere else in the memory, and one need not be there before the next is sought.
    pub(crate) fn ids_of<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<Option<TokenId>> {
        let hashed: Vec<_> =
            names.map(|name| (self.keys.hash_one(name.as_bytes()), name.as_bytes())).collect();
        let found = hashed.into_iter().map(|(hash, name)| {
            self.names.find(hash, |id: &TokenId| self.name(*id) == name).copied()
        });
        found.collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// Every token with its number, in no particular order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (TokenId, TokenEntry<'_>)> {
        self.names.iter().filter_map(|id| Some((*id, self.token(*id)?)))
    }

    /// A token with a name that none has yet, on the line of its inventory if it has one.
    pub(crate) fn add(&mut self, id: TokenId, name: &str, terms: &Arc<TokenConfig>, line: u32) {
        if self.rows.len() <= id.index() {
            self.rows.resize_with(id.index() + 1, || None);
        }
        let hash = self.keys.hash_one(name.as_bytes());
        let name = self.arena.put(name.as_bytes());
        self.rows[id.index()] = Some(TokenRecord::new(name, self.terms.add(id, terms), line));
        let Self { arena, rows, names, keys, .. } = self;
        names.insert_unique(hash, id, |id| keys.hash_one(name_in(rows, arena, *id)));
    }

    /// So many more tokens are about to come.
    pub(crate) fn expect(&mut self, count: u64) {
        let count = usize::try_from(count).unwrap_or(0);
        self.rows.reserve(count);
        let Self { arena, rows, names, keys, .. } = self;
        names.reserve(count, |id| keys.hash_one(name_in(rows, arena, *id)));
    }

    pub(crate) fn remove(&mut self, id: TokenId) {
        let hash = self.keys.hash_one(self.name(id));
        if let Ok(entry) = self.names.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        let Some(row) = self.rows.get_mut(id.index()).and_then(Option::take) else { return };
        self.terms.remove(id, row.terms);
        let ColdFields { second, in_source, .. } = self.more.remove(&id).unwrap_or_default();
        let handles = [Some(row.name), row.value, second, in_source];
        handles.into_iter().flatten().for_each(|handle| self.arena.free(handle));
    }

    /// The token is kept on these terms from now on.
    pub(crate) fn set_terms(&mut self, id: TokenId, terms: &Arc<TokenConfig>) {
        let Some(row) = self.rows.get_mut(id.index()).and_then(Option::as_mut) else { return };
        self.terms.remove(id, row.terms);
        row.terms = self.terms.add(id, terms);
    }

    fn name(&self, id: TokenId) -> &[u8] {
        name_in(&self.rows, &self.arena, id)
    }

    pub(super) fn text(&self, handle: &Handle) -> &str {
        // Nothing but text is put in.
        str::from_utf8(self.arena.get(handle)).unwrap_or_default()
    }
}

fn name_in<'a>(rows: &[Option<TokenRecord>], arena: &'a Arena, id: TokenId) -> &'a [u8] {
    let row = rows.get(id.index()).and_then(Option::as_ref);
    row.map_or(&[], |row| arena.get(&row.name))
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
