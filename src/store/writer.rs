//! The writing side: a thread that commits what has gathered, once a second, or at once.
//!
//! Nobody waits for the disk to hand something over: it is put where the thread finds it, the
//! last word on each name in place of the one before, so that a disk that hangs costs no more
//! than that. What cannot be written stays, and is tried again.

use std::fs::File;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::commit::{Batch, LifeRow};
use super::database::{Database, fault, is_damage};
use super::load::{BY_RENEWING, PROVEN, UNEXTENDABLE, life_numbers, life_tag};
use super::row::{Count, Counted, KeptBound, Life, Present, Stored};
use super::tag::Salt;
use crate::clock;
use crate::secret::TokenValue;
use crate::time::Moment;
use crate::token_file::StoreFault;

/// How long lives gather before they are written: with the commit itself, a second.
const GATHER: Duration = Duration::from_millis(900);

/// Between two tries to write to a disk that refuses it. A value that is to be kept is tried
/// at once all the same.
const RETRY: Duration = Duration::from_secs(20);

/// Lives that gather at the most; more are left out, which costs a check after a restart. As
/// many as a second of the fastest checks brings, and 20 MB.
const MAX_GATHERED: usize = 131_072;

/// How long a life may be over until what is known of it is removed: a week, for a token that
/// is left out of the configuration by mistake.
const LONG_AGO_MS: i64 = 7 * 24 * 3_600_000;

/// Comes true when what was handed over is durable, or could not be written.
pub type Receipt = oneshot::Receiver<Result<(), StoreFault>>;

type Sender = oneshot::Sender<Result<(), StoreFault>>;

/// Something to be told of the writing.
#[derive(Debug)]
pub enum Report {
    /// What is known of lives and counts could not be written; it is tried again.
    Failed {
        /// Why.
        fault: StoreFault,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// The store was damaged, was set aside, and has been begun anew.
    StartedOver(StoreFault),
}

#[derive(Default)]
struct Gathered {
    batch: Batch,
    receipts: Vec<Sender>,
    /// When it is to be written at the latest.
    due: Option<Moment>,
    ending: bool,
}

#[derive(Default)]
struct Shared {
    gathered: Mutex<Gathered>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.lock().ending = true;
        self.changed.notify_one();
    }
}

/// The store of one state directory, to be written to. It ends when this is dropped; what has
/// gathered is written then if [`Writer::flush`] is asked for before.
pub struct Writer {
    shared: Arc<Shared>,
    reports: mpsc::UnboundedReceiver<Report>,
    /// Ends when the thread does.
    closed: oneshot::Receiver<()>,
    salt: Salt,
    boot: i64,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn start(database: Database, lock: File) -> Result<Self, StoreFault> {
        let shared = Arc::new(Shared::default());
        let (sender, reports) = mpsc::unbounded_channel();
        let (salt, boot) = (database.salt, database.boot);
        let path = database.path.clone();
        let (closes, closed) = oneshot::channel();
        let work = Work {
            shared: Arc::clone(&shared),
            reports: sender,
            database,
            _lock: lock,
            _closes: closes,
        };
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || work.run())
            .map_err(|error| StoreFault::new(path, "starting its thread", error))?;
        Ok(Self { shared, reports, closed, salt, boot })
    }

    /// The last answer about `value`, the token's value in use, said this of its life; `url` is
    /// the address of the server that gave it. It is on the disk within a second.
    pub fn remember(&self, name: &str, url: &str, value: &TokenValue, life: &Life) {
        let present = Present { now: clock::now(), wall_ms: clock::wall_clock().as_millisecond() };
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let bound = KeptBound::new(life.bound, self.boot, present);
        let (remaining_ms, life_ms) = (signed(life.remaining_ms), signed(life.life_ms));
        let flags = [
            (life.by_renewing, BY_RENEWING),
            (life.proven, PROVEN),
            (life.unextendable, UNEXTENDABLE),
        ];
        let flags = flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum();
        let numbers = life_numbers(&bound, remaining_ms, life_ms, flags);
        let tag = life_tag(&self.salt, [name, url], value, &numbers);
        self.gather_life(name, Some(LifeRow { tag, bound, remaining_ms, life_ms, flags }));
    }

    /// The token's life is over, or nothing is known of it any more.
    pub fn forget(&self, name: &str) {
        self.gather_life(name, None);
    }

    fn gather_life(&self, name: &str, row: Option<LifeRow>) {
        let mut gathered = self.shared.lock();
        if let Some(place) = gathered.batch.lives.get_mut(name) {
            *place = row;
        } else if gathered.batch.lives.len() < MAX_GATHERED {
            gathered.batch.lives.insert(name.into(), row);
        }
        self.announce(&mut gathered, GATHER);
    }

    /// Keeps `value` for the token `name`, in place of what was kept for it; `replaces` is
    /// what the token's source holds now.
    pub fn keep_value(
        &self,
        name: &str,
        value: TokenValue,
        replaces: Option<TokenValue>,
    ) -> Receipt {
        let mut gathered = self.shared.lock();
        gathered.batch.values.insert(name.into(), Stored { value, replaces });
        self.receipt(&mut gathered)
    }

    /// Keeps a count, in place of the one before. It is on the disk within a second.
    pub fn keep_count(&self, counted: Counted, count: Count) {
        let mut gathered = self.shared.lock();
        gathered.batch.counts.insert(counted, count);
        self.announce(&mut gathered, GATHER);
    }

    /// Which call extends lives on the server of this name, at this address.
    pub fn keep_lesson(&self, server: &str, url: &str, renewing: bool) {
        let mut gathered = self.shared.lock();
        gathered.batch.lessons.insert(server.into(), (url.to_owned(), renewing));
        self.announce(&mut gathered, GATHER);
    }

    /// Has everything written that has gathered.
    pub fn flush(&self) -> Receipt {
        self.receipt(&mut self.shared.lock())
    }

    /// Has everything written that has gathered, and lets go of the state directory.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub async fn close(mut self) -> Result<(), StoreFault> {
        // A receipt is only lost with the thread, which a panic alone ends: that aborts.
        let written = self.flush().await.unwrap_or(Ok(()));
        self.shared.end();
        // It ends with an error: nothing is ever sent.
        let _ = (&mut self.closed).await;
        written
    }

    /// Waits for something to be told. Cancel-safe.
    pub async fn report(&mut self) -> Report {
        match self.reports.recv().await {
            Some(report) => report,
            // The thread ends after this does; before, only by a panic, which aborts.
            None => std::future::pending().await,
        }
    }

    fn receipt(&self, gathered: &mut Gathered) -> Receipt {
        let (sender, receipt) = oneshot::channel();
        gathered.receipts.push(sender);
        self.announce(gathered, Duration::ZERO);
        receipt
    }

    fn announce(&self, gathered: &mut Gathered, within: Duration) {
        let due = clock::now() + within;
        if gathered.due.is_none_or(|listed| due < listed) {
            gathered.due = Some(due);
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.end();
    }
}

