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
    /// The server was down, and no token is left here that has failed on it.
    Untried,
    /// The server responds again.
    Recovered {
        /// Number of its tokens.
        tokens: usize,
    },
}

/// Number of tokens in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateCounts([usize; State::ALL.len()]);

impl StateCounts {
    /// Number of tokens in `state`.
    pub const fn of(&self, state: State) -> usize {
        self.0[state as usize]
    }

    /// Number of tokens that are being checked: all but dead, missing and paused ones, and those
    /// that another replica asks about.
    pub const fn asked(&self) -> usize {
        self.of(State::Alive) + self.of(State::Retrying) + self.of(State::Unverified)
    }

    /// Whether the token is among those [`asked`](Self::asked) about.
    pub(super) fn asks(token: &Token) -> bool {
        matches!(token.state(), State::Alive | State::Retrying | State::Unverified)
    }

    /// Number of all tokens.
    pub fn total(&self) -> usize {
        self.0.iter().sum()
    }

    pub(super) fn add(&mut self, token: &Token) {
        self.0[token.state() as usize] += 1;
    }

    pub(super) fn remove(&mut self, token: &Token) {
        self.0[token.state() as usize] -= 1;
    }
}

impl std::iter::Sum for StateCounts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| {
            Self(std::array::from_fn(|state| sum.0[state] + one.0[state]))
        })
    }
}
