//! Sparse table of the rare fields of idle tokens. If checks come often, every token has them;
//! usually almost none does.
//!
//! Memory is allocated for 32 neighbours at once: one token alone costs no more than an active one,
//! and a million tokens cost eight bytes each.

use crate::lifecycle::CompactExtra;

/// Neighbours whose memory is allocated at once.
const ROW: usize = 32;

/// The rare fields, by token id.
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

    /// Allocated bytes.
    pub(super) fn footprint(&self) -> usize {
        let rows = self.0.iter().flatten().count();
        self.0.capacity() * size_of::<usize>() + rows * size_of::<[CompactExtra; ROW]>()
    }
}
