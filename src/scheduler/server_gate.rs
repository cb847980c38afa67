//! Server gate: decides which waiting token may send a request to one server now.
//!
//! It combines the rate limit, the in-flight limit, the pause that the server asked for, and the
//! circuit breaker. Waiting tokens are admitted by urgency.

use std::num::NonZeroU32;
use std::time::Duration;

use super::circuit_breaker::CircuitBreaker;
use super::rate_limiter::RateLimiter;
use super::wait_queue::{WaitKey, WaitQueue};
use crate::time::Moment;

/// Limits of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Requests started in any second.
    pub rate_limit: NonZeroU32,
    /// Requests in flight at once.
    pub max_in_flight: NonZeroU32,
}

/// A longer pause is reported to the tokens only if it is longer by this much. An overloaded server
/// asks each request for a pause, and reporting one examines all tokens of the server. A token that
/// expires in between has its own deadline warning.
const RENOTIFY: Duration = Duration::from_secs(1);

/// How many waiting tokens are considered for a probe, most urgent first. An outage has far fewer
/// probes.
const PROBE_CANDIDATES: usize = 4_096;

/// The gate of one server.
#[derive(Debug)]
pub(super) struct ServerGate {
    limits: ServerLimits,
    in_flight: u32,
    rate_limiter: RateLimiter,
    throttled_until: Moment,
    /// The end of the pause that was reported to the tokens.
    notified_until: Moment,
    waiting: WaitQueue,
    pub(super) breaker: CircuitBreaker,
}

impl ServerGate {
    pub(super) fn new(limits: ServerLimits) -> Self {
        Self {
            limits,
            in_flight: 0,
            rate_limiter: RateLimiter::new(limits.rate_limit),
            throttled_until: Moment::default(),
            notified_until: Moment::default(),
            waiting: WaitQueue::default(),
            breaker: CircuitBreaker::default(),
        }
    }

    pub(super) fn set_limits(&mut self, limits: ServerLimits) {
        self.limits = limits;
        self.rate_limiter.set_rate_limit(limits.rate_limit);
    }

    /// Adds a waiting token, which must be tried within `max_retry_pause`.
    pub(super) fn wait(&mut self, waiting: WaitKey, now: Moment, max_retry_pause: Duration) {
        self.waiting.add(waiting);
        self.breaker.expedite(waiting.1, now, max_retry_pause);
    }

    pub(super) fn leave(&mut self, waiting: WaitKey) {
        self.waiting.remove(waiting);
    }

    /// Allocated bytes of the wait queue, approximately.
    pub(super) fn footprint(&self) -> usize {
        self.waiting.footprint()
    }

    /// The server asks for a pause. Returns its end if the tokens have to be notified.
    pub(super) fn throttle(&mut self, now: Moment, wish: Duration) -> Option<Moment> {
        self.throttled_until = self.throttled_until.max(now + wish);
        if self.notified_until + RENOTIFY > self.throttled_until {
            return None;
        }
        self.notified_until = self.throttled_until;
        Some(self.throttled_until)
    }

    /// Until when the server has asked for a pause.
    pub(super) const fn throttled_until(&self) -> Moment {
        self.throttled_until
    }

