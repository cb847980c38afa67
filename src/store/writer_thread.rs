//! The thread that commits queued writes, once per second or at once on demand.

use std::fs::File;
use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::commit::{RETRY, WriteBatch};
use super::database::{Database, fault, is_damage};
use super::encoding::{LifeBatch, LifeKey};
use super::maintenance::Maintenance;
use super::model::ClockReading;
use crate::clock;
use crate::time::Moment;
use crate::token_source::{DISK_TIMEOUT, PersistError};

/// How long lives are queued before they are written: with the commit itself, a second.
pub(super) const BATCH_DELAY: Duration = Duration::from_millis(900);

/// Resolves when the queued writes are durable or have failed.
#[derive(Debug)]
pub struct WriteReceipt {
    pub(super) written: oneshot::Receiver<Result<(), PersistError>>,
    pub(super) reports: mpsc::UnboundedSender<StoreReport>,
    pub(super) path: PathBuf,
}

impl WriteReceipt {
    /// Waits until the writes are durable, for at most 10 s.
    ///
    /// # Errors
    ///
    /// If they failed, or did not finish in time; then they may still succeed.
    pub async fn durable(self) -> Result<(), PersistError> {
        match timeout(DISK_TIMEOUT, self.written).await {
            Ok(Ok(result)) => result,
            // The sender is dropped only with the thread, which is the same as no database.
            Ok(Err(_)) => Err(PersistError::NoStateDir),
            Err(_) => Err(PersistError::timed_out(self.path, WRITING)),
        }
    }

    /// Waits like [`durable`](Self::durable), for callers that continue in any case. The writer
    /// reports failures, and this reports a hanging disk.
    pub async fn settled(self) {
        self.settled_within(DISK_TIMEOUT).await;
    }

    /// The same for at most this time.
    pub async fn settled_within(self, patience: Duration) {
        if timeout(patience, self.written).await.is_err() {
            let fault = PersistError::timed_out(self.path, WRITING);
            // At shutdown the receiver is gone.
            let _ = self.reports.send(StoreReport::Failed { fault, retry_in: Duration::ZERO });
        }
    }
}

/// The operation named in the error about a hanging disk.
const WRITING: &str = "writing to it";

pub(super) type Sender = oneshot::Sender<Result<(), PersistError>>;

/// A report of the writer.
#[derive(Debug)]
pub enum StoreReport {
    /// Lives and counters could not be written; the write is retried.
    Failed {
        /// The error.
        fault: PersistError,
        /// Time until the retry; zero if the write still hangs.
        retry_in: Duration,
    },
    /// Another database is open: the one before was damaged, and set aside, or was moved.
    StartedOver(PersistError),
    /// Requested lives of an earlier run, and the row to continue with; `None` if there are no
    /// more.
    LivesLoaded(Option<(i64, LifeBatch)>),
}

pub(super) struct PendingWrites {
    /// Key of the MACs of lives. It changes if the database is replaced.
    pub(super) key: LifeKey,
    pub(super) batch: WriteBatch,
    pub(super) receipts: Vec<Sender>,
    /// When to commit at the latest.
    pub(super) due: Option<Moment>,
    /// Lives before this row were requested.
    pub(super) load_before: Option<i64>,
    pub(super) ending: bool,
}

pub(super) struct WriteQueue {
    pending: Mutex<PendingWrites>,
    pub(super) changed: Condvar,
}

