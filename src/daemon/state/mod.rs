//! What a restart needs. Knows tokens by name only; the scheduler and the registry are above.

mod orphans;
mod recorder;

pub(crate) use self::recorder::{StateRecorder, wall_ms};
