//! A scripted server: expiry of each value, which call renews, what is reported, and which errors
//! occur.

use std::time::Duration;

use super::world::{START, expired, ms, rejected, timed_out};
use crate::lifecycle::{Method, Slot};
use crate::outcome::Outcome;
use crate::time::{Moment, whole_millis};

/// Which calls renew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renews {
    Query,
    Renew,
    Neither,
}

/// Which remaining life a renewing call reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reports {
    /// After the renewal.
    After,
    /// Before the renewal.
    Before,
}

/// A server with at most two values: those in the token's slots.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) life: Duration,
    pub(super) renews: Renews,
    pub(super) reports: Reports,
    /// From the request to the server's work, and from there to the response.
    pub(super) latency: (Duration, Duration),
    /// `Remaining` is reported in whole seconds, rounded down.
    pub(super) whole_seconds: bool,
    /// The outcome with which the renewing call is refused, if it is.
    pub(super) refuses_renewal: Option<fn() -> Outcome>,
    /// When the value in each slot expires; `None`: unknown to the server.
    pub(super) dies_at: [Option<Moment>; 2],
    /// Beyond this no call renews.
    pub(super) limit: Option<Moment>,
    /// No request gets through during this time.
    pub(super) outage: Option<(Moment, Moment)>,
    /// Calls during this time are executed, but their responses are lost.
    pub(super) loses_answers: Option<(Moment, Moment)>,
    /// Until then, another client renews every value right before each call.
    pub(super) other_client_until: Moment,
    /// Every call, with its method.
    pub(super) calls: Vec<(Moment, Method)>,
}

impl Server {
    /// A server where the current value has its full life at the start.
    pub(super) fn new(renews: Renews, reports: Reports, life: Duration) -> Self {
        Self {
            life,
            renews,
            reports,
            latency: (ms(5), ms(5)),
            whole_seconds: false,
            refuses_renewal: None,
            dies_at: [Some(START + life), None],
            limit: None,
            outage: None,
            loses_answers: None,
            other_client_until: Moment::default(),
            calls: Vec::new(),
        }
    }

    pub(super) fn in_whole_seconds(mut self) -> Self {
        self.whole_seconds = true;
        self
    }

    /// When the value in `slot` expires.
    pub(super) fn death(&self, slot: Slot) -> Option<Moment> {
        self.dies_at[index(slot)]
    }

    /// Gives the value in `slot` a full life from `now`.
    pub(super) fn log_in(&mut self, slot: Slot, now: Moment) {
        self.dies_at[index(slot)] = Some(now + self.life);
    }

    /// Executes one call. Returns when it finished, and the outcome.
    pub(super) fn ask(
        &mut self,
        method: Method,
        slot: Slot,
        sent: Moment,
        timeout: Duration,
    ) -> (Moment, Outcome) {
        self.calls.push((sent, method));
        let (there, back) = self.latency;
        if within(self.outage, sent) {
            return (sent, timed_out());
        }
        let outcome = self.work(method, slot, sent + there);
        if there + back > timeout || within(self.loses_answers, sent) {
            return (sent + timeout, timed_out());
        }
        (sent + there + back, outcome)
    }

    fn work(&mut self, method: Method, slot: Slot, now: Moment) -> Outcome {
        let Some(dies_at) = self.dies_at[index(slot)] else { return rejected() };
        if dies_at <= now {
            return expired();
        }
        if method == Method::Renew
            && let Some(refusal) = self.refuses_renewal
        {
            return refusal();
        }
        let dies_at = if now < self.other_client_until { now + self.life } else { dies_at };
        let renewed = match self.renews {
            Renews::Query => method == Method::Query,
            Renews::Renew => method == Method::Renew,
            Renews::Neither => false,
        };
        let after = if renewed { now + self.life } else { dies_at };
        let after = self.limit.map_or(after, |limit| after.min(limit));
        self.dies_at[index(slot)] = Some(after);
        let reported = match self.reports {
            Reports::After => after,
            Reports::Before => dies_at,
        };
        let remaining = whole_millis(reported.since(now));
        let unit = if self.whole_seconds { 1_000 } else { 1 };
        Outcome::Alive { remaining: ms(remaining / unit * unit) }
    }
}

const fn index(slot: Slot) -> usize {
    match slot {
        Slot::A => 0,
        Slot::B => 1,
    }
}

fn within(span: Option<(Moment, Moment)>, at: Moment) -> bool {
    span.is_some_and(|(from, to)| from <= at && at < to)
}
