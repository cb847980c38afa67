//! The rules of one token's life.
//!
//! Pure: no I/O, no clock, no random numbers, no runtime. [`step`] takes a [`Token`], an
//! [`Event`] and the time, and gives the next state and at most one [`Effect`]; while that
//! is under way there is no other. When a token next wants something is derived from its
//! state ([`Token::due_for`], [`Token::next_alarm`]), so no timer can go stale.

mod answer;
mod budget;
mod cadence;
mod errand;
mod event;
mod newcomer;
mod outlook;
mod policy;
mod proof;
mod reading;
mod request;
mod resting;
mod resume;
mod step;
mod token;

#[cfg(test)]
mod tests;

pub use budget::Attempts;
pub use cadence::{
    Draw, SHORTEST_RETRY, SHORTEST_ROOM, SHORTEST_TIMEOUT, backoff, check_wait, effective_timeout,
    patience,
};
pub use errand::Need;
pub use event::{
    Answer, Effect, Event, Notice, Reason, ReauthEnd, ReauthFault, Reauthenticated, ReplacedBy,
    Slot, SourceChange, Stage,
};
pub use outlook::{Glance, State};
pub use policy::{NotAShare, Policy, ReauthPolicy, Renewal, Schedule, ScheduleFault, Share};
pub use reading::{Method, Reading};
pub use request::{Refusal, Request};
pub use resting::{Aside, Resting};
pub use resume::Resumed;
pub use step::{Context, step};
pub use token::{Standing, Token};
