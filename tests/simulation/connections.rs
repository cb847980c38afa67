//! Connections to one server, as the HTTP adapter promises to use them.
//!
//! The contract of the adapter, which the tests of the real one prove (see `docs/development/simulation.md`):
//! a pooled request takes a connection that an earlier one has left open, or opens one; a fresh
//! request always opens one, which serves no other request. A request with `OpenedAfter` is pooled if
//! the pool was opened after that moment, else fresh. A query whose reused connection ends before the
//! first byte of a response is resent once on a fresh connection. A pool is retired when a fresh connection gets a conclusion where a pooled one did not, or finds a token alive
//! where a pooled one denied one. A connection is used for at
//! most ten minutes, and an idle one is kept for one. With HTTP/1.1 a connection serves one
//! request at a time and ends when a request on it is given up; with HTTP/2 all pooled requests
//! share one connection, which a request that is given up leaves as it is.

use tokenkeep::outcome::{Connection, Outcome};

use crate::chance::{Chance, MINUTE, Ms};

/// How long an idle connection is kept.
const LONGEST_IDLE: Ms = MINUTE;

/// How long any connection is used.
const LONGEST_USE: Ms = 10 * MINUTE;

/// What is wrong with the connections that were open at some moment. New ones are well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sickness {
    /// They swallow every request: a firewall has lost its state.
    Silent,
    /// They lead to a proxy without a server behind it, which answers 503 at once.
    Unavailable,
    /// They lead to a server under maintenance (500).
    Maintenance,
    /// They lead to something else, which answers nonsense.
    Garbled,
    /// They lead to another backend, which knows none of the tokens (401).
    Misrouted,
}

/// What the responses on pooled connections were like so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    None,
    /// A token was denied (401).
    Denied,
    /// A request came to no conclusion.
    Failed,
}

/// An open connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    since: Ms,
    idle_since: Ms,
}

/// The connection of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    open: Open,
    /// The pool's number, where the connection belongs to it.
    pool: Option<u32>,
    /// Another request has used it before.
    pub(crate) reused: bool,
}

/// The connections to one server.
#[derive(Debug)]
pub(crate) struct Connections {
    chance: Chance,
    http2: bool,
    /// Counts the pools.
    pool: u32,
    /// When the pool became the current one.
    pool_since: Ms,
    /// Those of the pool that nobody uses; with HTTP/2 the one that everybody does.
    idle: Vec<Open>,
    doubt: Doubt,
    outbreaks: Vec<(Ms, Sickness)>,
    /// Until then the server ends idle connections just as they are used again.
    races_until: Ms,
}

impl Connections {
    pub(crate) fn new(mut chance: Chance) -> Self {
        let http2 = chance.odds(0.4);
        Self {
            chance,
            http2,
            pool: 0,
            pool_since: 0,
            idle: Vec::new(),
            doubt: Doubt::None,
            outbreaks: Vec::new(),
            races_until: 0,
        }
    }

    /// The connections that are open now are sick from now on.
    pub(crate) fn fall_sick(&mut self, now: Ms, sickness: Sickness) {
        self.outbreaks.retain(|(at, _)| at + LONGEST_USE > now);
        self.outbreaks.push((now, sickness));
    }

    pub(crate) fn race(&mut self, until: Ms) {
        self.races_until = self.races_until.max(until);
    }

    /// The daemon is another one, and opens its own.
    pub(crate) fn restarted(&mut self, now: Ms) {
        self.retire(now);
    }

    /// The connection that a request gets.
    pub(crate) fn take(&mut self, now: Ms, wanted: Connection) -> Used {
        let new = Open { since: now, idle_since: now };
        let is_fresh = match wanted {
            Connection::Fresh => true,
            Connection::OpenedAfter(moment) => self.pool_since <= moment.as_millis(),
            Connection::Pooled => false,
        };
        if is_fresh {
            return Used { open: new, pool: None, reused: false };
        }
        self.idle
            .retain(|open| now < open.since + LONGEST_USE && now < open.idle_since + LONGEST_IDLE);
        let pool = Some(self.pool);
        if self.idle.is_empty() {
            if self.http2 {
                self.idle.push(new);
            }
            return Used { open: new, pool, reused: false };
        }
        let open = if self.http2 {
            self.idle[0].idle_since = now;
            self.idle[0]
        } else {
            let index = self.chance.index(self.idle.len());
            self.idle.swap_remove(index)
        };
        Used { open, pool, reused: true }
    }

    /// Whether the server ends this reused connection as the request arrives.
    pub(crate) fn is_lost_to_a_race(&mut self, used: Used, now: Ms) -> bool {
        used.reused && now < self.races_until && self.chance.odds(0.3)
    }

    /// A connection has ended.
    pub(crate) fn lost(&mut self) {
        if self.http2 {
            self.idle.clear();
        }
    }

    /// What is wrong with a connection.
    pub(crate) fn sickness(&self, used: Used, now: Ms) -> Option<Sickness> {
        let ails = |(at, _): &&(Ms, Sickness)| used.open.since <= *at && *at <= now;
        used.pool?;
        self.outbreaks.iter().rev().find(ails).map(|(_, sickness)| *sickness)
    }

    /// A request has ended with this outcome: `responded` tells whether with a response.
    pub(crate) fn give_back(&mut self, now: Ms, used: Used, responded: bool, outcome: &Outcome) {
        match used.pool {
            Some(pool) if pool == self.pool => {
                self.doubt = self.doubt.max(match outcome {
                    Outcome::Unavailable(_) | Outcome::Misconfigured(_) => Doubt::Failed,
                    Outcome::Rejected(_) => Doubt::Denied,
                    Outcome::Alive { .. } | Outcome::Expired(_) | Outcome::Throttled { .. } => {
                        Doubt::None
                    }
                });
                if !self.http2 && responded {
                    self.idle.push(Open { idle_since: now, ..used.open });
                }
            }
            Some(_) => {}
            None => {
                let contradicted = match outcome {
                    Outcome::Alive { .. } => Doubt::Denied,
                    Outcome::Expired(_) | Outcome::Rejected(_) => Doubt::Failed,
                    Outcome::Unavailable(_)
                    | Outcome::Misconfigured(_)
                    | Outcome::Throttled { .. } => return,
                };
                if self.doubt >= contradicted {
                    self.retire(now);
                }
            }
        }
    }

    fn retire(&mut self, now: Ms) {
        self.pool += 1;
        self.pool_since = now;
        self.idle.clear();
        self.doubt = Doubt::None;
    }
}
