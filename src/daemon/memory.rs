//! What the daemon remembers of re-auth attempts across restarts.
//!
//! On disk windows end by the wall clock, here by the daemon's. An attempt is written down
//! before it starts: one that a crash interrupts has been made all the same.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Daemon, deeds, report};
use crate::clock;
use crate::events::{Fields, Name, Severity};
use crate::keeper::{Failures, TokenId};
use crate::lifecycle::{Attempts, Notice, Token};
use crate::time::{Moment, whole_millis};
use crate::token_file::{Count, Ledger, StateDir, StoreFault};

/// Between two tries to write the ledger to a disk that refuses it.
const RETRY: Duration = Duration::from_secs(60);

/// A ledger on its way to the disk.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) state: Arc<StateDir>,
    pub(super) ledger: Ledger,
    pub(super) version: u64,
}

/// When the ledger is to be written again.
#[derive(Debug, Default)]
pub(super) struct Memory {
    version: u64,
    due: Option<Moment>,
    writing: bool,
    earlier: Ledger,
}

impl Memory {
    /// When the next page is due.
    pub(super) fn due(&self) -> Option<Moment> {
        self.due.filter(|_| !self.writing)
    }

    /// Something that belongs in the ledger has changed.
    pub(super) fn touch(&mut self, now: Moment) {
        self.due = Some(self.due.map_or(now, |due| due.min(now)));
    }
}

impl Daemon {
    /// Reads what an earlier run has left; applied as tokens and re-auths are added.
    pub(super) fn remember(&mut self) {
        let Some(state) = &self.state else { return };
        match state.load_ledger() {
            Ok(ledger) => self.memory.earlier = ledger,
            Err(fault) => {
                let error = fault.to_string();
                self.say(
                    Name::ConfigWarning,
                    Severity::Warn,
                    "earlier re-auth attempts are not known; they are counted anew",
                    Fields { error: Some(&error), ..Fields::default() },
                );
            }
        }
    }

    /// Puts what an earlier run has counted where it belongs, once.
    pub(super) fn recount(&mut self) {
        let earlier = std::mem::take(&mut self.memory.earlier);
        let (now, wall) = (clock::now(), clock::wall_clock());
        for (name, count) in &earlier.tokens {
            let Some(id) = self.roster.id_of(name) else { continue };
            let Some(reauth) = self.roster.token(id).and_then(|kept| kept.terms.reauth.clone())
            else {
                continue;
            };
            if let Some(window_end) = window_end(count, reauth.policy.window, now, wall) {
                let Count { count: counted, in_a_row, .. } = *count;
                self.keeper.restore_attempts(id, Attempts { window_end, counted, in_a_row });
            }
        }
        for (name, count) in &earlier.reauths {
            let Some(id) = self.roster.reauth_of(name) else { continue };
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
    }

    /// What counts now, to be written down.
    pub(super) fn page(&mut self) -> Option<Page> {
        let state = Arc::clone(self.state.as_ref()?);
        let (now, wall) = (clock::now(), clock::wall_clock());
        let at = |moment: Moment| wall.saturating_add(moment.since(now)).unwrap_or(Timestamp::MAX);
        let tokens = self.roster.ids().filter_map(|(id, kept)| {
            let Attempts { window_end, counted, in_a_row } = self.keeper.token(id)?.attempts()?;
            let count = Count { window_end: at(window_end), count: counted, in_a_row };
            (window_end > now).then(|| (kept.name.to_string(), count))
        });
        let reauths = self.roster.reauths().filter_map(|(id, reauth)| {
            let Failures { window_end, count } = self.keeper.failures(id)?;
            let count = Count { window_end: at(window_end), count, in_a_row: 0 };
            (window_end > now).then(|| (reauth.name.clone(), count))
        });
        let ledger = Ledger { tokens: tokens.collect(), reauths: reauths.collect() };
        self.memory.version += 1;
        Some(Page { state, ledger, version: self.memory.version })
    }

    /// Writes the ledger down if that is due.
    pub(super) fn keep_ledger(&mut self, now: Moment) {
        if self.memory.due().is_none_or(|due| due > now) {
            return;
        }
        self.memory.due = None;
        if let Some(page) = self.page() {
            self.memory.writing = true;
            self.deeds.spawn(deeds::keep(page));
        }
    }

    pub(super) fn ledger_kept(&mut self, result: Result<(), StoreFault>) {
        self.memory.writing = false;
        if let Err(fault) = result {
            let now = clock::now();
            self.memory.due = Some(now + RETRY);
            let error = fault.to_string();
            self.say(
                Name::StoreFailed,
                Severity::Error,
                "the count of re-auth attempts could not be stored",
                Fields {
                    error: Some(&error),
                    retry_in_ms: Some(whole_millis(RETRY)),
                    ..Fields::default()
                },
            );
        }
    }

    /// What is to be told of a token may belong in the ledger: a failure counts for its way,
    /// and its attempts may have changed without a word, as one is given back in silence.
    pub(super) fn note_attempts(&mut self, id: TokenId, notice: &Notice, now: Moment) {
        if matches!(notice, Notice::ReauthFailed { .. }) {
            self.memory.touch(now);
        }
        let attempts = self.keeper.token(id).and_then(Token::attempts);
        let counted = attempts.map_or(0, |attempts| attempts.counted);
        if let Some(kept) = self.roster.token_mut(id)
            && std::mem::replace(&mut kept.counted, counted) != counted
        {
            self.memory.touch(now);
        }
    }
}

/// When a window that was kept ends on the daemon's clock; `None` once it is over. A wall
/// clock that was set back does not make it longer than it can be.
fn window_end(count: &Count, window: Duration, now: Moment, wall: Timestamp) -> Option<Moment> {
    let left = Duration::try_from(count.window_end.duration_since(wall)).ok()?;
    (!left.is_zero()).then(|| now + left.min(window))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(3_600);

    fn ending(seconds: i64) -> Count {
        let window_end = Timestamp::from_second(1_000_000 + seconds).unwrap();
        Count { window_end, count: 1, in_a_row: 1 }
    }

    fn left(seconds: i64) -> Option<u64> {
        let wall = Timestamp::from_second(1_000_000).unwrap();
        let now = Moment::from_millis(5_000);
        let end = window_end(&ending(seconds), WINDOW, now, wall)?;
        Some(end.since(now).as_secs())
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
