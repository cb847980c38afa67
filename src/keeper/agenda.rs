//! The schedule of all tokens: who next wants something, and when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Moment;

/// A moment and a token's number in twelve bytes; ordered by the moment first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Date {
    high: u32,
    low: u32,
    id: u32,
}

impl Date {
    fn new(at: Moment, id: u32) -> Self {
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        Self { high: half(at.as_millis() >> 32), low: half(at.as_millis()), id }
    }

    fn at(self) -> Moment {
        Moment::from_millis(u64::from(self.high) << 32 | u64::from(self.low))
    }
}

/// A heap of (moment, token). An entry may be outdated: whoever takes it out compares it
/// with what is known of the token, so nothing has to be searched for or removed.
#[derive(Debug, Default)]
pub(super) struct Agenda(BinaryHeap<Reverse<Date>>);

impl Agenda {
    pub(super) fn add(&mut self, at: Moment, id: u32) {
        if self.0.len() == self.0.capacity() {
            // By a quarter, not by as much again: a full table's agenda is one of its largest parts.
            self.0.reserve_exact(self.0.len() / 4 + 16);
        }
        self.0.push(Reverse(Date::new(at, id)));
    }

    /// The earliest moment in it.
    pub(super) fn next(&self) -> Option<Moment> {
        self.0.peek().map(|Reverse(date)| date.at())
    }

    /// Takes the earliest entry out, if it is due.
    pub(super) fn take_due(&mut self, now: Moment) -> Option<(Moment, u32)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(date)| (date.at(), date.id))
    }

    /// Whether a good part of it must be outdated, where there are so many tokens.
    pub(super) fn is_overfull(&self, tokens: usize) -> bool {
        self.0.len() > tokens + tokens / 4 + 1_024
    }

    /// Drops what is outdated or there twice.
    pub(super) fn sweep(&mut self, listed: impl Fn(u32) -> Option<Moment>) {
        let mut seen = Vec::new();
        self.0.retain(|Reverse(date)| {
            let index = date.id as usize;
            if seen.len() <= index {
                seen.resize(index + 1, false);
            }
            listed(date.id) == Some(date.at()) && !std::mem::replace(&mut seen[index], true)
        });
    }

    /// Bytes that it takes up, unused ones included.
    pub(super) fn footprint(&self) -> usize {
        self.0.capacity() * size_of::<Date>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    #[test]
    fn an_entry_takes_twelve_bytes() {
        assert_eq!(size_of::<Reverse<Date>>(), 12);
    }

    #[test]
    fn entries_come_out_by_their_moments_up_to_the_last_there_is() {
        let mut agenda = Agenda::default();
        let moments = [at(1 << 40), Moment::NEVER, at(5), at((1 << 32) - 1), at(1 << 32)];
        for (moment, id) in moments.into_iter().zip(0..) {
            agenda.add(moment, id);
        }
        let order: Vec<_> = std::iter::from_fn(|| agenda.take_due(Moment::NEVER)).collect();
        let expected = [(at(5), 2), (at((1 << 32) - 1), 3), (at(1 << 32), 4), (at(1 << 40), 0)];
        assert_eq!(order[..4], expected);
        assert_eq!(order[4], (Moment::NEVER, 1));
    }

    #[test]
    fn a_sweep_leaves_one_entry_where_the_token_is_listed() {
        let mut agenda = Agenda::default();
        for (moment, id) in [(at(1), 0), (at(2), 0), (at(2), 0), (at(3), 1), (at(4), 7)] {
            agenda.add(moment, id);
        }
        agenda.sweep(|id| [Some(at(2)), None].get(id as usize).copied().unwrap_or(Some(at(4))));
        let left: Vec<_> = std::iter::from_fn(|| agenda.take_due(at(9))).collect();
        assert_eq!(left, [(at(2), 0), (at(4), 7)]);
    }
}
