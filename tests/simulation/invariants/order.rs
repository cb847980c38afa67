//! Invariant 5: after a recovery the most urgent go first, and none is missed that the rate
//! limit would have allowed. Among them, one in four may be one of which nothing is known, or whose expiry has passed.

use std::collections::{BTreeSet, HashMap};

use super::{Invariant, Violation};
use crate::chance::{Ms, SECOND};

/// Those that waited when a server recovered, and have not been asked about since.
#[derive(Debug)]
struct Queue {
    since: Ms,
    /// By expiry; those without one are not among the urgent.
    waiting: BTreeSet<(Ms, usize)>,
    expiries: HashMap<usize, Ms>,
    /// Requests that have started since.
    started: u64,
    /// Requests since one about a token without an expiry ahead.
    since_unknown: u64,
    /// Places in flight, another outage or a wish for quiet held the server's requests back.
    held_back: bool,
}

/// The books of recoveries, by server.
#[derive(Debug)]
pub(crate) struct Order(Vec<Option<Queue>>);

/// One of so many requests may be about a token without an expiry ahead.
const UNKNOWN: u64 = 4;

/// Requests that the rate limit may be behind an even pace: it counts in milliseconds.
const PACE_SLACK: u64 = 3;

impl Order {
    pub(super) fn new(servers: usize) -> Self {
        Self((0..servers).map(|_| None).collect())
    }

    /// A server has recovered; these wait for it, with their expiries.
    pub(crate) fn recovered(
        &mut self,
        now: Ms,
        server: usize,
        waiting: impl Iterator<Item = (Ms, usize)>,
    ) {
        let waiting: BTreeSet<_> = waiting.filter(|(expiry, _)| *expiry > now).collect();
        let expiries = waiting.iter().map(|(expiry, subject)| (*subject, *expiry)).collect();
        let (started, since_unknown) = (0, UNKNOWN);
        let queue =
            Queue { since: now, waiting, expiries, started, since_unknown, held_back: false };
        self.0[server] = (!queue.waiting.is_empty()).then_some(queue);
    }

    /// A server is down again, or wants quiet, or the world around it has changed.
    pub(crate) fn held_back(&mut self, server: usize) {
        if let Some(queue) = &mut self.0[server] {
            queue.held_back = true;
        }
    }

    /// Nothing is owed any more.
    pub(crate) fn forget(&mut self, server: usize) {
        self.0[server] = None;
    }

    /// A token does not wait any more, for another reason than a request.
    pub(crate) fn left(&mut self, server: usize, subject: usize) {
        if let Some(queue) = &mut self.0[server]
            && let Some(expiry) = queue.expiries.remove(&subject)
        {
            queue.waiting.remove(&(expiry, subject));
        }
    }

    /// A request about a token that lives until `expiry` starts at a server that allows so
    /// many a second.
    pub(crate) fn started(
        &mut self,
        now: Ms,
        (server, rate): (usize, u64),
        subject: usize,
        expiry: Option<Ms>,
    ) -> Result<(), Violation> {
        let Some(queue) = &mut self.0[server] else { return Ok(()) };
        let broken =
            |what: String| Err(Violation { invariant: Invariant::UrgentFirst, at: now, what });
        while let Some((expiry, missed)) = queue.waiting.first().copied()
            && expiry <= now
        {
            queue.waiting.pop_first();
            queue.expiries.remove(&missed);
            let allowed = ((expiry - queue.since) * rate / SECOND).saturating_sub(PACE_SLACK);
            if !queue.held_back && queue.started * 100 < allowed * 95 {
                let started = queue.started;
                return broken(format!(
                    "token {missed} was not asked about before its bound, although only \
                     {started} requests of {allowed} had started since server {server} recovered"
                ));
            }
        }
        queue.started += 1;
        if let Some(waited) = queue.expiries.remove(&subject) {
            queue.waiting.remove(&(waited, subject));
        }
        let Some((urgent, first)) = queue.waiting.first().copied() else {
            self.0[server] = None;
            return Ok(());
        };
        queue.since_unknown += 1;
        if expiry.is_none_or(|expiry| expiry <= now) && queue.since_unknown >= UNKNOWN {
            queue.since_unknown = 0;
        } else if expiry.is_none_or(|expiry| expiry <= now || expiry > urgent) {
            return broken(format!(
                "token {subject} ({}) went before token {first}, which lives until {urgent} ms",
                expiry.map_or("not urgent".to_owned(), |expiry| format!("until {expiry} ms"))
            ));
        }
        Ok(())
    }
}
