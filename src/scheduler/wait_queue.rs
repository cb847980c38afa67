//! Wait queue of one server: tokens that are due, by urgency.
//!
//! Order: (1) future expiry, earliest first; (2) unknown expiry; (3) past expiry. To prevent
//! starvation under overload, every fourth request is reserved for groups 2 and 3. Group 2 is
//! served round-robin, so that tokens that keep failing do not starve the others. Half of its
//! requests go to tokens that failed before: at a cold start, a new value would otherwise wait
//! behind a million unchecked tokens until it has expired.
//!
//! A million tokens may wait at once. At a cold start they have no known expiry and take one bit
//! each.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use roaring::RoaringBitmap;

use crate::time::Moment;

/// Key of a waiting token: its expiry, or [`NEW`] or [`FAILED_BEFORE`] if none is known; and its
/// id.
pub(super) type WaitKey = (Moment, u32);

/// The token was never checked.
pub(super) const NEW: Moment = Moment::NEVER;

/// The token was dead, missing or failing at its last check. No clock reaches this moment.
pub(super) const FAILED_BEFORE: Moment = Moment::from_millis(u64::MAX - 1);

/// One of this many requests is reserved for tokens without a future expiry, while both kinds wait.
const RESERVED_SHARE: u32 = 4;

/// The tokens that wait for one server.
#[derive(Debug, Default)]
pub(super) struct WaitQueue {
    bounded: BTreeSet<PackedKey>,
    new: RoundRobin,
    failed_before: RoundRobin,
    /// Of `new` and `failed_before`, `new` was served last.
    was_new_served_last: bool,
    /// Requests since the last reserved one.
    since_reserved: u32,
    /// The next `since_reserved`, if the token that was popped last sends a request: it may not
    /// have to.
    since_reserved_if_used: u32,
}

/// Tokens without a known expiry, served in turn.
#[derive(Debug, Default)]
struct RoundRobin {
    ids: RoaringBitmap,
    /// The first id that is served next.
    turn: u32,
}

impl RoundRobin {
    /// All ids, starting with the one that is served next.
    fn in_order(&self) -> impl Iterator<Item = u32> {
        self.ids.range(self.turn..).chain(self.ids.range(..self.turn))
    }

    fn pop(&mut self) -> Option<u32> {
        let id = self.in_order().next()?;
        self.ids.remove(id);
        self.turn = id.saturating_add(1);
        Some(id)
    }

