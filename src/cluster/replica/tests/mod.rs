//! Tests of replicas against a model of etcd, as the specification reads.

mod asking;
mod joining;
mod publishing;
mod responses;
mod spending;
mod suspending;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;

const FAILOVER: Duration = Duration::from_secs(9);
const LIMIT: Duration = Duration::from_secs(40);
const BEGIN_WITHIN: Duration = Duration::from_secs(10);
const KEY: KeyId = KeyId(7);

/// A model of etcd: all operations in one order.
struct Etcd {
    at: StoreRevision,
    keys: BTreeMap<Key, (Record, u64)>,
    log: Vec<Entry>,
}

/// One replica with its connection to etcd.
#[allow(clippy::struct_excessive_bools)] // independent faults
struct Peer {
    replica: Replica,
    /// Changes that the watch has delivered.
    watched: usize,
    watching: bool,
    /// etcd executes what is sent, but no response comes.
    deaf: bool,
    /// Nothing that is sent reaches etcd.
    cut: bool,
    /// Commits stay in `unsent`.
    slow: bool,
    unsent: Vec<(OperationId, Transaction)>,
    /// What the replica reported.
    reports: Vec<Output>,
    now: Moment,
}

impl Etcd {
    fn new() -> Self {
        let at = StoreRevision { cluster: 1, revision: 1 };
        Self { at, keys: BTreeMap::new(), log: Vec::new() }
    }

    fn write(&mut self, key: &Key, record: Option<Record>) {
        let revision = self.at.revision;
        let existed = self.keys.remove(key).is_some();
        if let Some(record) = &record {
            self.keys.insert(key.clone(), (record.clone(), revision));
        }
        if existed || record.is_some() {
            self.log.push(Entry { key: key.clone(), record, revision });
        }
    }

    /// What an operator does by hand.
    fn set(&mut self, key: &Key, record: Option<Record>) {
        self.at.revision += 1;
        self.write(key, record);
    }

    fn entry(&self, key: &Key) -> Entry {
        let found = self.keys.get(key);
        Entry {
            key: key.clone(),
            record: found.map(|(record, _)| record.clone()),
            revision: found.map_or(0, |(_, revision)| *revision),
        }
    }

    fn commit(&mut self, transaction: &Transaction) -> TransactionResult {
        let as_expected = transaction
            .expected
            .iter()
            .all(|(key, revision)| self.entry(key).revision == *revision);
        if !as_expected {
            let read = transaction.reads.iter().map(|key| self.entry(key)).collect();
            return TransactionResult { succeeded: false, at: self.at, read };
        }
        self.at.revision += 1;
        for (key, record) in &transaction.puts {
            self.write(key, Some(record.clone()));
        }
        for key in &transaction.deletes {
            self.write(key, None);
        }
        TransactionResult { succeeded: true, at: self.at, read: Vec::new() }
    }

    fn beat(&mut self, name: &Arc<str>, put: Option<(Arc<Member>, u64)>) -> bool {
        let key = Key::Member(name.clone());
        let Some((member, expected)) = put else { return self.keys.contains_key(&key) };
        let put = (key.clone(), Record::Member(member));
        let expected = vec![(key, expected)];
        self.commit(&Transaction { expected, puts: vec![put], ..Transaction::default() }).succeeded
    }

    fn all(&self) -> Vec<Entry> {
        self.keys.keys().map(|key| self.entry(key)).collect()
    }

    fn claim(&self, token: &str) -> Option<Claim> {
        match &self.keys.get(&Key::Claim(key(token)))?.0 {
            Record::Claim(claim) => Some(claim.clone()),
            other => panic!("{other:?}"),
        }
    }

    fn value(&self, token: &str) -> Option<Arc<[u8]>> {
        match &self.keys.get(&Key::Value(key(token)))?.0 {
            Record::Value(value) => Some(value.clone()),
            other => panic!("{other:?}"),
        }
    }
}

impl Peer {
    /// A replica that has not sent anything.
    fn new(name: &str) -> Self {
        Self::with(settings(name))
    }

    fn with(settings: ReplicaSettings) -> Self {
        let now = Moment::from_millis(1_000_000);
        Self {
            replica: Replica::new(settings, now),
            watched: 0,
            watching: true,
            deaf: false,
            cut: false,
            slow: false,
            unsent: Vec::new(),
            reports: Vec::new(),
            now,
        }
    }

    /// A replica that has joined.
    fn joined(name: &str, etcd: &mut Etcd) -> Self {
        let mut peer = Self::new(name);
        peer.settle(etcd);
        assert!(peer.replica.is_joined(), "{:?}", peer.reports);
        peer.reports.clear();
        peer
    }

    /// Executes what the replica wants until it wants nothing more at this moment.
    fn settle(&mut self, etcd: &mut Etcd) {
        let silence = || StoreError::Unanswered("timeout".into());
        loop {
            let outputs = std::mem::take(&mut self.replica.outputs);
            let is_idle = outputs.is_empty();
            for output in outputs {
                self.execute(output, etcd, &silence);
            }
            let news = etcd.log.get(self.watched..).unwrap_or_default().to_vec();
            let delivers = self.watching && !self.cut && !news.is_empty();
            if delivers {
                self.watched = etcd.log.len();
                self.replica.changed(etcd.at, news, 0, self.now);
            }
            if is_idle && !delivers {
                break;
            }
        }
    }

