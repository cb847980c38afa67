//! Retries of file writes, by token: when each is due, and what was logged about it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::lifecycle::Schedule;
use crate::scheduler::TokenId;
use crate::time::Moment;

/// Doublings of the first pause, at most.
const MAX_DOUBLINGS: u32 = 16;

/// Tokens with a write that is to be retried.
#[derive(Debug, Default)]
pub(super) struct RetryQueue {
    by_token: HashMap<TokenId, Retry>,
    /// Those for which no write is running, by the time when the next one is due.
    queue: BTreeSet<(Moment, TokenId)>,
}

/// The retries of one write.
#[derive(Debug, Default)]
struct Retry {
    /// When the next one is due; outdated while a write is running.
    due: Moment,
    failures: u32,
    /// The error that was logged last.
    logged: Option<String>,
}

impl RetryQueue {
    /// Whether the token's write is to be retried, or is being retried.
    pub(super) fn has(&self, id: TokenId) -> bool {
        self.by_token.contains_key(&id)
    }

    /// Whether an error of the token's write was logged.
    pub(super) fn was_logged(&self, id: TokenId) -> bool {
        self.by_token.get(&id).is_some_and(|retry| retry.logged.is_some())
    }

    /// Ends the retries of a token. Returns whether there were any.
    pub(super) fn remove(&mut self, id: TokenId) -> bool {
        let retry = self.by_token.remove(&id);
        retry.is_some_and(|retry| {
            self.queue.remove(&(retry.due, id));
            true
        })
    }

    /// Schedules the next write for `due`.
    pub(super) fn schedule(&mut self, id: TokenId, due: Moment) {
        let retry = self.by_token.entry(id).or_default();
        self.queue.remove(&(retry.due, id));
        retry.due = due;
        self.queue.insert((due, id));
    }

    /// A write has failed: schedules the next one, with an exponential backoff. Returns the pause
    /// before it, and whether the error is to be logged, as it is not the last one again.
    pub(super) fn fail(
        &mut self,
        id: TokenId,
        schedule: &Schedule,
        now: Moment,
        error: &str,
    ) -> (Duration, bool) {
        let failures = self.by_token.get(&id).map_or(0, |retry| retry.failures);
        let factor = 1 << failures.min(MAX_DOUBLINGS);
        let pause = schedule.retry_initial.saturating_mul(factor).min(schedule.retry_max);
        self.schedule(id, now + pause);
        let Some(retry) = self.by_token.get_mut(&id) else { return (pause, false) };
        retry.failures = failures.saturating_add(1);
        let is_new = retry.logged.as_deref() != Some(error);
        if is_new {
            retry.logged = Some(error.to_owned());
        }
        (pause, is_new)
    }

    /// When the next write is due.
    pub(super) fn next_due(&self) -> Option<Moment> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// The tokens whose write is due. The caller begins a write for each, or ends its retries.
    pub(super) fn take_due(&mut self, now: Moment) -> Vec<TokenId> {
        let mut ids = Vec::new();
        while let Some((due, id)) = self.queue.pop_first() {
            if due > now {
                self.queue.insert((due, id));
                break;
            }
            ids.push(id);
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Ticket;

    const NOW: Moment = Moment::from_millis(1_000);

    #[test]
    fn pauses_double_up_to_retry_max_and_an_error_is_logged_once() {
        let (mut retries, id) = (RetryQueue::default(), Ticket::for_tests().token);
        let schedule = Schedule {
            retry_initial: Duration::from_secs(1),
            retry_max: Duration::from_secs(5),
            ..Schedule::default()
        };
        let mut fail = |error| {
            let (pause, is_new) = retries.fail(id, &schedule, NOW, error);
            (pause.as_secs(), is_new)
        };
        assert_eq!(fail("full"), (1, true));
        assert_eq!(
            [fail("full"), fail("full"), fail("full")],
            [(2, false), (4, false), (5, false)]
        );
        assert_eq!(fail("denied"), (5, true));
        assert!(retries.was_logged(id));
    }

    #[test]
    fn write_is_taken_when_it_is_due_and_its_retries_end_when_it_is_removed() {
        let (mut retries, id) = (RetryQueue::default(), Ticket::for_tests().token);
        retries.schedule(id, NOW);
        retries.schedule(id, NOW + Duration::from_millis(5));
        assert_eq!(retries.take_due(NOW), []);
        assert_eq!(retries.take_due(NOW + Duration::from_millis(5)), [id]);
        assert!(retries.has(id) && retries.next_due().is_none(), "its write is running");
        assert!(retries.remove(id) && !retries.remove(id));
    }
}
