//! Whether the process may open as many files as the configuration can need.

use crate::daemon::Daemon;
use crate::events::{Fields, Name, Severity};
use crate::process;
use crate::settings::Settings;

/// Descriptors for everything but connections to servers and commands: standard streams, the log,
/// the state database, timers, control clients, inventories and files that are being read.
const BASE: u64 = 128;

/// Descriptors of one command: its output, its process, and one to start it.
const COMMAND: u64 = 4;

/// How many descriptors the daemon can need at once: each request in flight has a connection.
fn needed(settings: &Settings) -> u64 {
    let connections = settings.servers.iter().map(|server| u64::from(server.max_in_flight.get()));
    BASE + connections.sum::<u64>() + COMMAND * u64::from(settings.max_hooks.get())
}

impl Daemon {
    /// Warns if the limit of descriptors does not fit the configuration, once for each need.
    pub(crate) fn warn_of_limits(&mut self) {
        let (needed, limit) = (needed(&self.settings), process::descriptor_limit());
        if needed <= limit || self.memory.warned_need.replace(needed) == Some(needed) {
            return;
        }
        let error = format!(
            "up to {needed} are needed for the `max_in_flight` of all servers and `max_hooks`, and \
             the limit is {limit}: set `LimitNOFILE={needed}` in the unit (`ulimit -Hn` elsewhere), \
             or lower `max_in_flight`"
        );
        self.say(
            Name::ConfigWarning,
            Severity::Warn,
            "the process may not open enough files",
            Fields { error: Some(&error), ..Fields::default() },
        );
    }
}
