//! What a token is to do next, and what it needs for that. Derived from its state, so that
//! nobody has to keep a list.

use super::request::Wish;
use super::token::{Standing, Task, Token};
use crate::time::Moment;

/// What an action of a token needs before it may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A place among its server's requests.
    Server,
    /// A re-auth attempt's place.
    Reauth,
    /// Nothing.
    Nothing,
}

/// What a token may have to do, whichever way it is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    Store,
    Reauth,
    AskCurrent,
    AskCandidate,
    Revoke,
}

impl Token {
    /// When the next action with this need is due; `None` while another one is under way
    /// or there is none.
    pub fn due_for(&self, need: Need) -> Option<Moment> {
        self.errand(need).map(|(due, _)| due)
    }

    /// The earliest errand with this need; at a tie the value in use goes before a candidate.
    pub(super) fn errand(&self, need: Need) -> Option<(Moment, Errand)> {
        if self.flight.is_some() {
            return None;
        }
        match need {
            Need::Nothing => {
                let unstored = self.unstored.filter(|_| self.candidate.is_none());
                unstored.map(|unstored| (unstored.due, Errand::Store))
            }
            Need::Reauth if self.paused => None,
            Need::Reauth if self.wants_new_value() => Some((Moment::default(), Errand::Reauth)),
            Need::Reauth if self.task == Task::Reauth => Some((self.due, Errand::Reauth)),
            // A value that waits to be judged may make it needless, and has the slot.
            Need::Reauth if self.candidate.is_none() => {
                self.early.map(|early| (early, Errand::Reauth))
            }
            Need::Reauth => None,
            Need::Server if self.wish == Some(Wish::Revoke) => {
                Some((Moment::default(), Errand::Revoke))
            }
            Need::Server => {
                let current = match self.task {
                    Task::Watch | Task::Reauth => None,
                    _ if self.paused => None,
                    _ if self.is_to_be_stored_first() => None,
                    Task::Check
                    | Task::ConfirmRejection { .. }
                    | Task::ConfirmRefusal
                    | Task::ConfirmGrowth
                    | Task::TryRenew
                    | Task::ConfirmRenewal
                    | Task::RetryRenew => Some((self.due, Errand::AskCurrent)),
                };
                // One that nobody keeps yet is judged even in a pause, so that it is not lost.
                let judged = !self.paused || self.has_unkept_candidate();
                let candidate = self.candidate.filter(|_| judged);
                let candidate = candidate.map(|c| (c.due, Errand::AskCandidate));
                [current, candidate].into_iter().flatten().min_by_key(|(due, _)| *due)
            }
        }
    }

    /// Whether the value in use came for a dead one and nobody has tried to store it yet.
    /// While the source offers another value nothing is stored: that must not be
    /// overwritten before it has been judged.
    fn is_to_be_stored_first(&self) -> bool {
        self.standing == Standing::Unknown
            && self.candidate.is_none()
            && self.unstored.is_some_and(|unstored| unstored.failures == 0)
    }
}
