//! Circuit breaker of one server: a server that is down is probed, not stormed.
//!
//! It opens after failures of [`FAILURES_TO_OPEN`] distinct tokens (all that are being asked, if
//! fewer) with no response between. Once the server has answered anything, only tokens count so
//! that had a response before: those that never had one may well be what is wrong. Open, it lets one probe through at a time. Tokens that have
//! not failed in this outage go first: what fails for its own tokens only is no outage of the
//! server. It closes at the first response with a conclusion.
//!
//! A token that fails, is tried again after a response to another token, and fails again, has
//! trouble of its own. Such tokens say nothing about the server until they have a response.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::time::Moment;

/// Distinct tokens that must fail, with no response between, before a server counts as down.
const FAILURES_TO_OPEN: usize = 3;

/// How many more must fail for each token with trouble of its own: where many have, many more
/// may get it, one after the other, and that is still no outage.
const MORE_FOR_EACH_WITH_OWN_FAILURES: usize = 2;

/// So many tokens in a row open it whatever is known of them: a server that has answered one
/// token and fails for all others must not be stormed.
const FAILURES_OF_ANY_TO_OPEN: usize = 64;

/// The shortest gap between two probes: at most five a second.
const SHORTEST_GAP: Duration = Duration::from_millis(200);

/// The longest gap between two probes: a server that is back is noticed within this time.
pub(super) const LONGEST_GAP: Duration = Duration::from_secs(5);

/// Probes at the shortest gap while tokens wait that have not failed in this outage: enough to
/// find the few healthy ones among hundreds that fail, and no more than 20 s of that pace on a
/// server that is down.
const QUICK_PROBES: u16 = 100;

/// One server's circuit breaker.
#[derive(Debug, Default)]
pub(super) struct CircuitBreaker {
    outage: Option<Outage>,
    /// Tokens with a request that was started and failed since the last response.
    failed: BTreeSet<u32>,
    /// The same of tokens that never had a response, on a server that answered others.
    unproven: BTreeSet<u32>,
    /// Tokens whose login failed since the last response, while others are asked about. They
    /// only have a later turn as probes.
    failed_logins: BTreeSet<u32>,
    /// Tokens with a request that was started before the last response and failed after it. They
    /// say nothing about the time since.
    outdated: BTreeSet<u32>,
    /// Tokens that failed before the last response, and had none since.
    suspected: BTreeSet<u32>,
    /// Tokens that failed again after a response to another token.
    own_failures: BTreeSet<u32>,
    /// The serial number of the action that was started last before the last response.
    responded_at: u64,
    has_responded: bool,
}

/// What is known while the server is down.
#[derive(Debug)]
struct Outage {
    /// Failed probes in a row.
    failures: u16,
    is_probing: bool,
    /// When the next probe may start.
    next_probe: Moment,
    /// The end of the shortest gap after the last probe.
    earliest_probe: Moment,
    /// Tokens that had their turn in this round.
    probed: BTreeSet<u32>,
}

/// What the end of a request did to the breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BreakerChange {
    /// Nothing.
    None,
    /// It opened.
    Opened,
    /// It closed.
    Closed,
    /// It was closed, and these tokens failed before: they can be tried again now.
    Answered(Vec<u32>),
}

/// A request that found the server unavailable.
#[derive(Debug, Clone, Copy)]
pub(super) struct CheckFailure {
    /// The token that it was about.
    pub(super) token: u32,
    /// The serial number of the action.
    pub(super) serial: u64,
    /// It was a probe.
    pub(super) is_probe: bool,
    /// The token had a response before.
    pub(super) is_proven: bool,
    /// The token is one of those that are being asked about; otherwise it logs in.
    pub(super) is_asked: bool,
    /// How many of the server's tokens are being asked about.
    pub(super) asked: usize,
}

impl CircuitBreaker {
    pub(super) fn is_open(&self) -> bool {
        self.outage.is_some()
    }

    /// Whether the server has answered no token since this one's calls fail: then the server
    /// may be what fails.
    pub(super) fn is_in_doubt(&self, token: u32) -> bool {
        self.is_open() || self.failed.contains(&token) || self.unproven.contains(&token)
    }

    /// Whether it is this token's calls that fail, and not the server.
    pub(super) fn has_own_failures(&self, token: u32) -> bool {
        self.own_failures.contains(&token)
    }

    /// Whether a probe is in flight.
    pub(super) fn is_probing(&self) -> bool {
        self.outage.as_ref().is_some_and(|outage| outage.is_probing)
    }

    /// When the breaker lets a request through; `None` while a probe is under way.
    pub(super) fn opens_at(&self) -> Option<Moment> {
        match &self.outage {
            None => Some(Moment::default()),
            Some(outage) if outage.is_probing => None,
            Some(outage) => Some(outage.next_probe),
        }
    }

