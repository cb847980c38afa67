//! Persists what a restart needs: token values, check results, attempt counts, renewal methods.
//!
//! Owns the writer of the state database, and the state of tokens that are not configured. It
//! decides nothing about a token. Without a usable `state_dir` every write is dropped.

use std::future::pending;
use std::time::Duration;

use super::orphans::OrphanedState;
use crate::clock;
use crate::secret::{TokenValue, ValueRef};
use crate::store::{Counter, CounterKey, Store, StoreReport, StoredValue, WriteReceipt, Writer};
use crate::time::{Moment, whole_millis};
use crate::token_source::PersistError;

/// The state database and the state of tokens that are not configured.
#[derive(Debug)]
pub(crate) struct StateRecorder {
    /// `None` while the daemon starts, and without a usable `state_dir`.
    store: Option<Writer>,
    orphans: OrphanedState,
    /// How long the value of a removed token is kept.
    pub(crate) keep_removed: Duration,
    /// While the daemon starts: tokens whose stored value is outdated, and tokens that an
    /// earlier run has removed.
    startup: Option<Startup>,
    /// The number of the token that the next compaction step begins with.
    pub(crate) next_to_compact: u32,
}

#[derive(Debug, Default)]
struct Startup {
    outdated: Vec<Box<str>>,
    removed: Vec<Box<str>>,
}

impl StateRecorder {
    pub(crate) fn new(keep_removed: Duration) -> Self {
        Self {
            store: None,
            orphans: OrphanedState::default(),
            keep_removed,
            startup: Some(Startup::default()),
            next_to_compact: 0,
        }
    }

    /// Ends the startup: from now on writes go to the store, if there is one.
    ///
    /// # Errors
    ///
    /// When the database cannot be written.
    pub(crate) fn open(&mut self, store: Option<Store>) -> Result<(), PersistError> {
        let Startup { outdated, removed } = self.startup.take().unwrap_or_default();
        let Some(store) = store else { return Ok(()) };
        let writer = self.store.insert(store.into_writer()?);
        for name in removed.iter().filter(|name| !self.orphans.has_value(name)) {
            writer.retain_value(name);
        }
        for name in &outdated {
            writer.delete_value(name);
        }
        Ok(())
    }

    /// The writer of the state database; `None` while the daemon starts, and without a database.
    pub(crate) const fn writer(&mut self) -> Option<&mut Writer> {
        self.store.as_mut()
    }

    /// The same for writes that need no exclusive access.
    pub(crate) const fn shared_writer(&self) -> Option<&Writer> {
        self.store.as_ref()
    }

    /// Persists a token's value, which replaces `in_source`; `None` without a database.
    pub(crate) fn keep_value(
        &mut self,
        name: &str,
        value: TokenValue,
        in_source: Option<ValueRef<'_>>,
    ) -> Option<WriteReceipt> {
        let in_source = in_source.map(ValueRef::to_value);
        self.store.as_mut().map(|store| store.persist_value(name, value, in_source))
    }

    /// Deletes the persisted value of a token.
    pub(crate) fn forget_value(&mut self, name: &str) {
        match (&mut self.store, &mut self.startup) {
            (Some(store), _) => store.delete_value(name),
            (None, Some(startup)) => startup.outdated.push(name.into()),
            (None, None) => {}
        }
    }

    /// Persists a count of attempts or failures.
    pub(crate) fn keep_count(
        &self,
        counted: CounterKey,
        window_end: Moment,
        count: u32,
        in_a_row: u32,
    ) {
        if let Some(store) = &self.store {
            let window_end_ms = wall_ms(window_end);
            store.persist_counter(counted, Counter { window_end_ms, count, in_a_row });
        }
    }

    /// Takes over a persisted value at startup; `until` is set if an earlier run has removed its
    /// token.
    pub(crate) fn load_value(&mut self, name: &str, stored: StoredValue, until: Option<Moment>) {
        if let (Some(startup), Some(_)) = (&mut self.startup, until) {
            startup.removed.push(name.into());
        }
        self.orphans.keep_value(name, stored, until);
    }

    /// Keeps the attempts of a token that is not configured, or not yet, until their window ends.
    pub(crate) fn stash_count(&mut self, name: &str, count: Counter) {
        self.orphans.keep_count(name, count);
    }

    /// Returns the persisted value of a token that is added.
    pub(crate) fn adopt_value(&mut self, name: &str) -> Option<StoredValue> {
        let (stored, was_removed) = self.orphans.take_value(name, clock::now())?;
        if was_removed && let Some(store) = &mut self.store {
            // The store may just have deleted it, by the wall clock.
            let StoredValue { value, replaces } = stored.clone();
            drop(store.persist_value(name, value, replaces));
        }
        Some(stored)
    }

    /// Returns the persisted attempts of a token that is added.
    pub(crate) fn adopt_count(&mut self, name: &str) -> Option<Counter> {
        self.orphans.take_count(name)
    }

    /// Keeps the value of a removed token for [`keep_removed`](Self::keep_removed).
    pub(crate) fn stash_value(&mut self, name: &str, stored: StoredValue) {
        let until = clock::now() + self.keep_removed;
        self.orphans.prune_values(clock::now());
        self.orphans.keep_value(name, stored, Some(until));
        if let Some(store) = &self.store {
            store.expire_value(name, wall_ms(until));
        }
    }

    /// All inventories have been read: tokens that are still not configured were removed.
    /// Returns whether the startup has ended.
    pub(crate) fn expire_orphans(&mut self) -> bool {
        if self.startup.is_some() {
            return false;
        }
        let until = clock::now() + self.keep_removed;
        let names = self.orphans.expire_all(until);
        if let Some(store) = &self.store {
            for name in names {
                store.expire_value(&name, wall_ms(until));
            }
        }
        true
    }

    /// Drops the state of tokens that are not configured whose time is over.
    pub(crate) fn prune_orphans(&mut self) {
        let now = clock::now();
        self.orphans.prune(now, clock::wall_clock());
        self.orphans.prune_values(now);
    }

    /// The next report of the database's thread. Cancel-safe.
    pub(crate) async fn report(&mut self) -> StoreReport {
        match &mut self.store {
            Some(store) => store.report().await,
            None => pending().await,
        }
    }

    /// Takes the writer, to close it.
    pub(crate) const fn take_writer(&mut self) -> Option<Writer> {
        self.store.take()
    }
}

/// `moment` on the wall clock, in milliseconds since 1970.
pub(crate) fn wall_ms(moment: Moment) -> i64 {
    let ahead = i64::try_from(whole_millis(moment.since(clock::now()))).unwrap_or(i64::MAX);
    clock::wall_clock().as_millisecond().saturating_add(ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stashed_value_is_adopted_by_a_token_of_the_same_name() {
        let mut recorder = StateRecorder::new(Duration::from_secs(60));
        let stored = StoredValue { value: TokenValue::parse("abc-1").unwrap(), replaces: None };
        recorder.stash_value("quotes", stored.clone());
        assert_eq!(recorder.adopt_value("orders"), None);
        assert_eq!(recorder.adopt_value("quotes"), Some(stored));
        assert_eq!(recorder.adopt_value("quotes"), None);
    }

    #[test]
    fn orphans_do_not_expire_before_the_startup_has_ended() {
        let mut recorder = StateRecorder::new(Duration::ZERO);
        let stored = StoredValue { value: TokenValue::parse("abc-1").unwrap(), replaces: None };
        recorder.load_value("quotes", stored, None);
        recorder.expire_orphans();
        assert!(recorder.adopt_value("quotes").is_some());
    }
}
