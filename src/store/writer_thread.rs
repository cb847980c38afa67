//! The thread that writes: it commits what has gathered, once a second, or at once.

use std::fs::File;
use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::commit::WriteBatch;
use super::database::{Database, fault, is_damage};
use super::encoding::LifeBatch;
use super::maintenance::Maintenance;
use super::model::ClockReading;
use crate::clock;
use crate::time::Moment;
use crate::token_file::{DISK_PATIENCE, StoreFault};

/// Between two tries to write to a disk that refuses it. A value that is to be kept is tried
/// at once all the same.
pub(super) const RETRY: Duration = Duration::from_secs(20);

/// Comes true when what was handed over is durable, or could not be written.
#[derive(Debug)]
pub struct WriteReceipt {
    pub(super) written: oneshot::Receiver<Result<(), StoreFault>>,
    pub(super) reports: mpsc::UnboundedSender<StoreReport>,
    pub(super) path: PathBuf,
}

impl WriteReceipt {
    /// Waits until what was handed over is durable, but no longer than 10 s.
    ///
    /// # Errors
    ///
    /// When it could not be written, or not in time; then it may yet be.
    pub async fn durable(self) -> Result<(), StoreFault> {
        match timeout(DISK_PATIENCE, self.written).await {
            Ok(Ok(result)) => result,
            // It is only lost with the thread, and that is as good as no store.
            Ok(Err(_)) => Err(StoreFault::NoStateDir),
            Err(_) => Err(StoreFault::hangs(self.path, WRITING)),
        }
    }

    /// Waits as [`durable`](Self::durable) does, for who goes on whatever comes of it: the
    /// writer tells of what fails, and this of a disk that hangs.
    pub async fn settled(self) {
        if timeout(DISK_PATIENCE, self.written).await.is_err() {
            let fault = StoreFault::hangs(self.path, WRITING);
            // Nobody listens any more at the end.
            let _ = self.reports.send(StoreReport::Failed { fault, retry_in: Duration::ZERO });
        }
    }
}

/// What a disk that hangs was asked for.
const WRITING: &str = "writing to it";

pub(super) type Sender = oneshot::Sender<Result<(), StoreFault>>;

/// Something to be told of the writing.
#[derive(Debug)]
pub enum StoreReport {
    /// What is known of lives and counts could not be written; it is tried again.
    Failed {
        /// Why.
        fault: StoreFault,
        /// When it is tried again; zero: it is still being tried.
        retry_in: Duration,
    },
    /// The store was damaged, was set aside, and has been begun anew.
    StartedOver(StoreFault),
    /// Lives that an earlier run knew of, as they were asked for, and where to go on from;
    /// `None` where there are no more.
    LivesLoaded(Option<(i64, LifeBatch)>),
}

#[derive(Default)]
pub(super) struct PendingWrites {
    pub(super) batch: WriteBatch,
    pub(super) receipts: Vec<Sender>,
    /// When it is to be written at the latest.
    pub(super) due: Option<Moment>,
    /// The lives before this row are asked for.
    pub(super) load_before: Option<i64>,
    pub(super) ending: bool,
}

#[derive(Default)]
pub(super) struct WriteQueue {
    pending: Mutex<PendingWrites>,
    pub(super) changed: Condvar,
}

impl WriteQueue {
    pub(super) fn lock(&self) -> MutexGuard<'_, PendingWrites> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn end(&self) {
        self.lock().ending = true;
        self.changed.notify_one();
    }
}

/// What the thread is to do next.
enum Job {
    Write(WriteBatch, Vec<Sender>),
    LoadLives(i64),
    Maintain,
}

/// What came of a batch, with what is left of it and why.
enum CommitOutcome {
    Complete,
    /// All but the lives.
    WithoutLives(WriteBatch, StoreFault),
    Failed(WriteBatch, StoreFault),
}

/// What the thread holds.
pub(super) struct WriterThread {
    pub(super) queue: Arc<WriteQueue>,
    pub(super) reports: mpsc::UnboundedSender<StoreReport>,
    pub(super) database: Database,
    pub(super) maintenance: Maintenance,
    /// Held as long as the database is.
    pub(super) _lock: File,
    /// Let go of when all else is.
    pub(super) _closes: oneshot::Sender<()>,
}

