//! Input and output types of the scheduler.

use std::sync::Arc;

use crate::lifecycle::{Action, Method, Notice, Policy, State, Token};
use crate::outcome::CallError;
use crate::time::Moment;

/// Id of a token; reused after the token is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(pub(super) u32);

/// Id of a server; reused after the server is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub(super) u32);

impl TokenId {
    /// The id as a key for other modules; see [`Scheduler::id_of`](super::Scheduler::id_of).
    pub const fn key(self) -> u32 {
        self.0
    }

    /// The id as an index; ids are dense.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Id of a `reauth` method; reused after the method is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReauthId(pub(super) u32);

impl ReauthId {
    /// The id as an index; ids are dense.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl ServerId {
    /// The id as an index; ids are dense.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Identifies an action in flight and its permit. It is handed back with the completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The token of the action.
    pub token: TokenId,
    /// When the action was due, if it is a check.
    pub due: Moment,
    /// The token's expiry when the action started.
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
    /// A ticket that no scheduler has issued.
    pub(crate) fn for_tests() -> Self {
        let due = Moment::default();
        Self { token: TokenId(0), due, expiry: None, serial: 1, permit: Permit::None }
    }
}

/// What a finished action says about its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HealthSignal {
    /// The server responded.
    Available,
    /// The server did not respond, or not conclusively.
    Unavailable(CallError),
    /// No request was sent.
    Unknown,
}

/// The configuration of a token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenSpec {
    /// Its server.
    pub server: ServerId,
    /// Its policy.
    pub policy: Arc<Policy>,
    /// Its `reauth` method, if it has one.
    pub reauth: Option<ReauthId>,
}

/// What the scheduler wants done or reported.
#[derive(Debug, Clone, PartialEq)]
pub enum SchedulerOutput {
    /// An action to start. Its completion is handed back with the ticket.
    Action(Ticket, Action),
    /// A notice about a token.
    TokenNotice(TokenId, Notice),
    /// A notice about a server.
    ServerNotice(ServerId, ServerNotice),
    /// A `reauth` method failed too often and starts no attempt for a while.
    ReauthExhausted {
        /// The method.
        reauth: ReauthId,
        /// Failures in this window.
        failures: u32,
        /// Time until the window ends.
        retry_in_ms: u64,
    },
}

/// A notice about a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerNotice {
    /// The call that renews tokens on this server was found out, or changed.
    RenewalLearned(Method),
    /// The server is down; its tokens are probed with single requests.
    Unavailable {
        /// Number of its tokens.
        tokens: usize,
        /// The failure that opened the circuit breaker.
        fault: CallError,
    },
    /// The server responds again.
    Recovered {
        /// Number of its tokens.
        tokens: usize,
    },
}

/// Number of tokens in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateCounts {
    /// The last response confirmed the token, and its expiry is in the future.
    pub alive: usize,
    /// Not expired, but the last check was inconclusive.
    pub retrying: usize,
    /// No response yet, or none before the expiry.
    pub unverified: usize,
    /// Expired, as the server reported.
    pub expired: usize,
    /// Unknown to the server, or revoked.
    pub rejected: usize,
    /// Without a value.
    pub missing: usize,
    /// Paused by an operator.
    pub paused: usize,
}

impl StateCounts {
    /// Number of tokens in `state`.
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

    /// Number of tokens that are being checked: all but dead, missing and paused ones.
    pub const fn asked(&self) -> usize {
        self.alive + self.retrying + self.unverified
    }

    /// Whether the token is among those [`asked`](Self::asked) about.
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
    /// Number of all tokens.
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
