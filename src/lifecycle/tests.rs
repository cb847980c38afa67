//! The specification of one token's life: what follows from what, on a clock that the
//! tests move and against a server that follows a script.

mod answers;
mod early;
mod endings;
mod newcomers;
mod nothing_left;
mod properties;
mod reauth;
mod renewal;
mod renewal_lost;
mod renewal_scale;
mod renewal_trouble;
mod requests;
mod resting;
mod resume;
mod server;
mod stale;
mod storing;
mod world;
