//! The tokens' values: which are held, and what their sources hold; none of them twice.

use std::collections::HashMap;
use std::hash::BuildHasher as _;

use super::record::{ColdFields, DeathReason, SourceMatch, TokenRecord};
use super::registry::TokenRegistry;
use crate::arena::{Arena, Handle};
use crate::keeper::TokenId;
use crate::lifecycle::Slot;
use crate::secret::ValueRef;
use crate::store::Stored;

/// Outdated entries of values that are kept beyond twice the number of tokens.
const OUTDATED: usize = 1_000;

impl TokenRegistry {
    /// The name of a token other than `id` that has this value, if there is one.
    pub(crate) fn owner_of(&mut self, value: ValueRef<'_>, id: TokenId) -> Option<&str> {
        // Outdated entries are bounded by making all of them again.
        let limit = 2 * self.len() + OUTDATED;
        if self.owners.as_ref().is_none_or(|owners| owners.len() > limit) {
            let mut owners = HashMap::new();
            for (id, kept) in self.ids() {
                for value in [Slot::A, Slot::B].into_iter().filter_map(|slot| kept.value(slot)) {
                    owners.insert(self.keys.hash_one(value.expose().as_bytes()), id);
                }
            }
            self.owners = Some(owners);
        }
        let hash = self.keys.hash_one(value.expose().as_bytes());
        let owner = *self.owners.as_ref()?.get(&hash)?;
        let kept = self.token(owner).filter(|_| owner != id)?;
        let has_it = [Slot::A, Slot::B].into_iter().any(|slot| kept.value(slot) == Some(value));
        has_it.then(|| kept.name())
    }

    /// Puts a value into a slot, in the place of what was there.
    pub(crate) fn put(&mut self, id: TokenId, slot: Slot, value: ValueRef<'_>) {
        let value = value.expose().as_bytes();
        if let Some(owners) = &mut self.owners {
            owners.insert(self.keys.hash_one(value), id);
        }
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
                // It is only moved; nothing is known of the source by itself any more.
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

    /// The value in this slot lives, and none is to take its place: what is in the other slot,
    /// and what was said of it, is of no use any more.
    pub(crate) fn settle(&mut self, id: TokenId, slot: Slot) {
        if !self.rows.get(id.index()).and_then(Option::as_ref).is_some_and(TokenRecord::has_more) {
            return;
        }
        self.change(id, |row, more, arena| {
            more.last_words = None;
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

    /// The source was looked at, and this is what it holds.
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

    /// The source is another one: nothing is known of what it holds.
    pub(crate) fn forget_source(&mut self, id: TokenId) {
        self.outdate_looks(id);
        self.set_in_source(id, None);
    }

    /// Whatever looks at the source has found up to now is worthless.
    pub(crate) fn outdate_looks(&mut self, id: TokenId) {
        self.change(id, |row, _, _| row.epoch = row.epoch.wrapping_add(1));
    }

    /// Whether the source is to be looked at again once the re-auth under way has ended; tells
    /// what held before.
    pub(crate) fn set_look_again(&mut self, id: TokenId, on: bool) -> bool {
        self.change(id, |row, _, _| row.set_look_again(on)).unwrap_or_default()
    }

    /// Whether it was said that the source is open to others; tells what held before.
    pub(crate) fn set_warned(&mut self, id: TokenId, on: bool) -> bool {
        self.change(id, |row, _, _| row.set_warned(on)).unwrap_or_default()
    }

    /// The line of its inventory that the token stands on.
    pub(crate) fn set_line(&mut self, id: TokenId, line: u32) {
        self.change(id, |row, _, _| row.line = line);
    }

    /// What an earlier run kept in place of the source's value, until the source is read.
    pub(crate) fn recall(&mut self, id: TokenId, stored: Stored) {
        self.change(id, |_, more, _| more.recalled = Some(Box::new(stored)));
    }

    pub(crate) fn take_recalled(&mut self, id: TokenId) -> Option<Stored> {
        self.change(id, |_, more, _| more.recalled.take()).flatten().map(|stored| *stored)
    }

    /// What the server said when the value died.
    pub(crate) fn set_last_words(&mut self, id: TokenId, words: DeathReason) {
        self.change(id, |_, more, _| more.last_words = Some(Box::new(words)));
    }

    /// Re-auth attempts that count now; tells how many did when this was last said.
    pub(crate) fn set_counted(&mut self, id: TokenId, counted: u32) -> u32 {
        let replace = |_: &mut TokenRecord, more: &mut ColdFields, _: &mut Arena| {
            std::mem::replace(&mut more.counted, counted)
        };
        self.change(id, replace).unwrap_or_default()
    }

    /// ConfigDiff a token, and keeps more of it than its row only as long as there is more.
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

fn holds(arena: &Arena, handle: Option<&Handle>, value: &[u8]) -> bool {
    handle.is_some_and(|handle| arena.get(handle) == value)
}

/// A value has left its place: it is freed, unless the source still holds it.
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
