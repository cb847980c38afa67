//! tokenkeep keeps session tokens alive.
//!
//! The library behind the `tokenkeep` binary, and its map. Dependencies point down only:
//!
//! ```text
//! main ─ cli ─┬─ daemon ──┬─ scheduler ── lifecycle
//!             │           ├─ api · hook · inventory · token_file · store · systemd · clock · arena
//!             │           └─ events
//!             └─ settings
//! simulator (the API's double: tests, `demo`)
//! ```
//!
//! [`time`], [`outcome`] and [`secret`] are the words that all of them share.

pub mod api;
mod arena;
pub mod cli;
pub mod clock;
pub mod control;
pub mod daemon;
pub mod events;
pub mod hook;
pub mod inventory;
pub mod lifecycle;
pub mod outcome;
pub mod process;
pub mod scheduler;
pub mod secret;
pub mod settings;
pub mod simulator;
pub mod store;
pub mod systemd;
mod text;
pub mod time;
pub mod token_file;
