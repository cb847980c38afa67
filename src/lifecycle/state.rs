//! How a token looks from outside: one word for its state, and what is ahead of it.

use std::time::Duration;

use super::event::DeadlineStage;
use super::next_action::Resource;
use super::policy::ReauthPolicy;
use super::token::{Token, Validity};
use crate::time::Moment;

/// One word for how a token is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// There is no value.
    Missing,
    /// The server does not know the value, or it was revoked.
    Rejected,
    /// The value's life is over.
    Expired,
    /// No answer yet, or none before the expiry.
    Unverified,
    /// Known to live, but the last call came to no conclusion.
    Retrying,
    /// A person has asked for it to be left alone.
    Paused,
    /// The last answer said so, and the expiry is ahead.
    Alive,
}

impl State {
    /// All of them, the worst first.
    pub const ALL: [Self; 7] = [
        Self::Missing,
        Self::Rejected,
        Self::Expired,
        Self::Unverified,
        Self::Retrying,
        Self::Paused,
        Self::Alive,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Unverified => "unverified",
            Self::Retrying => "retrying",
            Self::Paused => "paused",
            Self::Alive => "alive",
        }
    }
}

/// What there is to be seen of a token in passing, when a million of them are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenSummary {
    /// One word for how it is.
    pub state: State,
    /// Its [expiry](Token::expiry).
    pub expiry: Option<Moment>,
}

impl Token {
    /// What there is to be seen of it in passing.
    pub fn summary(&self) -> TokenSummary {
        TokenSummary { state: self.state(), expiry: self.expiry() }
    }

    /// One word for how it is.
    pub fn state(&self) -> State {
        match self.validity {
            _ if self.paused => State::Paused,
            Validity::Alive(_) if self.is_failing() => State::Retrying,
            Validity::Alive(_) => State::Alive,
            Validity::Unknown | Validity::Unverified(_) => State::Unverified,
            Validity::Expired => State::Expired,
            Validity::Rejected => State::Rejected,
            Validity::Missing => State::Missing,
        }
    }

    /// A whole life of the value in use, in milliseconds; 0 while none is known.
    pub const fn life_ms(&self) -> u64 {
        self.life_ms
    }

    /// When it is asked about next; `None` while a call is under way or none is planned.
    pub fn next_check(&self) -> Option<Moment> {
        self.due_for(Resource::Server)
    }

    /// Calls in a row that came to no conclusion.
    pub const fn failures(&self) -> u16 {
        self.failures
    }

    /// When a new value is obtained next; `None` while none is to be.
    pub fn next_attempt(&self) -> Option<Moment> {
        self.due_for(Resource::Reauth)
    }

    /// The time between the planned check and the expiry, which is there for retries, and how
    /// much of that is gone; `None` while the token is not known to live.
    pub fn retry_room(&self) -> Option<(Duration, DeadlineStage)> {
        let Validity::Alive(reading) = self.validity else { return None };
        Some((reading.expiry().since(self.retry_room_start), self.stage))
    }

    /// How many attempts at a new value are left at `now` in the current window.
    pub fn attempts_left(&self, policy: &ReauthPolicy, now: Moment) -> u32 {
        self.budget.remaining(policy, now)
    }
}
