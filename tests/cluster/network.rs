//! The addresses of the pairs of etcd node and replica, and partitions between them.
//!
//! All of a pair's connections come from its own address, because its processes have a group of
//! their own, whose packets get that address in the firewall.

use tokio::process::Command;

use crate::namespace::{isolated, run};

/// Set by `tests/cluster/run` if namespaces or firewalls are not permitted: scenarios run in place.
const IN_PLACE: &str = "TOKENKEEP_CLUSTER_IN_PLACE";

/// The group of the first pair's processes. No account of Debian has it.
const FIRST_GROUP: u32 = 61_001;

/// Whether there is a firewall of the scenario's own.
pub(crate) fn has_firewall() -> bool {
    std::env::var_os(IN_PLACE).is_none()
}

/// Runs a scenario in namespaces of its own, if there are any.
pub(crate) fn scenario<F: AsyncFnOnce()>(scenario: F) {
    if has_firewall() {
        isolated(scenario);
    } else {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(scenario());
    }
}

/// The address of a pair, counted from 0.
pub(crate) fn address(pair: usize) -> String {
    format!("127.0.{}.1", pair + 1)
}

/// Gives the connections of these pairs' processes their addresses.
pub(crate) fn prepare(pairs: usize) {
    for pair in (0..pairs).filter(|_| has_firewall()) {
        let (group, address) = (group(pair).to_string(), address(pair));
        let table = ["-w", "10", "-t", "nat", "-A", "POSTROUTING", "-p", "tcp"];
        let matching = ["-m", "owner", "--gid-owner", &group, "-d", "127.0.0.0/8"];
        run(
            "iptables",
            &[&table[..], &matching, &["-j", "SNAT", "--to-source", &address]].concat(),
        );
    }
}

/// Makes this a process of the pair.
pub(crate) fn join_pair(command: &mut Command, pair: usize) {
    if has_firewall() {
        command.gid(group(pair));
    }
}

fn group(pair: usize) -> u32 {
    FIRST_GROUP + u32::try_from(pair).expect("a small number")
}

/// A partition. It ends when this is dropped.
#[must_use]
pub(crate) struct Cut(Vec<[String; 7]>);

impl Cut {
    /// Drops all packets of connections from `from` to port `port` of `to`, both ways.
    pub(crate) fn new(pairs: impl IntoIterator<Item = (usize, usize)>, port: u16) -> Self {
        Self::between(pairs.into_iter().map(|(from, to)| (address(from), address(to), port)))
    }

    /// The same for connections from one address to another one and its port.
    pub(crate) fn between(ends: impl IntoIterator<Item = (String, String, u16)>) -> Self {
        let mut rules = Vec::new();
        for (from, to, port) in ends {
            let port = port.to_string();
            // The firewall restores the client's own address before a response comes in.
            let request = ["INPUT", "-s", &from, "-d", &to, "--dport", &port];
            let response = ["OUTPUT", "-s", &to, "-d", &from, "--sport", &port];
            rules.extend([request, response].map(|rule| rule.map(str::to_owned)));
        }
        let cut = Self(rules);
        cut.apply("-A");
        cut
    }

    fn apply(&self, action: &str) {
        for [chain, source, from, destination, to, side, port] in &self.0 {
            let matching = ["-p", "tcp", source, from, destination, to, side, port];
            let head = ["-w", "10", action, chain];
            run("iptables", &[&head[..], &matching, &["-j", "DROP"]].concat());
        }
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.apply("-D");
    }
}
