//! The clocks, and the only place that reads them.

use std::time::SystemTime;

/// The wall clock: what a server's HTTP date is compared with. Never for a deadline.
#[expect(clippy::disallowed_methods, reason = "this module is the daemon's clock")]
pub fn wall_clock() -> SystemTime {
    SystemTime::now()
}
