//! Companions: the refresh tokens of tokens. The scheduler does not know them.
//!
//! A refresh token can usually be spent once, and sending it again can end the whole session. So
//! there is one lock for each companion, which outlives its token: a task holds it from the read of
//! the refresh token until its successor is durable. Reading, sending and writing is done by the
//! tasks; here is what is known of each refresh token, and which one counts.

mod claims;
mod state;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, TryLockError, watch};

use self::claims::Claims;
pub(crate) use self::state::{CompanionState, Refusal};
use super::state::wall_ms;
use crate::clock;
use crate::cluster::seal::Refresh;
use crate::outcome::CallError;
use crate::secret::TokenValue;
use crate::settings::Source;
use crate::store::{CompanionWriter, StoredCompanion, WriteReceipt};
use crate::time::Moment;
use crate::token_source::SourceWarning;

/// Where the refresh token of a token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CompanionSource {
    /// The source of a `[token.NAME]`.
    Own(Source),
    /// A line of an inventory.
    Line(TokenValue),
}

/// What happened to a companion.
#[derive(Debug)]
pub(crate) struct CompanionReport {
    /// The name of its token.
    pub(crate) name: Box<str>,
    /// Its file, if the source is a file.
    pub(crate) path: Option<PathBuf>,
    pub(crate) event: CompanionEvent,
}

/// See [`CompanionReport`].
#[derive(Debug)]
pub(crate) enum CompanionEvent {
    /// It is in the state database, because its file cannot be replaced.
    InStateDir { error: String },
    /// It is in memory only.
    Unsaved { error: String },
    /// The server refuses it, while the value lives.
    Refused(CallError),
    /// A response contained a new one that cannot be used, and the one before is spent.
    Unusable { error: Box<str> },
    /// Its source was read: whether it holds a new one, and warnings about the source.
    SourceRead { is_new: bool, warnings: Vec<SourceWarning> },
}

/// The companions of all tokens, by the names of these.
#[derive(Debug, Default)]
pub(crate) struct Companions {
    by_name: HashMap<Box<str>, Arc<Companion>>,
    /// Those of removed tokens, and until when they are kept; `None` if an inventory that was not
    /// read yet can list the token.
    orphans: HashMap<Box<str>, (Arc<Companion>, Option<Moment>)>,
    shared: Arc<Shared>,
}

/// What all companions have in common.
#[derive(Debug, Default)]
struct Shared {
    claims: Mutex<Claims>,
    writer: Mutex<Option<CompanionWriter>>,
    is_stopping: watch::Sender<bool>,
}

/// The refresh token of one token.
#[derive(Debug)]
pub(crate) struct Companion {
    name: Box<str>,
    usage: Mutex<Usage>,
    state: Arc<tokio::sync::Mutex<CompanionState>>,
    shared: Arc<Shared>,
}

/// Whether and how a companion is configured.
#[derive(Debug, Default)]
struct Usage {
    /// `None`: the token was removed, or has no refresh token any more.
    source: Option<CompanionSource>,
    /// When it is deleted if there is no source (wall clock).
    until_ms: Option<i64>,
    /// Its row has another time, as there was no database to write it to.
    is_row_outdated: bool,
    /// A task is storing it again and again.
    is_retried: bool,
}

/// A companion that no other task uses meanwhile.
#[derive(Debug)]
pub(crate) struct HeldCompanion {
    companion: Arc<Companion>,
    state: OwnedMutexGuard<CompanionState>,
}

impl Companions {
    /// The database is open: rows can be written from now on. Rows of tokens that are configured
    /// again are kept longer than they say.
    pub(crate) fn set_writer(&mut self, writer: Option<CompanionWriter>) {
        *lock(&self.shared.writer) = writer;
        for companion in self.by_name.values() {
            if lock(&companion.usage).is_row_outdated {
                companion.write_expiry();
            }
        }
    }

    /// Takes over a row of an earlier run, before tokens are added. `until`: its token was removed.
    pub(crate) fn load(&mut self, name: &str, stored: StoredCompanion, until: Option<Moment>) {
        let companion = self.new_companion(name);
        lock(&companion.usage).until_ms = until.map(wall_ms);
        if let Ok(mut state) = companion.state.try_lock() {
            state.restore(stored, |value| lock(&self.shared.claims).fingerprint(value));
            lock(&self.shared.claims).claim(&companion, state.fingerprints());
        }
        self.orphans.insert(name.into(), (companion, until));
    }

    /// A token has this source of its refresh token. Returns whether it is another one than before.
    pub(crate) fn set_source(&mut self, name: &str, source: CompanionSource) -> bool {
        if let Some(known) = self.by_name.get(name) {
            let old = lock(&known.usage).source.replace(source.clone());
            return old != Some(source);
        }
        let orphan = self.orphans.remove(name).map(|(companion, _)| companion);
        let companion = orphan.unwrap_or_else(|| self.new_companion(name));
        lock(&companion.usage).source = Some(source);
        companion.expire(None);
        self.by_name.insert(name.into(), companion);
        true
    }

