//! Byte strings by the million: in chunks that never move, each behind a handle of 32 bits.
//!
//! A string is written once and never copied within, so nothing of it is left behind but what
//! was freed, and that is cleared at once; the rest is cleared when the arena is dropped. A
//! freed place serves a later string of the same size. What the strings are is no matter here.

use std::fmt;
use std::num::NonZeroU32;

use zeroize::{Zeroize as _, Zeroizing};

/// What handles count in, in bytes: 32 bits then reach 8 GiB, and half a unit is lost on
/// average for each string.
const UNIT: usize = 2;

/// The units of a chunk: 256 KiB, of which the system hands out only the pages that are used,
/// and which the longest string leaves at most an eighth of unused.
const CHUNK: usize = 1 << 17;

/// The least units of a place: when it is free, it holds the number of the next free one.
const LEAST: usize = size_of::<u32>() / UNIT;

/// A length below this takes one byte before the string, any other two.
const SHORT: usize = 0x80;

/// The longest string, in bytes.
pub(crate) const LONGEST: usize = 0x7fff;

/// Where a string is kept. It is neither copied nor made anew, so that what was freed cannot be
/// asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Handle(NonZeroU32);

/// A store of byte strings.
#[derive(Default)]
pub(crate) struct Arena {
    chunks: Vec<Zeroizing<Box<[u8]>>>,
    /// Units of the last chunk that are taken.
    taken: usize,
    /// The first free place of each size, in units; 0 for none.
    free: Vec<u32>,
}

impl Arena {
    /// Keeps a copy of `text`.
    ///
    /// # Panics
    ///
    /// When `text` is longer than [`LONGEST`], or 8 GiB are full.
    pub(crate) fn put(&mut self, text: &[u8]) -> Handle {
        assert!(text.len() <= LONGEST, "a string of {} bytes", text.len());
        let head = head_of(text.len());
        let size = units(head + text.len());
        let handle = self.reuse(size).unwrap_or_else(|| self.grow(size));
        let place = self.place_mut(&handle, size);
        if head == 1 {
            place[0] = low_byte(text.len());
        } else {
            place[0] = low_byte(SHORT | text.len() >> 8);
            place[1] = low_byte(text.len());
        }
        place[head..head + text.len()].copy_from_slice(text);
        handle
    }

    /// The string behind a handle of this arena.
    pub(crate) fn get(&self, handle: &Handle) -> &[u8] {
        let (chunk, from) = position(handle.0.get());
        let place = &self.chunks[chunk][from..];
        let first = usize::from(place[0]);
        let (head, len) = if first < SHORT {
            (1, first)
        } else {
            (2, (first & !SHORT) << 8 | usize::from(place[1]))
        };
        &place[head..head + len]
    }

    /// Clears a string; its place is free.
    #[expect(clippy::needless_pass_by_value, reason = "whoever gives it back has it no more")]
    pub(crate) fn free(&mut self, handle: Handle) {
        let len = self.get(&handle).len();
        let size = units(head_of(len) + len);
        if self.free.len() <= size {
            self.free.resize(size + 1, 0);
        }
        let next = std::mem::replace(&mut self.free[size], handle.0.get());
        let place = self.place_mut(&handle, size);
        place.zeroize();
        place[..size_of::<u32>()].copy_from_slice(&next.to_le_bytes());
    }

    /// Whether these bytes stand anywhere, in use or not.
    #[cfg(test)]
    pub(crate) fn holds(&self, text: &[u8]) -> bool {
        self.chunks.iter().any(|chunk| memchr::memmem::find(chunk, text).is_some())
    }

    fn reuse(&mut self, size: usize) -> Option<Handle> {
        let first = *self.free.get(size)?;
        let handle = Handle(NonZeroU32::new(first)?);
        let (link, _) = self.place_mut(&handle, size).split_first_chunk_mut()?;
        self.free[size] = u32::from_le_bytes(std::mem::take(link));
        Some(handle)
    }

    fn grow(&mut self, size: usize) -> Handle {
        if self.chunks.is_empty() || self.taken + size > CHUNK {
            // No string is at 0, where a handle would be none.
            self.taken = usize::from(self.chunks.is_empty());
            self.chunks.push(Zeroizing::new(vec![0; CHUNK * UNIT].into_boxed_slice()));
        }
        let unit = (self.chunks.len() - 1) * CHUNK + self.taken;
        self.taken += size;
        let unit = u32::try_from(unit).ok().and_then(NonZeroU32::new);
        Handle(unit.expect("8 GiB of names and values are full"))
    }

