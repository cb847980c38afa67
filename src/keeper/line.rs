//! Who waits for one server, by urgency.
//!
//! Bounds that are still ahead come first, the earliest of them first, then tokens of which
//! none is known, then bounds that have passed. At a cold start a million tokens wait whose
//! bounds nobody knows: those are a bit each.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use roaring::RoaringBitmap;

use crate::time::Moment;

/// A token that waits, by urgency: its bound, or [`Moment::NEVER`] where none is known.
pub(super) type Waiting = (Moment, u32);

/// The tokens that wait for one server.
#[derive(Debug, Default)]
pub(super) struct Line {
    bounded: BTreeSet<Waiting>,
    /// Those without a known bound.
    unbounded: RoaringBitmap,
}

impl Line {
    pub(super) fn add(&mut self, waiting: Waiting) {
        match waiting {
            (Moment::NEVER, id) => self.unbounded.insert(id),
            bounded => self.bounded.insert(bounded),
        };
    }

    pub(super) fn remove(&mut self, waiting: Waiting) {
        match waiting {
            (Moment::NEVER, id) => self.unbounded.remove(id),
            bounded => self.bounded.remove(&bounded),
        };
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bounded.is_empty() && self.unbounded.is_empty()
    }

    /// Those whose bound is ahead, the earliest first.
    pub(super) fn urgent(&self, now: Moment) -> impl Iterator<Item = Waiting> {
        self.bounded.range((Excluded((now, u32::MAX)), Unbounded)).copied()
    }

    /// All of them, the most urgent first.
    pub(super) fn by_urgency(&self, now: Moment) -> impl Iterator<Item = Waiting> {
        let unbounded = self.unbounded.iter().map(|id| (Moment::NEVER, id));
        let past = self.bounded.range(..=(now, u32::MAX)).copied();
        self.urgent(now).chain(unbounded).chain(past)
    }
}
