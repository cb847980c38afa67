//! The specification of one token's life: what follows from what, on a clock that the
//! tests move and against a server that follows a script.

mod candidate;
mod check_result;
mod compact;
mod early;
mod endings;
mod nothing_left;
mod operator_request;
mod persist;
mod properties;
mod reauth;
mod renewal;
mod renewal_lost;
mod renewal_scale;
mod renewal_trouble;
mod restore;
mod server;
mod stale;
mod world;
