//! Registry of all tokens and servers: names, values and configurations behind the scheduler's
//! numbers.
//!
//! Owns the only copies of names and token values in the daemon, in an arena. It decides nothing.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::HashTable;

use super::config_table::{ConfigTable, InventoryId, TokenConfig};
use super::entry::TokenEntry;
use super::record::{ColdFields, TokenRecord};
use super::servers::Servers;
use crate::arena::{Arena, Handle};
use crate::events::Fields;
use crate::scheduler::TokenId;

/// All tokens, servers and `[reauth]` methods, by number and by name.
#[derive(Debug, Default)]
pub(crate) struct TokenRegistry {
    pub(super) arena: Arena,
    pub(super) rows: Vec<Option<TokenRecord>>,
    pub(super) more: HashMap<TokenId, ColdFields>,
    /// By the hash of their names, which are in the arena.
    pub(super) names: HashTable<TokenId>,
    pub(super) keys: RandomState,
    /// The token that has a value, by the value's hash: built when it is first needed. Entries
    /// may be outdated.
    pub(super) owners: Option<HashMap<u64, TokenId>>,
    pub(super) configs: ConfigTable,
    pub(super) servers: Servers,
}

impl TokenRegistry {
    pub(crate) fn token(&self, id: TokenId) -> Option<TokenEntry<'_>> {
        let row = self.rows.get(id.index())?.as_ref()?;
        Some(TokenEntry { registry: self, id, row })
    }

    pub(crate) fn id_of(&self, name: &str) -> Option<TokenId> {
        let named = |id: &TokenId| self.name(*id) == name.as_bytes();
        self.names.find(self.keys.hash_one(name.as_bytes()), named).copied()
    }

    /// The numbers of many tokens, at a third of the time for each: the time goes into cache
    /// misses, and these overlap.
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

    /// All tokens with their numbers, in no particular order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (TokenId, TokenEntry<'_>)> {
        self.names.iter().filter_map(|id| Some((*id, self.token(*id)?)))
    }

    /// Adds a token whose name no token has, with its line in its inventory (0: none).
    pub(crate) fn add(&mut self, id: TokenId, name: &str, config: &Arc<TokenConfig>, line: u32) {
        if self.rows.len() <= id.index() {
            self.rows.resize_with(id.index() + 1, || None);
        }
        let hash = self.keys.hash_one(name.as_bytes());
        let name = self.arena.put(name.as_bytes());
        self.rows[id.index()] = Some(TokenRecord::new(name, self.configs.add(id, config), line));
        let Self { arena, rows, names, keys, .. } = self;
        names.insert_unique(hash, id, |id| keys.hash_one(name_in(rows, arena, *id)));
    }

    /// Makes room for this number of additional tokens.
    pub(crate) fn reserve(&mut self, count: u64) {
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
        self.configs.remove(id, row.config);
        let ColdFields { second, in_source, .. } = self.more.remove(&id).unwrap_or_default();
        let handles = [Some(row.name), row.value, second, in_source];
        handles.into_iter().flatten().for_each(|handle| self.arena.free(handle));
    }

    /// Replaces a token's configuration.
    pub(crate) fn set_config(&mut self, id: TokenId, config: &Arc<TokenConfig>) {
        let Some(row) = self.rows.get_mut(id.index()).and_then(Option::as_mut) else { return };
        self.configs.remove(id, row.config);
        row.config = self.configs.add(id, config);
    }

    /// Whether a token has or had this number.
    pub(super) fn has_had(&self, id: TokenId) -> bool {
        id.index() < self.rows.len()
    }

    /// The name of a token and of its server, as fields of an event.
    pub(crate) fn names_of<'a>(&'a self, entry: TokenEntry<'a>) -> Fields<'a> {
        let server = &self.server(entry.config().server).settings.name;
        Fields { token: Some(entry.name()), server: Some(server), ..Fields::default() }
    }

    /// Whether this inventory lists the token.
    pub(crate) fn is_listed_by(&self, token: TokenId, inventory: InventoryId) -> bool {
        self.token(token).is_some_and(|entry| entry.inventory() == Some(inventory))
    }

    /// The `wanted` tokens of an inventory.
    pub(crate) fn listed_by(
        &self,
        inventory: InventoryId,
        wanted: impl Fn(TokenId) -> bool,
    ) -> Vec<TokenId> {
        let listed =
            self.ids().filter(|(id, entry)| entry.inventory() == Some(inventory) && wanted(*id));
        listed.map(|(id, _)| id).collect()
    }

    fn name(&self, id: TokenId) -> &[u8] {
        name_in(&self.rows, &self.arena, id)
    }

    pub(super) fn text(&self, handle: &Handle) -> &str {
        // Only text is put in.
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
