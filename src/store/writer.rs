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

use super::commit::{Lives, Mark};
use super::open::Store;
use super::packed::{add_end, add_life};
use super::rolling::{Rolling, Turn};
use super::row::{Count, Counted, Stored};
use super::tag::Salt;
use super::upkeep::Upkeep;
use super::work::{Gathered, Receipt, Report, Shared, Work};
use crate::clock;
use crate::lifecycle::Resumed;
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
        let shared = Arc::new(Shared::default());
        if !stale.is_empty() {
            let mut gathered = shared.lock();
            gathered.batch = stale;
            gathered.due = Some(clock::now());
        }
        let (sender, reports) = mpsc::unbounded_channel();
        let (salt, boot) = (database.salt, database.boot);
        let path = database.path.clone();
        let (closes, closed) = oneshot::channel();
        let work = Work {
            shared: Arc::clone(&shared),
            reports: sender.clone(),
            database,
            upkeep: Upkeep::new(),
            _lock: lock,
            _closes: closes,
        };
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || work.run())
            .map_err(|error| StoreFault::new(&path, "starting its thread", error))?;
        let rolling = Rolling::new(entries);
        Ok(Self { shared, reports, sender, closed, path, salt, boot, rolling, names })
    }

    /// The last answer about `value`, the token's value in use, said this of its life; `url` is
    /// the address of the server that gave it. It is on the disk within a second.
    pub fn remember(&mut self, name: &str, url: &str, value: ValueRef<'_>, life: &Resumed) {
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
        &mut self,
        name: &str,
        value: TokenValue,
        replaces: Option<TokenValue>,
    ) -> Receipt {
        let replaces_another = !self.names.insert(name.into());
        let mut gathered = self.shared.lock();
        let batch = &mut gathered.batch;
        batch.values.insert(name.into(), Some(Stored { value, replaces }));
        batch.removed.insert(name.into(), None);
        batch.erases |= replaces_another;
        self.receipt(&mut gathered)
    }

    /// Deletes and overwrites the value that is kept for the token `name`, if there is one,
    /// within a second or two.
    pub fn forget_value(&mut self, name: &str) {
        if self.names.remove(name) {
            let mut gathered = self.shared.lock();
            gathered.batch.forget_value(name);
            self.announce(&mut gathered, GATHER);
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
            let mut gathered = self.shared.lock();
            gathered.batch.removed.insert(name.into(), until_ms);
            self.announce(&mut gathered, GATHER);
        }
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
        gathered.batch.lessons.insert(server.into(), Some((url.to_owned(), renewing)));
        self.announce(&mut gathered, GATHER);
    }

    /// The server of this name is not configured any more.
    pub fn forget_lesson(&self, server: &str) {
        let mut gathered = self.shared.lock();
        gathered.batch.lessons.insert(server.into(), None);
        self.announce(&mut gathered, GATHER);
    }

    /// Begins to write all lives anew if there are few tokens and many outdated entries: to be
    /// asked at the start. `true`: each token that lives is to be remembered now, and then
    /// [`went_round`](Self::went_round).
    pub fn compacts_at_start(&mut self, tokens: usize) -> bool {
        let begins = self.rolling.begins_at_start(u64::try_from(tokens).unwrap_or(u64::MAX));
        if begins {
            self.shared.lock().batch.lives.marks.push(Mark::Begin);
        }
        begins
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
