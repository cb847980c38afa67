//! What a restart needs.

pub(crate) mod orphans;
pub(crate) mod recorder;
