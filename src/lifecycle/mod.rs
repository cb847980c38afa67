//! The rules of one token's life.
//!
//! Pure: no I/O, no clock, no random numbers, no runtime. [`step`] takes a [`Token`], an
//! [`Event`] and the time, and gives the next state and at most one [`Action`]; while that
//! is under way there is no other. When a token next wants something is derived from its
//! state ([`Token::due_for`], [`Token::next_deadline_warning`]), so no timer can go stale.

mod candidate;
mod check_result;
mod check_timing;
mod compact;
mod event;
mod next_action;
mod operator_request;
mod policy;
mod reading;
mod reauth_budget;
mod renewal_proof;
mod restore;
mod state;
mod token;
mod transition;

#[cfg(test)]
mod tests;

pub use check_timing::{
    RandomFraction, SHORTEST_RETRY, SHORTEST_ROOM, SHORTEST_TIMEOUT, backoff, check_wait,
    effective_timeout, max_retry_pause,
};
pub use compact::{CompactExtra, CompactToken};
pub use event::{
    Action, CheckResult, DeadlineStage, Event, Notice, ReauthError, ReauthOutcome, ReauthReason,
    ReauthResult, ReplacedBy, Slot, SourceChange,
};
pub use next_action::Resource;
pub use operator_request::{OperatorRequest, RequestError};
pub use policy::{Fraction, NotAFraction, Policy, ReauthPolicy, Renewal, Schedule, ScheduleError};
pub use reading::{Method, Reading};
pub use reauth_budget::ReauthAttempts;
pub use restore::PersistedLife;
pub use state::{State, TokenSummary};
pub use token::{Token, Validity};
pub use transition::{Context, transition};
