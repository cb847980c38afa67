//! The daemon's end of the control interface: listens, queues commands, executes them.
//!
//! A command is executed within the loop. It reads and changes the daemon through
//! [`Parts`](commands::Parts), and never sends a request itself.

mod commands;
mod listeners;
mod queue;

pub(crate) use self::commands::Parts;
pub(crate) use self::listeners::GROUP;
pub(crate) use self::queue::{ControlEvent, ControlQueue};

#[cfg(test)]
mod tests;