impl WriterThread {
    pub(super) fn run(mut self) {
        while let Some(job) = self.next() {
            let (batch, receipts) = match job {
                Job::Write(batch, receipts) => (batch, receipts),
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
                CommitOutcome::Failed(left, fault) => {
                    let again = fault.again();
                    (Some((left, fault)), Err(again))
                }
            };
            if let Some((left, fault)) = left
                && !left.is_empty()
            {
                let mut pending = self.queue.lock();
                pending.batch.put_back(left);
                let retry = clock::now() + RETRY;
                pending.due = Some(pending.due.map_or(retry, |due| due.min(retry)));
                drop(pending);
                self.tell(StoreReport::Failed { fault, retry_in: RETRY });
            }
            for receipt in receipts {
                // Who gave up waiting need not know.
                let _ = receipt.send(match &result {
                    Ok(()) => Ok(()),
                    Err(fault) => Err(fault.again()),
                });
            }
        }
        // A file that stays larger than it must be does no harm.
        let _ = self.database.shrink();
    }

    /// Waits until something is due, and takes all of it; `None` at the end.
    fn next(&self) -> Option<Job> {
        let mut pending = self.queue.lock();
        loop {
            let now = clock::now();
            let wait = pending.due.map(|due| due.since(now));
            if wait == Some(Duration::ZERO) {
                pending.due = None;
                let receipts = mem::take(&mut pending.receipts);
                return Some(Job::Write(mem::take(&mut pending.batch), receipts));
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

    /// Writes what can be written. A value that cannot is not left over: who handed it over
    /// is told, and tries again.
    fn write(&mut self, mut batch: WriteBatch) -> CommitOutcome {
        if batch.is_empty() {
            return CommitOutcome::Complete;
        }
        let at = ClockReading { now: clock::now(), wall_ms: clock::wall_clock().as_millisecond() };
        self.maintenance.expect(&batch, at);
        let mut result = self.database.commit(&batch, at);
        if result.as_ref().is_err_and(is_damage) {
            match self.database.start_over() {
                Ok(told) => self.tell(StoreReport::StartedOver(told)),
                Err(fault) => return CommitOutcome::Failed(batch, fault),
            }
            result = self.database.commit(&batch, at);
        }
        let Err(error) = result else { return CommitOutcome::Complete };
        let fault = fault(&self.database.path, &error);
        // Lives take the most room and cost the least: what else there is may fit without.
        let lives = mem::take(&mut batch.lives);
        if !lives.is_empty() && !batch.is_empty() && self.database.commit(&batch, at).is_ok() {
            return CommitOutcome::WithoutLives(
                WriteBatch { lives, ..WriteBatch::default() },
                fault,
            );
        }
        batch.values.retain(|_, value| value.is_none());
        CommitOutcome::Failed(WriteBatch { lives, ..batch }, fault)
    }

    /// Deletes what is kept no longer, and what is left of it in the log of the database.
    fn maintain(&mut self) {
        let at = ClockReading { now: clock::now(), wall_ms: clock::wall_clock().as_millisecond() };
        if let Err(fault) = self.maintenance.run(&self.database, at) {
            let fault = super::database::fault(&self.database.path, &fault);
            self.tell(StoreReport::Failed { fault, retry_in: RETRY });
        }
    }

    /// Hands over the next lives before that row that can be read. What cannot be read is no
    /// more than not known: whoever writes next meets the damage and deals with it.
    fn load_lives(&self, mut before: i64) {
        let found = loop {
            match self.database.life_batch_before(before) {
                Ok(Some((number, Some(part)))) => break Some((number, part)),
                Ok(Some((number, None))) => before = number,
                Ok(None) | Err(_) => break None,
            }
        };
        self.tell(StoreReport::LivesLoaded(found));
    }

    fn tell(&self, report: StoreReport) {
        // Nobody listens any more at the end.
        let _ = self.reports.send(report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The receipt for a write to a disk that does not answer, and what it tells.
    fn of_a_disk_that_hangs() -> (WriteReceipt, Sender, mpsc::UnboundedReceiver<StoreReport>) {
        let (sender, written) = oneshot::channel();
        let (reports, told) = mpsc::unbounded_channel();
        (WriteReceipt { written, reports, path: "/state/tokenkeep.db".into() }, sender, told)
    }

    #[tokio::test(start_paused = true)]
    async fn who_needs_a_value_to_be_durable_hears_of_a_disk_that_hangs() {
        let (receipt, _sender, _told) = of_a_disk_that_hangs();
        let fault = receipt.durable().await.unwrap_err().to_string();
        assert!(fault.contains("/state/tokenkeep.db") && fault.contains("10 s"), "{fault}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_on_all_the_same_leaves_word_of_a_disk_that_hangs() {
        let (receipt, _sender, mut told) = of_a_disk_that_hangs();
        receipt.settled().await;
        assert!(matches!(told.try_recv(), Ok(StoreReport::Failed { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_fails_in_time_is_told_of_once_by_who_failed() {
        let (receipt, sender, mut told) = of_a_disk_that_hangs();
        sender.send(Err(StoreFault::NoStateDir)).unwrap();
        receipt.settled().await;
        assert!(told.try_recv().is_err());
    }
}
