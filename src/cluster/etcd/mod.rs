//! The engine on etcd 3.4 or later, by its JSON gateway.
//!
//! Reads are linearizable, never serializable: a member of etcd that is cut off answers those from
//! its own past.
//!
//! ```text
//! access     endpoints, user, certificates
//! send       sends a request to one endpoint after the other, and logs in
//! lines      reads the body of a response
//! explain    why an endpoint has not responded
//! interpret  what a response means
//! responses  its JSON
//! walk       reads many keys, page by page
//! watch      what changes
//! ```

mod access;
mod explain;
mod interpret;
mod lines;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;
mod responses;
mod send;
mod walk;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

pub use self::access::Access;
use self::interpret::{Executed, Failure, Found, Status};
use self::send::{NoAnswer, Repeat, Sender};
use self::walk::{Visited, Walk};
use super::link::{BeatResult, Changes, EndpointState, Engine, ReadResult};
use super::record;
use super::replica::{
    Entry, Key, Member, Reason, Record, StoreError, StoreRevision, Transaction, TransactionResult,
};

/// Keys of one response.
const PAGE: u64 = 2_000;

/// Attempts to write the record of this replica, if its key changes meanwhile.
const PUT_ATTEMPTS: usize = 3;

/// Attempts to read all pages at one revision, if it is compacted meanwhile.
const READ_ATTEMPTS: usize = 3;

/// Attempts to read a page behind the first one before all pages are given up.
const PAGE_ATTEMPTS: usize = 3;

/// The pause before each of them.
const PAGE_PAUSE: Duration = Duration::from_secs(1);

/// etcd, as the store of a replica.
pub struct Etcd {
    sender: Mutex<Arc<Sender>>,
    /// The lease of the member's record.
    lease: Mutex<Option<i64>>,
    /// The newest revision in a response.
    newest: AtomicU64,
}

impl Etcd {
    /// etcd at these endpoints. Nothing is sent yet.
    pub fn new(access: Access) -> Self {
        let sender = Arc::new(Sender::new(access));
        Self { sender: Mutex::new(sender), lease: Mutex::default(), newest: AtomicU64::new(0) }
    }

