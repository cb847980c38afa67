//! The service under a real systemd, from its package: started, reloaded, killed, upgraded.
//!
//! These tests change the machine that they run on, so each gets one of its own:
//! `tests/systemd/run` boots a private systemd for it. Plain `cargo test` leaves them out.

#[path = "../doubles/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each suite uses a part")]
mod doubles;
mod hooks;
mod machine;
mod package;
mod service;
mod setup;
mod stall;
mod surroundings;
