//! State machine of one token.
//!
//! Pure: no I/O, no clock, no random numbers, no runtime. [`transition`] takes a [`Token`], an
//! [`Event`] and the time. It returns the next state and at most one [`Action`], and no other
//! action starts until that one has finished. When a token needs attention next is derived from
//! its state ([`Token::due_for`], [`Token::next_deadline_warning`]), so no timer can become stale.
//!
//! From top to bottom; a file uses only files below it:
//!
//! ```text
//! transition                      dispatches an event, starts actions
//! check_result  restore           operator_request  config_change  replicas
//! source_change  renewal_proof
//! rotation                        renewals that spend a refresh token
//! reauth
//! values
//! deadline_warnings               warnings before an expiry, while no response comes
//! context                         a transition in progress
//! next_action  state  compact     views of a token
//! event  token
//! reauth_budget  backoff  check_timing
//! types  policy  reading
//! ```

mod backoff;
mod check_result;
mod check_timing;
mod compact;
mod config_change;
mod context;
mod deadline_warnings;
mod event;
mod next_action;
mod operator_request;
mod policy;
mod reading;
mod reauth;
mod reauth_budget;
mod renewal_proof;
mod replicas;
mod restore;
mod rotation;
mod source_change;
mod state;
mod token;
mod transition;
mod types;
mod values;

#[cfg(test)]
mod tests;

pub use backoff::{SHORTEST_RETRY, backoff, max_retry_pause};
pub use check_timing::{
    RandomFraction, SHORTEST_ROOM, SHORTEST_TIMEOUT, check_wait, effective_timeout, last_retry_room,
};
pub use compact::{CompactExtra, CompactToken};
pub use context::Context;
pub use event::{Action, CheckResult, Event, Notice, ReauthOutcome, ReauthResult, SourceChange};
pub use policy::{Fraction, NotAFraction, Policy, ReauthPolicy, Renewal, Schedule, ScheduleError};
pub use reading::{Method, Reading};
pub use reauth_budget::ReauthAttempts;
pub use state::{State, TokenSummary};
pub use token::{Token, Validity};
pub use transition::transition;
pub use types::{
    DeadlineStage, OperatorRequest, PersistedLife, ReauthError, ReauthReason, ReplacedBy,
    RequestError, Resource, Slot,
};
