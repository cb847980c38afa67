//! The worst of many tokens, in their order, found in one walk past all of them.
//!
//! Costs next to nothing for a token that is better than those found so far, and never much
//! for any other: whatever order they come in.

use crate::lifecycle::{Glance, State};
use crate::time::Moment;

/// How urgent a token is: the worst state first, then the nearest end.
pub(crate) type SeverityRank = (State, Moment, u32);

/// The rank of the token with this key.
pub(crate) fn rank(glance: Glance, key: u32) -> SeverityRank {
    (glance.state, glance.bound.unwrap_or_default(), key)
}

/// So many tokens at the most, the worst of those that were seen.
#[derive(Debug)]
pub(crate) struct TopK {
    most: usize,
    /// In no order, and up to as many again as are wanted.
    found: Vec<SeverityRank>,
    /// Whoever is better than this is none of them.
    best: Option<SeverityRank>,
}

impl TopK {
    pub(crate) const fn new(most: usize) -> Self {
        Self { most, found: Vec::new(), best: None }
    }

    pub(crate) fn see(&mut self, rank: SeverityRank) {
        if self.best.is_some_and(|best| rank > best) {
            return;
        }
        self.found.push(rank);
        if self.found.len() >= self.most * 2 {
            self.cut();
        }
    }

    /// Forgets those that are not wanted.
    fn cut(&mut self) {
        if self.found.len() > self.most
            && let Some(last) = self.most.checked_sub(1)
        {
            let (_, best, _) = self.found.select_nth_unstable(last);
            self.best = Some(*best);
            self.found.truncate(self.most);
        }
    }

    /// Those found, in no order.
    pub(crate) fn found(mut self) -> Vec<SeverityRank> {
        self.cut();
        self.found
    }

    /// Those found, the worst first.
    pub(crate) fn in_order(self) -> Vec<SeverityRank> {
        let mut found = self.found();
        found.sort_unstable();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(bound: u64, key: u32) -> SeverityRank {
        (State::Alive, Moment::from_millis(bound), key)
    }

    fn worst(most: usize, ranks: impl IntoIterator<Item = SeverityRank>) -> Vec<SeverityRank> {
        let mut worst = TopK::new(most);
        ranks.into_iter().for_each(|rank| worst.see(rank));
        worst.in_order()
    }

    #[test]
    fn the_worst_states_come_first_and_then_the_nearest_ends() {
        let dead = (State::Expired, Moment::default(), 7);
        let found = worst(3, [alive(9, 1), alive(5, 2), dead, alive(7, 3)]);
        assert_eq!(found, [dead, alive(5, 2), alive(7, 3)]);
    }

    #[test]
    fn they_are_the_same_in_whatever_order_they_come() {
        let all: Vec<_> = (0..1_000).map(|n| alive(u64::from(n % 37), n)).collect();
        let mut sorted = all.clone();
        sorted.sort_unstable();
        for most in [1, 2, 50, 999, 1_000, 1_001] {
            let wanted = &sorted[..most.min(sorted.len())];
            assert_eq!(worst(most, all.clone()), wanted);
            assert_eq!(worst(most, sorted.clone()), wanted);
            assert_eq!(worst(most, sorted.iter().rev().copied()), wanted);
        }
    }

    #[test]
    fn no_more_than_twice_as_many_as_are_wanted_are_held() {
        let mut worst = TopK::new(10);
        for n in (0..10_000).rev() {
            worst.see(alive(n, 0));
            assert!(worst.found.len() < 20);
        }
    }
}