impl WriteQueue {
    /// The queue of a database with this key, with `batch` to be written at once.
    pub(super) fn new(key: LifeKey, batch: WriteBatch) -> Self {
        let due = (!batch.is_empty()).then(clock::now);
        let receipts = Vec::new();
        let pending = PendingWrites { key, batch, receipts, due, load_before: None, ending: false };
        Self { pending: Mutex::new(pending), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, PendingWrites> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans a commit within this time at the latest.
    pub(super) fn announce(&self, pending: &mut PendingWrites, within: Duration) {
        if within == BATCH_DELAY && pending.due.is_some() {
            return;
        }
        let due = clock::now() + within;
        if pending.due.is_none_or(|listed| due < listed) {
            pending.due = Some(due);
            self.changed.notify_one();
        }
    }

    pub(super) fn end(&self) {
        self.lock().ending = true;
        self.changed.notify_one();
    }
}

/// The next task of the thread.
enum Job {
    Write(Box<WriteBatch>, Vec<Sender>),
    LoadLives(i64),
    Maintain,
}

/// The result of a batch, with what is left of it and the error.
enum CommitOutcome {
    Complete,
    /// Everything except the lives was written.
    WithoutLives(WriteBatch, PersistError),
    Failed(WriteBatch, PersistError),
}

impl CommitOutcome {
    /// Nothing was written. A value is not queued again: its caller gets the error and retries.
    fn failed(mut batch: WriteBatch, fault: PersistError) -> Self {
        batch.values.retain(|_, value| value.is_none());
        batch.companions.retain(|_, row| row.is_none());
        Self::Failed(batch, fault)
    }
}

/// State of the thread.
pub(super) struct WriterThread {
    pub(super) queue: Arc<WriteQueue>,
    pub(super) reports: mpsc::UnboundedSender<StoreReport>,
    pub(super) database: Database,
    pub(super) maintenance: Maintenance,
    /// Released after the database.
    pub(super) _lock: File,
    /// Dropped last.
    pub(super) _closes: oneshot::Sender<()>,
}

impl WriterThread {
    pub(super) fn run(mut self) {
        while let Some(job) = self.next() {
            let (batch, receipts) = match job {
                Job::Write(batch, receipts) => (*batch, receipts),
                Job::LoadLives(before) => {
                    self.load_lives(before);
                    continue;
                }
                Job::Maintain => {
                    self.maintain();
                    continue;
                }
            };
            let (left, result) = match self.write(batch) {
                CommitOutcome::Complete => (None, Ok(())),
                CommitOutcome::WithoutLives(left, fault) => (Some((left, fault)), Ok(())),
                CommitOutcome::Failed(left, fault) => (Some((left, fault.clone())), Err(fault)),
            };
            if let Some((left, fault)) = left
                && !left.is_empty()
            {
                let mut pending = self.queue.lock();
                pending.batch.put_back(left);
                let retry = clock::now() + RETRY;
                pending.due = Some(pending.due.map_or(retry, |due| due.min(retry)));
                drop(pending);
                self.send(StoreReport::Failed { fault, retry_in: RETRY });
            }
            for receipt in receipts {
                // The caller may have stopped waiting.
                let _ = receipt.send(result.clone());
            }
        }
        // A larger file is harmless.
        let _ = self.database.shrink();
    }

    /// Waits for the next job; `None` at the end.
    fn next(&self) -> Option<Job> {
        let mut pending = self.queue.lock();
        loop {
            let now = clock::now();
            let wait = pending.due.map(|due| due.since(now));
            if wait == Some(Duration::ZERO) {
                pending.due = None;
                let receipts = mem::take(&mut pending.receipts);
                return Some(Job::Write(Box::new(mem::take(&mut pending.batch)), receipts));
            }
            if let Some(before) = pending.load_before.take() {
                return Some(Job::LoadLives(before));
            }
            if pending.ending {
                return None;
            }
            let maintenance = self.maintenance.due().map(|due| due.since(now));
            if maintenance == Some(Duration::ZERO) {
                return Some(Job::Maintain);
            }
            let wait = wait.into_iter().chain(maintenance).min();
            pending = match wait {
                Some(wait) => {
                    let waited = self.queue.changed.wait_timeout(pending, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.queue.changed.wait(pending).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Writes as much as possible.
    fn write(&mut self, mut batch: WriteBatch) -> CommitOutcome {
        if batch.is_empty() {
            return CommitOutcome::Complete;
        }
        let at = ClockReading { now: clock::now(), wall_ms: clock::wall_clock().as_millisecond() };
        self.maintenance.expect(&batch, at);
        if let Err(fault) = self.follow_path(at) {
            return CommitOutcome::failed(batch, fault);
        }
        let mut result = self.database.commit(&batch, at);
        if result.as_ref().is_err_and(is_damage) {
            if let Err(fault) = self.start_over(at) {
                return CommitOutcome::failed(batch, fault);
            }
            result = self.database.commit(&batch, at);
        }
        let Err(error) = result else { return CommitOutcome::Complete };
        let fault = fault(&self.database.path, &error);
        // Lives take the most space and are the least important: the rest may fit without them.
        let lives = mem::take(&mut batch.lives);
        if !lives.is_empty() && !batch.is_empty() && self.database.commit(&batch, at).is_ok() {
            return CommitOutcome::WithoutLives(
                WriteBatch { lives, ..WriteBatch::default() },
                fault,
            );
        }
        CommitOutcome::failed(WriteBatch { lives, ..batch }, fault)
    }

    /// Opens the database again if its file was moved.
    fn follow_path(&mut self, at: ClockReading) -> Result<(), PersistError> {
        if let Some(report) = self.database.follow_path()? {
            self.report_new(report, at);
        }
        Ok(())
    }

    /// Replaces the damaged database by a new one with its readable rows.
    fn start_over(&mut self, at: ClockReading) -> Result<(), PersistError> {
        let report = self.database.start_over()?;
        self.report_new(report, at);
        Ok(())
    }

    /// Another database is open.
    fn report_new(&mut self, report: PersistError, at: ClockReading) {
        self.queue.lock().key = self.database.life_key();
        self.maintenance.expect_copy(at);
        self.send(StoreReport::StartedOver(report));
    }

    /// Deletes expired rows and erases them from the log.
    fn maintain(&mut self) {
        let at = ClockReading { now: clock::now(), wall_ms: clock::wall_clock().as_millisecond() };
        let Err(error) = self.maintenance.run(&self.database, at) else { return };
        let recovered = if is_damage(&error) {
            self.start_over(at)
        } else {
            Err(fault(&self.database.path, &error))
        };
        if let Err(fault) = recovered {
            self.send(StoreReport::Failed { fault, retry_in: RETRY });
        }
    }

    /// Sends the next readable batch of lives before that row. Unreadable lives count as unknown;
    /// the next write detects the damage and recovers.
    fn load_lives(&self, mut before: i64) {
        let found = loop {
            match self.database.life_batch_before(before) {
                Ok(Some((number, Some(part)))) => break Some((number, part)),
                Ok(Some((number, None))) => before = number,
                Ok(None) | Err(_) => break None,
            }
        };
        self.send(StoreReport::LivesLoaded(found));
    }

    fn send(&self, report: StoreReport) {
        // At shutdown the receiver is gone.
        let _ = self.reports.send(report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The receipt of a write to a hanging disk, and its reports.
    fn receipt_of_a_hanging_disk() -> (WriteReceipt, Sender, mpsc::UnboundedReceiver<StoreReport>) {
        let (sender, written) = oneshot::channel();
        let (reports, reported) = mpsc::unbounded_channel();
        (WriteReceipt { written, reports, path: "/state/tokenkeep.db".into() }, sender, reported)
    }

    #[tokio::test(start_paused = true)]
    async fn hanging_disk_is_an_error_for_a_caller_that_needs_durability() {
        let (receipt, _sender, _reported) = receipt_of_a_hanging_disk();
        let fault = receipt.durable().await.unwrap_err().to_string();
        assert!(fault.contains("/state/tokenkeep.db") && fault.contains("10 s"), "{fault}");
    }

    #[tokio::test(start_paused = true)]
    async fn hanging_disk_is_reported_by_a_caller_that_continues() {
        let (receipt, _sender, mut reported) = receipt_of_a_hanging_disk();
        receipt.settled().await;
        assert!(matches!(reported.try_recv(), Ok(StoreReport::Failed { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn write_that_fails_in_time_is_reported_once_by_the_writer() {
        let (receipt, sender, mut reported) = receipt_of_a_hanging_disk();
        sender.send(Err(PersistError::NoStateDir)).unwrap();
        receipt.settled().await;
        assert!(reported.try_recv().is_err());
    }
}
