//! Timer queue: the deadlines of all tokens.
//!
//! Deadlines that come soon are in a binary heap, later ones in unordered buckets of about a
//! second. An entry costs one push and one move, whatever the number of tokens, and only the
//! entries of one bucket are ever sorted. Buckets consist of pieces of one size, so that freed
//! memory fits the next bucket and does not fragment.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::time::Moment;

/// Binary logarithm of a bucket's width in milliseconds.
const WIDTH: u32 = 10;

/// An entry of a bucket: milliseconds since its start, and the token.
type BucketEntry = (u32, u32);

/// Entries of a piece: 128 bytes.
const PIECE: usize = 16;

/// The entries of one bucket.
#[derive(Debug, Default)]
struct Bucket {
    /// The earliest of them.
    first: u32,
    len: u32,
    /// All full except the last one.
    #[expect(clippy::vec_box, reason = "a piece must not move, or memory frays: see above")]
    pieces: Vec<Box<[BucketEntry; PIECE]>>,
}

impl Bucket {
    fn push(&mut self, entry: BucketEntry) {
        let place = self.len as usize % PIECE;
        if place == 0 {
            self.pieces.push(Box::new([BucketEntry::default(); PIECE]));
        }
        if let Some(piece) = self.pieces.last_mut() {
            piece[place] = entry;
        }
        self.first = if self.len == 0 { entry.0 } else { self.first.min(entry.0) };
        self.len += 1;
    }

    fn entries(&self) -> impl Iterator<Item = BucketEntry> {
        self.pieces.iter().flat_map(|piece| piece.iter()).take(self.len as usize).copied()
    }
}

/// Pairs of (moment, token). An entry may be outdated: the caller compares it with the token's
/// current deadline, so that no entry has to be searched for or removed.
#[derive(Debug, Default)]
pub(super) struct TimerQueue {
    /// All entries before the horizon.
    soon: BinaryHeap<Reverse<(Moment, u32)>>,
    /// The first bucket that is not in the heap, at most one bucket ahead of the time.
    horizon: u64,
    later: BTreeMap<u64, Bucket>,
    len: usize,
}

impl TimerQueue {
    pub(super) fn add(&mut self, at: Moment, id: u32) {
        self.len += 1;
        let number = at.as_millis() >> WIDTH;
        if number < self.horizon {
            return self.soon.push(Reverse((at, id)));
        }
        self.later.entry(number).or_default().push((offset(at), id));
    }

    /// The earliest moment.
    pub(super) fn next(&self) -> Option<Moment> {
        if let Some(Reverse((at, _))) = self.soon.peek() {
            return Some(*at);
        }
        self.later.first_key_value().map(|(number, bucket)| at(*number, bucket.first))
    }

    /// Removes and returns the earliest entry if it is due.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<(Moment, u32)> {
        if self.next()? > now {
            return None;
        }
        if self.soon.is_empty() {
            let (number, bucket) = self.later.pop_first()?;
            // The capacity is kept, unless it is far larger than needed.
            let mut soon = std::mem::take(&mut self.soon).into_vec();
            soon.shrink_to(bucket.len as usize * 4);
            soon.extend(bucket.entries().map(|(ms, id)| Reverse((at(number, ms), id))));
            self.soon = soon.into();
            self.horizon = number + 1;
        }
        let Reverse(entry) = self.soon.pop()?;
        self.len -= 1;
        Some(entry)
    }

    /// Whether many entries must be outdated, given the number of tokens.
    pub(super) fn needs_sweep(&self, tokens: usize) -> bool {
        self.len > tokens + tokens / 4 + 1_024
    }

    /// Removes outdated and duplicate entries.
    pub(super) fn sweep(&mut self, scheduled: impl Fn(u32) -> Option<Moment>) {
        let mut seen = Vec::new();
        let mut counts = |at: Moment, id: u32| {
            let index = id as usize;
            if seen.len() <= index {
                seen.resize(index + 1, false);
            }
            scheduled(id) == Some(at) && !std::mem::replace(&mut seen[index], true)
        };
        self.soon.retain(|Reverse((at, id))| counts(*at, *id));
        self.later.retain(|number, bucket| {
            let mut left = Bucket::default();
            for (ms, id) in bucket.entries() {
                if counts(at(*number, ms), id) {
                    left.push((ms, id));
                }
            }
            *bucket = left;
            bucket.len > 0
        });
        self.len = self.soon.len() + self.later.values().map(|b| b.len as usize).sum::<usize>();
    }

    /// Allocated bytes.
    pub(super) fn footprint(&self) -> usize {
        /// A key and a bucket in a tree node that is two thirds full, as most are.
        const BUCKET: usize = (size_of::<u64>() + size_of::<Bucket>()) * 3 / 2;
        let of_pieces = |bucket: &Bucket| {
            bucket.pieces.len() * size_of::<[BucketEntry; PIECE]>()
                + bucket.pieces.capacity() * size_of::<usize>()
        };
        self.soon.capacity() * size_of::<Reverse<(Moment, u32)>>()
            + self.later.len() * BUCKET
            + self.later.values().map(of_pieces).sum::<usize>()
    }
}

