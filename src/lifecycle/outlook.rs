//! How a token looks from outside: one word for its state, and what is ahead of it.

use std::time::Duration;

use super::errand::Need;
use super::event::Stage;
use super::policy::ReauthPolicy;
use super::token::{Standing, Token};
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
    /// No answer yet, or none before the bound.
    Unverified,
    /// Known to live, but the last call came to no conclusion.
    Retrying,
    /// A person has asked for it to be left alone.
    Paused,
    /// The last answer said so, and the bound is ahead.
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
pub struct Glance {
    /// One word for how it is.
    pub state: State,
    /// Its [bound](Token::bound).
    pub bound: Option<Moment>,
}

impl Token {
    /// What there is to be seen of it in passing.
    pub fn glance(&self) -> Glance {
        Glance { state: self.state(), bound: self.bound() }
    }

    /// One word for how it is.
    pub fn state(&self) -> State {
        match self.standing {
            _ if self.paused => State::Paused,
            Standing::Alive(_) if self.is_failing() => State::Retrying,
            Standing::Alive(_) => State::Alive,
            Standing::Unknown | Standing::Unverified(_) => State::Unverified,
            Standing::Expired => State::Expired,
            Standing::Rejected => State::Rejected,
            Standing::Missing => State::Missing,
        }
    }

    /// A whole life of the value in use, in milliseconds; 0 while none is known.
    pub const fn life_ms(&self) -> u64 {
        self.life_ms
    }

    /// When it is asked about next; `None` while a call is under way or none is planned.
    pub fn next_check(&self) -> Option<Moment> {
        self.due_for(Need::Server)
    }

    /// Calls in a row that came to no conclusion.
    pub const fn failures(&self) -> u16 {
        self.failures
    }

    /// When a new value is obtained next; `None` while none is to be.
    pub fn next_attempt(&self) -> Option<Moment> {
        self.due_for(Need::Reauth)
    }

    /// The time between the planned check and the bound, which is there for retries, and how
    /// much of that is gone; `None` while the token is not known to live.
    pub fn retry_room(&self) -> Option<(Duration, Stage)> {
        let Standing::Alive(reading) = self.standing else { return None };
        Some((reading.bound().since(self.room_from), self.stage))
    }

    /// How many attempts at a new value are left at `now` in the current window.
    pub fn attempts_left(&self, policy: &ReauthPolicy, now: Moment) -> u32 {
        self.budget.left(policy, now)
    }
}
