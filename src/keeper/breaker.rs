//! A server that is down is probed, not stormed.
//!
//! Open, the breaker lets one request through at a time, at gaps that the keeper derives
//! from the most urgent bound; the tokens take turns, so that one whose own calls always
//! fail cannot keep the others from finding the server well again.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::time::Moment;

/// Distinct tokens that must fail, with no success between, before a server counts as down.
const FAILURES_TO_OPEN: usize = 3;

/// The shortest gap between two probes: at most five a second.
const SHORTEST_GAP: Duration = Duration::from_millis(200);

/// One server's breaker.
#[derive(Debug)]
pub(super) enum Breaker {
    /// The server answers, as far as is known.
    Closed {
        /// Tokens that failed since the last success.
        failed: BTreeSet<u32>,
    },
    /// The server is down.
    Open {
        /// Failures in a row since it opened.
        failures: u16,
        /// A probe is under way.
        probing: bool,
        /// When the next probe may start.
        next_probe: Moment,
        /// The end of the shortest gap after the last probe.
        earliest_probe: Moment,
        /// Tokens that had their turn in this round.
        probed: BTreeSet<u32>,
    },
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { failed: BTreeSet::new() }
    }
}

/// What an answer did to the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// It opened.
    Opened,
    /// It closed.
    Closed,
}

impl Breaker {
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// When the breaker lets a request through; `None` while a probe is under way.
    pub(super) fn opens_at(&self) -> Option<Moment> {
        match self {
            Self::Closed { .. } => Some(Moment::default()),
            Self::Open { probing: true, .. } => None,
            Self::Open { next_probe, .. } => Some(*next_probe),
        }
    }

    /// When the next probe may start, as far as is known; `None` while closed.
    pub(super) fn next_probe(&self) -> Option<Moment> {
        match self {
            Self::Closed { .. } => None,
            Self::Open { next_probe, .. } => Some(*next_probe),
        }
    }

    /// A token waits that cannot wait longer than `limit` from `now`.
    pub(super) fn hurry(&mut self, now: Moment, limit: Duration) {
        if let Self::Open { next_probe, earliest_probe, .. } = self {
            *next_probe = (*next_probe).min((now + limit).max(*earliest_probe));
        }
    }

    pub(super) fn has_probed(&self, id: u32) -> bool {
        matches!(self, Self::Open { probed, .. } if probed.contains(&id))
    }

    /// Every token that waits has had its turn.
    pub(super) fn next_round(&mut self) {
        if let Self::Open { probed, .. } = self {
            probed.clear();
        }
    }

    /// A request about token `id` starts; tells whether it is a probe.
    pub(super) fn started(&mut self, id: u32) -> bool {
        match self {
            Self::Closed { .. } => false,
            Self::Open { probing, probed, .. } => {
                *probing = true;
                probed.insert(id);
                true
            }
        }
    }

    /// A probe ended without telling anything of the server.
    pub(super) fn probe_lost(&mut self) {
        if let Self::Open { probing, .. } = self {
            *probing = false;
        }
    }

    /// A request about token `id`, one of the server's `tokens`, found it unavailable.
    /// `gap` gives the pause after so many failures in a row.
    pub(super) fn unavailable(
        &mut self,
        id: u32,
        tokens: usize,
        probe: bool,
        now: Moment,
        gap: impl FnOnce(u16) -> Duration,
    ) -> Change {
        match self {
            Self::Closed { failed } => {
                failed.insert(id);
                if failed.len() < FAILURES_TO_OPEN.min(tokens) {
                    return Change::None;
                }
                *self = Self::Open {
                    failures: 1,
                    probing: false,
                    next_probe: now + gap(1).max(SHORTEST_GAP),
                    earliest_probe: now + SHORTEST_GAP,
                    probed: BTreeSet::new(),
                };
                Change::Opened
            }
            Self::Open { failures, probing, next_probe, earliest_probe, .. } => {
                if probe {
                    *failures = failures.saturating_add(1);
                    *probing = false;
                    *next_probe = now + gap(*failures).max(SHORTEST_GAP);
                    *earliest_probe = now + SHORTEST_GAP;
                }
                Change::None
            }
        }
    }

    /// The server answered, whatever it said.
    pub(super) fn answered(&mut self) -> Change {
        let change = if self.is_open() { Change::Closed } else { Change::None };
        match self {
            Self::Closed { failed } if failed.is_empty() => {}
            Self::Closed { .. } | Self::Open { .. } => *self = Self::default(),
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(_: u16) -> Duration {
        Duration::from_secs(1)
    }

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for id in 0..3 {
            breaker.unavailable(id, 10, false, at(0), second);
        }
        breaker
    }

    #[test]
    fn three_distinct_tokens_open_it() {
        let mut breaker = Breaker::default();
        let changes = [7, 7, 8, 8, 9].map(|id| breaker.unavailable(id, 10, false, at(0), second));
        assert_eq!(
            changes.map(|change| change == Change::Opened),
            [false, false, false, false, true]
        );
    }

    #[test]
    fn a_server_with_one_token_needs_only_that_one() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.unavailable(7, 1, false, at(0), second), Change::Opened);
    }

    #[test]
    fn a_success_between_starts_the_count_anew() {
        let mut breaker = Breaker::default();
        breaker.unavailable(1, 10, false, at(0), second);
        breaker.unavailable(2, 10, false, at(0), second);
        assert_eq!(breaker.answered(), Change::None);
        assert_eq!(breaker.unavailable(3, 10, false, at(0), second), Change::None);
    }

    #[test]
    fn open_it_lets_one_probe_through_at_a_time() {
        let mut breaker = opened();
        assert_eq!(breaker.opens_at(), Some(at(1_000)));
        assert!(breaker.started(4));
        assert_eq!(breaker.opens_at(), None);
        breaker.unavailable(4, 10, true, at(1_500), second);
        assert_eq!(breaker.opens_at(), Some(at(2_500)));
        assert!(breaker.has_probed(4) && !breaker.has_probed(5));
    }

    #[test]
    fn probes_come_at_most_five_times_a_second() {
        let mut breaker = opened();
        breaker.started(4);
        breaker.unavailable(4, 10, true, at(1_500), |_| Duration::ZERO);
        assert_eq!(breaker.opens_at(), Some(at(1_700)));
    }

    #[test]
    fn a_bound_that_is_near_brings_the_next_probe_forward() {
        let mut breaker = opened();
        breaker.hurry(at(100), Duration::from_millis(400));
        assert_eq!(breaker.opens_at(), Some(at(500)));
        breaker.hurry(at(100), Duration::from_millis(10));
        assert_eq!(breaker.opens_at(), Some(at(200)));
    }

    #[test]
    fn answers_to_requests_from_before_do_not_count_as_probes() {
        let mut breaker = opened();
        breaker.started(4);
        breaker.unavailable(5, 10, false, at(1_200), second);
        assert_eq!(breaker.opens_at(), None);
    }

    #[test]
    fn any_answer_closes_it() {
        assert_eq!(opened().answered(), Change::Closed);
    }
}
