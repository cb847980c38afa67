//! What one transaction writes of the cluster of replicas.

use std::collections::BTreeMap;

/// A state of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterSeen {
    /// Id of the etcd cluster.
    pub cluster: u64,
    /// Its revision.
    pub revision: u64,
}

/// What one transaction writes of it.
#[derive(Debug, Default)]
pub(super) struct ClusterBatch {
    pub(super) seen: Option<ClusterSeen>,
    /// Hashes of tokens, and MACs of their values.
    pub(super) values: BTreeMap<u64, i64>,
    /// Keys of tokens, and over which revision a spending begins; `None`: it has ended.
    pub(super) spendings: BTreeMap<String, Option<u64>>,
}

impl ClusterBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.seen.is_none() && self.values.is_empty() && self.spendings.is_empty()
    }

    /// Adds `older` changes where there is no newer one.
    pub(super) fn put_under(&mut self, mut older: Self) {
        self.seen = self.seen.or(older.seen);
        older.values.append(&mut self.values);
        self.values = older.values;
        older.spendings.append(&mut self.spendings);
        self.spendings = older.spendings;
    }
}
