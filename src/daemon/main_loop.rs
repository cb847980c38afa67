//! One round of the loop: what is done each time that something has happened, and when the
//! next one comes if nothing does.
//!
//! Rounds cost more than what is done in them, so they are few: all answers that are there
//! are taken in one, and so is all that comes due within a tick.

use std::time::Duration;

use super::Daemon;
use crate::clock;
use crate::daemon::tasks::task_set::TaskEnd;
use crate::time::Moment;

/// The least time from one round to the next that only comes as something is due. At some
/// hundred checks a second it is the rounds that cost, and a check may well wait for this long.
const TICK: Duration = Duration::from_millis(4);

impl Daemon {
    /// Lets the keeper do what is due, and everything that comes of it.
    pub(crate) fn wake(&mut self) {
        let now = clock::now();
        self.close_for_quiet(now);
        self.give_up_lives(now);
        self.tokens.scheduler.wake(now, &mut self.tokens.actions);
        self.perform();
        self.rewrite_due(now);
        self.retry_clients(now);
        self.retry_unread(now);
        self.retry_listen(now);
        self.journal.say_due(now);
        self.status.tell(now, &self.tokens.scheduler, self.config_rejected.as_ref());
        self.watchdog.gone_round(now, self.tokens.scheduler.next_wake());
        self.woke = now;
    }

    /// When the next round comes at the latest.
    pub(crate) fn next_wake(&self) -> Option<Moment> {
        let wishes = [
            self.tokens.scheduler.next_wake(),
            self.journal.due(),
            self.status.due(),
            self.watchdog.due(),
            self.late.due(),
            self.unwritten.due(),
            self.client_retries.due(),
            self.unread.due(),
            self.control.listen_retry.as_ref().map(|(due, _)| *due),
        ];
        let due = wishes.into_iter().flatten().min();
        let due = if self.tokens.actions.is_empty() { due? } else { self.woke };
        Some(due.max(self.woke + TICK))
    }

    /// A query has ended, and others perhaps with it.
    pub(crate) fn queries_ended(&mut self, first: TaskEnd) {
        self.ended_task(first);
        while let Some(ended) = self.queries.try_next() {
            self.ended_task(ended);
        }
    }

    /// A task has ended.
    pub(crate) fn ended_task(&mut self, ended: TaskEnd) {
        let TaskEnd { ticket, done } = ended;
        match (ticket, done) {
            (ticket, Some(done)) => {
                self.open_actions -= usize::from(ticket.is_some());
                self.done(done);
            }
            (Some(ticket), None) => {
                self.cancel(ticket);
                self.perform();
            }
            (None, None) => {}
        }
    }
}
