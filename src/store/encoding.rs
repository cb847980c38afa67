//! Encoding of lives: entries one after the other, the newest last.
//!
//! An entry is a byte of flags, the name with its length, and, unless the life has ended, three
//! numbers and a MAC. Numbers are encoded in groups of seven bits, lowest first (LEB128). Decoding
//! stops at the first unreadable entry of a batch.

use super::mac::Salt;
use super::model::{ClockContext, StoredExpiry, WriteContext};
use crate::lifecycle::{Method, PersistedLife};
use crate::secret::ValueRef;
use crate::time::Moment;

const BY_RENEWING: u8 = 1;
const PROVEN: u8 = 2;
const UNRENEWABLE: u8 = 4;
/// The life has ended or is unknown: no numbers and no MAC follow.
const OVER: u8 = 8;

/// Size of a MAC in bytes.
const MAC_BYTES: usize = 8;

/// Entries per call, so that the callback can look up all their tokens before it processes the
/// first.
const ENTRIES_PER_CALL: usize = 1_024;

/// Key of the MACs of lives: the salt of the database, and the number of the current boot in it.
pub(super) type LifeKey = (Salt, i64);

/// Appends the life of `value`, the current value of the token `name`, on the server at `url`.
pub(super) fn add_life(
    packed: &mut Vec<u8>,
    (salt, boot): LifeKey,
    [name, url]: [&str; 2],
    value: ValueRef<'_>,
    life: &PersistedLife,
) {
    let start = packed.len();
    let flags = [
        (life.by == Method::Renew, BY_RENEWING),
        (life.proven, PROVEN),
        (life.unrenewable, UNRENEWABLE),
    ];
    packed.push(flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum());
    add_name(packed, name);
    for number in [life.expiry.as_millis(), life.remaining_ms, life.life_ms] {
        add_number(packed, number);
    }
    let tag = life_mac(&salt, boot, &packed[start..], url, value);
    packed.extend_from_slice(&tag);
}

/// Appends that the life of the token `name` has ended.
pub(super) fn add_end(packed: &mut Vec<u8>, name: &str) {
    packed.push(OVER);
    add_name(packed, name);
}

fn add_name(packed: &mut Vec<u8>, name: &str) {
    add_number(packed, name.len() as u64);
    packed.extend_from_slice(name.as_bytes());
}

fn add_number(packed: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return packed.push(low);
        }
        packed.push(low | 0x80);
    }
}

/// Authenticates the entry, and what it does not contain: URL, value and boot.
fn life_mac(
    salt: &Salt,
    boot: i64,
    entry: &[u8],
    url: &str,
    value: ValueRef<'_>,
) -> [u8; MAC_BYTES] {
    let parts = [entry, url.as_bytes(), value.expose().as_bytes(), &boot.to_le_bytes()];
    salt.fast_mac(&parts).to_le_bytes()
}

/// The lives that one commit has written.
pub struct LifeBatch {
    pub(super) clocks: ClockContext,
    pub(super) salt: Salt,
    pub(super) written: WriteContext,
    pub(super) packed: Vec<u8>,
}

impl std::fmt::Debug for LifeBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("bytes", &self.packed.len()).finish_non_exhaustive()
    }
}

impl LifeBatch {
    /// Passes the entries to `some`, newest first, up to `ENTRIES_PER_CALL` at a time. Returns
    /// whether all of them could be read.
    pub fn lives(&self, mut some: impl FnMut(&[StoredLife<'_>])) -> bool {
        let mut entries = Vec::new();
        let mut rest = &*self.packed;
        while !rest.is_empty() {
            let before = rest;
            let Some(entry) = take_entry(&mut rest) else { break };
            entries.push((entry, &before[..before.len() - rest.len()]));
        }
        let mut at_once = Vec::with_capacity(ENTRIES_PER_CALL);
        for newest in entries.rchunks(ENTRIES_PER_CALL) {
            at_once.clear();
            at_once.extend(newest.iter().rev().map(|(entry, bytes)| {
                let Entry { flags, name, numbers } = *entry;
                StoredLife { name, batch: self, flags, numbers, bytes }
            }));
            some(&at_once);
        }
        rest.is_empty()
    }
}

struct Entry<'a> {
    flags: u8,
    name: &'a str,
    /// Expiry, remaining life, full life.
    numbers: Option<[u64; 3]>,
}

fn take_entry<'a>(rest: &mut &'a [u8]) -> Option<Entry<'a>> {
    let flags = *rest.split_off_first()?;
    let len = usize::try_from(take_number(rest)?).ok()?;
    let name = std::str::from_utf8(rest.split_off(..len)?).ok()?;
    if flags & OVER != 0 {
        return Some(Entry { flags, name, numbers: None });
    }
    let numbers = [take_number(rest)?, take_number(rest)?, take_number(rest)?];
    rest.split_off(..MAC_BYTES)?;
    Some(Entry { flags, name, numbers: Some(numbers) })
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = *rest.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// The persisted life of one token.
#[derive(Clone, Copy)]
pub struct StoredLife<'a> {
    /// The token's name.
    pub name: &'a str,
    batch: &'a LifeBatch,
    flags: u8,
    numbers: Option<[u64; 3]>,
    bytes: &'a [u8],
}

impl std::fmt::Debug for StoredLife<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recalled").field("name", &self.name).finish_non_exhaustive()
    }
}

impl StoredLife<'_> {
    /// What is left of the life of `value` on the server at `url`; `None` if it has ended, or
    /// belongs to another value or server.
    pub fn life_of(&self, url: &str, value: ValueRef<'_>) -> Option<PersistedLife> {
        let [bound_ms, remaining_ms, life_ms] = self.numbers?;
        let LifeBatch { clocks, salt, written, .. } = self.batch;
        let expiry = StoredExpiry::new(Moment::from_millis(bound_ms), written);
        let (expiry, this_boot) = expiry.at(clocks, remaining_ms)?;
        let (entry, tag) = self.bytes.split_at_checked(self.bytes.len().checked_sub(MAC_BYTES)?)?;
        (life_mac(salt, written.boot, entry, url, value) == *tag).then_some(PersistedLife {
            expiry,
            remaining_ms,
            life_ms,
            by: if self.flags & BY_RENEWING == 0 { Method::Query } else { Method::Renew },
            proven: self.flags & PROVEN != 0,
            unrenewable: self.flags & UNRENEWABLE != 0,
            this_boot,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn typical_entry_takes_less_than_forty_bytes() {
        let mut packed = Vec::new();
        let life = PersistedLife {
            expiry: Moment::from_millis(90 * 24 * 3_600_000),
            remaining_ms: 1_800_000,
            life_ms: 1_800_000,
            by: Method::Query,
            proven: true,
            unrenewable: false,
            this_boot: true,
        };
        let value = ValueRef::parse("0b5f1e0e-52cf-4d4c-a8c0-9a3f6d1c2e77").unwrap();
        let names = ["client-00001", "https://api.example.net/"];
        add_life(&mut packed, (Salt([1; 16]), 1), names, value, &life);
        assert!(packed.len() < 40, "{}", packed.len());
    }

    proptest! {
        #[test]
        fn every_number_is_read_as_it_was_written(number in any::<u64>(), shift in 0_u32..64) {
            let mut packed = Vec::new();
            add_number(&mut packed, number >> shift);
            let mut rest = &*packed;
            prop_assert_eq!(take_number(&mut rest), Some(number >> shift));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_can_be_decoded(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &*bytes;
            while take_entry(&mut rest).is_some() {}
        }
    }
}
