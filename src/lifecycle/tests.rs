//! Specification of one token's state machine, with virtual time and a scripted server.

mod check_result;
mod compact;
mod deferral;
mod early;
mod endings;
mod held_renewal;
mod nothing_left;
mod operator_request;
mod persist;
mod properties;
mod reauth;
mod renewal;
mod renewal_lost;
mod renewal_scale;
mod renewal_trouble;
mod replicas;
mod restore;
mod rotation;
mod server;
mod source_change;
mod stale;
mod world;
