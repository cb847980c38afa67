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
