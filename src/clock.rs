//! The clocks of this machine: the only place where they are read.

/// What the calendar says, for people and for the timestamps of log lines. It can jump, so
/// nothing is ever timed by it.
#[expect(clippy::disallowed_methods, reason = "this module is where clocks are read")]
pub fn wall_clock() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
