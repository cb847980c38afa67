//! Servers that a replica cannot reach, although it reaches etcd.
//!
//! A replica that cannot reach a server names it in its record, and goes on: its requests to that
//! server are probes by then. For each token of its slots on that server, the replica with the next
//! highest hash that reaches the server asks as well. If no replica reaches the server, nobody does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::types::Member;
use crate::time::Moment;

/// After an outage for all, the replicas notice within one pause between two probes, at most 5 s,
/// and one beat that the server has recovered. Until then, none asks in place of another.
const RECOVERY_SPREAD: Duration = Duration::from_secs(8);

/// Who reaches which server. Servers are named as in [`TokenKey`](super::TokenKey).
#[derive(Debug, Default)]
pub(super) struct Reach {
    failover: Duration,
    /// The servers of this replica.
    own: BTreeMap<Arc<str>, Own>,
    /// The servers that this replica names in its record, sorted.
    named: Vec<Arc<str>>,
    /// By server: the other replicas that do not reach it. One that does so again counts until then,
    /// as it first has to ask about its tokens.
    others: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Option<Moment>>>,
}

/// A server as this replica sees it.
#[derive(Debug)]
struct Own {
    is_available: bool,
    /// When that counts.
    counts_at: Moment,
    counts: bool,
}

impl Reach {
    pub(super) fn new(failover: Duration) -> Self {
        Self { failover, ..Self::default() }
    }

    /// Takes all servers of this replica, and whether each is available.
    pub(super) fn set_own(&mut self, servers: Vec<(Arc<str>, bool)>, now: Moment) {
        let mut before = std::mem::take(&mut self.own);
        for (server, is_available) in servers {
            let same = before.remove(&server).filter(|own| own.is_available == is_available);
            let own = same.unwrap_or_else(|| {
                // One beat keeps a short outage from changing who asks.
                let delay =
                    if is_available { self.failover + RECOVERY_SPREAD } else { self.failover / 3 };
                Own { is_available, counts_at: now + delay, counts: false }
            });
            self.own.insert(server, own);
        }
        self.name_own();
    }

    /// Takes what the records of the living replicas say.
    pub(super) fn set_others(
        &mut self,
        me: &str,
        members: &BTreeMap<Arc<str>, (u64, Option<Arc<Member>>)>,
        now: Moment,
    ) {
        let until = now + self.failover;
        for replicas in self.others.values_mut() {
            replicas.retain(|name, _| members.contains_key(name));
            for ends in replicas.values_mut() {
                ends.get_or_insert(until);
            }
        }
        for (name, (_, member)) in members.iter().filter(|(name, _)| &***name != me) {
            for server in member.iter().flat_map(|member| &member.unreachable) {
                self.others.entry(server.clone()).or_default().insert(name.clone(), None);
            }
        }
        self.others.retain(|_, replicas| !replicas.is_empty());
    }

    /// Does what is due. Returns whether something counts now that did not.
    pub(super) fn refresh(&mut self, now: Moment) -> bool {
        if self.next_wake().is_none_or(|at| at > now) {
            return false;
        }
        for own in self.own.values_mut() {
            own.counts |= own.counts_at <= now;
        }
        self.name_own();
        for replicas in self.others.values_mut() {
            replicas.retain(|_, ends| ends.is_none_or(|ends| ends > now));
        }
        self.others.retain(|_, replicas| !replicas.is_empty());
        true
    }

    /// When [`Reach::refresh`] has something to do.
    pub(super) fn next_wake(&self) -> Option<Moment> {
        let own = self.own.values().filter(|own| !own.counts).map(|own| own.counts_at);
        own.chain(self.others.values().flat_map(BTreeMap::values).copied().flatten()).min()
    }

    /// The servers that this replica names in its record, sorted.
    pub(super) fn named(&self) -> &[Arc<str>] {
        &self.named
    }

    /// Whether any replica does not reach any server.
    pub(super) fn is_limited(&self) -> bool {
        !self.named.is_empty() || !self.others.is_empty()
    }

    /// Whether this replica has reached the server for long enough to ask in place of another one.
    pub(super) fn reaches(&self, server: &str) -> bool {
        self.own.get(server).is_some_and(|own| own.is_available && own.counts)
    }

    /// Whether this replica names the server in its record.
    pub(super) fn names(&self, server: &str) -> bool {
        self.named.iter().any(|named| **named == *server)
    }

    /// Whether another replica does not reach the server.
    pub(super) fn lacks(&self, replica: &str, server: &str) -> bool {
        self.others.get(server).is_some_and(|replicas| replicas.contains_key(replica))
    }

    fn name_own(&mut self) {
        let named = self.own.iter().filter(|(_, own)| !own.is_available && own.counts);
        self.named = named.map(|(server, _)| server.clone()).collect();
    }
}
