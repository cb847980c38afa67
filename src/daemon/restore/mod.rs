//! What an earlier run has left, taken from the store at the start.
//!
//! Whatever cannot be had of it costs a warning and checks, and nothing else.

pub(crate) mod deferred;

use std::time::Duration;

use jiff::Timestamp;

use crate::clock;
use crate::daemon::inventories::TokenBitSet;
use crate::daemon::tokens::Tokens;
use crate::daemon::tokens::source_changes::DeferredSourceChanges;
use crate::daemon::{Daemon, notices};
use crate::events::{Fields, Name, Severity};
use crate::keeper::{Failures, TokenId};
use crate::lifecycle::{Attempts, Method, Resumed, SourceChange};
use crate::store::{Count, Counted, Life, Recalled, Store};
use crate::time::{Moment, whole_millis};
use crate::token_file::StoreFault;

type Read = Result<(), StoreFault>;

impl Daemon {
    /// What came of opening the store: not being able to use it is a warning.
    pub(crate) fn opened(&mut self, store: Result<Store, StoreFault>) -> Option<Store> {
        match store {
            Ok(mut store) => {
                self.warn_of_damage(&mut store);
                Some(store)
            }
            Err(fault) => {
                self.warn_of_state(
                    "the state directory cannot be used; a restart begins anew, and loses new \
                     values of tokens that have no file, and the count of re-auth attempts",
                    &fault,
                );
                None
            }
        }
    }

    fn warn_of_damage(&mut self, store: &mut Store) {
        if let Some(fault) = store.set_aside() {
            self.warn_of_state("what an earlier run has left cannot be used", &fault);
        }
    }

    pub(crate) fn warn_of_state(&mut self, message: &str, fault: &StoreFault) {
        let error = fault.to_string();
        let path = self.settings.state_dir.display().to_string();
        self.say(
            Name::ConfigWarning,
            Severity::Warn,
            message,
            Fields { error: Some(&error), path: Some(&path), ..Fields::default() },
        );
    }

    /// Does one part of the reading; the rest of the start goes on without what it has not got.
    fn read(&mut self, store: &mut Store, part: impl FnOnce(&mut Self, &mut Store) -> Read) {
        if let Err(fault) = part(self, store) {
            self.warn_of_state("what an earlier run has left cannot be read", &fault);
        }
        self.warn_of_damage(store);
    }

    /// The values that earlier runs kept: to be had before the sources are looked at.
    pub(crate) fn recall_values(&mut self, store: &mut Store) {
        self.read(store, |daemon, store| {
            let (now, wall) = (clock::now(), clock::wall_clock().as_millisecond());
            let longest = daemon.settings.keep_removed;
            store.values(|name, stored, until_ms| {
                let until = until_ms.map(|until_ms| {
                    daemon.memory.removed.push(name.into());
                    let left = until_ms.saturating_sub(wall).max(0).unsigned_abs();
                    now + Duration::from_millis(left).min(longest)
                });
                daemon.memory.absent.keep_value(name, stored, until);
            })
        });
    }

    /// Puts what an earlier run has counted and learned where it belongs.
    pub(crate) fn recall_counts(&mut self, store: &mut Store) {
        let (now, wall) = (clock::now(), clock::wall_clock());
        self.read(store, |daemon, store| {
            store.counts(|counted, count| match counted {
                Counted::Token(name) => match daemon.tokens.registry.id_of(&name) {
                    Some(id) => daemon.recount_token(id, &count),
                    None => daemon.memory.absent.keep_count(&name, count),
                },
                Counted::Reauth(name) => daemon.recount_reauth(&name, &count, now, wall),
            })
        });
        self.read(store, |daemon, store| {
            let Tokens { registry: roster, scheduler: keeper, .. } = &mut daemon.tokens;
            let server = |name: &str| roster.server_of(name);
            store.lessons(
                |name| Some(roster.remote(server(name)?).settings.url.to_string()),
                |name, renewing| {
                    if let Some(id) = server(name) {
                        let method = if renewing { Method::Renew } else { Method::Query };
                        keeper.restore_lesson(id, method);
                    }
                },
            )
        });
    }

    /// Gives a token back the attempts that counted before.
    pub(crate) fn recount_token(&mut self, id: TokenId, count: &Count) {
        let Some(kept) = self.tokens.registry.token(id) else { return };
        let Some(window) = kept.terms().reauth.as_ref().map(|reauth| reauth.policy.window) else {
            return;
        };
        if let Some(window_end) = window_end(count, window, clock::now(), clock::wall_clock()) {
            let Count { count: counted, in_a_row, .. } = *count;
            self.tokens.registry.set_counted(id, counted);
            self.tokens.scheduler.restore_attempts(id, Attempts { window_end, counted, in_a_row });
        }
    }

