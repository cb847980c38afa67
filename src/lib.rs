//! tokenkeep keeps session tokens alive.
//!
//! This is the library of the `tokenkeep` binary. A module uses only modules below it or to its
//! right:
//!
//! ```text
//! main ─ cli ─┬─ daemon ──┬─ scheduler ── lifecycle
//!             │           ├─ cluster
//!             │           ├─ api · hook · inventory · token_source · store · systemd · clock · arena
//!             │           └─ control · event_log · users
//!             └─ settings
//! simulator (simulates the API for tests and `demo`)
//! ```
//!
//! All of them share the types of [`time`], [`outcome`], [`secret`], `event` and [`settings`]. `cli` also uses
//! the client in [`control`].

pub mod api;
mod arena;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod control;
pub mod daemon;
mod duration;
mod event;
pub mod event_log;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod hook;
pub mod inventory;
mod key_path;
pub mod lifecycle;
pub mod outcome;
pub mod process;
pub mod profile;
pub mod scheduler;
pub mod secret;
pub mod settings;
mod similarity;
pub mod simulator;
pub mod store;
pub mod systemd;
mod text;
pub mod time;
pub mod token_source;
mod users;
