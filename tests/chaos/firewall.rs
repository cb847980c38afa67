//! The firewall of a scenario's network namespace.

use std::fs;

use super::namespace::run;

/// What the firewall does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Drops it in silence: the sender times out.
    Drop,
    /// Answers a connection attempt and a request with a reset.
    Reset,
}

impl Verdict {
    fn target(self) -> &'static [&'static str] {
        match self {
            Self::Drop => &["-j", "DROP"],
            Self::Reset => &["-j", "REJECT", "--reject-with", "tcp-reset"],
        }
    }
}

/// Client ports until [`drop_established`] is called, and afterwards. The second range is larger
/// than any scenario needs.
const FIRST_PORTS: &str = "40000 44999";
const LATER_PORTS: &str = "50000 59999";
const FIRST_MATCH: &str = "40000:44999";

/// Makes all connections from now on distinguishable from those after [`drop_established`].
pub(crate) fn prepare() {
    client_ports(FIRST_PORTS);
}

/// The firewall loses its state: packets of all established connections are dropped, or answered
/// with a reset. New connections work.
pub(crate) fn drop_established(verdict: Verdict) {
    client_ports(LATER_PORTS);
    rule("-A", "INPUT", &["-p", "tcp", "--sport", FIRST_MATCH], verdict);
    // What a server sends is lost in silence either way; the firewall's own resets are not.
    let from_server = ["-p", "tcp", "--dport", FIRST_MATCH, "!", "--tcp-flags", "RST", "RST"];
    rule("-A", "INPUT", &from_server, Verdict::Drop);
}

fn client_ports(range: &str) {
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).expect("a writable setting");
}

/// Cuts off the server at this port: nothing that is sent to it arrives.
pub(crate) fn cut_off(port: u16, verdict: Verdict) {
    rule("-A", "INPUT", &["-p", "tcp", "--dport", &port.to_string()], verdict);
}

/// Ends [`cut_off`].
pub(crate) fn restore(port: u16, verdict: Verdict) {
    rule("-D", "INPUT", &["-p", "tcp", "--dport", &port.to_string()], verdict);
}

fn rule(action: &str, chain: &str, matching: &[&str], verdict: Verdict) {
    run("iptables", &[&["-w", "10", action, chain], matching, verdict.target()].concat());
}