    fn recount_reauth(&mut self, name: &str, count: &Count, now: Moment, wall: Timestamp) {
        let Some(id) = self.tokens.registry.reauth_of(name) else { return };
        let Some(reauth) = self.tokens.registry.reauth(id).cloned() else { return };
        let window = reauth.policy.window;
        if let Some(window_end) = window_end(count, window, now, wall) {
            let count = count.count;
            self.tokens.scheduler.restore_failures(id, Failures { window_end, count });
            if count >= reauth.max_failures_all.get() {
                let retry_in_ms = whole_millis(window_end.since(now));
                notices::reauth(&mut self.journal, now, name, count, retry_in_ms);
            }
        }
    }

    /// Goes on with the lives that an earlier run knew of, and begins with all others.
    pub(crate) fn resume(&mut self, store: Option<&mut Store>) {
        if let Some(store) = store {
            self.read(store, |daemon, store| {
                let mut seen = TokenBitSet::default();
                store.lives(|recalled| daemon.recall(&mut seen, recalled))
            });
        }
        let DeferredSourceChanges { new, others } = self.memory.held.take().unwrap_or_default();
        // Once for all of them: reading it a million times would take its time.
        let now = clock::now();
        for id in new {
            if self.tokens.scheduler.is_missing(id) {
                let change = SourceChange::NewValue;
                self.tokens.scheduler.source_changed(id, change, now, &mut self.tokens.actions);
            }
        }
        for (id, change) in others {
            self.tokens.scheduler.source_changed(id, change, now, &mut self.tokens.actions);
        }
    }

    /// Goes on with lives that an earlier run knew of. They come with the newest first, and
    /// those of tokens that have been `seen` are outdated.
    pub(crate) fn recall(&mut self, seen: &mut TokenBitSet, recalled: &[Recalled<'_>]) {
        let now = clock::now();
        let ids = self.tokens.registry.ids_of(recalled.iter().map(|recalled| recalled.name));
        for (id, recalled) in ids.into_iter().zip(recalled) {
            let Some(id) = id.filter(|id| !seen.has(*id)) else { continue };
            seen.add(id);
            if self.is_unheard(id) {
                self.recall_life(id, recalled, now);
            }
        }
    }

    fn recall_life(&mut self, id: TokenId, recalled: &Recalled<'_>, now: Moment) {
        let Self { tokens, memory, .. } = self;
        let Tokens { registry: roster, scheduler: keeper, actions: outputs } = tokens;
        let Some(kept) = roster.token(id) else { return };
        let Some(value) = kept.value(keeper.spare_slot(id)) else { return };
        let url = roster.remote(kept.terms().server).settings.url.as_str();
        if let Some(life) = recalled.life_of(url, value) {
            memory.rebooted |= !life.this_boot;
            keeper.resume(id, resumed(&life), now, outputs);
        }
    }
}

fn resumed(life: &Life) -> Resumed {
    let Life { bound, remaining_ms, life_ms, by_renewing, proven, unextendable, this_boot } = *life;
    let by = if by_renewing { Method::Renew } else { Method::Query };
    Resumed { bound, remaining_ms, life_ms, by, proven, unextendable, this_boot }
}

/// When a window that was kept ends on the daemon's clock; `None` once it is over. A wall
/// clock that was set back does not make it longer than it can be.
fn window_end(count: &Count, window: Duration, now: Moment, wall: Timestamp) -> Option<Moment> {
    let left = count.window_end_ms.checked_sub(wall.as_millisecond())?;
    let left = Duration::from_millis(u64::try_from(left).ok()?);
    (!left.is_zero()).then(|| now + left.min(window))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(3_600);

    fn left(seconds: i64) -> Option<u64> {
        let wall = Timestamp::from_second(1_000_000).unwrap();
        let now = Moment::from_millis(5_000);
        let window_end_ms = (1_000_000 + seconds) * 1_000;
        let count = Count { window_end_ms, count: 1, in_a_row: 1 };
        Some(window_end(&count, WINDOW, now, wall)?.since(now).as_secs())
    }

    #[test]
    fn a_window_goes_on_where_it_was() {
        assert_eq!(left(600), Some(600));
    }

    #[test]
    fn a_window_that_ended_meanwhile_counts_no_more() {
        assert_eq!([left(0), left(-5)], [None, None]);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_lengthen_a_window() {
        assert_eq!(left(90_000), Some(3_600));
    }
}
