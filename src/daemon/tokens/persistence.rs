//! What is persisted of a token, and restored: check results, attempt counts, the current value.
//!
//! An attempt is persisted before it starts: an attempt that a crash interrupts has been made.

use std::time::Duration;

use jiff::Timestamp;

use super::Tokens;
use crate::clock;
use crate::daemon::state::wall_ms;
use crate::lifecycle::{Notice, ReauthAttempts};
use crate::scheduler::{ReauthFailures, ReauthId, TokenId};
use crate::secret::ValueRef;
use crate::store::{Counter, CounterKey, StoredLife, StoredValue, WriteReceipt, Writer};
use crate::time::Moment;

impl Tokens {
    /// Persists what a notice says about a token.
    pub(crate) fn persist_notice(&mut self, id: TokenId, notice: &Notice) {
        if matches!(
            notice,
            Notice::Checked { .. }
                | Notice::Expired { .. }
                | Notice::Rejected { .. }
                | Notice::Revoked
                | Notice::ReauthFailed { .. }
        ) && self.persist_life(id)
        {
            self.compaction_step();
        }
        if matches!(notice, Notice::Revoked) {
            self.forget_stored_value(id);
        }
        let (Some(_), Some(token)) = (self.recorder.shared_writer(), self.scheduler.token(id))
        else {
            return;
        };
        // The scheduler can also give back an attempt without a notice.
        let counted = token.attempts().map_or(0, |attempts| attempts.counted);
        if self.registry.set_counted(id, counted) != counted {
            self.persist_attempts(id);
        }
        if matches!(notice, Notice::ReauthFailed { .. })
            && let Some(reauth) = self.scheduler.spec(id).and_then(|spec| spec.reauth)
        {
            self.persist_failures(reauth);
        }
    }

    /// Persists the last check result of a token, or that there is none. Returns whether it did.
    fn persist_life(&mut self, id: TokenId) -> bool {
        let Some(writer) = self.recorder.writer() else { return false };
        let Some(token) = self.scheduler.token(id) else { return false };
        let Some(entry) = self.registry.token(id) else { return false };
        match token.persisted_life() {
            Some((slot, life)) => {
                let Some(value) = entry.value(slot) else { return false };
                let url = self.servers[entry.config().server].settings.url.as_str();
                writer.persist_life(entry.name(), url, value, &life);
            }
            None => writer.delete_life(entry.name()),
        }
        true
    }

    /// Persists the check results of some tokens again, when the store asks for that: the log of
    /// check results is compacted bit by bit.
    fn compaction_step(&mut self) {
        if self.deferred.is_restoring() {
            return;
        }
        let Some(writer) = self.recorder.writer() else { return };
        let (steps, from_the_first) = writer.compaction_step(self.registry.len());
        if from_the_first {
            self.recorder.next_to_compact = 0;
        }
        for _ in 0..steps {
            let next = self.recorder.next_to_compact;
            if next == self.scheduler.key_limit() {
                if let Some(writer) = self.recorder.writer() {
                    writer.finish_compaction_pass();
                }
                return;
            }
            if let Some(id) = self.scheduler.id_of(next) {
                self.persist_living(id);
            }
            self.recorder.next_to_compact += 1;
        }
    }

    fn persist_living(&mut self, id: TokenId) {
        if self.scheduler.token(id).is_some_and(|token| token.persisted_life().is_some()) {
            self.persist_life(id);
        }
    }

    /// Persists the check results of all tokens at startup, if there are few tokens and many
    /// outdated rows. Not while results of an earlier boot are there: they would be lost.
    pub(crate) fn compact_at_startup(&mut self, has_rebooted: bool) {
        if has_rebooted || self.deferred.is_restoring() {
            return;
        }
        let tokens = self.registry.len();
        if !self.recorder.writer().is_some_and(|writer| writer.compact_at_start(tokens)) {
            return;
        }
        let ids: Vec<TokenId> = self.registry.ids().map(|(id, _)| id).collect();
        for id in ids {
            self.persist_living(id);
        }
        if let Some(writer) = self.recorder.writer() {
            writer.finish_compaction_pass();
        }
    }

    /// Persists a token's attempts at once: the receipt tells when they are durable.
    pub(crate) fn persist_attempts_now(&self, id: TokenId) -> Option<WriteReceipt> {
        self.persist_attempts(id)?;
        self.recorder.shared_writer().map(Writer::flush)
    }

    fn persist_attempts(&self, id: TokenId) -> Option<()> {
        let entry = self.registry.token(id)?;
        let none = ReauthAttempts { window_end: clock::now(), counted: 0, in_a_row: 0 };
        let attempts = self.scheduler.token(id)?.attempts().unwrap_or(none);
        let ReauthAttempts { window_end, counted, in_a_row } = attempts;
        let name = CounterKey::Token(entry.name().to_owned());
        self.recorder.keep_count(name, window_end, counted, in_a_row);
        Some(())
    }

