//! Circuit breaker of one server: a server that is down is probed with single requests.
//!
//! It opens after failures of [`FAILURES_TO_OPEN`] distinct tokens (all that are being checked, if
//! fewer) without a response in between. Once the server has responded to any token, only failures
//! of tokens that had a response before count: the others may be what is wrong. While open, it
//! admits one probe at a time, and tokens that have not failed in this outage first, to find out
//! whether only some tokens fail. It closes at the first conclusive response.
//!
//! A token that fails, is retried after a response to another token, and fails again has failures
//! of its own. Such a token says nothing about the server until it has a response.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::time::Moment;

/// Distinct tokens that must fail without a response in between.
const FAILURES_TO_OPEN: usize = 3;

/// How many more must fail for each token with failures of its own. Where many have them, many more
/// may get them one after the other, and that is no outage.
const MORE_FOR_EACH_WITH_OWN_FAILURES: usize = 2;

/// This many failing tokens in a row open it whatever is known of them: a server that has responded
/// to one token and fails for all others must not be flooded.
const FAILURES_OF_ANY_TO_OPEN: usize = 64;

/// The shortest gap between two probes: at most five per second.
const SHORTEST_GAP: Duration = Duration::from_millis(200);

/// The longest gap between two probes: a recovery is noticed within this time.
pub(super) const LONGEST_GAP: Duration = Duration::from_secs(5);

/// Probes at the shortest gap while tokens wait that have not failed in this outage. Enough to find
/// a few healthy tokens among hundreds that fail, and at most 20 s of that pace on a server that is
/// down.
const QUICK_PROBES: u16 = 100;

/// One server's circuit breaker.
#[derive(Debug, Default)]
pub(super) struct CircuitBreaker {
    outage: Option<Outage>,
    /// Tokens with a request that started and failed since the last response.
    failed: BTreeSet<u32>,
    /// The same for tokens that never had a response, on a server that has responded to others.
    unproven: BTreeSet<u32>,
    /// Tokens whose login failed since the last response, while others are being checked. They are
    /// probed last.
    failed_logins: BTreeSet<u32>,
    /// Tokens with a request that started before the last response and failed after it. They say
    /// nothing about the time since.
    outdated: BTreeSet<u32>,
    /// Tokens that failed before the last response and had none since.
    suspected: BTreeSet<u32>,
    /// Tokens that failed again after a response to another token.
    own_failures: BTreeSet<u32>,
    /// Serial number of the last action that started before the last response.
    responded_at: u64,
    has_responded: bool,
}

/// State while the server is down.
#[derive(Debug)]
struct Outage {
    /// Failed probes in a row.
    failures: u16,
    is_probing: bool,
    /// When the next probe may start.
    next_probe: Moment,
    /// The end of the shortest gap after the last probe.
    earliest_probe: Moment,
    /// Tokens that were probed in this round.
    probed: BTreeSet<u32>,
}

/// What the result of a request changed in the breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BreakerChange {
    /// Nothing.
    None,
    /// It opened.
    Opened,
    /// It closed.
    Closed,
    /// It was closed, and these tokens failed before: they can be retried now.
    RetryFailed(Vec<u32>),
}

/// A request that found the server unavailable.
#[derive(Debug, Clone, Copy)]
pub(super) struct CheckFailure {
    /// The token of the request.
    pub(super) token: u32,
    /// Serial number of the action.
    pub(super) serial: u64,
    /// The request was a probe.
    pub(super) is_probe: bool,
    /// The token had a response before.
    pub(super) is_proven: bool,
    /// The token is being checked; otherwise it logs in.
    pub(super) is_asked: bool,
    /// How many of the server's tokens are being checked.
    pub(super) asked: usize,
}

impl CircuitBreaker {
    pub(super) fn is_open(&self) -> bool {
        self.outage.is_some()
    }

    /// Whether a token has failed since the last response.
    pub(super) fn is_suspected(&self) -> bool {
        !self.failed.is_empty() || !self.unproven.is_empty()
    }

    /// Closes it if it is open, no probe is in flight, and no token is left that has failed. Returns
    /// whether it did.
    pub(super) fn close_without_failures(&mut self) -> bool {
        let is_idle = !self.is_probing() && !self.is_suspected();
        is_idle && self.outage.take().is_some()
    }

    /// Whether the server has responded to no token since this one started to fail. Then the server
    /// may be the cause.
    pub(super) fn is_in_doubt(&self, token: u32) -> bool {
        self.is_open() || self.failed.contains(&token) || self.unproven.contains(&token)
    }

    /// Whether the token fails and the server does not.
    pub(super) fn has_own_failures(&self, token: u32) -> bool {
        self.own_failures.contains(&token)
    }

    /// Whether a probe is in flight.
    pub(super) fn is_probing(&self) -> bool {
        self.outage.as_ref().is_some_and(|outage| outage.is_probing)
    }

    /// When the breaker admits a request; `None` while a probe is in flight.
    pub(super) fn opens_at(&self) -> Option<Moment> {
        match &self.outage {
            None => Some(Moment::default()),
            Some(outage) if outage.is_probing => None,
            Some(outage) => Some(outage.next_probe),
        }
    }

    /// When the next probe may start; `None` while closed.
    pub(super) fn next_probe(&self) -> Option<Moment> {
        self.outage.as_ref().map(|outage| outage.next_probe)
    }

    /// A token waits that must be tried within `limit` of `now`; at the shortest gap if it has not
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

    /// Whether the token failed in this outage, or has failures of its own.
    pub(super) fn has_failed(&self, token: u32) -> bool {
        let sets = [&self.failed, &self.unproven, &self.failed_logins, &self.own_failures];
        sets.iter().any(|set| set.contains(&token))
    }

    /// Whether the token was probed in this round.
    pub(super) fn has_probed(&self, token: u32) -> bool {
        self.outage.as_ref().is_some_and(|outage| outage.probed.contains(&token))
    }

    /// Whether tokens that have not failed in this outage are still probed at the shortest gap.
    pub(super) fn is_quick(&self) -> bool {
        self.outage.as_ref().is_some_and(|outage| outage.failures < QUICK_PROBES)
    }

    /// A request for a token starts. Returns whether it is a probe.
    pub(super) fn on_request(&mut self, token: u32, now: Moment) -> bool {
        let Some(outage) = &mut self.outage else { return false };
        outage.is_probing = true;
        // If the probe is cancelled, the next one still keeps the gap.
        outage.earliest_probe = now + SHORTEST_GAP;
        outage.next_probe = outage.earliest_probe;
        if !outage.probed.insert(token) {
            // Every waiting token was probed: the next round starts.
            outage.probed = BTreeSet::from([token]);
        }
        true
    }

    /// A probe ended without a result about the server.
    pub(super) fn on_probe_cancelled(&mut self) {
        if let Some(outage) = &mut self.outage {
            outage.is_probing = false;
        }
    }

    /// A request found the server unavailable. `gap` returns the pause after a number of failed
    /// probes in a row.
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
        // A failed login says little about a server that has checks to respond to.
        if !is_asked && asked > 0 {
            self.failed_logins.insert(token);
            return BreakerChange::None;
        }
        if self.own_failures.contains(&token) {
            if self.own_failures.len() < asked {
                return BreakerChange::None;
            }
            // No token is left that could get a response: that is an ordinary outage.
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

    /// The server responded to a request, whatever the response. `serial` is that of the last
    /// started action.
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
        BreakerChange::RetryFailed(failed.into_iter().collect())
    }

    /// A token is removed, or is no longer checked.
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
mod tests;
