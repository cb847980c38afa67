//! Writes to the state database through a queue that a thread commits once per second, or at once
//! on demand.
//!
//! Callers never wait for the disk: a newer write for a name replaces the queued one, so a hanging
//! disk costs only the queue. Failed writes stay queued and are retried.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::commit::{CompactionMark, LifeBuffer};
use super::compaction::{Compaction, CompactionStep};
use super::companion::CompanionWriter;
use super::encoding::{LifeKey, add_end, add_life};
use super::maintenance::Maintenance;
use super::model::{Counter, CounterKey, StoredValue};
use super::open::Store;
use super::writer_thread::{
    BATCH_DELAY, PendingWrites, StoreReport, WriteQueue, WriteReceipt, WriterThread,
};
use crate::lifecycle::PersistedLife;
use crate::secret::{TokenValue, ValueRef};
use crate::token_source::PersistError;

/// Maximum size of queued lives in bytes, as much as 5,000 checks per second produce in 20 s while
/// the disk fails. Lives dropped beyond that are rewritten by a compaction pass.
const MAX_PENDING_BYTES: usize = 8 << 20;

/// The state database of one directory, open for writing. Dropping it stops the thread; queued
/// writes are committed only if [`Writer::flush`] was called before.
pub struct Writer {
    pub(super) queue: Arc<WriteQueue>,
    reports: mpsc::UnboundedReceiver<StoreReport>,
    /// For reports of receipts.
    sender: mpsc::UnboundedSender<StoreReport>,
    /// Closed when the thread has ended.
    closed: oneshot::Receiver<()>,
    path: PathBuf,
    compaction: Compaction,
    /// Tokens with a stored value.
    names: HashSet<Box<str>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Store {
    /// Ends reading and starts writing.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub fn into_writer(self) -> Result<Writer, PersistError> {
        Writer::start(self)
    }
}