    fn persist_failures(&self, id: ReauthId) {
        if let Some(reauth) = self.reauths.get(id)
            && let Some(ReauthFailures { window_end, count }) = self.scheduler.reauth_failures(id)
        {
            self.recorder.keep_count(CounterKey::Reauth(reauth.name.clone()), window_end, count, 0);
        }
    }

    /// A token is removed. A value that its source cannot hold is kept for a time; any other
    /// persisted value is deleted.
    pub(super) fn stash_value(&mut self, id: TokenId) {
        let restored = self.registry.take_restored_value(id);
        let Some(entry) = self.registry.token(id) else { return };
        let is_in_file = entry.file().is_some() && !self.file_retries.has(id);
        let slot = self.scheduler.spare_slot(id).other();
        let current = entry.value(slot).filter(|value| entry.in_source() != Some(*value));
        let stored = match current {
            _ if restored.is_some() => restored,
            Some(value) if !is_in_file => {
                let replaces = entry.in_source().map(ValueRef::to_value);
                Some(StoredValue { value: value.to_value(), replaces })
            }
            Some(_) | None => None,
        };
        match stored {
            Some(stored) => self.recorder.stash_value(entry.name(), stored),
            None => self.recorder.forget_value(entry.name()),
        }
    }

    /// A token is removed. Its attempts are kept until their window ends, so that a token that is
    /// added again gets no further ones.
    pub(super) fn stash_reauth_attempts(&mut self, id: TokenId) {
        let Some(entry) = self.registry.token(id) else { return };
        let attempts = self.scheduler.token(id).and_then(|token| token.attempts());
        if let Some(attempts) = attempts.filter(|attempts| clock::now() < attempts.window_end) {
            let ReauthAttempts { window_end, counted, in_a_row } = attempts;
            let window_end_ms = wall_ms(window_end);
            let count = Counter { window_end_ms, count: counted, in_a_row };
            self.recorder.stash_count(entry.name(), count);
        }
    }

    /// All inventories have been read: tokens that are still not configured were removed.
    pub(crate) fn expire_orphans(&mut self) {
        if self.recorder.expire_orphans() {
            self.companions.expire_orphans(self.recorder.keep_removed);
        }
    }

    /// Deletes the persisted value of a token.
    pub(super) fn forget_stored_value(&mut self, id: TokenId) {
        if let Some(entry) = self.registry.token(id) {
            self.recorder.forget_value(entry.name());
        }
    }

    /// Restores the attempts of a token that an earlier run has counted.
    pub(crate) fn restore_reauth_attempts(&mut self, id: TokenId, count: &Counter) {
        let Some(entry) = self.registry.token(id) else { return };
        let reauth = entry.config().reauth.as_ref();
        let Some(window) = reauth.map(|reauth| reauth.policy.window) else { return };
        let now = clock::now();
        let window_end = window_end(count, window, now, clock::wall_clock());
        if let Some(window_end) = window_end.or_else(|| (count.count == 0).then_some(now)) {
            let Counter { count: counted, in_a_row, .. } = *count;
            self.registry.set_counted(id, counted);
            let attempts = ReauthAttempts { window_end, counted, in_a_row };
            self.scheduler.restore_reauth_attempts(id, attempts, now);
        }
    }

    /// Restores a check result of an earlier run. Returns whether it is of an earlier boot.
    pub(crate) fn restore_life(
        &mut self,
        id: TokenId,
        recalled: &StoredLife<'_>,
        now: Moment,
    ) -> bool {
        let Some(entry) = self.registry.token(id) else { return false };
        let Some(value) = entry.value(self.scheduler.spare_slot(id)) else { return false };
        let url = self.servers[entry.config().server].settings.url.as_str();
        let Some(life) = recalled.life_of(url, value) else { return false };
        self.scheduler.restore(id, life, now);
        !life.this_boot
    }
}

/// When a persisted window ends on the daemon's clock; `None` if it has ended. A wall clock that
/// was set back does not extend it beyond the length of a window.
pub(crate) fn window_end(
    count: &Counter,
    window: Duration,
    now: Moment,
    wall: Timestamp,
) -> Option<Moment> {
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
        let count = Counter { window_end_ms, count: 1, in_a_row: 1 };
        Some(window_end(&count, WINDOW, now, wall)?.since(now).as_secs())
    }

    #[test]
    fn restored_window_ends_when_it_would_have_ended() {
        assert_eq!(left(600), Some(600));
    }

    #[test]
    fn window_that_has_ended_is_not_restored() {
        assert_eq!([left(0), left(-5)], [None, None]);
    }

    #[test]
    fn wall_clock_that_was_set_back_does_not_extend_a_window() {
        assert_eq!(left(90_000), Some(3_600));
    }
}
