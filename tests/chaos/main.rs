//! The chaos suite: the real binary in a world that breaks.
//!
//! Each scenario runs in network, mount and process namespaces of its own, so that it can drop
//! connections in a firewall, move a DNS name, fill a disk or change the boot id without any
//! effect on the machine or on another scenario. Each asserts that no token died that could have
//! lived, that no value was lost and how soon everything was well again, and prints one line with
//! its figures.
//!
//! `tests/chaos/run` starts all of them, as root. Plain `cargo test` leaves them out. The
//! examples of `docs/hooks.md` have tests of their own in `tests/hooks.rs` and `tests/systemd`.

mod connections;
#[path = "../doubles/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each suite uses a part")]
mod doubles;
mod files;
mod firewall;
mod inventories;
mod kill;
mod logins;
mod namespace;
mod observe;
mod outages;
mod reloads;
mod restarts;
mod scripted;
#[path = "../daemon/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the daemon's tests use all of it, these a part")]
mod support;
