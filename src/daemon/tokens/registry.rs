//! Registry of all tokens: names, values and configurations behind the scheduler's numbers.
//!
//! Owns the only copies of names and token values in the daemon, in an arena. It decides nothing.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::path::PathBuf;
use std::sync::Arc;

use hashbrown::HashTable;

use super::config_table::{ConfigTable, InventoryId, TokenConfig, TokenOrigin};
use super::record::{ColdFields, DeathReason, SourceMatch, TokenRecord};
use super::value_owners::ValueOwners;
use crate::arena::{Arena, Handle};
use crate::lifecycle::Slot;
use crate::scheduler::TokenId;
use crate::secret::ValueRef;
use crate::settings::{ReauthMethod, Source};

/// All tokens, by number and by name.
#[derive(Debug, Default)]
pub(crate) struct TokenRegistry {
    pub(super) arena: Arena,
    pub(super) rows: Vec<Option<TokenRecord>>,
    pub(super) more: HashMap<TokenId, ColdFields>,
    /// By the hash of their names, which are in the arena.
    pub(super) names: HashTable<TokenId>,
    pub(super) keys: RandomState,
    pub(super) owners: ValueOwners,
    pub(super) configs: ConfigTable,
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

    /// The name of the token with this [key](TokenId::key): the cheapest query, for reading the names
    /// of a million tokens.
    pub(crate) fn name_of_key(&self, key: u32) -> Option<&[u8]> {
        let row = self.rows.get(key as usize)?.as_ref()?;
        Some(self.arena.get(&row.name))
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
        self.owners.forget(id);
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

/// One token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenEntry<'a> {
    registry: &'a TokenRegistry,
    id: TokenId,
    row: &'a TokenRecord,
}

impl<'a> TokenEntry<'a> {
    pub(crate) fn name(self) -> &'a str {
        self.registry.text(&self.row.name)
    }

    pub(crate) fn config(self) -> &'a Arc<TokenConfig> {
        self.registry.configs.of(self.id, self.row.config)
    }

    /// The token's line in its inventory; 0 for none.
    pub(crate) fn line(self) -> u32 {
        self.row.line
    }

    pub(crate) fn value(self, slot: Slot) -> Option<ValueRef<'a>> {
        let first = self.row.value.as_ref()?;
        if slot == self.row.first_slot() {
            return Some(self.of(first));
        }
        Some(self.of(self.more()?.second.as_ref()?))
    }

    /// The value that the source held when it was last read.
    pub(crate) fn in_source(self) -> Option<ValueRef<'a>> {
        Some(self.of(match self.row.in_source() {
            SourceMatch::Nothing => return None,
            SourceMatch::First => self.row.value.as_ref()?,
            SourceMatch::Second => self.more()?.second.as_ref()?,
            SourceMatch::Other => self.more()?.in_source.as_ref()?,
        }))
    }

    /// Changes when reads of the source that began before are outdated.
    pub(crate) fn epoch(self) -> u8 {
        self.row.epoch
    }

    /// What the server said of a dead value, for the re-auth command.
    pub(crate) fn death_reason(self) -> Option<&'a DeathReason> {
        self.more()?.death_reason.as_deref()
    }

    /// Whether a persisted value waits for the source to be read.
    pub(crate) fn has_restored_value(self) -> bool {
        self.more().is_some_and(|more| more.restored.is_some())
    }

    /// Whether the `[reauth]` method is a command.
    pub(crate) fn has_hook(self) -> bool {
        let method = self.config().reauth.as_ref().map(|reauth| &reauth.method);
        matches!(method, Some(ReauthMethod::Command(_)))
    }

    /// The file of the value, if its source is a file.
    pub(crate) fn file(self) -> Option<PathBuf> {
        match &self.config().origin {
            TokenOrigin::Own(Source::File(path)) => Some(path.clone()),
            TokenOrigin::File(_, folder) => Some(folder.join(self.name())),
            TokenOrigin::Own(Source::Credential(_) | Source::Env(_)) | TokenOrigin::Line(_) => None,
        }
    }

    /// The source of this value alone; `None` for a line of an inventory.
    pub(crate) fn source(self) -> Option<Source> {
        match &self.config().origin {
            TokenOrigin::Own(source) => Some(source.clone()),
            TokenOrigin::File(..) => self.file().map(Source::File),
            TokenOrigin::Line(_) => None,
        }
    }

    /// The inventory that lists the token.
    pub(crate) fn inventory(self) -> Option<InventoryId> {
        self.config().origin.inventory()
    }

    fn more(self) -> Option<&'a ColdFields> {
        if self.row.has_more() { self.registry.more.get(&self.id) } else { None }
    }

    fn of(self, handle: &Handle) -> ValueRef<'a> {
        ValueRef::from_parsed(self.registry.text(handle))
    }
}

fn name_in<'a>(rows: &[Option<TokenRecord>], arena: &'a Arena, id: TokenId) -> &'a [u8] {
    let row = rows.get(id.index()).and_then(Option::as_ref);
    row.map_or(&[], |row| arena.get(&row.name))
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
