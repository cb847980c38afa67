//! What some tokens at rest have besides their rows: in a shop where checks come often, each
//! token, in most others next to none.
//!
//! Places come and go for a few neighbours at once: so one token alone costs no more than as
//! a whole entry, and a million of them eight bytes each.

use crate::lifecycle::CompactExtra;

/// Neighbours whose places come at once.
const ROW: usize = 32;

/// What tokens have besides, by number.
#[derive(Debug, Default)]
pub(super) struct ExtraTable(Vec<Option<Box<[CompactExtra; ROW]>>>);

impl ExtraTable {
    pub(super) fn get(&self, id: u32) -> CompactExtra {
        let row = self.0.get(id as usize / ROW).and_then(Option::as_ref);
        row.map_or(CompactExtra::NOTHING, |row| row[id as usize % ROW])
    }

    pub(super) fn set(&mut self, id: u32, extra: CompactExtra) {
        let (index, place) = (id as usize / ROW, id as usize % ROW);
        let is_nothing = extra == CompactExtra::NOTHING;
        if let Some(Some(row)) = self.0.get_mut(index) {
            row[place] = extra;
            if is_nothing && row.iter().all(|extra| *extra == CompactExtra::NOTHING) {
                self.0[index] = None;
            }
        } else if !is_nothing {
            if self.0.len() <= index {
                self.0.resize_with(index + 1, || None);
            }
            let mut row = Box::new([CompactExtra::NOTHING; ROW]);
            row[place] = extra;
            self.0[index] = Some(row);
        }
    }

    /// Bytes that it takes up, unused ones included.
    pub(super) fn footprint(&self) -> usize {
        let rows = self.0.iter().flatten().count();
        self.0.capacity() * size_of::<usize>() + rows * size_of::<[CompactExtra; ROW]>()
    }
}
