//! The writing side: a thread that commits what has gathered, once a second, or at once.
//!
//! Nobody waits for the disk to hand something over: it is put where the thread finds it, the
//! last word on each name in place of the one before, so that a disk that hangs costs no more
//! than that. What cannot be written stays, and is tried again.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::commit::{Lives, Mark};
use super::database::Database;
use super::packed::{add_end, add_life};
use super::rolling::{Rolling, Turn};
use super::row::{Count, Counted, Life, Stored};
use super::tag::Salt;
use super::work::{Gathered, Receipt, Report, Shared, Work};
use crate::clock;
use crate::secret::{TokenValue, ValueRef};
use crate::token_file::StoreFault;

/// How long lives gather before they are written: with the commit itself, a second.
const GATHER: Duration = Duration::from_millis(900);

/// Bytes of lives that gather at the most. As much as 20 s of 5,000 checks a second bring while
/// a disk refuses it. What is lost beyond is written anew once the disk takes it.
const MAX_GATHERED: usize = 8 << 20;

/// The store of one state directory, to be written to. It ends when this is dropped; what has
/// gathered is written then if [`Writer::flush`] is asked for before.
pub struct Writer {
    shared: Arc<Shared>,
    reports: mpsc::UnboundedReceiver<Report>,
    /// For what a receipt has to tell.
    sender: mpsc::UnboundedSender<Report>,
    /// Ends when the thread does.
    closed: oneshot::Receiver<()>,
    path: PathBuf,
    salt: Salt,
    boot: i64,
    rolling: Rolling,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn start(database: Database, lock: File, entries: u64) -> Result<Self, StoreFault> {
        let shared = Arc::new(Shared::default());
        let (sender, reports) = mpsc::unbounded_channel();
        let (salt, boot) = (database.salt, database.boot);
        let path = database.path.clone();
        let (closes, closed) = oneshot::channel();
        let work = Work {
            shared: Arc::clone(&shared),
            reports: sender.clone(),
            database,
            _lock: lock,
            _closes: closes,
        };
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || work.run())
            .map_err(|error| StoreFault::new(&path, "starting its thread", error))?;
        let rolling = Rolling::new(entries);
        Ok(Self { shared, reports, sender, closed, path, salt, boot, rolling })
    }

    /// The last answer about `value`, the token's value in use, said this of its life; `url` is
    /// the address of the server that gave it. It is on the disk within a second.
    pub fn remember(&mut self, name: &str, url: &str, value: ValueRef<'_>, life: &Life) {
        let key = (self.salt, self.boot);
        self.gather(|packed| add_life(packed, (&key.0, key.1), [name, url], value, life));
    }

    /// The token's life is over, or nothing is known of it any more.
    pub fn forget(&mut self, name: &str) {
        self.gather(|packed| add_end(packed, name));
    }

    fn gather(&mut self, add: impl FnOnce(&mut Vec<u8>)) {
        let mut gathered = self.shared.lock();
        let lives = &mut gathered.batch.lives;
        if lives.size() > MAX_GATHERED {
            *lives = Lives::default();
            self.rolling.lose();
        }
        add(lives.open_row());
        self.rolling.add();
        self.announce(&mut gathered, GATHER);
    }

    /// How many tokens are to be looked at now, and those that live remembered again, for the
    /// sake of what was written long ago: to be asked after each check that was remembered or
    /// forgotten, with the number of all tokens. `true`: from the first token on.
    pub fn turn(&mut self, tokens: usize) -> (u32, bool) {
        let turn = self.rolling.turn(u64::try_from(tokens).unwrap_or(u64::MAX));
        if turn == Turn::Begin {
            self.shared.lock().batch.lives.marks.push(Mark::Begin);
        }
        (if turn == Turn::Rest { 0 } else { Rolling::steps() }, turn == Turn::Begin)
    }

    /// All tokens have been looked at.
    pub fn went_round(&mut self) {
        if self.rolling.end() {
            self.shared.lock().batch.lives.marks.push(Mark::End);
        }
    }

    /// What was written before is lost: with the next check all tokens are looked at anew.
    pub fn begin_anew(&mut self) {
        self.rolling.lose();
    }

    /// Asks for the newest of the lives that stand before the row of this number, or of all; they
    /// come as a [`Report::Recalled`].
    pub fn recall(&self, before: Option<i64>) {
        self.shared.lock().recall = Some(before.unwrap_or(i64::MAX));
        self.shared.changed.notify_one();
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
        gathered.batch.values.insert(name.into(), Some(Stored { value, replaces }));
        self.receipt(&mut gathered)
    }

    /// Deletes the value that is kept for the token `name`, within a second.
    pub fn forget_value(&self, name: &str) {
        let mut gathered = self.shared.lock();
        gathered.batch.values.insert(name.into(), None);
        self.announce(&mut gathered, GATHER);
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
        let written = self.flush().durable().await;
        self.shared.end();
        if written.is_ok() {
            // It ends with an error: nothing is ever sent.
            let _ = (&mut self.closed).await;
        }
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
        let (sender, written) = oneshot::channel();
        gathered.receipts.push(sender);
        self.announce(gathered, Duration::ZERO);
        Receipt { written, reports: self.sender.clone(), path: self.path.clone() }
    }

    fn announce(&self, gathered: &mut Gathered, within: Duration) {
        if within == GATHER && gathered.due.is_some() {
            return;
        }
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
