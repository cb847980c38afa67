//! What a token is to do next, and what it needs for that. Derived from its state, so that
//! nobody has to keep a list.

use super::operator_request::PendingRequest;
use super::token::{Task, Token, Validity};
use crate::time::Moment;

/// What an action of a token needs before it may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A place among its server's requests.
    Server,
    /// A re-auth attempt's place.
    Reauth,
    /// Nothing.
    None,
}

/// What a token may have to do, whichever way it is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextAction {
    Persist,
    Reauth,
    CheckCurrent,
    CheckCandidate,
    Revoke,
}

impl Token {
    /// When the next action with this need is due; `None` while another one is under way
    /// or there is none.
    pub fn due_for(&self, resource: Resource) -> Option<Moment> {
        self.next_action(resource).map(|(due, _)| due)
    }

    /// The earliest errand with this need; at a tie the value in use goes before a candidate.
    pub(super) fn next_action(&self, resource: Resource) -> Option<(Moment, NextAction)> {
        if self.in_flight.is_some() {
            return None;
        }
        match resource {
            Resource::None => {
                let pending_write = self.pending_write.filter(|_| self.candidate.is_none());
                pending_write.map(|pending_write| (pending_write.due, NextAction::Persist))
            }
            Resource::Reauth if self.paused => None,
            Resource::Reauth if self.wants_new_value() => {
                Some((Moment::default(), NextAction::Reauth))
            }
            Resource::Reauth if self.task == Task::Reauth => Some((self.due, NextAction::Reauth)),
            // A value that waits to be judged may make it needless, and has the slot.
            Resource::Reauth if self.candidate.is_none() => {
                self.early_reauth_at.map(|early| (early, NextAction::Reauth))
            }
            Resource::Reauth => None,
            Resource::Server if self.pending_request == Some(PendingRequest::Revoke) => {
                Some((Moment::default(), NextAction::Revoke))
            }
            Resource::Server => {
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
                    | Task::RetryRenew => Some((self.due, NextAction::CheckCurrent)),
                };
                // One that nobody keeps yet is judged even in a pause, so that it is not lost.
                let judged = !self.paused || self.has_unpersisted_candidate();
                let candidate = self.candidate.filter(|_| judged);
                let candidate = candidate.map(|c| (c.due, NextAction::CheckCandidate));
                [current, candidate].into_iter().flatten().min_by_key(|(due, _)| *due)
            }
        }
    }

    /// Whether the value in use came for a dead one and nobody has tried to store it yet.
    /// While the source offers another value nothing is stored: that must not be
    /// overwritten before it has been judged.
    fn is_to_be_stored_first(&self) -> bool {
        self.validity == Validity::Unknown
            && self.candidate.is_none()
            && self.pending_write.is_some_and(|pending_write| pending_write.failures == 0)
    }
}
