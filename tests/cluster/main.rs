//! Replicas on a real etcd: three nodes, three daemons, and an API that sees every login.
//!
//! Each scenario runs in network and process namespaces of its own, so that it can cut off a
//! replica or a node of etcd in a firewall. Without namespaces it runs in place, and
//! leaves the partitions out. Each prints one line with its figures.
//!
//! `tests/cluster/run` installs etcd and starts all scenarios. Plain `cargo test` leaves them out.

mod api;
mod chaos;
mod controls;
mod etcd;
mod history;
mod ledger;
mod membership;
#[path = "../chaos/namespace.rs"]
#[allow(dead_code, reason = "the chaos suite uses all of it, these tests a part")]
mod namespace;
mod network;
mod refusals;
mod replica;
mod rotation;
mod secure;
#[path = "../profiles/servers/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests of profiles use all of it, these a part")]
mod servers;
mod stage;
#[path = "../daemon/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the daemon's tests use all of it, these a part")]
mod support;
mod values;
