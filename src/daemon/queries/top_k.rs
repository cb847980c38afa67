//! Top-k selection: the most urgent of many tokens, found in one pass.
//!
//! The cost for a token that is less urgent than those found is a comparison; for any other it is
//! constant on average, in whatever order the tokens come.

use crate::lifecycle::{State, TokenSummary};
use crate::time::Moment;

/// How urgent a token is: the worst state first, then the earliest expiry.
pub(super) type SeverityRank = (State, Moment, u32);

/// The rank of the token with this key.
pub(super) fn rank(glance: TokenSummary, key: u32) -> SeverityRank {
    (glance.state, glance.expiry.unwrap_or_default(), key)
}

/// The `k` most urgent tokens that were visited: those with the lowest ranks.
#[derive(Debug)]
pub(super) struct TopK<R = SeverityRank> {
    most: usize,
    /// In no order; fewer than twice as many as are wanted.
    found: Vec<R>,
    /// A token that is less urgent than this is none of them.
    best: Option<R>,
}

impl<R: Copy + Ord> TopK<R> {
    pub(super) const fn new(most: usize) -> Self {
        Self { most, found: Vec::new(), best: None }
    }

    pub(super) fn visit(&mut self, rank: R) {
        if self.best.is_some_and(|best| rank > best) {
            return;
        }
        self.found.push(rank);
        if self.found.len() >= self.most * 2 {
            self.cut();
        }
    }

    /// Drops the tokens that are not wanted.
    fn cut(&mut self) {
        if self.found.len() > self.most
            && let Some(last) = self.most.checked_sub(1)
        {
            let (_, best, _) = self.found.select_nth_unstable(last);
            self.best = Some(*best);
            self.found.truncate(self.most);
        }
    }

    /// The tokens found, in no order.
    pub(super) fn found(mut self) -> Vec<R> {
        self.cut();
        self.found
    }

    /// The tokens found, the most urgent first.
    pub(super) fn in_order(self) -> Vec<R> {
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
        ranks.into_iter().for_each(|rank| worst.visit(rank));
        worst.in_order()
    }

    #[test]
    fn worst_state_comes_first_and_then_the_earliest_expiry() {
        let dead = (State::Expired, Moment::default(), 7);
        let found = worst(3, [alive(9, 1), alive(5, 2), dead, alive(7, 3)]);
        assert_eq!(found, [dead, alive(5, 2), alive(7, 3)]);
    }

    #[test]
    fn result_does_not_depend_on_the_order() {
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
    fn fewer_than_twice_as_many_as_are_wanted_are_kept() {
        let mut worst = TopK::new(10);
        for n in (0..10_000).rev() {
            worst.visit(alive(n, 0));
            assert!(worst.found.len() < 20);
        }
    }
}