    /// When the next probe may start, as far as is known; `None` while closed.
    pub(super) fn next_probe(&self) -> Option<Moment> {
        self.outage.as_ref().map(|outage| outage.next_probe)
    }

    /// A token waits that cannot wait longer than `limit` from `now`; not at all if it has not
    /// failed in this outage.
    pub(super) fn expedite(&mut self, token: u32, now: Moment, limit: Duration) {
        let untried = !self.has_failed(token);
        if let Some(outage) = &mut self.outage {
            let quick = untried && outage.failures < QUICK_PROBES;
            let limit = if quick { Duration::ZERO } else { limit };
            let at = (now + limit).max(outage.earliest_probe);
            outage.next_probe = outage.next_probe.min(at);
        }
    }

    /// Whether the token failed in this outage, or has trouble of its own.
    pub(super) fn has_failed(&self, token: u32) -> bool {
        let sets = [&self.failed, &self.unproven, &self.failed_logins, &self.own_failures];
        sets.iter().any(|set| set.contains(&token))
    }

    /// Whether the token had its turn in this round of probes.
    pub(super) fn has_probed(&self, token: u32) -> bool {
        self.outage.as_ref().is_some_and(|outage| outage.probed.contains(&token))
    }

    /// Whether tokens that have not failed in this outage are still probed at the shortest gap.
    pub(super) fn is_quick(&self) -> bool {
        self.outage.as_ref().is_some_and(|outage| outage.failures < QUICK_PROBES)
    }

    /// A request about a token starts; returns whether it is a probe.
    pub(super) fn on_request(&mut self, token: u32, now: Moment) -> bool {
        let Some(outage) = &mut self.outage else { return false };
        outage.is_probing = true;
        // Where nothing comes of it, the next one still keeps the gap.
        outage.earliest_probe = now + SHORTEST_GAP;
        outage.next_probe = outage.earliest_probe;
        if !outage.probed.insert(token) {
            // Every token that waits has had its turn: the next round begins.
            outage.probed = BTreeSet::from([token]);
        }
        true
    }

    /// A probe ended without saying anything about the server.
    pub(super) fn on_probe_cancelled(&mut self) {
        if let Some(outage) = &mut self.outage {
            outage.is_probing = false;
        }
    }

    /// A request found the server unavailable. `gap` gives the pause after so many failed probes
    /// in a row.
    pub(super) fn on_failure(
        &mut self,
        failure: CheckFailure,
        now: Moment,
        gap: impl FnOnce(u16) -> Duration,
    ) -> BreakerChange {
        let CheckFailure { token, serial, is_probe, is_proven, is_asked, asked } = failure;
        if let Some(outage) = &mut self.outage {
            self.failed.insert(token);
            if is_probe {
                outage.failures = outage.failures.saturating_add(1);
                outage.is_probing = false;
                outage.next_probe = now + gap(outage.failures).clamp(SHORTEST_GAP, LONGEST_GAP);
                outage.earliest_probe = now + SHORTEST_GAP;
            }
            return BreakerChange::None;
        }
        // A login says little about a server that has others to answer.
        if !is_asked && asked > 0 {
            self.failed_logins.insert(token);
            return BreakerChange::None;
        }
        if self.own_failures.contains(&token) {
            if self.own_failures.len() < asked {
                return BreakerChange::None;
            }
            // No token is left that could be answered well: that is an outage like any other.
            self.failed.append(&mut self.own_failures);
        }
        let is_outdated = serial <= self.responded_at;
        if self.suspected.contains(&token) {
            if !is_outdated {
                self.suspected.remove(&token);
                self.own_failures.insert(token);
            }
            return BreakerChange::None;
        }
        if is_outdated {
            self.outdated.insert(token);
            return BreakerChange::None;
        }
        self.outdated.remove(&token);
        if is_proven || !self.has_responded || self.failed.contains(&token) {
            self.unproven.remove(&token);
            self.failed.insert(token);
        } else {
            self.unproven.insert(token);
        }
        let (failed, own) = (self.failed.len(), self.own_failures.len());
        let all = failed + self.unproven.len();
        let opens = failed >= FAILURES_TO_OPEN + MORE_FOR_EACH_WITH_OWN_FAILURES * own
            || all >= FAILURES_OF_ANY_TO_OPEN
            || all + own >= asked;
        if !opens {
            return BreakerChange::None;
        }
        self.outage = Some(Outage {
            failures: 1,
            is_probing: false,
            next_probe: now + gap(1).clamp(SHORTEST_GAP, LONGEST_GAP),
            earliest_probe: now + SHORTEST_GAP,
            probed: BTreeSet::new(),
        });
        BreakerChange::Opened
    }