    fn execute(&mut self, output: Output, etcd: &mut Etcd, silence: &dyn Fn() -> StoreError) {
        let heard = !self.deaf && !self.cut;
        match output {
            Output::Read => {
                self.watched = etcd.log.len();
                let result = if heard { Ok((etcd.at, etcd.all())) } else { Err(silence()) };
                self.replica.read_finished(result, self.now);
            }
            Output::Beat { put } => {
                let name = self.replica.settings.name.clone();
                let done = !self.cut && etcd.beat(&name, put);
                let result = if heard { Ok((etcd.at, done)) } else { Err(silence()) };
                self.replica.beat_finished(self.now, result, self.now);
            }
            Output::Commit(id, transaction) if self.slow => self.unsent.push((id, transaction)),
            Output::Commit(id, transaction) => self.commit(id, &transaction, etcd),
            report => self.reports.push(report),
        }
    }

    fn commit(&mut self, id: OperationId, transaction: &Transaction, etcd: &mut Etcd) {
        let result = (!self.cut).then(|| etcd.commit(transaction)).filter(|_| !self.deaf);
        let result = result.ok_or_else(|| StoreError::Unanswered("timeout".into()));
        self.replica.committed(id, result, self.now);
    }

    /// Time passes, with all wake-ups.
    fn pass(&mut self, time: Duration, etcd: &mut Etcd) {
        let end = self.now + time;
        self.settle(etcd);
        while let Some(wake) = self.replica.next_wake().filter(|wake| *wake <= end) {
            self.now = self.now.max(wake);
            self.replica.wake(self.now);
            self.settle(etcd);
            assert!(self.replica.next_wake() != Some(wake), "wakes for nothing at {wake:?}");
        }
        self.now = end;
    }

    /// Time passes in which this process does not run.
    fn stop(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    fn request(&mut self, id: u64, token: &str, etcd: &mut Etcd) {
        self.replica.request(spend_request(id, token), self.now);
        self.settle(etcd);
    }

    fn spent(&mut self, id: u64, value: Option<&str>, etcd: &mut Etcd) {
        let value = value.map(|value| value.as_bytes().into());
        self.replica.spent(SpendId(id), Spent { value, count: None }, self.now);
        self.settle(etcd);
    }

    /// What was reported since the last call about spendings: `granted 1`, `held 2: …`.
    fn spendings(&mut self) -> Vec<String> {
        let reports = std::mem::take(&mut self.reports);
        reports.iter().filter_map(spending).collect()
    }

    fn notices(&mut self) -> Vec<ClusterNotice> {
        let reports = std::mem::take(&mut self.reports);
        let notice = |output| match output {
            Output::Notice(notice) => Some(notice),
            _ => None,
        };
        reports.into_iter().filter_map(notice).collect()
    }

    /// The values that were reported, and those that count as published: `new a 5: V1`.
    fn values(&mut self) -> Vec<String> {
        let reports = std::mem::take(&mut self.reports);
        let value = |output| match output {
            Output::NewValue { token, value, .. } => {
                Some(format!("new {}: {}", token.as_str(), String::from_utf8_lossy(&value)))
            }
            Output::Published { token, .. } => Some(format!("published {}", token.as_str())),
            _ => None,
        };
        reports.into_iter().filter_map(value).collect()
    }
}

fn spending(output: &Output) -> Option<String> {
    match output {
        Output::Granted { id, .. } => Some(format!("granted {}", id.0)),
        Output::Held { id, reason, .. } => Some(match reason {
            HeldReason::Claimed { replica } => format!("held {}: claimed by {replica}", id.0),
            HeldReason::Unreachable(why) => format!("held {}: {why}", id.0),
            HeldReason::Outdated => format!("held {}: outdated", id.0),
            HeldReason::NotJoined => format!("held {}: not joined", id.0),
        }),
        Output::Released(Some(_)) => Some("released".into()),
        Output::Released(None) => Some("released all".into()),
        _ => None,
    }
}

fn settings(name: &str) -> ReplicaSettings {
    let incarnation = name.bytes().map(u64::from).sum();
    ReplicaSettings {
        name: name.into(),
        failover: FAILOVER,
        incarnation,
        boot: incarnation,
        seen: None,
        keys: vec![KEY],
        seed: incarnation,
        claim_on_lease: false,
    }
}

fn key(token: &str) -> TokenKey {
    TokenKey::new("s", token)
}

fn spend_request(id: u64, token: &str) -> SpendRequest {
    SpendRequest {
        id: SpendId(id),
        token: key(token),
        limit: LIMIT,
        begin_within: BEGIN_WITHIN,
        count: Some(count(1)),
    }
}

fn count(counted: u32) -> Count {
    Count { window_end_ms: 5_000, counted, in_a_row: counted }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A claim of a replica that no test runs.
fn foreign_claim() -> Claim {
    let taken = (1, Moment::from_millis(0));
    Claim { replica: "x".into(), incarnation: 1, nonce: 1, limit: LIMIT, taken }
}
