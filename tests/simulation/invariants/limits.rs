//! Invariants 2 and 3: what a token and a server are spared.

use std::collections::VecDeque;

use tokenkeep::scheduler::ServerLimits;

use super::{Invariant, Violation};
use crate::chance::{MINUTE, Ms, SECOND};
use crate::plan::Plan;

/// The most requests for one token in any minute.
///
/// Two tries are planned at least 50 ms apart: twenty a second. Only the dozen that crowd into
/// the last 150 ms before an expiry come closer, and each expiry has a wait of 100 ms or more
/// before it, which makes up for them.
const MOST_IN_A_MINUTE: usize = 1_200;

/// The same for lives of a minute and more, which nothing hurries so: pauses double from
/// `retry_initial` with full jitter, so luck alone decides how many of them are short. More
/// than this means that they do not double; a hundred million checks saw a third of it.
const MOST_ON_LONGER_LIVES: usize = 600;

/// The books of one server.
#[derive(Debug)]
struct Account {
    limits: ServerLimits,
    in_flight: u32,
    /// When the last requests started, as many as one second may see.
    starts: VecDeque<Ms>,
    throttled_until: Ms,
    /// The times of quiet that it has asked for.
    quiet: Vec<(Ms, Ms)>,
}

/// The books of tokens and servers.
#[derive(Debug)]
pub(crate) struct LimitsWatch {
    /// The flight of each token.
    busy: Vec<Option<usize>>,
    /// When the requests of the last minute started, by token.
    asked: Vec<VecDeque<Ms>>,
    servers: Vec<Account>,
}

impl LimitsWatch {
    pub(super) fn new(plan: &Plan, subjects: usize) -> Self {
        let account = |limits| Account {
            limits,
            in_flight: 0,
            starts: VecDeque::new(),
            throttled_until: 0,
            quiet: Vec::new(),
        };
        Self {
            busy: vec![None; subjects],
            asked: vec![VecDeque::new(); subjects],
            servers: plan.servers.iter().map(|server| account(server.limits)).collect(),
        }
    }

    /// An effect starts; where it is a request, `server` is whose.
    pub(crate) fn started(
        &mut self,
        now: Ms,
        (subject, life): (usize, Ms),
        flight: usize,
        server: Option<usize>,
    ) -> Result<(), Violation> {
        let broken = |invariant, what| Err(Violation { invariant, at: now, what });
        if self.busy[subject].replace(flight).is_some() {
            let what = format!("a second effect for token {subject} while one is under way");
            return broken(Invariant::OneAtATime, what);
        }
        let Some(server) = server else { return Ok(()) };
        let asked = &mut self.asked[subject];
        asked.push_back(now);
        while asked.front().is_some_and(|first| first + MINUTE <= now) {
            asked.pop_front();
        }
        let most = if life < MINUTE { MOST_IN_A_MINUTE } else { MOST_ON_LONGER_LIVES };
        if asked.len() > most {
            let what = format!("{} requests for token {subject} within a minute", asked.len());
            return broken(Invariant::OneAtATime, what);
        }
        let account = &mut self.servers[server];
        if now < account.throttled_until {
            let left = account.throttled_until - now;
            let what = format!("server {server} is asked {left} ms before its Retry-After is over");
            return broken(Invariant::LimitsHold, what);
        }
        account.in_flight += 1;
        if account.in_flight > account.limits.max_in_flight.get() {
            let what = format!("{} requests in flight at server {server}", account.in_flight);
            return broken(Invariant::LimitsHold, what);
        }
        account.starts.push_back(now);
        while account.starts.front().is_some_and(|first| first + SECOND <= now) {
            account.starts.pop_front();
        }
        let rate = account.starts.len();
        if rate > usize::try_from(account.limits.rate_limit.get()).unwrap_or(usize::MAX) {
            let what = format!("{rate} requests to server {server} within a second");
            return broken(Invariant::LimitsHold, what);
        }
        Ok(())
    }

    /// A flight of this run is over.
    pub(crate) fn ended(&mut self, subject: usize, flight: usize, server: Option<usize>) {
        if self.busy[subject] == Some(flight) {
            self.busy[subject] = None;
        }
        if let Some(server) = server {
            let account = &mut self.servers[server];
            account.in_flight = account.in_flight.saturating_sub(1);
        }
    }

    /// How many requests for this token started in the last minute.
    pub(crate) fn in_a_minute(&self, subject: usize) -> usize {
        self.asked[subject].len()
    }

    pub(crate) fn is_full(&self, server: usize) -> bool {
        let account = &self.servers[server];
        account.in_flight >= account.limits.max_in_flight.get()
    }

    /// The server has asked for quiet.
    pub(crate) fn quiet(&mut self, server: usize, now: Ms, until: Ms) {
        let account = &mut self.servers[server];
        account.quiet.push((now, until));
        account.throttled_until = account.throttled_until.max(until);
    }

    /// The times of quiet that touch a span.
    pub(super) fn quiet_times(
        &self,
        server: usize,
        from: Ms,
        until: Ms,
    ) -> impl Iterator<Item = (Ms, Ms)> {
        let quiet = self.servers[server].quiet.iter().copied();
        quiet.filter(move |(start, end)| *start < until && *end > from)
    }

    pub(crate) fn throttled_until(&self, server: usize) -> Ms {
        self.servers[server].throttled_until
    }

    pub(crate) fn set_limits(&mut self, server: usize, limits: ServerLimits) {
        self.servers[server].limits = limits;
    }

    pub(super) fn renamed(&mut self, server: usize, plan: &Plan) {
        let limits = plan.servers[server].limits;
        let account = &mut self.servers[server];
        *account = Account {
            limits,
            in_flight: 0,
            starts: VecDeque::new(),
            throttled_until: 0,
            quiet: std::mem::take(&mut account.quiet),
        };
    }

    pub(crate) fn is_busy(&self, subject: usize) -> bool {
        self.busy[subject].is_some()
    }

    pub(crate) fn in_flight(&self, server: usize) -> u32 {
        self.servers[server].in_flight
    }

    pub(super) fn added(&mut self, subject: usize) {
        self.busy[subject] = None;
    }

    /// Connections end with the daemon, and what a server has asked for is forgotten.
    pub(super) fn restarted(&mut self, plan: &Plan) {
        self.busy.fill(None);
        for (account, server) in self.servers.iter_mut().zip(&plan.servers) {
            account.limits = server.limits;
            account.in_flight = 0;
            account.throttled_until = 0;
        }
    }
}