    /// The server answered a request about a token, whatever it said. `serial` is that of the
    /// action started last.
    pub(super) fn on_response(&mut self, token: u32, serial: u64) -> BreakerChange {
        (self.responded_at, self.has_responded) = (serial, true);
        self.forget(token);
        let mut failed = std::mem::take(&mut self.failed);
        failed.append(&mut self.unproven);
        self.failed_logins.clear();
        self.suspected.append(&mut self.outdated);
        if self.outage.take().is_some() {
            self.suspected.extend(failed);
            return BreakerChange::Closed;
        }
        if failed.is_empty() {
            return BreakerChange::None;
        }
        self.suspected.extend(&failed);
        BreakerChange::Answered(failed.into_iter().collect())
    }

    /// A token is removed, or is not asked about any more.
    pub(super) fn forget(&mut self, token: u32) {
        self.failed.remove(&token);
        let sets = [
            &mut self.unproven,
            &mut self.failed_logins,
            &mut self.outdated,
            &mut self.suspected,
            &mut self.own_failures,
        ];
        for set in sets {
            set.remove(&token);
        }
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

    /// A failure of a request that was started after every response so far.
    fn fail(breaker: &mut CircuitBreaker, token: u32, asked: usize) -> BreakerChange {
        let serial = breaker.responded_at + 1;
        let failure = CheckFailure {
            token,
            serial,
            is_probe: breaker.is_open(),
            is_proven: true,
            is_asked: true,
            asked,
        };
        breaker.on_failure(failure, at(0), second)
    }

    fn respond(breaker: &mut CircuitBreaker, token: u32) -> BreakerChange {
        let serial = breaker.responded_at + 1;
        breaker.on_response(token, serial)
    }

    fn opened() -> CircuitBreaker {
        let mut breaker = CircuitBreaker::default();
        (0..3).for_each(|token| drop(fail(&mut breaker, token, 10)));
        assert!(breaker.is_open());
        breaker
    }

    #[test]
    fn three_distinct_tokens_open_it() {
        let mut breaker = CircuitBreaker::default();
        let changes = [7, 7, 8, 8, 9].map(|token| fail(&mut breaker, token, 10));
        assert_eq!(
            changes.map(|change| change == BreakerChange::Opened),
            [false, false, false, false, true]
        );
    }

    #[test]
    fn a_server_with_fewer_tokens_that_are_asked_about_needs_all_of_these() {
        assert_eq!(fail(&mut CircuitBreaker::default(), 7, 1), BreakerChange::Opened);
        assert_eq!(fail(&mut CircuitBreaker::default(), 7, 0), BreakerChange::Opened, "a login");
        assert_eq!(fail(&mut CircuitBreaker::default(), 7, 2), BreakerChange::None);
    }

    #[test]
    fn a_response_between_restarts_the_count() {
        let mut breaker = CircuitBreaker::default();
        fail(&mut breaker, 1, 10);
        fail(&mut breaker, 2, 10);
        assert_eq!(respond(&mut breaker, 5), BreakerChange::Answered(vec![1, 2]));
        assert_eq!(fail(&mut breaker, 3, 10), BreakerChange::None);
    }

    #[test]
    fn requests_started_before_the_last_response_do_not_open_it() {
        let mut breaker = CircuitBreaker::default();
        breaker.on_response(9, 20);
        for token in 0..5 {
            let failure = CheckFailure {
                token,
                serial: 20,
                is_probe: false,
                is_proven: true,
                is_asked: true,
                asked: 10,
            };
            assert_eq!(breaker.on_failure(failure, at(0), second), BreakerChange::None);
        }
        assert!(!breaker.has_own_failures(0), "there was no response since it failed");
        assert_eq!([0, 1, 2].map(|token| fail(&mut breaker, token, 10))[2], BreakerChange::Opened);
    }

    #[test]
    fn tokens_that_fail_again_after_a_response_to_another_have_trouble_of_their_own() {
        let mut breaker = CircuitBreaker::default();
        for _ in 0..5 {
            for token in 0..5 {
                fail(&mut breaker, token, 10);
            }
            respond(&mut breaker, 9);
        }
        assert!((0..5).all(|token| breaker.has_own_failures(token)));
        assert!((0..5).all(|token| fail(&mut breaker, token, 10) == BreakerChange::None));
        respond(&mut breaker, 0);
        assert!(!breaker.has_own_failures(0) && breaker.has_own_failures(1));
    }

    #[test]
    fn where_all_others_have_trouble_of_their_own_the_failure_of_the_last_one_opens_it() {
        let mut breaker = CircuitBreaker::default();
        for _ in 0..2 {
            fail(&mut breaker, 1, 2);
            respond(&mut breaker, 2);
        }
        assert!(fail(&mut breaker, 1, 2) == BreakerChange::None && breaker.has_own_failures(1));
        assert_eq!(fail(&mut breaker, 2, 2), BreakerChange::Opened);
    }

    #[test]
    fn tokens_that_never_had_a_response_say_little_about_a_server_that_answers_others() {
        let mut breaker = CircuitBreaker::default();
        respond(&mut breaker, 0);
        let mut fail = |token| {
            let (serial, asked) = (breaker.responded_at + 1, 1_000);
            let failure = CheckFailure {
                token,
                serial,
                is_probe: false,
                is_proven: false,
                is_asked: true,
                asked,
            };
            breaker.on_failure(failure, at(0), second)
        };
        assert!((1..64).all(|token| fail(token) == BreakerChange::None));
        assert_eq!(fail(64), BreakerChange::Opened);
    }

    #[test]
    fn failed_logins_do_not_open_it_while_other_tokens_are_asked_about() {
        for (asked, change) in [(1, BreakerChange::None), (0, BreakerChange::Opened)] {
            let mut breaker = CircuitBreaker::default();
            let failure = CheckFailure {
                token: 7,
                serial: 1,
                is_probe: false,
                is_proven: true,
                is_asked: false,
                asked,
            };
            assert_eq!(breaker.on_failure(failure, at(0), second), change, "{asked}");
        }
    }

    #[test]
    fn where_only_tokens_with_trouble_of_their_own_are_left_their_failure_opens_it() {
        let mut breaker = CircuitBreaker::default();
        for _ in 0..2 {
            (1..3).for_each(|token| drop(fail(&mut breaker, token, 9)));
            respond(&mut breaker, 3);
        }
        assert_eq!(fail(&mut breaker, 1, 9), BreakerChange::None);
        assert_eq!(fail(&mut breaker, 1, 2), BreakerChange::Opened, "the others are gone");
        assert!(!breaker.has_own_failures(2));
    }

    #[test]
    fn a_probe_that_nothing_comes_of_keeps_the_gap_to_the_next_one() {
        let mut breaker = opened();
        breaker.on_request(4, at(1_000));
        breaker.on_probe_cancelled();
        assert_eq!(breaker.opens_at(), Some(at(1_200)));
    }

    #[test]
    fn open_it_lets_one_probe_through_at_a_time() {
        let mut breaker = opened();
        assert_eq!(breaker.opens_at(), Some(at(1_000)));
        assert!(breaker.on_request(4, at(0)));
        assert_eq!(breaker.opens_at(), None);
        fail(&mut breaker, 4, 10);
        assert_eq!(breaker.opens_at(), Some(at(1_000)));
        assert!(breaker.has_failed(4) && !breaker.has_failed(5));
    }

    #[test]
    fn probes_come_between_five_times_a_second_and_once_in_five_seconds() {
        for (gap, next) in [(0, 200), (3_600_000, 5_000)] {
            let mut breaker = opened();
            breaker.on_request(0, at(0));
            let failure = CheckFailure {
                token: 0,
                serial: 9,
                is_probe: true,
                is_proven: true,
                is_asked: true,
                asked: 10,
            };
            breaker.on_failure(failure, at(0), |_| Duration::from_millis(gap));
            assert_eq!(breaker.opens_at(), Some(at(next)));
        }
    }

    #[test]
    fn an_expiry_that_is_near_brings_the_next_probe_forward() {
        let mut breaker = opened();
        breaker.expedite(0, at(100), Duration::from_millis(400));
        assert_eq!(breaker.opens_at(), Some(at(500)));
        breaker.expedite(0, at(100), Duration::from_millis(10));
        assert_eq!(breaker.opens_at(), Some(at(200)));
    }

    #[test]
    fn a_token_that_has_not_failed_in_this_outage_is_probed_at_the_shortest_gap() {
        let mut breaker = opened();
        breaker.expedite(7, at(0), Duration::from_secs(60));
        assert_eq!(breaker.opens_at(), Some(at(200)));
    }

    #[test]
    fn the_quick_probes_of_an_outage_are_limited() {
        let mut breaker = opened();
        for token in 10..9 + u32::from(QUICK_PROBES) {
            assert!(breaker.is_quick());
            breaker.on_request(token, at(0));
            fail(&mut breaker, token, 1_000);
        }
        breaker.expedite(7, at(0), Duration::from_secs(60));
        assert_eq!(breaker.opens_at(), Some(at(1_000)));
    }

    #[test]
    fn responses_to_requests_from_before_do_not_count_as_probes() {
        let mut breaker = opened();
        breaker.on_request(4, at(0));
        let failure = CheckFailure {
            token: 5,
            serial: 9,
            is_probe: false,
            is_proven: true,
            is_asked: true,
            asked: 10,
        };
        breaker.on_failure(failure, at(1_200), second);
        assert_eq!(breaker.opens_at(), None);
    }

    #[test]
    fn any_response_closes_it() {
        assert_eq!(respond(&mut opened(), 9), BreakerChange::Closed);
    }
}