    /// A token was removed, or has no refresh token any more. What its source cannot hold is kept
    /// for this time.
    pub(crate) fn release(&mut self, name: &str, keep: Duration) {
        let Some(companion) = self.by_name.remove(name) else { return };
        lock(&companion.usage).source = None;
        self.drop_expired_orphans();
        // One that a task uses may get a successor.
        if let Ok(state) = companion.state.try_lock()
            && !state.has_successor()
        {
            return lock(&self.shared.claims).release(&companion, state.fingerprints());
        }
        let until = clock::now() + keep;
        companion.expire(Some(until));
        self.orphans.insert(name.into(), (companion, Some(until)));
    }

    fn drop_expired_orphans(&mut self) {
        let now = clock::now();
        let expired = self.orphans.extract_if(|_, (_, until)| until.is_some_and(|it| it <= now));
        for (_, (companion, _)) in expired {
            if let Ok(state) = companion.state.try_lock() {
                lock(&self.shared.claims).release(&companion, state.fingerprints());
            }
        }
    }

    /// Tokens that are still not configured were removed.
    pub(crate) fn expire_orphans(&mut self, keep: Duration) {
        let until = clock::now() + keep;
        for (companion, kept) in self.orphans.values_mut().filter(|(_, kept)| kept.is_none()) {
            *kept = Some(until);
            companion.expire(Some(until));
        }
    }

    /// The companion of a token; `None` if it has none.
    pub(crate) fn of(&self, name: &str) -> Option<Arc<Companion>> {
        self.by_name.get(name).cloned()
    }

    /// The companion of a token that may have been removed.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Companion>> {
        self.of(name).or_else(|| Some(Arc::clone(&self.orphans.get(name)?.0)))
    }

    /// Whether no token has a refresh token.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty() && self.orphans.is_empty()
    }

    /// The daemon stops: refresh tokens that are in memory only are stored at once.
    pub(crate) fn stop(&self) {
        self.shared.is_stopping.send_replace(true);
    }

    /// Hands the refresh tokens that are in memory only to the state database. Returns the names of
    /// their tokens; without a receipt there is no database.
    pub(crate) fn save_all(&self) -> Vec<(Box<str>, Option<WriteReceipt>)> {
        let orphans = self.orphans.values().map(|(companion, _)| companion);
        let all = self.by_name.values().chain(orphans);
        let save = |companion: &Arc<Companion>| {
            // No task uses it any more.
            let mut state = companion.state.try_lock().ok()?;
            let is_unsaved = state.is_unsaved();
            is_unsaved.then(|| (companion.name.clone(), companion.persist(&mut state)))
        };
        all.filter_map(save).collect()
    }

    fn new_companion(&self, name: &str) -> Arc<Companion> {
        Arc::new(Companion {
            name: name.into(),
            usage: Mutex::default(),
            state: Arc::default(),
            shared: Arc::clone(&self.shared),
        })
    }
}

impl Companion {
    /// The name of its token.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Waits until no other task uses it.
    pub(crate) async fn hold(self: Arc<Self>) -> HeldCompanion {
        let state = Arc::clone(&self.state).lock_owned().await;
        HeldCompanion { companion: self, state }
    }

    /// Where the refresh token comes from; `None` if the token was removed meanwhile.
    pub(crate) fn source(&self) -> Option<CompanionSource> {
        lock(&self.usage).source.clone()
    }

    /// The refresh token that counts, for the other replicas of a cluster.
    ///
    /// # Errors
    ///
    /// While a task uses it.
    pub(crate) fn counting_now(&self) -> Result<Refresh, TryLockError> {
        Ok(self.state.try_lock()?.counting())
    }

    /// The writer of the state database; `None` without one.
    fn writer(&self) -> Option<CompanionWriter> {
        lock(&self.shared.writer).clone()
    }

    /// Writes its row; `None` without a database, or if there is nothing to write.
    pub(crate) fn persist(&self, state: &mut CompanionState) -> Option<WriteReceipt> {
        let (row, until_ms) = (state.row()?, lock(&self.usage).until_ms);
        let receipt = self.writer()?.persist(&self.name, row, until_ms);
        // A write that hangs may still be made.
        state.may_have_row();
        Some(receipt)
    }

    /// A task begins to store it again and again. Returns whether none does so already.
    pub(crate) fn begin_retries(&self) -> bool {
        !std::mem::replace(&mut lock(&self.usage).is_retried, true)
    }

    /// Waits until the daemon stops.
    pub(crate) async fn stopping(&self) {
        // The sender outlives this.
        let _ = self.shared.is_stopping.subscribe().wait_for(|is_stopping| *is_stopping).await;
    }

