//! What goes into the scheduler and what comes out of it.

use std::sync::Arc;

use crate::lifecycle::{Action, Method, Notice, Policy, State, Token};
use crate::outcome::CallError;
use crate::time::Moment;

/// One token's number in the scheduler; given anew once the token is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(pub(super) u32);

/// One server's number in the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub(super) u32);

impl TokenId {
    /// The number as a key for others to know the token by; see [`Scheduler::id_of`](super::Scheduler::id_of).
    pub const fn key(self) -> u32 {
        self.0
    }

    /// The number as an index: they are dense.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One way to new values, by its number in the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReauthId(pub(super) u32);

impl ReauthId {
    /// The number as an index: they are dense.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl ServerId {
    /// The number as an index: they are dense.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What an effect takes up while it is under way, to be given back with its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Whom the effect is for.
    pub token: TokenId,
    /// When it was due, if it is a check.
    pub due: Moment,
    /// Until when the token was known to live then.
    pub expiry: Option<Moment>,
    pub(super) serial: u64,
    pub(super) permit: Permit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    Server { server: ServerId, probe: bool },
    Hook(ReauthId),
    None,
}

#[cfg(test)]
impl Ticket {
    /// A ticket that no scheduler has handed out.
    pub(crate) fn for_tests() -> Self {
        let due = Moment::default();
        Self { token: TokenId(0), due, expiry: None, serial: 1, permit: Permit::None }
    }
}

/// What the end of an effect says of the server in whose place it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HealthSignal {
    /// It answered, whatever it said.
    Available,
    /// It did not answer, or without a conclusion.
    Unavailable(CallError),
    /// It was not asked at all.
    Unknown,
}

/// What the scheduler must know of a token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenSpec {
    /// Its server.
    pub server: ServerId,
    /// Its rules.
    pub policy: Arc<Policy>,
    /// Its way to a new value, if it has one.
    pub reauth: Option<ReauthId>,
}

/// What the scheduler wants done, or told.
#[derive(Debug, Clone, PartialEq)]
pub enum SchedulerOutput {
    /// To be done; its end is to be handed back with the ticket.
    Action(Ticket, Action),
    /// To be told of a token.
    TokenNotice(TokenId, Notice),
    /// To be told of a server.
    ServerNotice(ServerId, ServerNotice),
    /// To be told of a way to new values: it failed too often, and is left alone.
    ReauthExhausted {
        /// Which way.
        reauth: ReauthId,
        /// How often it failed in this window.
        failures: u32,
        /// Time until the window ends.
        retry_in_ms: u64,
    },
}

/// Something to be told of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerNotice {
    /// Which call extends lives here is known, or known anew.
    RenewalLearned(Method),
    /// It is down; the checks of its tokens are held back.
    Unavailable {
        /// How many tokens depend on it.
        tokens: usize,
        /// The failure that showed it.
        fault: CallError,
    },
    /// It answers again.
    Recovered {
        /// How many tokens depend on it.
        tokens: usize,
    },
}

/// How many tokens are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateCounts {
    /// The last answer said so, and the expiry is ahead.
    pub alive: usize,
    /// Known to live, but the last call came to no conclusion.
    pub retrying: usize,
    /// No answer yet, or none before the expiry.
    pub unverified: usize,
    /// Found expired.
    pub expired: usize,
    /// Found unknown to the server.
    pub rejected: usize,
    /// Without a value.
    pub missing: usize,
    /// Held back by a person.
    pub paused: usize,
}

impl StateCounts {
    /// How many tokens are in `state`.
    pub const fn of(&self, state: State) -> usize {
        match state {
            State::Alive => self.alive,
            State::Retrying => self.retrying,
            State::Unverified => self.unverified,
            State::Expired => self.expired,
            State::Rejected => self.rejected,
            State::Missing => self.missing,
            State::Paused => self.paused,
        }
    }

    /// How many are asked about, as far as nothing holds them back: not the dead, missing and
    /// paused ones.
    pub const fn asked(&self) -> usize {
        self.alive + self.retrying + self.unverified
    }

    /// Whether the token is one of those [`asked`](Self::asked) about.
    pub(super) fn asks(token: &Token) -> bool {
        matches!(token.state(), State::Alive | State::Retrying | State::Unverified)
    }

    pub(super) const fn of_mut(&mut self, state: State) -> &mut usize {
        match state {
            State::Alive => &mut self.alive,
            State::Retrying => &mut self.retrying,
            State::Unverified => &mut self.unverified,
            State::Expired => &mut self.expired,
            State::Rejected => &mut self.rejected,
            State::Missing => &mut self.missing,
            State::Paused => &mut self.paused,
        }
    }
}

impl StateCounts {
    /// All of them.
    pub const fn total(&self) -> usize {
        self.alive
            + self.retrying
            + self.unverified
            + self.expired
            + self.rejected
            + self.missing
            + self.paused
    }

    pub(super) fn add(&mut self, token: &Token) {
        *self.of_mut(token.state()) += 1;
    }

    pub(super) fn remove(&mut self, token: &Token) {
        *self.of_mut(token.state()) -= 1;
    }
}

impl std::iter::Sum for StateCounts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            alive: sum.alive + one.alive,
            retrying: sum.retrying + one.retrying,
            unverified: sum.unverified + one.unverified,
            expired: sum.expired + one.expired,
            rejected: sum.rejected + one.rejected,
            missing: sum.missing + one.missing,
            paused: sum.paused + one.paused,
        })
    }
}
