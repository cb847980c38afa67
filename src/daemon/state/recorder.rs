//! What the daemon remembers across restarts: what goes to the store. [`recall`](super::recall)
//! takes it from there.
//!
//! In the store windows end by the wall clock, here by the daemon's. An attempt is written down
//! before it starts: one that a crash interrupts has been made all the same.

use crate::clock;
use crate::daemon::Daemon;
use crate::daemon::state::orphans::OrphanedState;
use crate::daemon::tokens::source_changes::DeferredSourceChanges;
use crate::events::{Fields, Name, Severity};
use crate::keeper::{Failures, ReauthId, TokenId};
use crate::lifecycle::{Attempts, Method, Notice, Resumed};
use crate::secret::ValueRef;
use crate::store::{Count, Counted, Life, Receipt, Report, Store, Stored, Writer};
use crate::time::{Moment, whole_millis};

/// What of the store is needed again while the daemon runs.
#[derive(Debug, Default)]
pub(crate) struct StateRecorder {
    pub(crate) absent: OrphanedState,
    /// The number of the token that is to be written down next, while all are.
    next: u32,
    /// While the daemon starts: what the sources hold, until it is known what is resumed.
    pub(crate) held: Option<DeferredSourceChanges>,
    /// While the daemon starts: tokens that an earlier run knew to be removed.
    pub(crate) removed: Vec<Box<str>>,
    /// So many descriptors are needed, and that was warned of.
    pub(crate) warned_need: Option<u64>,
    /// Some of the lives come from an earlier boot.
    pub(crate) rebooted: bool,
}

