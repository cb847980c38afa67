//! Whether the process may open as many files as the configuration can need.

use crate::process;
use crate::settings::Settings;
use crate::systemd;

/// Descriptors for everything but connections to servers and commands: standard streams, the log,
/// the state database, timers, control clients, inventories and files that are being read.
const BASE: u64 = 128;

/// Descriptors of one command: its output, its process, and one to start it.
const COMMAND: u64 = 4;

/// How many descriptors the daemon can need at once: each request in flight has a connection.
pub fn needed(settings: &Settings) -> u64 {
    let connections = settings.servers.iter().map(|server| u64::from(server.max_in_flight.get()));
    BASE + connections.sum::<u64>() + COMMAND * u64::from(settings.max_hooks.get())
}

/// The number of descriptors that the configuration needs and the error, if that exceeds the limit.
pub(super) fn exceeded(settings: &Settings) -> Option<(u64, String)> {
    let (needed, limit) = (needed(settings), process::descriptor_limit());
    let error = || {
        let raise = if systemd::is_service() {
            format!("set `LimitNOFILE={needed}` in the unit")
        } else {
            format!("raise `ulimit -Hn` to {needed} (`LimitNOFILE={needed}` in a systemd unit)")
        };
        format!(
            "up to {needed} are needed for the `max_in_flight` of all servers and `max_hooks`, and \
             the limit is {limit}: {raise}, or lower `max_in_flight`"
        )
    };
    (needed > limit).then(|| (needed, error()))
}
