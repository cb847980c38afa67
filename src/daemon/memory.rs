//! What the daemon remembers across restarts: what goes to the store. [`recall`](super::recall)
//! takes it from there.
//!
//! In the store windows end by the wall clock, here by the daemon's. An attempt is written down
//! before it starts: one that a crash interrupts has been made all the same.

use super::Daemon;
use super::absent::Absent;
use super::sources::Held;
use crate::clock;
use crate::event_log::{EventName, Fields, Severity};
use crate::lifecycle::{Notice, ReauthAttempts};
use crate::scheduler::{ReauthFailures, ReauthId, TokenId};
use crate::secret::ValueRef;
use crate::store::{Counter, CounterKey, Store, StoreReport, StoredValue, WriteReceipt, Writer};
use crate::time::{Moment, whole_millis};
use crate::token_file::Shortage;

/// What of the store is needed again while the daemon runs.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) absent: Absent,
    /// The number of the token that is to be written down next, while all are.
    next: u32,
    /// While the daemon starts: what the sources hold, until it is known what is resumed.
    pub(super) held: Option<Held>,
    /// While the daemon starts: tokens that an earlier run knew to be removed.
    pub(super) removed: Vec<Box<str>>,
    /// So many descriptors are needed, and that was warned of.
    pub(super) warned_need: Option<u64>,
    /// Why files cannot be watched, which was warned of.
    pub(super) warned_shortage: Option<Shortage>,
    /// Some of the lives come from an earlier boot.
    pub(super) rebooted: bool,
}

impl Daemon {
    /// From now on the store is written to.
    pub(super) fn keep_on(&mut self, store: Store) {
        match store.into_writer() {
            Ok(writer) => {
                for name in std::mem::take(&mut self.memory.removed) {
                    if !self.memory.absent.has_value(&name) {
                        writer.retain_value(&name);
                    }
                }
                self.store = Some(writer);
                self.forget_outdated_values();
                self.expire_absent();
                self.compact();
            }
            Err(fault) => self.warn_of_state("nothing will outlive a restart", &fault),
        }
    }

    /// Something was told of a token that a restart should know of.
    pub(super) fn note(&mut self, id: TokenId, notice: &Notice) {
        if matches!(
            notice,
            Notice::Checked { .. }
                | Notice::Expired { .. }
                | Notice::Rejected { .. }
                | Notice::Revoked
                | Notice::ReauthFailed { .. }
        ) && self.write_down(id)
        {
            self.go_round();
        }
        if matches!(notice, Notice::Revoked) {
            self.forget_stored_value(id);
        }
        let (Some(_), Some(token)) = (&self.store, self.scheduler.token(id)) else { return };
        // One may also have been given back in silence.
        let counted = token.attempts().map_or(0, |attempts| attempts.counted);
        if self.roster.set_counted(id, counted) != counted {
            self.count_attempts(id);
        }
        if matches!(notice, Notice::ReauthFailed { .. })
            && let Some(reauth) = self.scheduler.spec(id).and_then(|spec| spec.reauth)
        {
            self.count_failures(reauth);
        }
    }

    /// Has written down what is known of a token's life; whether anything was.
    fn write_down(&mut self, id: TokenId) -> bool {
        let Self { store: Some(store), scheduler, roster, .. } = self else { return false };
        let (Some(token), Some(kept)) = (scheduler.token(id), roster.token(id)) else {
            return false;
        };
        match token.persisted_life() {
            Some((slot, resumed)) => {
                let Some(value) = kept.value(slot) else { return false };
                let url = roster.remote(kept.terms().server).settings.url.as_str();
                store.persist_life(kept.name(), url, value, &resumed);
            }
            None => store.delete_life(kept.name()),
        }
        true
    }

    /// Has some tokens that live written down again, when the store asks for that.
    fn go_round(&mut self) {
        if self.late.is_pending() {
            return;
        }
        let Some(store) = &mut self.store else { return };
        let (steps, from_the_first) = store.compaction_step(self.roster.len());
        if from_the_first {
            self.memory.next = 0;
        }
        for _ in 0..steps {
            if self.memory.next == self.scheduler.key_limit() {
                if let Some(store) = &mut self.store {
                    store.finish_compaction_pass();
                }
                return;
            }
            if let Some(id) = self.scheduler.id_of(self.memory.next)
                && self.scheduler.token(id).is_some_and(|token| token.persisted_life().is_some())
            {
                self.write_down(id);
            }
            self.memory.next += 1;
        }
    }

