//! tokenkeep keeps session tokens alive.
//!
//! The library of the `tokenkeep` binary. Its map; a module uses only modules below it or to the
//! right of it:
//!
//! ```text
//! main ─ cli ─┬─ daemon ──┬─ scheduler ── lifecycle
//!             │           ├─ api · hook · inventory · token_file · store · systemd · clock · arena
//!             │           └─ event_log
//!             └─ settings
//! simulator (simulates the API for tests and `demo`)
//! ```
//!
//! All of them share the types of [`time`], [`outcome`] and [`secret`].

pub mod api;
mod arena;
pub mod cli;
pub mod clock;
pub mod control;
pub mod daemon;
pub mod event_log;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
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
