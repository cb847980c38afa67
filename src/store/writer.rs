//! The writing side: a thread that commits what has gathered, once a second, or at once.
//!
//! Nobody waits for the disk to hand something over: it is put where the thread finds it, the
//! last word on each name in place of the one before, so that a disk that hangs costs no more
//! than that. What cannot be written stays, and is tried again.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::commit::{CompactionMark, LifeBuffer};
use super::compaction::{Compaction, CompactionStep};
use super::encoding::{add_end, add_life};
use super::mac::Salt;
use super::maintenance::Maintenance;
use super::model::{Counter, CounterKey, Life, StoredValue};
use super::open::Store;
use super::writer_thread::{PendingWrites, StoreReport, WriteQueue, WriteReceipt, WriterThread};
use crate::clock;
use crate::secret::{TokenValue, ValueRef};
use crate::token_file::StoreFault;

/// How long lives gather before they are written: with the commit itself, a second.
const BATCH_DELAY: Duration = Duration::from_millis(900);

/// Bytes of lives that gather at the most. As much as 20 s of 5,000 checks a second bring while
/// a disk refuses it. What is lost beyond is written anew once the disk takes it.
const MAX_PENDING_BYTES: usize = 8 << 20;

/// The store of one state directory, to be written to. It ends when this is dropped; what has
/// gathered is written then if [`Writer::flush`] is asked for before.
pub struct Writer {
    queue: Arc<WriteQueue>,
    reports: mpsc::UnboundedReceiver<StoreReport>,
    /// For what a receipt has to tell.
    sender: mpsc::UnboundedSender<StoreReport>,
    /// Ends when the thread does.
    closed: oneshot::Receiver<()>,
    path: PathBuf,
    salt: Salt,
    boot: i64,
    compaction: Compaction,
    /// The tokens whose value is kept.
    names: HashSet<Box<str>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn start(store: Store) -> Result<Self, StoreFault> {
        let Store { database, lock, entries, stale, .. } = store;
        let names = database.names();
        let queue = Arc::new(WriteQueue::default());
        if !stale.is_empty() {
            let mut pending = queue.lock();
            pending.batch = stale;
            pending.due = Some(clock::now());
        }
        let (sender, reports) = mpsc::unbounded_channel();
        let (salt, boot) = (database.salt, database.boot);
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
            .map_err(|error| StoreFault::new(&path, "starting its thread", error))?;
        let compaction = Compaction::new(entries);
        Ok(Self { queue, reports, sender, closed, path, salt, boot, compaction, names })
    }

    /// The last answer about `value`, the token's value in use, said this of its life; `url` is
    /// the address of the server that gave it. It is on the disk within a second.
    pub fn persist_life(&mut self, name: &str, url: &str, value: ValueRef<'_>, life: &Life) {
        let key = (self.salt, self.boot);
        self.append_life(|packed| add_life(packed, (&key.0, key.1), [name, url], value, life));
    }

    /// The token's life is over, or nothing is known of it any more.
    pub fn delete_life(&mut self, name: &str) {
        self.append_life(|packed| add_end(packed, name));
    }

    fn append_life(&mut self, add: impl FnOnce(&mut Vec<u8>)) {
        let mut pending = self.queue.lock();
        let lives = &mut pending.batch.lives;
        if lives.size() > MAX_PENDING_BYTES {
            *lives = LifeBuffer::default();
            self.compaction.lose();
        }
        add(lives.open_row());
        self.compaction.add();
        self.announce(&mut pending, BATCH_DELAY);
    }

    /// How many tokens are to be looked at now, and those that live remembered again, for the
    /// sake of what was written long ago: to be asked after each check that was remembered or
    /// forgotten, with the number of all tokens. `true`: from the first token on.
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

    /// All tokens have been looked at.
    pub fn finish_compaction_pass(&mut self) {
        if self.compaction.end() {
            self.queue.lock().batch.lives.marks.push(CompactionMark::End);
        }
    }