    /// Allocated bytes.
    fn footprint(&self) -> usize {
        let bits = self.ids.statistics();
        let bytes = bits.n_bytes_array_containers
            + bits.n_bytes_run_containers
            + bits.n_bytes_bitset_containers;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

/// A [`WaitKey`] with a known expiry, packed into nine bytes with the same order. All expiries
/// beyond 34 years of uptime are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct PackedKey([u8; 5], [u8; 4]);

impl PackedKey {
    fn new((expiry, id): WaitKey) -> Self {
        let [0, 0, 0, expiry @ ..] = expiry.as_millis().to_be_bytes() else {
            return Self([u8::MAX; 5], id.to_be_bytes());
        };
        Self(expiry, id.to_be_bytes())
    }

    fn key(self) -> WaitKey {
        let mut expiry = [0; 8];
        expiry[3..].copy_from_slice(&self.0);
        (Moment::from_millis(u64::from_be_bytes(expiry)), u32::from_be_bytes(self.1))
    }
}

impl WaitQueue {
    pub(super) fn add(&mut self, key: WaitKey) {
        match key {
            (NEW, id) => self.new.ids.insert(id),
            (FAILED_BEFORE, id) => self.failed_before.ids.insert(id),
            bounded => self.bounded.insert(PackedKey::new(bounded)),
        };
    }

    pub(super) fn remove(&mut self, key: WaitKey) {
        match key {
            (NEW, id) => self.new.ids.remove(id),
            (FAILED_BEFORE, id) => self.failed_before.ids.remove(id),
            bounded => self.bounded.remove(&PackedKey::new(bounded)),
        };
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bounded.is_empty() && self.new.ids.is_empty() && self.failed_before.ids.is_empty()
    }

    /// Allocated bytes, approximately.
    pub(super) fn footprint(&self) -> usize {
        /// A key in a tree node that is two thirds full, as most are.
        const EACH: usize = size_of::<PackedKey>() * 3 / 2 + 2;
        self.bounded.len() * EACH + self.new.footprint() + self.failed_before.footprint()
    }

    /// Removes and returns the token that is served next.
    pub(super) fn pop(&mut self, now: Moment) -> Option<u32> {
        let owed = self.since_reserved + 1 >= RESERVED_SHARE;
        let (urgent, past) = (self.urgent(now).next(), self.past(now).next());
        if let Some(urgent) = urgent.filter(|_| !owed) {
            return Some(self.pop_with_expiry(urgent));
        }
        let owed_to = self.pop_without_expiry().or_else(|| {
            let past = past.filter(|_| owed)?;
            self.remove(past);
            Some(past.1)
        });
        if owed_to.is_some() {
            self.since_reserved_if_used = 0;
            return owed_to;
        }
        Some(self.pop_with_expiry(urgent.or(past)?))
    }

    /// The token that was popped last has sent a request.
    pub(super) fn commit_pop(&mut self) {
        self.since_reserved = self.since_reserved_if_used;
    }

    fn pop_with_expiry(&mut self, key: WaitKey) -> u32 {
        self.remove(key);
        self.since_reserved_if_used = (self.since_reserved + 1).min(RESERVED_SHARE);
        key.1
    }

    fn pop_without_expiry(&mut self) -> Option<u32> {
        let failed_before = if self.was_new_served_last { self.failed_before.pop() } else { None };
        let new = if failed_before.is_none() { self.new.pop() } else { None };
        self.was_new_served_last = new.is_some();
        failed_before.or(new).or_else(|| self.failed_before.pop())
    }

    /// Tokens with a future expiry, earliest first.
    pub(super) fn urgent(&self, now: Moment) -> impl Iterator<Item = WaitKey> {
        let now = PackedKey::new((now, u32::MAX));
        self.bounded.range((Excluded(now), Unbounded)).map(|place| place.key())
    }

    /// All tokens, most urgent first.
    pub(super) fn by_urgency(&self, now: Moment) -> impl Iterator<Item = WaitKey> {
        let failed_before = self.failed_before.in_order().map(|id| (FAILED_BEFORE, id));
        let new = self.new.in_order().map(|id| (NEW, id));
        self.urgent(now).chain(failed_before).chain(new).chain(self.past(now))
    }

    /// A random token without a known expiry.
    pub(super) fn draw(&self, chance: &mut fastrand::Rng) -> Option<WaitKey> {
        let (new, failed_before) = (self.new.ids.len(), self.failed_before.ids.len());
        let at = chance.u64(0..(new + failed_before).max(1));
        let select = |ids: &RoaringBitmap, at| ids.select(u32::try_from(at).ok()?);
        match at.checked_sub(new) {
            None => select(&self.new.ids, at).map(|id| (NEW, id)),
            Some(at) => select(&self.failed_before.ids, at).map(|id| (FAILED_BEFORE, id)),
        }
    }

    fn past(&self, now: Moment) -> impl Iterator<Item = WaitKey> {
        let now = PackedKey::new((now, u32::MAX));
        self.bounded.range(..=now).map(|place| place.key())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Moment = Moment::from_millis(1_000);

    /// Pops a token and lets it send a request.
    fn pop(queue: &mut WaitQueue) -> Option<u32> {
        let id = queue.pop(NOW)?;
        queue.commit_pop();
        Some(id)
    }

    /// The next tokens served, in a queue that each of them enters again at once.
    fn served(queue: &mut WaitQueue, since_reserved: usize) -> Vec<u32> {
        let mut served = Vec::new();
        for _ in 0..since_reserved {
            let id = pop(queue).unwrap();
            queue.add(if id < 100 { (NEW, id) } else { ahead(id) });
            served.push(id);
        }
        served
    }

    /// A token with a future expiry.
    fn ahead(id: u32) -> WaitKey {
        (Moment::from_millis(u64::from(id) * 1_000), id)
    }

    fn queue(unbounded: u32, bounded: u32) -> WaitQueue {
        let mut queue = WaitQueue::default();
        (0..unbounded).for_each(|id| queue.add((NEW, id)));
        (100..100 + bounded).for_each(|id| queue.add(ahead(id)));
        queue
    }

    #[test]
    fn every_fourth_request_is_reserved_for_tokens_without_an_expiry() {
        let served = served(&mut queue(50, 1_000), 8);
        assert_eq!(served, [100, 100, 100, 0, 100, 100, 100, 1]);
    }

    #[test]
    fn tokens_without_an_expiry_are_served_round_robin() {
        let served = served(&mut queue(3, 1_000), 4 * 7);
        let unbounded: Vec<_> = served.into_iter().filter(|id| *id < 100).collect();
        assert_eq!(unbounded, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn new_tokens_alternate_with_tokens_that_failed_before() {
        let mut queue = queue(50, 0);
        (60..62).for_each(|id| queue.add((FAILED_BEFORE, id)));
        let order: Vec<_> = (0..6).filter_map(|_| pop(&mut queue)).collect();
        assert_eq!(order, [0, 60, 1, 61, 2, 3]);
    }

    #[test]
    fn both_groups_without_an_expiry_share_the_reserved_requests() {
        let mut queue = queue(50, 1_000);
        queue.add((FAILED_BEFORE, 60));
        let order: Vec<_> = (0..12).filter_map(|_| pop(&mut queue)).collect();
        assert_eq!([order[3], order[7], order[11]], [0, 60, 1]);
        assert!(order.iter().filter(|id| **id >= 100).count() == 9);
    }

    #[test]
    fn token_without_an_expiry_goes_first_if_the_reserved_request_is_overdue() {
        let mut queue = queue(0, 1_000);
        served(&mut queue, 100);
        queue.add((NEW, 7));
        assert_eq!(served(&mut queue, 2), [7, 100]);
    }

    #[test]
    fn request_that_is_not_sent_does_not_count() {
        let mut queue = queue(1, 1_000);
        (0..10).for_each(|_| assert!(queue.pop(NOW).is_some_and(|id| id >= 100)));
        assert_eq!(served(&mut queue, 4)[3], 0);
    }

    #[test]
    fn reserved_requests_are_not_lost_if_no_token_needs_them() {
        assert_eq!(served(&mut queue(0, 3), 8), [100; 8]);
    }

    #[test]
    fn every_fourth_request_goes_to_a_past_expiry_if_none_is_unknown() {
        let mut queue = queue(0, 1_000);
        (98..100).for_each(|id| queue.add((Moment::from_millis(10), id)));
        let order: Vec<_> = (0..9).filter_map(|_| pop(&mut queue)).collect();
        assert_eq!(order, [100, 101, 102, 98, 103, 104, 105, 99, 106]);
    }

    #[test]
    fn past_expiry_comes_last() {
        let mut queue = queue(2, 2);
        queue.add((Moment::from_millis(10), 99));
        let order: Vec<_> = std::iter::from_fn(|| pop(&mut queue)).collect();
        assert_eq!(order, [100, 101, 0, 1, 99]);
        assert!(queue.is_empty());
    }

    proptest! {
        #[test]
        fn packed_keys_have_the_order_of_expiries(
            one in (0_u64..1 << 40, any::<u32>()), other in (0_u64..1 << 40, any::<u32>()),
        ) {
            let [one, other] =
                [one, other].map(|(expiry, id)| (Moment::from_millis(expiry), id));
            prop_assert_eq!(PackedKey::new(one).cmp(&PackedKey::new(other)), one.cmp(&other));
            prop_assert_eq!(PackedKey::new(one).key(), one);
        }
    }

    #[test]
    fn expiry_beyond_the_packed_range_can_be_removed() {
        let (mut queue, far) = (WaitQueue::default(), Moment::from_millis(u64::MAX - 2));
        queue.add((far, 7));
        assert_eq!(queue.urgent(NOW).count(), 1);
        queue.remove((far, 7));
        assert!(queue.is_empty());
    }
}