    /// The task of [`begin_retries`](Self::begin_retries) ends.
    pub(crate) fn end_retries(&self) {
        lock(&self.usage).is_retried = false;
    }

    /// Whether a token or a task uses it.
    fn is_used(&self) -> bool {
        lock(&self.usage).source.is_some() || self.state.try_lock().is_err()
    }

    /// The token was removed, and its row is deleted then; `None`: the token is there again.
    fn expire(&self, until: Option<Moment>) {
        let until_ms = until.map(wall_ms);
        let before = std::mem::replace(&mut lock(&self.usage).until_ms, until_ms);
        if before != until_ms {
            self.write_expiry();
        }
    }

    /// Writes its row again, with the time that counts now.
    fn write_expiry(&self) {
        let Ok(mut state) = self.state.try_lock() else { return };
        if state.is_row() {
            lock(&self.usage).is_row_outdated = self.persist(&mut state).is_none();
        }
    }
}

impl HeldCompanion {
    pub(crate) fn state(&mut self) -> &mut CompanionState {
        &mut self.state
    }

    /// The source was read, and holds this, or nothing usable. A row that it supersedes is deleted.
    pub(crate) fn note_source(&mut self, in_source: Option<TokenValue>) {
        let in_source = in_source.map(|value| (self.fingerprint(&value), value));
        self.state.set_in_source(in_source);
        if self.state.drop_superseded()
            && let Some(writer) = self.companion.writer()
        {
            writer.delete(&self.companion.name);
        }
    }

    /// The refresh token that counts; `None` if there is none that may be sent.
    ///
    /// # Errors
    ///
    /// If it is the refresh token of another token.
    pub(crate) fn current(&mut self) -> Result<Option<TokenValue>, Refusal> {
        let Self { companion, state } = self;
        let mut claims = lock(&companion.shared.claims);
        while let Some(other) = claims.other_owner(companion, state.candidate()) {
            if other.is_used() {
                let is_passing = other.source().is_none();
                // The owner forgets it one day.
                if !is_passing && other.state.try_lock().is_ok_and(|it| it.has_spent(state)) {
                    state.void_source();
                }
                return Err(Refusal { owner: other.name.clone(), is_passing });
            }
            // Its token was renamed: what is known of the refresh token is this token's now.
            if let Ok(mut old) = other.state.try_lock() {
                state.inherit(&mut old);
                claims.release(&other, old.fingerprints());
            }
            claims.forget(&other);
        }
        claims.claim(companion, state.fingerprints());
        Ok(state.current().cloned())
    }

    /// The source holds the successor: a row is obsolete.
    pub(crate) fn is_in_source(&mut self) {
        if self.state.is_in_source()
            && let Some(writer) = self.companion.writer()
        {
            writer.delete(&self.companion.name);
        }
    }

    /// `sent` was spent, and `new` is its successor; `None`: there is none. In memory until it is
    /// stored.
    pub(crate) fn replace(&mut self, sent: Option<&TokenValue>, new: Option<TokenValue>) {
        let sent = sent.map(|value| self.fingerprint(value));
        let new = new.map(|value| (self.fingerprint(&value), value));
        let dropped = self.state.replace(sent, new);
        let mut claims = lock(&self.companion.shared.claims);
        claims.release(&self.companion, dropped);
        claims.claim(&self.companion, self.state.fingerprints());
    }

    /// A login has opened a session with this refresh token, or without one: the one before is not
    /// sent any more. One that the source has shown since the last report, or that is another
    /// token's, is not of the session before.
    pub(crate) fn begin_session(&mut self, new: Option<TokenValue>) {
        if new.is_none() && (self.state.has_news() || self.is_source_foreign()) {
            return;
        }
        let old = self.state.current().cloned();
        if old != new {
            self.replace(old.as_ref(), new);
        }
    }

    /// Whether the source holds the refresh token of another token.
    pub(crate) fn is_source_foreign(&self) -> bool {
        self.state.in_source().is_some_and(|value| self.owner_of(value).is_some())
    }

    /// Whether a new refresh token is that of another token.
    pub(crate) fn owner_of(&self, value: &TokenValue) -> Option<Box<str>> {
        let claims = lock(&self.companion.shared.claims);
        let owner = claims.other_owner(&self.companion, [claims.fingerprint(value)])?;
        owner.is_used().then(|| owner.name.clone())
    }

    /// The server refused this refresh token. Returns whether that is news.
    pub(crate) fn refuse(&mut self, sent: &TokenValue) -> bool {
        let sent = self.fingerprint(sent);
        self.state.refuse(sent)
    }

    fn fingerprint(&self, value: &TokenValue) -> u64 {
        lock(&self.companion.shared.claims).fingerprint(value)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