    /// Uses these endpoints, and this user, from the next request on. The lease stays.
    pub fn reconfigure(&self, access: Access) {
        let new = Arc::new(Sender::new(access));
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *sender, new);
        drop(sender);
        old.access.retire();
    }

    /// Whether there are no endpoints, because a file of the configuration cannot be used.
    pub fn is_unusable(&self) -> bool {
        self.sender().access.is_unusable()
    }

    /// Whether etcd rejects the password or a certificate, or this side rejects that of etcd.
    pub fn is_rejected(&self) -> bool {
        self.sender().access.is_rejected()
    }

    /// Uses what was read again from files and credentials, if it has changed.
    pub fn renew(&self, access: Access) {
        if self.sender().access.fingerprint() != access.fingerprint() {
            self.reconfigure(access);
        }
    }

    fn sender(&self) -> Arc<Sender> {
        Arc::clone(&self.sender.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn lease(&self) -> Option<i64> {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_lease(&self, lease: Option<i64>) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }

    /// Renews the lease; `None` if there is none any more.
    async fn keep_alive(&self, sender: &Sender) -> Result<Option<i64>, NoAnswer> {
        let Some(lease) = self.lease() else { return Ok(None) };
        let body = json!({ "ID": lease.to_string() });
        let read = |body: &[u8]| interpret::kept_alive(body, sender.access.context());
        let is_alive =
            sender.request("/v3/lease/keepalive", bytes(&body), Repeat::Elsewhere, read).await?;
        if !is_alive {
            self.set_lease(None);
        }
        Ok(is_alive.then_some(lease))
    }

    /// Gets a lease. One whose response was lost expires.
    async fn grant(&self, sender: &Sender) -> Result<i64, NoAnswer> {
        let failover = sender.access.failover;
        let seconds = failover.as_secs() + u64::from(failover.subsec_nanos() > 0);
        let body = json!({ "TTL": seconds.to_string() });
        let granted = interpret::granted;
        let lease =
            sender.request("/v3/lease/grant", bytes(&body), Repeat::Elsewhere, granted).await?;
        self.set_lease(Some(lease));
        Ok(lease)
    }

    /// Writes the record of this replica, unless the key has another revision and another lease.
    async fn put_member(
        &self,
        sender: &Sender,
        lease: i64,
        member: Arc<Member>,
        mut expected: u64,
    ) -> Result<(StoreRevision, bool), NoAnswer> {
        let key = Key::Member(Arc::clone(&sender.access.name));
        let mut at = StoreRevision::default();
        for _ in 0..PUT_ATTEMPTS {
            let transaction = Transaction {
                expected: vec![(key.clone(), expected)],
                puts: vec![(key.clone(), Record::Member(Arc::clone(&member)))],
                deletes: Vec::new(),
                reads: vec![key.clone()],
                leased: false,
            };
            let executed = self.execute(sender, &transaction, Some(lease)).await?;
            at = executed.at;
            if executed.succeeded {
                return Ok((at, true));
            }
            // The key has vanished with a lease, or an earlier write was executed without an answer.
            let is = match executed.found.first() {
                None => 0,
                Some(found) if found.lease == lease => found.entry.revision,
                Some(_) => return Ok((at, false)),
            };
            if is == expected {
                return Ok((at, false));
            }
            expected = is;
        }
        Ok((at, false))
    }

    /// Whether the record of this replica has this lease. Proves that etcd has a quorum, which the
    /// renewal of a lease does not.
    async fn owns_member(
        &self,
        sender: &Sender,
        lease: Option<i64>,
    ) -> Result<(StoreRevision, bool), NoAnswer> {
        let access = &sender.access;
        let read = |body: &[u8]| interpret::page(body, access.context());
        let body = own_range(access);
        let page = sender.request("/v3/kv/range", body, Repeat::Elsewhere, read).await?;
        self.note(page.at);
        let is_own = page.found.first().is_some_and(|found| Some(found.lease) == lease);
        Ok((page.at, is_own))
    }

    async fn execute(
        &self,
        sender: &Sender,
        transaction: &Transaction,
        lease: Option<i64>,
    ) -> Result<Executed, NoAnswer> {
        let body = bytes(&transaction_body(&sender.access.prefix, transaction, lease));
        let read = |body: &[u8]| interpret::executed(body, sender.access.context());
        let executed = sender.request("/v3/kv/txn", body, Repeat::Never, read).await?;
        self.note(executed.at);
        Ok(executed)
    }

    async fn read_pages(
        &self,
        sender: &Sender,
        answered: &(dyn Fn() + Sync),
    ) -> Result<(StoreRevision, Vec<Entry>), NoAnswer> {
        let access = &sender.access;
        let mut walk = Walk::over(&format!("{}/", access.prefix));
        let (mut at, mut entries) = (None::<StoreRevision>, Vec::new());
        loop {
            let (key, end) = walk.range();
            let body = json!({
                "key": STANDARD.encode(key),
                "range_end": STANDARD.encode(end),
                "limit": PAGE.to_string(),
                // 0: the newest one.
                "revision": at.map_or(0, |at| at.revision).to_string(),
            });
            let read = |body: &[u8]| interpret::page(body, access.context());
            let mut attempts = 1;
            let page = loop {
                match sender.patient_request("/v3/kv/range", bytes(&body), read).await {
                    Err(NoAnswer::Unanswered(_)) if at.is_some() && attempts < PAGE_ATTEMPTS => {
                        attempts += 1;
                        sleep(PAGE_PAUSE).await;
                    }
                    answer => break answer?,
                }
            };
            answered();
            self.note(page.at);
            let at = *at.get_or_insert(page.at);
            if page.at.cluster != at.cluster {
                let why = "the endpoints in `etcd` of [cluster] belong to different etcd clusters";
                return Err(NoAnswer::Failed(Failure::Refused(why.to_owned())));
            }
            entries.extend(page.found.into_iter().map(|found| found.entry));
            let keys = page.keys.as_ref().map(|(first, last)| (&**first, &**last));
            if keys.is_some_and(|(first, last)| first < walk.range().0 || last < first) {
                let why = "the response contains keys of another page: check for a proxy or cache";
                return Err(NoAnswer::Unanswered(why.into()));
            }
            let visited = Visited { keys, more: page.more, count: page.count };
            if !walk.advance(visited, PAGE) {
                return Ok((at, entries));
            }
        }
    }

    fn note(&self, at: StoreRevision) {
        self.newest.fetch_max(at.revision, Ordering::Relaxed);
    }
}

impl Engine for Etcd {
    async fn beat(&self, put: Option<(Arc<Member>, u64)>) -> BeatResult {
        let sender = self.sender();
        let beat = async {
            let lease = self.keep_alive(&sender).await?;
            let Some((member, expected)) = put else {
                return self.owns_member(&sender, lease).await;
            };
            let lease = match lease {
                Some(lease) => lease,
                None => self.grant(&sender).await?,
            };
            let result = self.put_member(&sender, lease, member, expected).await;
            if result == Err(NoAnswer::Failed(Failure::NoLease)) {
                self.set_lease(None);
            }
            result
        };
        Ok(beat.await?)
    }

    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, StoreError> {
        let lease = self.lease();
        // Without a lease, the key of a member would never vanish.
        let mut puts = transaction.puts.iter();
        let needs_lease = puts.any(|(key, _)| transaction.leased || is_member(key));
        if needs_lease && lease.is_none() {
            return Err(StoreError::Unanswered(Failure::NoLease.into()));
        }
        let executed = self.execute(&self.sender(), &transaction, lease).await?;
        let Executed { succeeded, at, found } = executed;
        let mut found: Vec<_> = found.into_iter().map(|Found { entry, .. }| entry).collect();
        let read = |key: Key| match found.iter().position(|entry| entry.key == key) {
            Some(at) => found.swap_remove(at),
            None => Entry { key, record: None, revision: 0 },
        };
        let reads = if succeeded { Vec::new() } else { transaction.reads };
        let read = reads.into_iter().map(read).collect();
        Ok(TransactionResult { succeeded, at, read })
    }

    async fn read_with(&self, answered: &(dyn Fn() + Sync)) -> ReadResult {
        let sender = self.sender();
        let mut result = self.read_pages(&sender, answered).await;
        for _ in 1..READ_ATTEMPTS {
            if result != Err(NoAnswer::Failed(Failure::Compacted)) {
                break;
            }
            result = self.read_pages(&sender, answered).await;
        }
        let (at, entries) = result?;
        // Lower than before if etcd was restored.
        self.newest.store(at.revision, Ordering::Relaxed);
        Ok((at, entries))
    }

    async fn watch(&self, after: StoreRevision, changes: mpsc::Sender<Changes>) -> Arc<str> {
        self.watch_until_gap(after, changes).await
    }

    async fn reachable(&self) -> Vec<EndpointState> {
        let sender = self.sender();
        if sender.access.user.is_some() {
            // Logs in, if necessary. An endpoint that hangs must not hold up the others.
            let read = interpret::status;
            let path = "/v3/maintenance/status";
            let _ = sender.request(path, b"{}".to_vec(), Repeat::Elsewhere, read).await;
        }
        let ask = async |endpoint: &access::Endpoint| {
            let state = state_of(&sender, endpoint).await;
            let state = state.map_err(|failure| Reason::from(failure).text().clone());
            EndpointState { endpoint: endpoint.label.clone(), state }
        };
        join_all(sender.access.endpoints.iter().map(ask)).await
    }

    async fn leave(&self) {
        let Some(lease) = self.lease() else { return };
        let sender = self.sender();
        let body = json!({ "ID": lease.to_string() });
        // Whatever comes of it: a lease that is not revoked expires.
        let _ = sender.request("/v3/lease/revoke", bytes(&body), Repeat::Never, |_| Ok(())).await;
        self.set_lease(None);
    }
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd").field("access", &self.sender().access).finish_non_exhaustive()
    }
}