    /// Has all tokens that live written down again at the start, if there are few of them and
    /// the store has many outdated entries. Lives of an earlier boot would be lost.
    fn compact(&mut self) {
        if self.memory.rebooted || self.late.is_pending() {
            return;
        }
        let Some(store) = &mut self.store else { return };
        if !store.compact_at_start(self.roster.len()) {
            return;
        }
        let ids: Vec<TokenId> = self.roster.ids().map(|(id, _)| id).collect();
        for id in ids {
            if self.scheduler.token(id).is_some_and(|token| token.persisted_life().is_some()) {
                self.write_down(id);
            }
        }
        if let Some(store) = &mut self.store {
            store.finish_compaction_pass();
        }
    }

    /// What is still kept for tokens that are not there was removed from the configuration, once
    /// all inventories have been read.
    pub(super) fn expire_absent(&mut self) {
        // During the start the store cannot be written to yet.
        if self.memory.held.is_some() || !self.stocks.all_read() {
            return;
        }
        let (until, until_ms) = self.removed_until();
        let names = self.memory.absent.expire_all(until);
        if let Some(store) = &self.store {
            for name in names {
                store.expire_value(&name, until_ms);
            }
        }
    }

    /// Until when the value of a token is kept that is removed now, on both clocks.
    fn removed_until(&self) -> (Moment, i64) {
        let until = clock::now() + self.settings.keep_removed;
        (until, wall_ms(until))
    }

    /// Has a token's attempts written down, now.
    pub(super) fn count_attempts_now(&self, id: TokenId) -> Option<WriteReceipt> {
        self.count_attempts(id)?;
        self.store.as_ref().map(Writer::flush)
    }

    fn count_attempts(&self, id: TokenId) -> Option<()> {
        let (store, kept) = (self.store.as_ref()?, self.roster.token(id)?);
        let none = ReauthAttempts { window_end: clock::now(), counted: 0, in_a_row: 0 };
        let attempts = self.scheduler.token(id)?.attempts().unwrap_or(none);
        let ReauthAttempts { window_end, counted: count, in_a_row } = attempts;
        let count = Counter { window_end_ms: wall_ms(window_end), count, in_a_row };
        store.persist_counter(CounterKey::Token(kept.name().to_owned()), count);
        Some(())
    }

    fn count_failures(&self, id: ReauthId) {
        if let (Some(store), Some(reauth)) = (&self.store, self.roster.reauth(id))
            && let Some(failures) = self.scheduler.reauth_failures(id)
        {
            let ReauthFailures { window_end, count } = failures;
            let count = Counter { window_end_ms: wall_ms(window_end), count, in_a_row: 0 };
            store.persist_counter(CounterKey::Reauth(reauth.name.clone()), count);
        }
    }

    /// A token is not configured any more. A value that its source cannot hold is kept for a
    /// while; any other is deleted.
    pub(super) fn put_by(&mut self, id: TokenId) {
        let recalled = self.roster.take_recalled(id);
        let Some(kept) = self.roster.token(id) else { return };
        let is_in_file = kept.file().is_some() && !self.unwritten.has(id);
        let slot = self.scheduler.spare_slot(id).other();
        let current = kept.value(slot).filter(|value| kept.in_source() != Some(*value));
        let stored = match current {
            _ if recalled.is_some() => recalled,
            Some(value) if !is_in_file => {
                let replaces = kept.in_source().map(ValueRef::to_value);
                Some(StoredValue { value: value.to_value(), replaces })
            }
            Some(_) | None => None,
        };
        let name = kept.name().to_owned();
        let Some(stored) = stored else { return self.forget_stored_value(id) };
        let (until, until_ms) = self.removed_until();
        self.memory.absent.prune_values(clock::now());
        self.memory.absent.keep_value(&name, stored, Some(until));
        if let Some(store) = &self.store {
            store.expire_value(&name, until_ms);
        }
    }

    pub(super) fn reported(&mut self, report: StoreReport) {
        match report {
            StoreReport::Failed { fault, retry_in } => {
                let error = fault.to_string();
                self.say(
                    EventName::StoreFailed,
                    Severity::Error,
                    "what a restart should know could not be stored",
                    Fields {
                        error: Some(&error),
                        retry_in_ms: Some(whole_millis(retry_in)),
                        ..Fields::default()
                    },
                );
            }
            StoreReport::StartedOver(fault) => {
                self.warn_of_state("the store is damaged and was begun anew", &fault);
                if let Some(store) = &mut self.store {
                    store.restart_compaction();
                }
            }
            StoreReport::LivesLoaded(found) => self.recalled(found),
        }
    }
}

/// The next thing that the store has to tell.
pub(super) async fn report(store: &mut Option<Writer>) -> StoreReport {
    match store {
        Some(store) => store.report().await,
        None => std::future::pending().await,
    }
}

/// `moment` on the wall clock, in milliseconds since 1970.
fn wall_ms(moment: Moment) -> i64 {
    let ahead = i64::try_from(whole_millis(moment.since(clock::now()))).unwrap_or(i64::MAX);
    clock::wall_clock().as_millisecond().saturating_add(ahead)
}
