//! Limits of the process and the kernel that do not fit the configuration.

use super::Daemon;
use crate::event_log::{EventName, Fields, Severity};
use crate::process;
use crate::settings::Settings;
use crate::systemd;

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
    /// Warns if the kernel refuses to watch files, once for each limit.
    pub(super) fn warn_of_watches(&mut self) {
        let shortage = self.watcher.shortage().or_else(|| self.stocks.shortage());
        if std::mem::replace(&mut self.memory.warned_shortage, shortage) == shortage {
            return;
        }
        let Some(shortage) = shortage else { return };
        self.say(
            EventName::ConfigWarning,
            Severity::Warn,
            "files cannot be watched, so that they are compared every 2 s",
            Fields { error: Some(&shortage.to_string()), ..Fields::default() },
        );
    }

    /// Warns if the limit of descriptors does not fit the configuration, once for each need.
    pub(super) fn warn_of_limits(&mut self) {
        let (needed, limit) = (needed(&self.settings), process::descriptor_limit());
        if needed <= limit || self.memory.warned_need.replace(needed) == Some(needed) {
            return;
        }
        let raise = if systemd::is_service() {
            format!("set `LimitNOFILE={needed}` in the unit")
        } else {
            format!("raise `ulimit -Hn` to {needed} (`LimitNOFILE={needed}` in a systemd unit)")
        };
        let error = format!(
            "up to {needed} are needed for the `max_in_flight` of all servers and `max_hooks`, and \
             the limit is {limit}: {raise}, or lower `max_in_flight`"
        );
        self.say(
            EventName::ConfigWarning,
            Severity::Warn,
            "the process may not open enough files",
            Fields { error: Some(&error), ..Fields::default() },
        );
    }
}
