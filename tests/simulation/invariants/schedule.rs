//! Invariant 7: the schedule never stalls.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use tokenkeep::lifecycle::{SHORTEST_ROOM, SHORTEST_TIMEOUT, Validity};
use tokenkeep::scheduler::Scheduler;
use tokenkeep::time::Moment;

use super::{Invariant, Violation};
use crate::chance::{Ms, whole};
use crate::subject::Subject;

/// The expiries that are still ahead.
#[derive(Debug, Default)]
pub(crate) struct ScheduleWatch {
    expiries: BinaryHeap<Reverse<(Ms, usize)>>,
    /// By token: its newest.
    newest: HashMap<usize, Ms>,
}

impl ScheduleWatch {
    /// A reading came at `now`: its expiry is to be woken for, unless no check fits before it
    /// any more.
    pub(crate) fn checked(&mut self, now: Ms, subject: usize, expiry: Ms) {
        if expiry < now + whole(SHORTEST_ROOM) {
            self.newest.remove(&subject);
            return;
        }
        self.expiries.push(Reverse((expiry, subject)));
        self.newest.insert(subject, expiry);
    }

    /// The scheduler has done what was to be done by now: its next wake-up lies ahead, and no
    /// later than the earliest expiry that does.
    pub(crate) fn check(
        &mut self,
        now: Ms,
        scheduler: &Scheduler,
        subjects: &[Subject],
    ) -> Result<(), Violation> {
        let broken =
            |what: String| Err(Violation { invariant: Invariant::NeverStalls, at: now, what });
        let next = scheduler.next_wake().map(Moment::as_millis);
        if next.is_some_and(|next| next <= now) {
            return broken("it has been woken twice, and wants to be woken in the past".into());
        }
        // A check that was due just before the expiry has the shortest time to be answered.
        let slack = whole(SHORTEST_TIMEOUT);
        while let Some(Reverse((expiry, subject))) = self.expiries.peek().copied() {
            let token = subjects[subject].id.and_then(|id| scheduler.token(id));
            let counts = token.is_some_and(|token| {
                self.newest.get(&subject) == Some(&expiry)
                    && matches!(token.validity(), Validity::Alive(_))
                    && token.expiry().map(Moment::as_millis) == Some(expiry)
            });
            if !counts {
                self.expiries.pop();
                continue;
            }
            if expiry + slack <= now {
                return broken(format!(
                    "the bound of token {subject} passed at {expiry} ms, and it still counts as alive"
                ));
            }
            if next.is_none_or(|next| next > expiry + slack) {
                return broken(format!(
                    "token {subject} lives until {expiry} ms, and the next wake-up is {next:?}"
                ));
            }
            return Ok(());
        }
        Ok(())
    }
}
