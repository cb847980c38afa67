//! Token values: the values in the slots, and the values in the sources. Equal values are kept once.

use std::hash::BuildHasher as _;

use super::record::{ColdFields, DeathReason, SourceMatch, TokenRecord};
use super::registry::{TokenEntry, TokenRegistry};
use super::value_owners::{COMPARED, ValueOwners};
use crate::arena::{Arena, Handle};
use crate::lifecycle::Slot;
use crate::scheduler::TokenId;
use crate::secret::ValueRef;
use crate::store::StoredValue;

impl TokenRegistry {
    /// Puts a value into a slot, in place of the value there.
    pub(crate) fn put(&mut self, id: TokenId, slot: Slot, value: ValueRef<'_>) {
        let value = value.expose().as_bytes();
        self.owners.add(self.keys.hash_one(value), id);
        self.change(id, |row, more, arena| {
            let is_second = row.value.is_some() && slot != row.first_slot();
            let (place, what) = if is_second {
                (&mut more.second, SourceMatch::Second)
            } else {
                row.set_first_slot(slot);
                (&mut row.value, SourceMatch::First)
            };
            if holds(arena, place.as_ref(), value) {
                return;
            }
            if holds(arena, more.in_source.as_ref(), value) {
                // It is only moved: the source has the value of this slot now.
                let old = std::mem::replace(place, more.in_source.take());
                if let Some(old) = old {
                    arena.free(old);
                }
                row.set_in_source(what);
            } else if let Some(old) = place.replace(arena.put(value)) {
                retire(row, more, arena, old, what);
            }
        });
    }

    /// The value in this slot is alive, and there is no candidate: the value in the other slot, and
    /// what the server said of it, are dropped.
    pub(crate) fn settle(&mut self, id: TokenId, slot: Slot) {
        if !self.rows.get(id.index()).and_then(Option::as_ref).is_some_and(TokenRecord::has_more) {
            return;
        }
        self.change(id, |row, more, arena| {
            more.death_reason = None;
            let Some(second) = more.second.take() else { return };
            if row.first_slot() == slot {
                return retire(row, more, arena, second, SourceMatch::Second);
            }
            row.set_first_slot(slot);
            let moves = row.in_source() == SourceMatch::Second;
            if let Some(first) = row.value.replace(second) {
                retire(row, more, arena, first, SourceMatch::First);
            }
            if moves {
                row.set_in_source(SourceMatch::First);
            }
        });
    }

    /// The source was read, and holds this value.
    pub(crate) fn set_in_source(&mut self, id: TokenId, value: Option<ValueRef<'_>>) {
        let value = value.map(|value| value.expose().as_bytes());
        self.change(id, |row, more, arena| {
            let what = match value {
                None => SourceMatch::Nothing,
                Some(value) if holds(arena, row.value.as_ref(), value) => SourceMatch::First,
                Some(value) if holds(arena, more.second.as_ref(), value) => SourceMatch::Second,
                Some(_) => SourceMatch::Other,
            };
            row.set_in_source(what);
            let other = value.filter(|_| what == SourceMatch::Other);
            let other = other.map(|value| arena.put(value));
            let old = std::mem::replace(&mut more.in_source, other);
            if let Some(old) = old {
                arena.free(old);
            }
        });
    }

    /// The token has another source, which was not read yet.
    pub(crate) fn forget_source(&mut self, id: TokenId) {
        self.outdate_reads(id);
        self.set_in_source(id, None);
    }

    /// Reads of the source that began before now are outdated.
    pub(crate) fn outdate_reads(&mut self, id: TokenId) {
        self.change(id, |row, _, _| row.epoch = row.epoch.wrapping_add(1));
    }

    /// Sets whether the source is to be read again once the current re-authentication has ended.
    /// Returns the flag's value before.
    pub(crate) fn set_read_again(&mut self, id: TokenId, on: bool) -> bool {
        self.change(id, |row, _, _| row.set_read_again(on)).unwrap_or_default()
    }

    /// Sets whether a warning about the source was logged. Returns the flag's value before.
    pub(crate) fn set_warned(&mut self, id: TokenId, on: bool) -> bool {
        self.change(id, |row, _, _| row.set_warned(on)).unwrap_or_default()
    }

    /// Sets the token's line in its inventory.
    pub(crate) fn set_line(&mut self, id: TokenId, line: u32) {
        self.change(id, |row, _, _| row.line = line);
    }