fn offset(at: Moment) -> u32 {
    u32::try_from(at.as_millis() & ((1 << WIDTH) - 1)).unwrap_or(0)
}

fn at(bucket: u64, ms: u32) -> Moment {
    Moment::from_millis(bucket << WIDTH | u64::from(ms))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    fn drained(timers: &mut TimerQueue) -> Vec<(Moment, u32)> {
        std::iter::from_fn(|| timers.pop_due(Moment::NEVER)).collect()
    }

    #[test]
    fn what_is_not_due_stays() {
        let mut timers = TimerQueue::default();
        timers.add(at(5_000), 1);
        assert_eq!(timers.pop_due(at(4_999)), None);
        assert_eq!(timers.next(), Some(at(5_000)));
        assert_eq!(timers.pop_due(at(5_000)), Some((at(5_000), 1)));
        assert_eq!(timers.next(), None);
    }

    proptest! {
        #[test]
        fn entries_are_popped_in_order_of_time(
            steps in prop::collection::vec((0_u64..20_000, any::<bool>()), 1..200),
        ) {
            let mut timers = TimerQueue::default();
            let mut plain = BinaryHeap::new();
            let mut now = 0;
            for ((after, takes), id) in steps.into_iter().zip(0..) {
                timers.add(at(now + after), id);
                plain.push(Reverse((at(now + after), id)));
                prop_assert_eq!(timers.next(), plain.peek().map(|Reverse((first, _))| *first));
                if takes {
                    let taken = timers.pop_due(Moment::NEVER);
                    now = taken.map_or(now, |(at, _)| at.as_millis());
                    prop_assert_eq!(taken, plain.pop().map(|Reverse(entry)| entry));
                }
            }
            let rest: Vec<_> = std::iter::from_fn(|| plain.pop()).map(|Reverse(e)| e).collect();
            prop_assert_eq!(drained(&mut timers), rest);
        }
    }

    #[test]
    fn last_possible_moment_can_be_stored() {
        let mut timers = TimerQueue::default();
        timers.add(Moment::NEVER, 1);
        timers.add(at(0), 2);
        assert_eq!(drained(&mut timers), [(at(0), 2), (Moment::NEVER, 1)]);
    }

    #[test]
    fn sweep_leaves_the_current_entry_of_each_token() {
        let mut timers = TimerQueue::default();
        for (moment, id) in [(1, 0), (9_002, 0), (9_002, 0), (5_003, 1), (8_004, 7)] {
            timers.add(at(moment), id);
        }
        timers.sweep(|id| match id {
            0 => Some(at(9_002)),
            7 => Some(at(8_004)),
            _ => None,
        });
        assert_eq!(timers.len, 2);
        assert_eq!(drained(&mut timers), [(at(8_004), 7), (at(9_002), 0)]);
    }
}
