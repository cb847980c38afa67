//! Arena for millions of byte strings, in chunks that never move. Each string has a 32-bit handle.
//!
//! A string is written once and never copied within the arena, so no copy of a secret is left
//! behind. Freed strings are cleared at once, the others when the arena is dropped. The space of a
//! freed string is reused for one of the same size.

use std::fmt;
use std::num::NonZeroU32;

use zeroize::{Zeroize as _, Zeroizing};

/// The unit of handles, in bytes: 32 bits reach 8 GiB, and half a unit per string is wasted on
/// average.
const UNIT: usize = 2;

/// Units per chunk: 256 KiB. The system allocates only the pages that are written, and the longest
/// string wastes at most an eighth of a chunk.
const CHUNK: usize = 1 << 17;

/// The smallest space in units: a free one contains the number of the next free one.
const LEAST: usize = size_of::<u32>() / UNIT;

/// A shorter length takes one byte before the string, any other two.
const SHORT: usize = 0x80;

/// The longest string, in bytes.
pub(crate) const LONGEST: usize = 0x7fff;

/// Handle of a string. Not `Copy` or `Clone`, so that a freed string cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Handle(NonZeroU32);

/// Storage of byte strings.
#[derive(Default)]
pub(crate) struct Arena {
    chunks: Vec<Zeroizing<Box<[u8]>>>,
    /// Used units of the last chunk.
    taken: usize,
    /// The first free space of each size, in units; 0 for none.
    free: Vec<u32>,
}

impl Arena {
    /// Stores a copy of `text`.
    ///
    /// # Panics
    ///
    /// If `text` is longer than [`LONGEST`], or 8 GiB are full.
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

    /// The string of a handle of this arena.
    #[inline]
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

    /// Clears a string and frees its space.
    #[expect(clippy::needless_pass_by_value, reason = "the caller must not use a freed handle")]
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

    /// Whether the bytes occur anywhere, in used or free space.
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
            // No string is at unit 0, so that a handle is never zero.
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

/// Bytes of the length before a string.
const fn head_of(len: usize) -> usize {
    if len < SHORT { 1 } else { 2 }
}

/// Units of a number of bytes.
fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT).max(LEAST)
}

/// The chunk of a unit, and the first byte in it.
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

    /// An operation on an arena.
    #[derive(Debug, Clone)]
    enum Operation {
        Put(Vec<u8>),
        /// Frees the stored string with this number, modulo their count.
        Free(usize),
    }

    fn operations() -> impl Strategy<Value = Vec<Operation>> {
        let length = prop_oneof![8 => 0_usize..60, 2 => 120_usize..140, 1 => 0..=LONGEST];
        let text = length.prop_flat_map(|length| prop::collection::vec(1_u8.., length));
        let operation = prop_oneof![3 => text.prop_map(Operation::Put), 2 => any::<usize>().prop_map(Operation::Free)];
        prop::collection::vec(operation, 0..200)
    }

    fn bytes(arena: &Arena) -> impl Iterator<Item = u8> {
        arena.chunks.iter().flat_map(|chunk| chunk.iter().copied())
    }

    proptest! {
        #[test]
        fn every_string_stays_as_it_was_put_where_it_was_put(operations in operations()) {
            let mut arena = Arena::default();
            let mut kept: Vec<(Handle, Vec<u8>, *const u8)> = Vec::new();
            for operation in operations {
                match operation {
                    Operation::Put(text) => {
                        let handle = arena.put(&text);
                        let place = arena.get(&handle).as_ptr();
                        kept.push((handle, text, place));
                    }
                    Operation::Free(which) if !kept.is_empty() => {
                        let (handle, ..) = kept.swap_remove(which % kept.len());
                        arena.free(handle);
                    }
                    Operation::Free(_) => {}
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
