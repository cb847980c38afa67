//! Replicas: several daemons share the work through an etcd cluster, so that one machine is no
//! single point of failure.
//!
//! Asking about a token twice is harmless, so who asks is computed. Spending (a login, a renewal
//! that can be sent once, a revocation) twice is not, so it needs a claim in etcd.
//!
//! - [`replica`] decides, and is pure: no I/O, no clock, no runtime.
//! - [`link`] executes its operations, on an [`Engine`](link::Engine).
//! - [`etcd`] is such an engine.
//! - [`record`] and [`seal`] say how records and values are stored.

pub mod etcd;
pub mod link;
pub mod record;
pub mod replica;
pub mod seal;

use std::time::Duration;

/// How long after its claim was sent a login may begin: it waits for its lock and for the state
/// database. The claim's limit is the timeout of the login and this time.
pub const LOGIN_BEGINS_WITHIN: Duration = Duration::from_secs(10);
