//! What the daemon remembers across restarts: what goes to the store, and what is taken from
//! it at the start.
//!
//! In the store windows end by the wall clock, here by the daemon's. An attempt is written down
//! before it starts: one that a crash interrupts has been made all the same.

use std::time::Duration;

use jiff::Timestamp;

use super::absent::Absent;
use super::sources::Held;
use super::stocks::Seen;
use super::{Daemon, report};
use crate::clock;
use crate::events::{Fields, Name, Severity};
use crate::keeper::{Failures, ReauthId, TokenId};
use crate::lifecycle::{Attempts, Method, Notice, Resumed, SourceChange};
use crate::secret::ValueRef;
use crate::store::{Count, Counted, Life, Recalled, Receipt, Report, Store, Stored, Writer};
use crate::time::{Moment, whole_millis};
use crate::token_file::StoreFault;

/// What of the store is needed again while the daemon runs.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) absent: Absent,
    /// The number of the token that is to be written down next, while all are.
    next: u32,
    /// While the daemon starts: what the sources hold, until it is known what is resumed.
    pub(super) held: Option<Held>,
}

impl Daemon {
    /// What came of opening the store: not being able to use it is a warning.
    pub(super) fn opened(&mut self, store: Result<Store, StoreFault>) -> Option<Store> {
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

    fn warn_of_state(&mut self, message: &str, fault: &StoreFault) {
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
    pub(super) fn recall_values(&mut self, store: &mut Store) {
        self.read(store, |daemon, store| {
            let now = clock::now();
            store.values(|name, stored| daemon.memory.absent.keep_value(name, stored, now))
        });
    }

    /// Puts what an earlier run has counted and learned where it belongs.
    pub(super) fn recall_counts(&mut self, store: &mut Store) {
        let (now, wall) = (clock::now(), clock::wall_clock());
        self.read(store, |daemon, store| {
            store.counts(|counted, count| match counted {
                Counted::Token(name) => match daemon.roster.id_of(&name) {
                    Some(id) => daemon.recount_token(id, &count),
                    None => daemon.memory.absent.keep_count(&name, count),
                },
                Counted::Reauth(name) => daemon.recount_reauth(&name, &count, now, wall),
            })
        });
        self.read(store, |daemon, store| {
            let Self { roster, keeper, .. } = daemon;
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
    pub(super) fn recount_token(&mut self, id: TokenId, count: &Count) {
        let Some(kept) = self.roster.token(id) else { return };
        let Some(window) = kept.terms().reauth.as_ref().map(|reauth| reauth.policy.window) else {
            return;
        };
        if let Some(window_end) = window_end(count, window, clock::now(), clock::wall_clock()) {
            let Count { count: counted, in_a_row, .. } = *count;
            self.roster.set_counted(id, counted);
            self.keeper.restore_attempts(id, Attempts { window_end, counted, in_a_row });
        }
    }

    fn recount_reauth(&mut self, name: &str, count: &Count, now: Moment, wall: Timestamp) {
        let Some(id) = self.roster.reauth_of(name) else { return };
        let window = self.roster.reauth(id).policy.window;
        if let Some(window_end) = window_end(count, window, now, wall) {
            let count = count.count;
            self.keeper.restore_failures(id, Failures { window_end, count });
            if count >= self.roster.reauth(id).max_failures_all.get() {
                let retry_in_ms = whole_millis(window_end.since(now));
                report::reauth(&mut self.journal, now, name, count, retry_in_ms);
            }
        }
    }

    /// Goes on with the lives that an earlier run knew of, and begins with all others.
    pub(super) fn resume(&mut self, store: Option<&mut Store>) {
        if let Some(store) = store {
            self.read(store, |daemon, store| {
                let mut seen = Seen::default();
                store.lives(|recalled| daemon.recall(&mut seen, recalled))
            });
        }
        let Held { new, others } = self.memory.held.take().unwrap_or_default();
        // Once for all of them: reading it a million times would take its time.
        let now = clock::now();
        for id in new {
            if self.keeper.is_missing(id) {
                let change = SourceChange::NewValue;
                self.keeper.source_changed(id, change, now, &mut self.outputs);
            }
        }
        for (id, change) in others {
            self.keeper.source_changed(id, change, now, &mut self.outputs);
        }
    }

    /// Goes on with lives that an earlier run knew of. They come with the newest first, and
    /// those of tokens that have been `seen` are outdated.
    pub(super) fn recall(&mut self, seen: &mut Seen, recalled: &[Recalled<'_>]) {
        let now = clock::now();
        let ids = self.roster.ids_of(recalled.iter().map(|recalled| recalled.name));
        for (id, recalled) in ids.into_iter().zip(recalled) {
            let Some(id) = id.filter(|id| !seen.has(*id)) else { continue };
            seen.add(id);
            if self.is_unheard(id) {
                self.recall_life(id, recalled, now);
            }
        }
    }

    fn recall_life(&mut self, id: TokenId, recalled: &Recalled<'_>, now: Moment) {
        let Self { roster, keeper, outputs, .. } = self;
        let Some(kept) = roster.token(id) else { return };
        let Some(value) = kept.value(keeper.spare_slot(id)) else { return };
        let url = roster.remote(kept.terms().server).settings.url.as_str();
        if let Some(life) = recalled.life_of(url, value) {
            keeper.resume(id, resumed(&life), now, outputs);
        }
    }

    /// From now on the store is written to.
    pub(super) fn keep_on(&mut self, store: Store) {
        match store.into_writer() {
            Ok(writer) => self.store = Some(writer),
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
        let (Some(_), Some(token)) = (&self.store, self.keeper.token(id)) else { return };
        // One may also have been given back in silence.
        let counted = token.attempts().map_or(0, |attempts| attempts.counted);
        if self.roster.set_counted(id, counted) != counted {
            self.count_attempts(id);
        }
        if matches!(notice, Notice::ReauthFailed { .. })
            && let Some(reauth) = self.keeper.spec(id).and_then(|spec| spec.reauth)
        {
            self.count_failures(reauth);
        }
    }

    /// Has written down what is known of a token's life; whether anything was.
    fn write_down(&mut self, id: TokenId) -> bool {
        let Self { store: Some(store), keeper, roster, .. } = self else { return false };
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
        let (steps, from_the_first) = store.turn(self.roster.len());
        if from_the_first {
            self.memory.next = 0;
        }
        for _ in 0..steps {
            if self.memory.next == self.keeper.numbers() {
                if let Some(store) = &mut self.store {
                    store.went_round();
                }
                return;
            }
            if let Some(id) = self.keeper.id_of(self.memory.next)
                && self.keeper.token(id).is_some_and(|token| token.resumable().is_some())
            {
                self.write_down(id);
            }
            self.memory.next += 1;
        }
    }

    /// Has a token's attempts written down, now.
    pub(super) fn count_attempts_now(&self, id: TokenId) -> Option<Receipt> {
        self.count_attempts(id)?;
        self.store.as_ref().map(Writer::flush)
    }

    fn count_attempts(&self, id: TokenId) -> Option<()> {
        let (store, kept) = (self.store.as_ref()?, self.roster.token(id)?);
        let none = Attempts { window_end: clock::now(), counted: 0, in_a_row: 0 };
        let attempts = self.keeper.token(id)?.attempts().unwrap_or(none);
        let Attempts { window_end, counted: count, in_a_row } = attempts;
        let count = Count { window_end_ms: wall_ms(window_end), count, in_a_row };
        store.keep_count(Counted::Token(kept.name().to_owned()), count);
        Some(())
    }

    fn count_failures(&self, id: ReauthId) {
        if let (Some(store), Some(failures)) = (&self.store, self.keeper.failures(id)) {
            let Failures { window_end, count } = failures;
            let count = Count { window_end_ms: wall_ms(window_end), count, in_a_row: 0 };
            store.keep_count(Counted::Reauth(self.roster.reauth(id).name.clone()), count);
        }
    }

    /// The value of a token that is not configured any more may be wanted again.
    pub(super) fn put_by(&mut self, id: TokenId) {
        let Some(kept) = self.roster.token(id).filter(|kept| kept.file().is_none()) else { return };
        let slot = self.keeper.spare_slot(id).other();
        if let Some(value) = kept.value(slot)
            && kept.in_source() != Some(value)
        {
            let replaces = kept.in_source().map(ValueRef::to_value);
            let stored = Stored { value: value.to_value(), replaces };
            self.memory.absent.keep_value(kept.name(), stored, clock::now());
        }
    }

    pub(super) fn reported(&mut self, report: Report) {
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

type Read = Result<(), StoreFault>;

/// The next thing that the store has to tell.
pub(super) async fn report(store: &mut Option<Writer>) -> Report {
    match store {
        Some(store) => store.report().await,
        None => std::future::pending().await,
    }
}

fn life(resumed: &Resumed) -> Life {
    let Resumed { bound, remaining_ms, life_ms, by, proven, unextendable } = *resumed;
    let by_renewing = by == Method::Renew;
    Life { bound, remaining_ms, life_ms, by_renewing, proven, unextendable }
}

fn resumed(life: &Life) -> Resumed {
    let Life { bound, remaining_ms, life_ms, by_renewing, proven, unextendable } = *life;
    let by = if by_renewing { Method::Renew } else { Method::Query };
    Resumed { bound, remaining_ms, life_ms, by, proven, unextendable }
}

/// `moment` on the wall clock, in milliseconds since 1970.
fn wall_ms(moment: Moment) -> i64 {
    let ahead = i64::try_from(whole_millis(moment.since(clock::now()))).unwrap_or(i64::MAX);
    clock::wall_clock().as_millisecond().saturating_add(ahead)
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