/// The version of an endpoint, and its state. Some versions of etcd (3.5.28 to 3.5.30, and the first
/// ones of 3.6) give the status to root only. For another user, both come from other requests.
async fn state_of(
    sender: &Sender,
    endpoint: &access::Endpoint,
) -> Result<(String, StoreRevision), Failure> {
    let body = b"{}".to_vec();
    match sender.ask(endpoint, "/v3/maintenance/status", body, interpret::status).await {
        Ok(Status { version, at }) => Ok((version, at)),
        Err(Failure::Denied(_)) => {
            let version = sender.ask(endpoint, "/version", Vec::new(), interpret::version).await?;
            let read = |body: &[u8]| interpret::page(body, sender.access.context());
            let body = own_range(&sender.access);
            let page = sender.ask(endpoint, "/v3/kv/range", body, read).await?;
            Ok((version, page.at))
        }
        Err(failure) => Err(failure),
    }
}

/// The request for the record of this replica.
fn own_range(access: &Access) -> Vec<u8> {
    let path = record::path(&access.prefix, &Key::Member(Arc::clone(&access.name)));
    bytes(&json!({ "key": STANDARD.encode(path) }))
}

/// A transaction as JSON. Keys of members are always bound to the lease.
fn transaction_body(prefix: &str, transaction: &Transaction, lease: Option<i64>) -> Value {
    let encode = |key: &Key| STANDARD.encode(record::path(prefix, key));
    let compare = transaction.expected.iter().map(|(key, revision)| {
        json!({
            "key": encode(key),
            "target": "MOD",
            "result": "EQUAL",
            "mod_revision": revision.to_string(),
        })
    });
    let puts = transaction.puts.iter().map(|(key, record)| {
        let bound = lease.filter(|_| transaction.leased || is_member(key)).unwrap_or(0);
        json!({ "request_put": {
            "key": encode(key),
            "value": STANDARD.encode(record::encode(record)),
            "lease": bound.to_string(),
        }})
    });
    let deletes = transaction
        .deletes
        .iter()
        .map(|key| json!({ "request_delete_range": { "key": encode(key) } }));
    let reads =
        transaction.reads.iter().map(|key| json!({ "request_range": { "key": encode(key) } }));
    json!({
        "compare": compare.collect::<Vec<_>>(),
        "success": puts.chain(deletes).collect::<Vec<_>>(),
        "failure": reads.collect::<Vec<_>>(),
    })
}

const fn is_member(key: &Key) -> bool {
    matches!(key, Key::Member(_))
}

fn bytes(body: &Value) -> Vec<u8> {
    body.to_string().into_bytes()
}

#[cfg(test)]
#[path = "engine_tests.rs"]
pub(crate) mod tests;