    /// Keeps a persisted value until the source is read.
    pub(crate) fn keep_restored_value(&mut self, id: TokenId, stored: StoredValue) {
        self.change(id, |_, more, _| more.restored = Some(Box::new(stored)));
    }

    pub(crate) fn take_restored_value(&mut self, id: TokenId) -> Option<StoredValue> {
        self.change(id, |_, more, _| more.restored.take()).flatten().map(|stored| *stored)
    }

    /// Keeps what the server said of a dead value.
    pub(crate) fn set_death_reason(&mut self, id: TokenId, reason: DeathReason) {
        self.change(id, |_, more, _| more.death_reason = Some(Box::new(reason)));
    }

    /// Sets how many re-auth attempts have counted. Returns the number before.
    pub(crate) fn set_counted(&mut self, id: TokenId, counted: u32) -> u32 {
        let replace = |_: &mut TokenRecord, more: &mut ColdFields, _: &mut Arena| {
            std::mem::replace(&mut more.counted, counted)
        };
        self.change(id, replace).unwrap_or_default()
    }

    /// Changes a token, and keeps its cold fields only as long as one of them is set.
    fn change<T>(
        &mut self,
        id: TokenId,
        change: impl FnOnce(&mut TokenRecord, &mut ColdFields, &mut Arena) -> T,
    ) -> Option<T> {
        let row = self.rows.get_mut(id.index())?.as_mut()?;
        let kept = if row.has_more() { self.more.remove(&id) } else { None };
        let mut more = kept.unwrap_or_default();
        let result = change(row, &mut more, &mut self.arena);
        row.set_has_more(!more.is_nothing());
        if row.has_more() {
            self.more.insert(id, more);
        }
        Some(result)
    }
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
        let source = |id| self.token(id).and_then(TokenEntry::source);
        let same_source = || source(id).is_some_and(|own| source(owner) == Some(own));
        (!self.owners.are_sharing([id, owner]) && !same_source()).then_some(owner)
    }

    /// The token `id`, which had no value, begins with this value: if another token has it, both
    /// share it on purpose.
    pub(crate) fn begins_with(&mut self, value: ValueRef<'_>, id: TokenId) {
        // Values that are there before the index is built are found when it is.
        if self.owners.is_built()
            && let Some(other) = self.holder(value, id)
        {
            self.owners.share([id, other]);
        }
    }

    /// A token other than `id` that has this value, according to the index.
    fn holder(&self, value: ValueRef<'_>, id: TokenId) -> Option<TokenId> {
        let hash = self.keys.hash_one(value.expose().as_bytes());
        let others = self.owners.candidates(hash, COMPARED).filter(|other| *other != id);
        self.first_with(others, value)
    }

    fn first_with(
        &self,
        mut ids: impl Iterator<Item = TokenId>,
        value: ValueRef<'_>,
    ) -> Option<TokenId> {
        ids.find(|id| self.token(*id).is_some_and(|entry| has(entry, value)))
    }

    /// Builds the index, unless it is there and few of its entries are outdated.
    fn build_owners(&mut self) {
        if !self.owners.is_outdated(self.len()) {
            return;
        }
        let mut owners = ValueOwners::with_capacity(self.len());
        for (id, entry) in self.ids() {
            for value in values(entry) {
                let hash = self.keys.hash_one(value.expose().as_bytes());
                match self.first_with(owners.candidates(hash, usize::MAX), value) {
                    Some(other) => owners.share([id, other]),
                    None => owners.add(hash, id),
                }
            }
        }
        self.owners.rebuild(owners);
    }
}

fn values(entry: TokenEntry<'_>) -> impl Iterator<Item = ValueRef<'_>> {
    [Slot::A, Slot::B].into_iter().filter_map(move |slot| entry.value(slot))
}

fn has(entry: TokenEntry<'_>, value: ValueRef<'_>) -> bool {
    values(entry).any(|own| own == value)
}

fn holds(arena: &Arena, handle: Option<&Handle>, value: &[u8]) -> bool {
    handle.is_some_and(|handle| arena.get(handle) == value)
}

/// Frees a value that has left its place, unless the source still holds it.
fn retire(
    row: &mut TokenRecord,
    more: &mut ColdFields,
    arena: &mut Arena,
    old: Handle,
    place: SourceMatch,
) {
    if row.in_source() == place {
        row.set_in_source(SourceMatch::Other);
        more.in_source = Some(old);
    } else {
        arena.free(old);
    }
}
