//! Model of etcd: one linearizable store with revisions and leases.
//!
//! Every transaction is executed at one instant. What the network does to requests, responses and
//! watches is in [`crate::link`].

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokenkeep::cluster::replica::{
    Entry, Key, Record, StoreRevision, Transaction, TransactionResult,
};

use crate::chance::{Ms, whole};

/// How far behind a member may be that was cut off from the others.
const STALE_BY: Ms = 20_000;

/// Which state a read returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// The newest one.
    Linearizable,
    /// The one that the asked member has, which may have been cut off from the others.
    #[expect(dead_code, reason = "what a mutant asks for")]
    Serializable,
}

/// The consistency that the link asks for.
pub(crate) const CONSISTENCY: Consistency = Consistency::Linearizable;

pub(crate) type LeaseId = u64;

/// Keys and values at one moment.
#[derive(Debug, Clone, Default)]
struct State {
    revision: u64,
    keys: BTreeMap<Key, Stored>,
}

#[derive(Debug, Clone)]
struct Stored {
    record: Record,
    revision: u64,
    lease: Option<LeaseId>,
}

/// A change of one key.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) entry: Entry,
    /// The revision of the key before it; 0 if it did not exist.
    pub(crate) before: u64,
}

#[derive(Debug)]
pub(crate) struct Etcd {
    pub(crate) cluster: u64,
    state: State,
    leases: BTreeMap<LeaseId, (Duration, Ms)>,
    last_lease: LeaseId,
    /// All changes since the last restore, in order.
    changes: Vec<Change>,
    /// Earlier states, oldest first, with the moment at which each was replaced.
    earlier: VecDeque<(Ms, State)>,
    backup: Option<State>,
    /// Executes nothing before this moment: an election, or no quorum.
    pub(crate) down_until: Ms,
}

impl Etcd {
    pub(crate) fn new(cluster: u64) -> Self {
        Self {
            cluster,
            state: State { revision: 1, keys: BTreeMap::new() },
            leases: BTreeMap::new(),
            last_lease: 0,
            changes: Vec::new(),
            earlier: VecDeque::new(),
            backup: None,
            down_until: 0,
        }
    }

    pub(crate) const fn at(&self) -> StoreRevision {
        StoreRevision { cluster: self.cluster, revision: self.state.revision }
    }

    /// Grants a lease.
    pub(crate) fn grant(&mut self, ttl: Duration, now: Ms) -> LeaseId {
        self.last_lease += 1;
        self.leases.insert(self.last_lease, (ttl, now + whole(ttl)));
        self.last_lease
    }

    /// Renews a lease. `false` if it has ended.
    pub(crate) fn renew(&mut self, lease: LeaseId, now: Ms) -> bool {
        let Some((ttl, ends)) = self.leases.get_mut(&lease) else { return false };
        *ends = now + whole(*ttl);
        true
    }

    /// When the next lease ends.
    pub(crate) fn next_end(&self) -> Option<Ms> {
        self.leases.values().map(|(_, ends)| (*ends).max(self.down_until)).min()
    }

    /// Ends the leases whose time is over.
    pub(crate) fn end_leases(&mut self, now: Ms) {
        let over =
            |(lease, (_, ends)): (&LeaseId, &(Duration, Ms))| (*ends <= now).then_some(*lease);
        while let Some(lease) = self.leases.iter().find_map(over) {
            self.end_lease(lease, now);
        }
    }

    /// Ends a lease, and deletes its keys.
    pub(crate) fn end_lease(&mut self, lease: LeaseId, now: Ms) {
        self.leases.remove(&lease);
        let keys = self.state.keys.iter().filter(|(_, stored)| stored.lease == Some(lease));
        let deletes: Vec<_> = keys.map(|(key, _)| key.clone()).collect();
        if !deletes.is_empty() {
            self.write(&[], &deletes, None, now);
        }
    }

    /// The leases that are alive.
    pub(crate) fn leases(&self) -> Vec<LeaseId> {
        self.leases.keys().copied().collect()
    }

    /// A leader was elected, or the quorum is back: every lease gets its full time again.
    pub(crate) fn elected(&mut self, until: Ms) {
        self.down_until = self.down_until.max(until);
        for (ttl, ends) in self.leases.values_mut() {
            *ends = until + whole(*ttl);
        }
    }

    /// Every lease lives longer than it should.
    pub(crate) fn delay_leases(&mut self, by: Ms) {
        self.leases.values_mut().for_each(|(_, ends)| *ends += by);
    }

    /// All keys.
    pub(crate) fn read_all(
        &self,
        consistency: Consistency,
        now: Ms,
    ) -> (StoreRevision, Vec<Entry>) {
        let state = self.seen_with(consistency, now);
        let entries = state.keys.iter().map(|(key, stored)| Entry {
            key: key.clone(),
            record: Some(stored.record.clone()),
            revision: stored.revision,
        });
        let at = StoreRevision { cluster: self.cluster, revision: state.revision };
        (at, entries.collect())
    }