impl Writer {
    pub(super) fn start(store: Store) -> Result<Self, PersistError> {
        let Store { database, lock, entries, stale, .. } = store;
        let names = database.names();
        let queue = Arc::new(WriteQueue::new(database.life_key(), stale));
        let (sender, reports) = mpsc::unbounded_channel();
        let path = database.path.clone();
        let (closes, closed) = oneshot::channel();
        let work = WriterThread {
            queue: Arc::clone(&queue),
            reports: sender.clone(),
            database,
            maintenance: Maintenance::new(),
            _lock: lock,
            _closes: closes,
        };
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || work.run())
            .map_err(|error| PersistError::new(&path, "starting its thread", error))?;
        let compaction = Compaction::new(entries);
        Ok(Self { queue, reports, sender, closed, path, compaction, names })
    }

    /// Writes the life of `value`, the token's current value, as reported by the server at `url`.
    /// It is durable within a second.
    pub fn persist_life(
        &mut self,
        name: &str,
        url: &str,
        value: ValueRef<'_>,
        life: &PersistedLife,
    ) {
        self.append_life(|packed, key| add_life(packed, key, [name, url], value, life));
    }

    /// The token's life has ended or is unknown.
    pub fn delete_life(&mut self, name: &str) {
        self.append_life(|packed, _| add_end(packed, name));
    }

    fn append_life(&mut self, add: impl FnOnce(&mut Vec<u8>, LifeKey)) {
        let mut pending = self.queue.lock();
        let key = pending.key;
        let lives = &mut pending.batch.lives;
        if lives.size() > MAX_PENDING_BYTES {
            *lives = LifeBuffer::default();
            self.compaction.lose();
        }
        add(lives.open_row(), key);
        self.compaction.add();
        self.queue.announce(&mut pending, BATCH_DELAY);
    }

    /// Advances compaction; called after each [`persist_life`](Self::persist_life) or
    /// [`delete_life`](Self::delete_life) with the number of all tokens. Returns how many tokens to
    /// visit now, persisting those that are alive, and whether to start with the first one.
    pub fn compaction_step(&mut self, tokens: usize) -> (u32, bool) {
        let step = self.compaction.step(u64::try_from(tokens).unwrap_or(u64::MAX));
        if step == CompactionStep::Begin {
            self.queue.lock().batch.lives.marks.push(CompactionMark::Begin);
        }
        (
            if step == CompactionStep::None { 0 } else { Compaction::steps() },
            step == CompactionStep::Begin,
        )
    }

    /// All tokens were visited.
    pub fn finish_compaction_pass(&mut self) {
        if self.compaction.end() {
            self.queue.lock().batch.lives.marks.push(CompactionMark::End);
        }
    }

    /// Written lives were lost: with the next check a new pass starts.
    pub fn restart_compaction(&mut self) {
        self.compaction.lose();
    }

    /// Requests the newest batch of lives before this row number, or the newest of all. It arrives
    /// as [`StoreReport::LivesLoaded`].
    pub fn load_lives(&self, before: Option<i64>) {
        self.queue.lock().load_before = Some(before.unwrap_or(i64::MAX));
        self.queue.changed.notify_one();
    }

    /// Stores `value` for the token `name`, and replaces the stored one. `replaces` is the value
    /// that the token's source contains now.
    pub fn persist_value(
        &mut self,
        name: &str,
        value: TokenValue,
        replaces: Option<TokenValue>,
    ) -> WriteReceipt {
        let replaces_another = !self.names.insert(name.into());
        let mut pending = self.queue.lock();
        let batch = &mut pending.batch;
        batch.values.insert(name.into(), Some(StoredValue { value, replaces }));
        batch.removed.insert(name.into(), None);
        batch.erases |= replaces_another;
        self.receipt(&mut pending)
    }

    /// Deletes and overwrites the stored value of the token `name` within about two seconds.
    pub fn delete_value(&mut self, name: &str) {
        if self.names.remove(name) {
            let mut pending = self.queue.lock();
            pending.batch.delete_value(name);
            self.queue.announce(&mut pending, BATCH_DELAY);
        }
    }

    /// The token `name` was removed: its value is kept until then, in milliseconds since 1970.
    pub fn expire_value(&self, name: &str, until_ms: i64) {
        self.set_removed(name, Some(until_ms));
    }

    /// The token `name` is configured again: its value is kept.
    pub fn retain_value(&self, name: &str) {
        self.set_removed(name, None);
    }

    fn set_removed(&self, name: &str, until_ms: Option<i64>) {
        if self.names.contains(name) {
            let mut pending = self.queue.lock();
            pending.batch.removed.insert(name.into(), until_ms);
            self.queue.announce(&mut pending, BATCH_DELAY);
        }
    }

    /// A handle that writes refresh tokens, for tasks.
    pub fn companions(&self) -> CompanionWriter {
        let Self { queue, sender, path, .. } = self;
        CompanionWriter { queue: Arc::clone(queue), reports: sender.clone(), path: path.clone() }
    }

    /// Stores a counter, and replaces the stored one. It is durable within a second.
    pub fn persist_counter(&self, counted: CounterKey, count: Counter) {
        let mut pending = self.queue.lock();
        pending.batch.counts.insert(counted, count);
        self.queue.announce(&mut pending, BATCH_DELAY);
    }

    /// Stores which call renews on this server at this URL.
    pub fn persist_renewal_method(&self, server: &str, url: &str, renewing: bool) {
        let mut pending = self.queue.lock();
        pending.batch.renewal_methods.insert(server.into(), Some((url.to_owned(), renewing)));
        self.queue.announce(&mut pending, BATCH_DELAY);
    }

    /// The server is no longer configured.
    pub fn delete_renewal_method(&self, server: &str) {
        let mut pending = self.queue.lock();
        pending.batch.renewal_methods.insert(server.into(), None);
        self.queue.announce(&mut pending, BATCH_DELAY);
    }

    /// Starts a compaction pass at startup if there are few tokens and many obsolete entries. If it
    /// returns `true`, the caller persists each live token and then calls
    /// [`finish_compaction_pass`](Self::finish_compaction_pass).
    pub fn compact_at_start(&mut self, tokens: usize) -> bool {
        let begins = self.compaction.starts_at_open(u64::try_from(tokens).unwrap_or(u64::MAX));
        if begins {
            self.queue.lock().batch.lives.marks.push(CompactionMark::Begin);
        }
        begins
    }

    /// Commits all queued writes now.
    pub fn flush(&self) -> WriteReceipt {
        self.receipt(&mut self.queue.lock())
    }

    /// Commits all queued writes and releases the state directory.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub async fn close(mut self) -> Result<(), PersistError> {
        let written = self.flush().durable().await;
        self.queue.end();
        if written.is_ok() {
            // The channel closes without a message.
            let _ = (&mut self.closed).await;
        }
        written
    }

    /// Waits for the next report. Cancel-safe.
    pub async fn report(&mut self) -> StoreReport {
        match self.reports.recv().await {
            Some(report) => report,
            // The thread ends after this object; before that only by a panic, which aborts the
            // process.
            None => std::future::pending().await,
        }
    }

    fn receipt(&self, pending: &mut PendingWrites) -> WriteReceipt {
        let (sender, written) = oneshot::channel();
        pending.receipts.push(sender);
        self.queue.announce(pending, Duration::ZERO);
        WriteReceipt { written, reports: self.sender.clone(), path: self.path.clone() }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.end();
    }
}
