//! The rules of one token's life.

mod policy;

pub use policy::{NotAShare, Policy, ReauthPolicy, Renewal, Schedule, ScheduleFault, Share};