    /// What was written before is lost: with the next check all tokens are looked at anew.
    pub fn restart_compaction(&mut self) {
        self.compaction.lose();
    }

    /// Asks for the newest of the lives that stand before the row of this number, or of all; they
    /// come as a [`StoreReport::LivesLoaded`].
    pub fn load_lives(&self, before: Option<i64>) {
        self.queue.lock().load_before = Some(before.unwrap_or(i64::MAX));
        self.queue.changed.notify_one();
    }

    /// Keeps `value` for the token `name`, in place of what was kept for it; `replaces` is
    /// what the token's source holds now.
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

    /// Deletes and overwrites the value that is kept for the token `name`, if there is one,
    /// within a second or two.
    pub fn delete_value(&mut self, name: &str) {
        if self.names.remove(name) {
            let mut pending = self.queue.lock();
            pending.batch.delete_value(name);
            self.announce(&mut pending, BATCH_DELAY);
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
            self.announce(&mut pending, BATCH_DELAY);
        }
    }

    /// Keeps a count, in place of the one before. It is on the disk within a second.
    pub fn persist_counter(&self, counted: CounterKey, count: Counter) {
        let mut pending = self.queue.lock();
        pending.batch.counts.insert(counted, count);
        self.announce(&mut pending, BATCH_DELAY);
    }

    /// Which call extends lives on the server of this name, at this address.
    pub fn persist_renewal_method(&self, server: &str, url: &str, renewing: bool) {
        let mut pending = self.queue.lock();
        pending.batch.renewal_methods.insert(server.into(), Some((url.to_owned(), renewing)));
        self.announce(&mut pending, BATCH_DELAY);
    }

    /// The server of this name is not configured any more.
    pub fn delete_renewal_method(&self, server: &str) {
        let mut pending = self.queue.lock();
        pending.batch.renewal_methods.insert(server.into(), None);
        self.announce(&mut pending, BATCH_DELAY);
    }

    /// Begins to write all lives anew if there are few tokens and many outdated entries: to be
    /// asked at the start. `true`: each token that lives is to be remembered now, and then
    /// [`finish_compaction_pass`](Self::went_round).
    pub fn compact_at_start(&mut self, tokens: usize) -> bool {
        let begins = self.compaction.starts_at_open(u64::try_from(tokens).unwrap_or(u64::MAX));
        if begins {
            self.queue.lock().batch.lives.marks.push(CompactionMark::Begin);
        }
        begins
    }

    /// Has everything written that has gathered.
    pub fn flush(&self) -> WriteReceipt {
        self.receipt(&mut self.queue.lock())
    }

    /// Has everything written that has gathered, and lets go of the state directory.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub async fn close(mut self) -> Result<(), StoreFault> {
        let written = self.flush().durable().await;
        self.queue.end();
        if written.is_ok() {
            // It ends with an error: nothing is ever sent.
            let _ = (&mut self.closed).await;
        }
        written
    }

    /// Waits for something to be told. Cancel-safe.
    pub async fn report(&mut self) -> StoreReport {
        match self.reports.recv().await {
            Some(report) => report,
            // The thread ends after this does; before, only by a panic, which aborts.
            None => std::future::pending().await,
        }
    }

    fn receipt(&self, pending: &mut PendingWrites) -> WriteReceipt {
        let (sender, written) = oneshot::channel();
        pending.receipts.push(sender);
        self.announce(pending, Duration::ZERO);
        WriteReceipt { written, reports: self.sender.clone(), path: self.path.clone() }
    }

    fn announce(&self, pending: &mut PendingWrites, within: Duration) {
        if within == BATCH_DELAY && pending.due.is_some() {
            return;
        }
        let due = clock::now() + within;
        if pending.due.is_none_or(|listed| due < listed) {
            pending.due = Some(due);
            self.queue.changed.notify_one();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.end();
    }
}
