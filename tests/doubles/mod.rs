//! Servers that misbehave: the simulator with planned troubles, and one below HTTP.

mod raw_server;
mod trouble;

pub(crate) use self::raw_server::{RawServer, Script};
pub(crate) use self::trouble::{Plan, PlanFaults, RetryAfter, Trouble};
