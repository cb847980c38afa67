//! Derives a token's next action from its state. Nothing is stored, so nothing can become stale.

use super::token::{PendingRequest, Task, Token, Validity};
use super::types::Resource;
use crate::time::Moment;

/// The next action of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextAction {
    Persist,
    Reauth,
    CheckCurrent,
    CheckCandidate,
    Revoke,
}

impl Token {
    /// When the next action that needs this resource is due; `None` while an action is in flight or
    /// none is planned.
    pub fn due_for(&self, resource: Resource) -> Option<Moment> {
        self.next_action(resource).map(|(due, _)| due)
    }

    /// The earliest action that needs this resource. If both are due, the current value precedes
    /// the candidate.
    pub(super) fn next_action(&self, resource: Resource) -> Option<(Moment, NextAction)> {
        if self.in_flight.is_some() {
            return None;
        }
        let deferred_until = self.deferral.map_or(Moment::default(), |deferral| deferral.until);
        let checks_from = self.deferral.filter(|deferral| deferral.checks);
        let checks_from = checks_from.map_or(Moment::default(), |deferral| deferral.until);
        match resource {
            Resource::None => {
                let pending_write = self.pending_write.filter(|_| self.candidate.is_none());
                pending_write.map(|pending_write| (pending_write.due, NextAction::Persist))
            }
            Resource::Reauth if self.paused || self.elsewhere => None,
            Resource::Reauth => {
                let wanted = if self.wants_new_value() {
                    Some(Moment::default())
                } else if self.task == Task::Reauth {
                    Some(self.due)
                } else {
                    // A candidate may make the attempt unnecessary, and occupies the slot.
                    self.early_reauth_at.filter(|_| self.candidate.is_none())
                };
                wanted.map(|at| (at.max(deferred_until), NextAction::Reauth))
            }
            Resource::Server => {
                let revokes = self.pending_request == Some(PendingRequest::Revoke);
                let revocation = revokes.then_some((deferred_until, NextAction::Revoke));
                let current = match self.task {
                    Task::Watch | Task::Reauth => None,
                    _ if self.paused || self.elsewhere => None,
                    _ if self.must_be_written_first() => None,
                    Task::Check
                    | Task::ConfirmRejection { .. }
                    | Task::ConfirmRefusal
                    | Task::ConfirmGrowth
                    | Task::TryRenew
                    | Task::ConfirmRenewal
                    | Task::RetryRenew
                    | Task::Rotate { .. } => {
                        Some((self.due.max(checks_from), NextAction::CheckCurrent))
                    }
                };
                // A candidate that is not persisted is verified even while the token is paused, so
                // that it is not lost.
                let judged = !self.paused || self.has_unpersisted_candidate();
                let candidate = self.candidate.filter(|_| judged);
                let candidate =
                    candidate.map(|c| (c.due.max(checks_from), NextAction::CheckCandidate));
                [revocation, current, candidate].into_iter().flatten().min_by_key(|(due, _)| *due)
            }
        }
    }

    /// Whether the current value replaced a dead one and writing it was not tried yet. While the
    /// source offers another value nothing is written: that value must not be overwritten before it
    /// has been verified.
    fn must_be_written_first(&self) -> bool {
        self.validity == Validity::Unknown
            && self.candidate.is_none()
            && self.pending_write.is_some_and(|pending_write| pending_write.failures == 0)
    }
}
