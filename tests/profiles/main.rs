//! Profiles against real servers: `OpenBao`, etcd, npm's `oidc-provider` and Zabbix.
//!
//! `tests/profiles/run` installs the servers and starts all tests. Plain `cargo test` leaves them
//! out. `tests/profiles/install` says where the servers come from.

mod assumptions;
mod etcd;
mod etcd_doctor;
mod etcd_engine;
#[path = "../chaos/kill.rs"]
#[allow(dead_code, reason = "the chaos suite uses all of it, these tests a part")]
mod kill;
#[path = "../chaos/observe.rs"]
#[allow(dead_code, reason = "the chaos suite uses all of it, these tests a part")]
mod observe;
mod oidc;
mod openbao;
mod probes;
mod scenario;
mod servers;
mod sessions;
#[path = "../daemon/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the daemon's tests use all of it, these a part")]
mod support;
mod zabbix;