impl Daemon {
    /// From now on the store is written to.
    pub(crate) fn keep_on(&mut self, store: Store) {
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
    pub(crate) fn note(&mut self, id: TokenId, notice: &Notice) {
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
        let (Some(_), Some(token)) = (&self.store, self.tokens.scheduler.token(id)) else { return };
        // One may also have been given back in silence.
        let counted = token.attempts().map_or(0, |attempts| attempts.counted);
        if self.tokens.registry.set_counted(id, counted) != counted {
            self.count_attempts(id);
        }
        if matches!(notice, Notice::ReauthFailed { .. })
            && let Some(reauth) = self.tokens.scheduler.spec(id).and_then(|spec| spec.reauth)
        {
            self.count_failures(reauth);
        }
    }

    /// Has written down what is known of a token's life; whether anything was.
    fn write_down(&mut self, id: TokenId) -> bool {
        let Self { store: Some(store), tokens, .. } = self else { return false };
        let (keeper, roster) = (&tokens.scheduler, &tokens.registry);
        let (Some(token), Some(kept)) = (keeper.token(id), roster.token(id)) else { return false };
        match token.resumable() {
            Some((slot, resumed)) => {
                let Some(value) = kept.value(slot) else { return false };
                let url = roster.remote(kept.terms().server).settings.url.as_str();
                store.remember(kept.name(), url, value, &life(&resumed));
            }
            None => store.forget(kept.name()),
        }
        true
    }

    /// Has some tokens that live written down again, when the store asks for that.
    fn go_round(&mut self) {
        if self.late.is_pending() {
            return;
        }
        let Some(store) = &mut self.store else { return };
        let (steps, from_the_first) = store.turn(self.tokens.registry.len());
        if from_the_first {
            self.memory.next = 0;
        }
        for _ in 0..steps {
            if self.memory.next == self.tokens.scheduler.numbers() {
                if let Some(store) = &mut self.store {
                    store.went_round();
                }
                return;
            }
            if let Some(id) = self.tokens.scheduler.id_of(self.memory.next)
                && self.tokens.scheduler.token(id).is_some_and(|token| token.resumable().is_some())
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
        if !store.compacts_at_start(self.tokens.registry.len()) {
            return;
        }
        let ids: Vec<TokenId> = self.tokens.registry.ids().map(|(id, _)| id).collect();
        for id in ids {
            if self.tokens.scheduler.token(id).is_some_and(|token| token.resumable().is_some()) {
                self.write_down(id);
            }
        }
        if let Some(store) = &mut self.store {
            store.went_round();
        }
    }

    /// What is still kept for tokens that are not there was removed from the configuration, once
    /// all inventories have been read.
    pub(crate) fn expire_absent(&mut self) {
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
    pub(crate) fn count_attempts_now(&self, id: TokenId) -> Option<Receipt> {
        self.count_attempts(id)?;
        self.store.as_ref().map(Writer::flush)
    }

    fn count_attempts(&self, id: TokenId) -> Option<()> {
        let (store, kept) = (self.store.as_ref()?, self.tokens.registry.token(id)?);
        let none = Attempts { window_end: clock::now(), counted: 0, in_a_row: 0 };
        let attempts = self.tokens.scheduler.token(id)?.attempts().unwrap_or(none);
        let Attempts { window_end, counted: count, in_a_row } = attempts;
        let count = Count { window_end_ms: wall_ms(window_end), count, in_a_row };
        store.keep_count(Counted::Token(kept.name().to_owned()), count);
        Some(())
    }

    fn count_failures(&self, id: ReauthId) {
        if let (Some(store), Some(reauth)) = (&self.store, self.tokens.registry.reauth(id))
            && let Some(failures) = self.tokens.scheduler.failures(id)
        {
            let Failures { window_end, count } = failures;
            let count = Count { window_end_ms: wall_ms(window_end), count, in_a_row: 0 };
            store.keep_count(Counted::Reauth(reauth.name.clone()), count);
        }
    }

    /// A token is not configured any more. A value that its source cannot hold is kept for a
    /// while; any other is deleted.
    pub(crate) fn put_by(&mut self, id: TokenId) {
        let recalled = self.tokens.registry.take_recalled(id);
        let Some(kept) = self.tokens.registry.token(id) else { return };
        let is_in_file = kept.file().is_some() && !self.unwritten.has(id);
        let slot = self.tokens.scheduler.spare_slot(id).other();
        let current = kept.value(slot).filter(|value| kept.in_source() != Some(*value));
        let stored = match current {
            _ if recalled.is_some() => recalled,
            Some(value) if !is_in_file => {
                let replaces = kept.in_source().map(ValueRef::to_value);
                Some(Stored { value: value.to_value(), replaces })
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

    pub(crate) fn reported(&mut self, report: Report) {
        match report {
            Report::Failed { fault, retry_in } => {
                let error = fault.to_string();
                self.say(
                    Name::StoreFailed,
                    Severity::Error,
                    "what a restart should know could not be stored",
                    Fields {
                        error: Some(&error),
                        retry_in_ms: Some(whole_millis(retry_in)),
                        ..Fields::default()
                    },
                );
            }
            Report::StartedOver(fault) => {
                self.warn_of_state("the store is damaged and was begun anew", &fault);
                if let Some(store) = &mut self.store {
                    store.begin_anew();
                }
            }
            Report::Recalled(found) => self.recalled(found),
        }
    }
}

/// The next thing that the store has to tell.
pub(crate) async fn report(store: &mut Option<Writer>) -> Report {
    match store {
        Some(store) => store.report().await,
        None => std::future::pending().await,
    }
}

fn life(resumed: &Resumed) -> Life {
    let Resumed { bound, remaining_ms, life_ms, by, proven, unextendable, this_boot } = *resumed;
    let by_renewing = by == Method::Renew;
    Life { bound, remaining_ms, life_ms, by_renewing, proven, unextendable, this_boot }
}

/// `moment` on the wall clock, in milliseconds since 1970.
fn wall_ms(moment: Moment) -> i64 {
    let ahead = i64::try_from(whole_millis(moment.since(clock::now()))).unwrap_or(i64::MAX);
    clock::wall_clock().as_millisecond().saturating_add(ahead)
}