    /// Executes a transaction. Its puts get `lease` if it writes a member's key, or if it says so.
    /// `None` if the lease has ended.
    pub(crate) fn commit(
        &mut self,
        transaction: &Transaction,
        lease: Option<LeaseId>,
        now: Ms,
    ) -> Option<TransactionResult> {
        let Transaction { expected, puts, deletes, reads, leased } = transaction;
        let succeeded = expected.iter().all(|(key, revision)| self.revision_of(key) == *revision);
        if !succeeded {
            let state = self.seen_with(CONSISTENCY, now);
            let read = reads.iter().map(|key| {
                let stored = state.keys.get(key);
                Entry {
                    key: key.clone(),
                    record: stored.map(|stored| stored.record.clone()),
                    revision: stored.map_or(0, |stored| stored.revision),
                }
            });
            return Some(TransactionResult { succeeded, read: read.collect(), at: self.at() });
        }
        let is_leased = |key: &Key| *leased || matches!(key, Key::Member(_));
        let needs_lease = puts.iter().any(|(key, _)| is_leased(key));
        if needs_lease && lease.is_none_or(|lease| !self.leases.contains_key(&lease)) {
            return None;
        }
        let lease = lease.filter(|_| needs_lease);
        if !puts.is_empty() || !deletes.is_empty() {
            self.write(puts, deletes, lease, now);
        }
        Some(TransactionResult { succeeded, read: Vec::new(), at: self.at() })
    }

    fn write(&mut self, puts: &[(Key, Record)], deletes: &[Key], lease: Option<LeaseId>, now: Ms) {
        self.earlier.push_back((now, self.state.clone()));
        while self.earlier.len() > 1 && self.earlier[1].0 + STALE_BY <= now {
            self.earlier.pop_front();
        }
        let deletes: Vec<_> =
            deletes.iter().filter(|key| self.state.keys.contains_key(*key)).collect();
        if puts.is_empty() && deletes.is_empty() {
            return;
        }
        self.state.revision += 1;
        let revision = self.state.revision;
        for (key, record) in puts {
            let stored = Stored { record: record.clone(), revision, lease };
            let before = self.state.keys.insert(key.clone(), stored);
            let entry = Entry { key: key.clone(), record: Some(record.clone()), revision };
            self.changes.push(Change { entry, before: before.map_or(0, |stored| stored.revision) });
        }
        for key in deletes {
            let before = self.state.keys.remove(key).map_or(0, |stored| stored.revision);
            let entry = Entry { key: key.clone(), record: None, revision };
            self.changes.push(Change { entry, before });
        }
    }

    /// The revision of a key; 0 if it does not exist.
    pub(crate) fn revision_of(&self, key: &Key) -> u64 {
        self.state.keys.get(key).map_or(0, |stored| stored.revision)
    }

    /// The content of a key.
    pub(crate) fn get(&self, key: &Key) -> Option<&Record> {
        self.state.keys.get(key).map(|stored| &stored.record)
    }

    /// All changes since the last restore.
    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The changes from a revision on.
    pub(crate) fn changes_from(&self, revision: u64, to: u64) -> Vec<Entry> {
        let first = self.changes.partition_point(|change| change.entry.revision < revision);
        let changes = self.changes[first..].iter().map(|change| &change.entry);
        changes.take_while(|entry| entry.revision <= to).cloned().collect()
    }

    pub(crate) fn back_up(&mut self) {
        self.backup = Some(self.state.clone());
    }

    /// Restores the backup, if there is one, as the cluster with this id.
    pub(crate) fn restore(&mut self, cluster: u64, now: Ms) -> bool {
        let Some(backup) =
            self.backup.clone().filter(|backup| backup.revision < self.state.revision)
        else {
            return false;
        };
        self.cluster = cluster;
        self.state = backup;
        self.changes.clear();
        self.earlier.clear();
        // Leases are part of a backup, and begin again.
        let held: Vec<_> = self.state.keys.values().filter_map(|stored| stored.lease).collect();
        for lease in held {
            let (ttl, _) = self.leases.get(&lease).copied().unwrap_or((Duration::from_secs(10), 0));
            self.leases.insert(lease, (ttl, now + whole(ttl)));
        }
        true
    }

    /// The state that a member answers from.
    fn seen_with(&self, consistency: Consistency, now: Ms) -> &State {
        let stale = self.earlier.iter().find(|(replaced, _)| replaced + STALE_BY > now);
        match (consistency, stale) {
            (Consistency::Serializable, Some((_, state))) => state,
            (Consistency::Serializable, None) | (Consistency::Linearizable, _) => &self.state,
        }
    }
}
