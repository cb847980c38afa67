//! Profiles against real servers: `OpenBao`, etcd, npm's `oidc-provider` and Zabbix.
//!
//! `tests/profiles/run` installs the servers and starts all tests. Plain `cargo test` leaves them
//! out. `tests/profiles/install` says where the servers come from.

mod assumptions;
#[path = "../chaos/observe.rs"]
#[allow(dead_code, reason = "the chaos suite uses all of it, these tests a part")]
mod observe;
mod servers;
#[path = "../daemon/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the daemon's tests use all of it, these a part")]
mod support;