/// What came of a batch, with what is left of it and why.
enum Written {
    All,
    /// All but the lives.
    Essentials(Batch, StoreFault),
    Nothing(Batch, StoreFault),
}

/// What the thread holds.
struct Work {
    shared: Arc<Shared>,
    reports: mpsc::UnboundedSender<Report>,
    database: Database,
    /// Held as long as the database is.
    _lock: File,
    /// Let go of when all else is.
    _closes: oneshot::Sender<()>,
}

impl Work {
    fn run(mut self) {
        let long_ago = clock::wall_clock().as_millisecond().saturating_sub(LONG_AGO_MS);
        // Whatever is wrong, the first commit meets it too, and tells.
        let _ = self.database.prune(long_ago);
        while let Some((batch, receipts)) = self.next() {
            let (left, result) = match self.write(batch) {
                Written::All => (None, Ok(())),
                Written::Essentials(left, fault) => (Some((left, fault)), Ok(())),
                Written::Nothing(left, fault) => {
                    let again = fault.again();
                    (Some((left, fault)), Err(again))
                }
            };
            if let Some((left, fault)) = left
                && !left.is_empty()
            {
                let mut gathered = self.shared.lock();
                gathered.batch.put_back(left);
                let retry = clock::now() + RETRY;
                gathered.due = Some(gathered.due.map_or(retry, |due| due.min(retry)));
                drop(gathered);
                self.tell(Report::Failed { fault, retry_in: RETRY });
            }
            for receipt in receipts {
                // Who gave up waiting need not know.
                let _ = receipt.send(match &result {
                    Ok(()) => Ok(()),
                    Err(fault) => Err(fault.again()),
                });
            }
        }
    }

    /// Waits until something is due, and takes all of it; `None` at the end.
    fn next(&self) -> Option<(Batch, Vec<Sender>)> {
        let mut gathered = self.shared.lock();
        loop {
            let wait = gathered.due.map(|due| due.since(clock::now()));
            if wait == Some(Duration::ZERO) {
                gathered.due = None;
                let receipts = mem::take(&mut gathered.receipts);
                return Some((mem::take(&mut gathered.batch), receipts));
            }
            if gathered.ending {
                return None;
            }
            gathered = match wait {
                Some(wait) => {
                    let waited = self.shared.changed.wait_timeout(gathered, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.shared.changed.wait(gathered).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Writes what can be written. A value that cannot is not left over: who handed it over
    /// is told, and tries again.
    fn write(&mut self, mut batch: Batch) -> Written {
        if batch.is_empty() {
            return Written::All;
        }
        let wall_ms = clock::wall_clock().as_millisecond();
        let mut result = self.database.commit(&batch, wall_ms);
        if result.as_ref().is_err_and(is_damage) {
            match self.database.start_over() {
                Ok(told) => self.tell(Report::StartedOver(told)),
                Err(fault) => return Written::Nothing(batch, fault),
            }
            result = self.database.commit(&batch, wall_ms);
        }
        let Err(error) = result else { return Written::All };
        let fault = fault(&self.database.path, &error);
        // Lives take the most room and cost the least: what else there is may fit without.
        let lives = mem::take(&mut batch.lives);
        if !lives.is_empty() && !batch.is_empty() && self.database.commit(&batch, wall_ms).is_ok() {
            return Written::Essentials(Batch { lives, ..Batch::default() }, fault);
        }
        batch.values.clear();
        Written::Nothing(Batch { lives, ..batch }, fault)
    }

    fn tell(&self, report: Report) {
        // Nobody listens any more at the end.
        let _ = self.reports.send(report);
    }
}
