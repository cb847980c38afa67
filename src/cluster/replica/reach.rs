//! Servers that a replica cannot reach, although it reaches etcd.
//!
//! A replica names such servers in its record, and continues to check its tokens. The replica with the
//! next highest hash that reaches the server, the *helper*, checks them as well. If no replica reaches
//! the server, there is no helper.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::types::Member;
use crate::time::Moment;

/// After an outage for all replicas, one notices the recovery up to 5 s later than another: the longest
/// pause between two probes. In this time it needs no helper.
const RECOVERY_SPREAD: Duration = Duration::from_secs(8);

/// The longest time from a change of a replica's state until the others know its record.
const RECORD_DELAY: Duration = Duration::from_secs(2);

/// Who reaches which server. Servers are named as in [`TokenKey`](super::TokenKey).
#[derive(Debug, Default)]
pub(super) struct Reach {
    failover: Duration,
    /// The servers of this replica.
    own: BTreeMap<Arc<str>, Own>,
    /// The servers that this replica names in its record, sorted.
    named: Vec<Arc<str>>,
    /// By server: the other replicas that name it, or have named it lately.
    others: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Mark>>,
}

/// A server as this replica sees it.
#[derive(Debug)]
struct Own {
    is_reached: bool,
    /// Since when.
    since: Moment,
    is_named: bool,
    /// It was named until lately: this replica is no helper before this moment.
    helps_from: Option<Moment>,
}

/// Another replica does not reach a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Named,
    /// It reaches the server again, but is no helper before this moment.
    Recovered(Moment),
}

impl Own {
    /// When it is named, or no longer named, if nothing happens before.
    fn changes_at(&self, failover: Duration) -> Option<Moment> {
        match (self.is_reached, self.is_named) {
            // Shorter outages do not change who checks.
            (false, false) => Some(self.since + failover / 3),
            // Until then it has checked the tokens that the helper leaves.
            (true, true) => Some(self.since + failover),
            _ => None,
        }
    }
}

impl Reach {
    pub(super) fn new(failover: Duration) -> Self {
        Self { failover, ..Self::default() }
    }

    /// Takes all servers of this replica, and whether each is reached.
    pub(super) fn set_own(&mut self, servers: Vec<(Arc<str>, bool)>, now: Moment) {
        let mut before = std::mem::take(&mut self.own);
        for (server, is_reached) in servers {
            let mut own = before.remove(&server).unwrap_or(Own {
                is_reached,
                since: now,
                is_named: false,
                helps_from: None,
            });
            if own.is_reached != is_reached {
                (own.is_reached, own.since) = (is_reached, now);
            }
            self.own.insert(server, own);
        }
        self.name_own();
    }

    /// Takes what the records of the living replicas say. Returns whether that has changed.
    pub(super) fn set_others(
        &mut self,
        me: &str,
        members: &BTreeMap<Arc<str>, (u64, Option<Arc<Member>>)>,
        now: Moment,
    ) -> bool {
        let recovered = Mark::Recovered(now + RECOVERY_SPREAD + RECORD_DELAY);
        let mut others = self.others.clone();
        for marks in others.values_mut() {
            marks.retain(|name, _| members.contains_key(name));
            for mark in marks.values_mut().filter(|mark| **mark == Mark::Named) {
                *mark = recovered;
            }
        }
        for (name, (_, member)) in members.iter().filter(|(name, _)| &***name != me) {
            for server in member.iter().flat_map(|member| &member.unreachable) {
                others.entry(server.clone()).or_default().insert(name.clone(), Mark::Named);
            }
        }
        others.retain(|_, marks| !marks.is_empty());
        let changed = others != self.others;
        self.others = others;
        changed
    }

    /// Does what is due. Returns whether there was something.
    pub(super) fn refresh(&mut self, now: Moment) -> bool {
        if self.next_wake().is_none_or(|at| at > now) {
            return false;
        }
        let failover = self.failover;
        for own in self.own.values_mut() {
            if own.changes_at(failover).is_some_and(|at| at <= now) {
                own.is_named = !own.is_named;
                own.helps_from = (!own.is_named).then_some(now + RECOVERY_SPREAD);
            }
            own.helps_from.take_if(|from| *from <= now);
        }
        self.name_own();
        for marks in self.others.values_mut() {
            marks.retain(|_, mark| !matches!(mark, Mark::Recovered(until) if *until <= now));
        }
        self.others.retain(|_, marks| !marks.is_empty());
        true
    }

    /// When [`Reach::refresh`] has something to do.
    pub(super) fn next_wake(&self) -> Option<Moment> {
        let own = self.own.values();
        let own = own.flat_map(|own| [own.changes_at(self.failover), own.helps_from]).flatten();
        let ends = self.others.values().flat_map(BTreeMap::values).filter_map(|mark| match mark {
            Mark::Named => None,
            Mark::Recovered(until) => Some(*until),
        });
        own.chain(ends).min()
    }

    /// The servers that this replica names in its record, sorted.
    pub(super) fn named(&self) -> &[Arc<str>] {
        &self.named
    }

    /// Whether any replica names any server.
    pub(super) fn is_limited(&self) -> bool {
        !self.named.is_empty() || !self.others.is_empty()
    }

    /// Whether this replica names the server.
    pub(super) fn names(&self, server: &str) -> bool {
        self.own.get(server).is_some_and(|own| own.is_named)
    }

    /// Whether another replica names the server.
    pub(super) fn is_named_by(&self, replica: &str, server: &str) -> bool {
        self.mark(replica, server) == Some(Mark::Named)
    }

    /// Whether this replica can be a helper for the server.
    pub(super) fn can_help(&self, server: &str) -> bool {
        self.own.get(server).is_some_and(|own| !own.is_named && own.helps_from.is_none())
    }

    /// Whether another replica can be a helper for the server.
    pub(super) fn other_can_help(&self, replica: &str, server: &str) -> bool {
        self.mark(replica, server).is_none()
    }

    fn mark(&self, replica: &str, server: &str) -> Option<Mark> {
        self.others.get(server)?.get(replica).copied()
    }

    fn name_own(&mut self) {
        let named = self.own.iter().filter(|(_, own)| own.is_named);
        self.named = named.map(|(server, _)| server.clone()).collect();
    }
}