    fn place_mut(&mut self, handle: &Handle, size: usize) -> &mut [u8] {
        let (chunk, from) = position(handle.0.get());
        &mut self.chunks[chunk][from..from + size * UNIT]
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").field("chunks", &self.chunks.len()).finish_non_exhaustive()
    }
}

/// How many bytes stand before a string of this length.
const fn head_of(len: usize) -> usize {
    if len < SHORT { 1 } else { 2 }
}

/// How many units so many bytes take up.
fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT).max(LEAST)
}

/// The chunk that a unit is in, and its first byte there.
const fn position(unit: u32) -> (usize, usize) {
    (unit as usize / CHUNK, unit as usize % CHUNK * UNIT)
}

#[expect(clippy::cast_possible_truncation, reason = "the low byte is what is wanted")]
const fn low_byte(number: usize) -> u8 {
    number as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What can be done with an arena.
    #[derive(Debug, Clone)]
    enum Deed {
        Put(Vec<u8>),
        /// Of those that are kept, the one with this number, modulo their count.
        Free(usize),
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let length = prop_oneof![8 => 0_usize..60, 2 => 120_usize..140, 1 => 0..=LONGEST];
        let text = length.prop_flat_map(|length| prop::collection::vec(1_u8.., length));
        let deed =
            prop_oneof![3 => text.prop_map(Deed::Put), 2 => any::<usize>().prop_map(Deed::Free)];
        prop::collection::vec(deed, 0..200)
    }

    fn bytes(arena: &Arena) -> impl Iterator<Item = u8> {
        arena.chunks.iter().flat_map(|chunk| chunk.iter().copied())
    }

    proptest! {
        #[test]
        fn every_string_stays_as_it_was_put_where_it_was_put(deeds in deeds()) {
            let mut arena = Arena::default();
            let mut kept: Vec<(Handle, Vec<u8>, *const u8)> = Vec::new();
            for deed in deeds {
                match deed {
                    Deed::Put(text) => {
                        let handle = arena.put(&text);
                        let place = arena.get(&handle).as_ptr();
                        kept.push((handle, text, place));
                    }
                    Deed::Free(which) if !kept.is_empty() => {
                        let (handle, ..) = kept.swap_remove(which % kept.len());
                        arena.free(handle);
                    }
                    Deed::Free(_) => {}
                }
                for (handle, text, place) in &kept {
                    prop_assert_eq!(arena.get(handle), &text[..]);
                    prop_assert_eq!(arena.get(handle).as_ptr(), *place);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_left_of_a_string_that_was_freed(length in 0..=LONGEST) {
            let mut arena = Arena::default();
            let handle = arena.put(&vec![b'x'; length]);
            arena.free(handle);
            prop_assert!(bytes(&arena).all(|byte| byte != b'x'));
        }
    }

    #[test]
    fn a_place_that_was_freed_serves_the_next_string_of_its_size() {
        let mut arena = Arena::default();
        for _ in 0..3 * CHUNK {
            let handles = ["abc-1", "abc-2"].map(|text| arena.put(text.as_bytes()));
            for handle in handles {
                arena.free(handle);
            }
        }
        assert_eq!((arena.chunks.len(), arena.taken), (1, 7));
    }

    #[test]
    fn strings_that_no_chunk_has_room_for_open_another() {
        let mut arena = Arena::default();
        let handles: Vec<_> = (0..=u8::MAX).map(|byte| arena.put(&[byte; 4096])).collect();
        assert!(arena.chunks.len() > 4);
        for (byte, handle) in (0..=u8::MAX).zip(&handles) {
            assert_eq!(arena.get(handle), [byte; 4096]);
        }
    }

    #[test]
    fn a_token_s_name_and_value_take_no_more_than_their_bytes_and_a_unit_each() {
        let mut arena = Arena::default();
        let before = arena.put(b"").0.get();
        arena.put(b"client-00001");
        arena.put(b"4c5dd2b9-c31a-d2da-e776-418993f24a6e");
        let after = arena.put(b"").0.get();
        assert_eq!((after - before) as usize * UNIT, LEAST * UNIT + 14 + 38);
    }

    #[test]
    fn it_prints_nothing_of_its_strings() {
        let mut arena = Arena::default();
        arena.put(b"S3CR3T");
        assert!(!format!("{arena:?}").contains("S3CR3T"));
    }
}
