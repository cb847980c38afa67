//! The schedule of all tokens: who next wants something, and when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Moment;

/// A heap of (moment, token). An entry may be outdated: whoever takes it out compares it
/// with what the token says, so nothing has to be searched for or removed.
#[derive(Debug, Default)]
pub(super) struct Agenda(BinaryHeap<Reverse<(Moment, u32)>>);

impl Agenda {
    pub(super) fn add(&mut self, at: Moment, id: u32) {
        self.0.push(Reverse((at, id)));
    }

    /// The earliest moment in it.
    pub(super) fn next(&self) -> Option<Moment> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes the earliest entry out, if it is due.
    pub(super) fn take_due(&mut self, now: Moment) -> Option<(Moment, u32)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }
}
