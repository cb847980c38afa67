//! State of a token as reported to operators.

use std::time::Duration;

use super::policy::ReauthPolicy;
use super::token::{DOUBTS_TO_CONCLUDE, Token, Validity};
use super::types::{DeadlineStage, Resource};
use crate::time::Moment;

/// State of a token, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// There is no value.
    Missing,
    /// The server does not know the value, or it was revoked.
    Rejected,
    /// The token has expired.
    Expired,
    /// No check has succeeded yet, or none since before the expiry.
    Unverified,
    /// Not expired, but the last check was inconclusive.
    Retrying,
    /// Paused by an operator.
    Paused,
    /// Another replica asks about the token.
    Elsewhere,
    /// The last response confirmed the token, and its expiry is in the future.
    Alive,
}

impl State {
    /// All states, worst first.
    pub const ALL: [Self; 8] = [
        Self::Missing,
        Self::Rejected,
        Self::Expired,
        Self::Unverified,
        Self::Retrying,
        Self::Paused,
        Self::Elsewhere,
        Self::Alive,
    ];

    /// The state as text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Unverified => "unverified",
            Self::Retrying => "retrying",
            Self::Paused => "paused",
            Self::Elsewhere => "elsewhere",
            Self::Alive => "alive",
        }
    }
}

/// State and expiry of a token, cheap enough for reading a million of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenSummary {
    /// State.
    pub state: State,
    /// Its [expiry](Token::expiry).
    pub expiry: Option<Moment>,
    /// Whether [no permitted call renews it](Token::is_unrenewed).
    pub is_unrenewed: bool,
    /// Whether [the last check failed](Token::is_failing).
    pub is_failing: bool,
    /// When [its next check is due](Token::due_for); `None` while an action is in flight, and if no
    /// check is planned.
    pub next_check: Option<Moment>,
}

impl Token {
    /// State and expiry.
    pub fn summary(&self) -> TokenSummary {
        TokenSummary {
            state: self.state(),
            expiry: self.expiry(),
            is_unrenewed: self.is_unrenewed(),
            is_failing: self.is_failing(),
            next_check: self.due_for(Resource::Server),
        }
    }

    /// Whether the last evaluations concluded that no permitted call renews the token.
    pub const fn is_unrenewed(&self) -> bool {
        self.doubts >= DOUBTS_TO_CONCLUDE
    }

    /// The state.
    pub fn state(&self) -> State {
        match self.validity {
            _ if self.paused => State::Paused,
            _ if self.elsewhere => State::Elsewhere,
            Validity::Alive(_) if self.is_failing() => State::Retrying,
            Validity::Alive(_) => State::Alive,
            Validity::Unknown | Validity::Unverified(_) => State::Unverified,
            Validity::Expired => State::Expired,
            Validity::Rejected => State::Rejected,
            Validity::Missing => State::Missing,
        }
    }

    /// A full life of the current value, in milliseconds; 0 if unknown.
    pub const fn life_ms(&self) -> u64 {
        self.life_ms
    }

    /// When the next check is due; `None` while an action is in flight or no check is planned.
    pub fn next_check(&self) -> Option<Moment> {
        self.due_for(Resource::Server)
    }

    /// Inconclusive checks in a row.
    pub const fn failures(&self) -> u16 {
        self.failures
    }

    /// The retry room: time between the planned check and the expiry, and how much of it has
    /// passed; `None` unless the token is alive.
    pub fn retry_room(&self) -> Option<(Duration, DeadlineStage)> {
        let Validity::Alive(reading) = self.validity else { return None };
        Some((reading.expiry().since(self.retry_room_start), self.stage))
    }

    /// Re-auth attempts left at `now` in the current window.
    pub fn attempts_left(&self, policy: &ReauthPolicy, now: Moment) -> u32 {
        self.budget.remaining(policy, now)
    }
}
