//! Invariant 7: the schedule never stalls.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use tokenkeep::keeper::Keeper;
use tokenkeep::lifecycle::{SHORTEST_TIMEOUT, Standing};
use tokenkeep::time::Moment;

use super::{Invariant, Violation};
use crate::chance::{Ms, whole};
use crate::world::Subject;

/// The bounds that are still ahead.
#[derive(Debug, Default)]
pub(crate) struct ScheduleWatch {
    /// When something has to be done about a token at the latest.
    limits: BinaryHeap<Reverse<(Ms, usize)>>,
    /// By token: that limit, and the bound that it comes from.
    newest: HashMap<usize, (Ms, Ms)>,
}

impl ScheduleWatch {
    /// A reading came: its bound is to be woken for; or if the next check was due too late
    /// for that, the end of the shortest time that it may take.
    pub(crate) fn checked(&mut self, subject: usize, bound: Ms, due: Ms) {
        let limit = bound.max(due + whole(SHORTEST_TIMEOUT));
        self.limits.push(Reverse((limit, subject)));
        self.newest.insert(subject, (limit, bound));
    }

    /// The keeper has done what was to be done by now: its next wake-up lies ahead, and no
    /// later than the earliest bound that does.
    pub(crate) fn check(
        &mut self,
        now: Ms,
        keeper: &Keeper,
        subjects: &[Subject],
    ) -> Result<(), Violation> {
        let broken =
            |what: String| Err(Violation { invariant: Invariant::NeverStalls, at: now, what });
        let next = keeper.next_wake().map(Moment::as_millis);
        if next.is_some_and(|next| next <= now) {
            return broken("it has been woken twice, and wants to be woken in the past".into());
        }
        while let Some(Reverse((limit, subject))) = self.limits.peek().copied() {
            let (newest, bound) = self.newest.get(&subject).copied().unwrap_or_default();
            let token = subjects[subject].id.and_then(|id| keeper.token(id));
            let counts = token.is_some_and(|token| {
                limit == newest
                    && matches!(token.standing(), Standing::Alive(_))
                    && token.bound().map(Moment::as_millis) == Some(bound)
            });
            if !counts {
                self.limits.pop();
                continue;
            }
            if limit <= now {
                return broken(format!(
                    "the bound of token {subject} passed at {bound} ms, and it still counts as alive"
                ));
            }
            if next.is_none_or(|next| next > limit) {
                return broken(format!(
                    "token {subject} lives until {bound} ms, and the next wake-up is {next:?}"
                ));
            }
            return Ok(());
        }
        Ok(())
    }
}