    /// A request has finished.
    pub(super) fn on_request_finished(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// A request has started.
    pub(super) fn on_request_started(&mut self, now: Moment) {
        self.in_flight += 1;
        self.waiting.commit_pop();
        self.rate_limiter.on_request(now);
    }

    /// Waiting tokens with a future expiry.
    pub(super) fn urgent(&self, now: Moment) -> impl Iterator<Item = u32> {
        self.waiting.urgent(now).map(|(_, id)| id)
    }

    /// Closes the circuit breaker if nothing would be sent that could close it. Returns whether it did.
    pub(super) fn close_if_untried(&mut self) -> bool {
        self.waiting.is_empty() && self.breaker.close_without_failures()
    }

    /// When the next waiting token is admitted; `None` if none waits, or a request has to finish
    /// first.
    pub(super) fn opens_at(&self) -> Option<Moment> {
        if self.waiting.is_empty() || self.in_flight >= self.limits.max_in_flight.get() {
            return None;
        }
        let paced = self.rate_limiter.opens_at();
        Some(self.breaker.opens_at()?.max(self.throttled_until).max(paced))
    }

    /// Removes and returns the next token that may send a request. `logs_in` tells whether a token
    /// waits to log in.
    pub(super) fn admit(
        &mut self,
        now: Moment,
        chance: &mut fastrand::Rng,
        logs_in: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        if self.opens_at()? > now {
            return None;
        }
        if !self.breaker.is_open() {
            return self.waiting.pop(now);
        }
        let probe = self.next_probe(now, chance, logs_in)?;
        self.waiting.remove(probe);
        Some(probe.1)
    }

    /// The best token for the next probe: checks before logins, then tokens that have not failed in
    /// this outage, then those not probed in this round. Every second time a random token is tried
    /// first, so that many failing tokens do not precede all others by their ids.
    fn next_probe(
        &self,
        now: Moment,
        chance: &mut fastrand::Rng,
        logs_in: impl Fn(u32) -> bool,
    ) -> Option<WaitKey> {
        const BEST: (bool, bool, bool) = (false, false, false);
        let rank = |(_, id): &WaitKey| {
            (logs_in(*id), self.breaker.has_failed(*id), self.breaker.has_probed(*id))
        };
        let drawn = if chance.bool() { self.waiting.draw(chance) } else { None };
        if let Some(drawn) = drawn.filter(|drawn| rank(drawn) == BEST) {
            return Some(drawn);
        }
        let mut best = None;
        for waiting in self.waiting.by_urgency(now).take(PROBE_CANDIDATES) {
            let rank = rank(&waiting);
            if rank == BEST {
                return Some(waiting);
            }
            if best.is_none_or(|(ranked, _)| rank < ranked) {
                best = Some((rank, waiting));
            }
        }
        best.map(|(_, waiting)| waiting)
    }

    /// Whether a token waits that has not failed in this outage.
    pub(super) fn has_untried(&self, now: Moment) -> bool {
        let mut waiting = self.waiting.by_urgency(now).take(PROBE_CANDIDATES);
        waiting.any(|(_, id)| !self.breaker.has_failed(id))
    }

    /// Requests in flight.
    pub(super) const fn in_flight(&self) -> u32 {
        self.in_flight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(300);

    fn gate(rate_limit: u32, max_in_flight: u32) -> ServerGate {
        ServerGate::new(ServerLimits {
            rate_limit: NonZeroU32::new(rate_limit).unwrap(),
            max_in_flight: NonZeroU32::new(max_in_flight).unwrap(),
        })
    }

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    fn admit(gate: &mut ServerGate, now: Moment) -> Option<u32> {
        let id = gate.admit(now, &mut fastrand::Rng::with_seed(7), |_| false)?;
        gate.on_request_started(now);
        Some(id)
    }

    #[test]
    fn future_expiries_go_first_then_unknown_ones_then_past_ones() {
        let mut gate = gate(1_000, 10);
        for waiting in [(at(50), 1), (at(900), 2), (Moment::NEVER, 3), (at(300), 4), (at(20), 5)] {
            gate.wait(waiting, at(100), PATIENCE);
        }
        let order: Vec<_> =
            (0..5).map(|tick| admit(&mut gate, at(100 + 10 * tick)).unwrap()).collect();
        assert_eq!(order, [4, 2, 3, 5, 1]);
    }

    #[test]
    fn only_pauses_that_are_longer_are_reported() {
        let mut gate = gate(1_000, 10);
        let second = Duration::from_secs(1);
        let told = [0, 400, 999, 1_000, 1_500].map(|now| gate.throttle(at(now), 60 * second));
        assert_eq!(told, [Some(at(60_000)), None, None, Some(at(61_000)), None]);
        assert_eq!(gate.throttled_until(), at(61_500));
    }

    #[test]
    fn no_second_exceeds_the_rate_limit() {
        for rate in [1, 7, 50, 500, 5_000] {
            let mut gate = gate(rate, u32::MAX);
            for id in 0..20_000 {
                gate.wait((Moment::NEVER, id), at(0), PATIENCE);
            }
            let mut starts = Vec::new();
            for now in (0..3_000).map(at) {
                while admit(&mut gate, now).is_some() {
                    starts.push(now);
                }
            }
            for (i, start) in starts.iter().enumerate() {
                let end = *start + Duration::from_secs(1);
                let in_second = starts[i..].iter().take_while(|later| **later < end).count();
                assert!(in_second <= rate as usize, "{in_second} in a second at {rate}/s");
            }
            assert!(starts.len() * 100 >= rate as usize * 3 * 95, "{} at {rate}/s", starts.len());
        }
    }

    #[test]
    fn requests_in_flight_stay_within_the_limit() {
        let mut gate = gate(1_000, 2);
        (0..5).for_each(|id| gate.wait((Moment::NEVER, id), at(0), PATIENCE));
        assert!(admit(&mut gate, at(0)).is_some() && admit(&mut gate, at(10)).is_some());
        assert_eq!(gate.opens_at(), None);
        gate.on_request_finished();
        assert!(admit(&mut gate, at(20)).is_some());
        assert!(admit(&mut gate, at(30)).is_none());
    }

    #[test]
    fn pause_applies_to_every_token_and_is_never_shortened() {
        let mut gate = gate(1_000, 2);
        gate.wait((at(500), 1), at(0), PATIENCE);
        gate.throttle(at(0), Duration::from_secs(3));
        gate.throttle(at(10), Duration::from_secs(1));
        assert_eq!(gate.opens_at(), Some(at(3_000)));
        assert_eq!(admit(&mut gate, at(2_999)), None);
        assert_eq!(admit(&mut gate, at(3_000)), Some(1));
    }
}
