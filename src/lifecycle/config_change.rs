//! Configuration changes: a new policy or another server.

use super::context::Transition;
use super::policy::Renewal;
use super::token::{Candidate, InFlight, PendingRequest, Task, Validity};

impl Transition<'_> {
    /// The policy changed. A planned check follows the new schedule.
    pub(super) fn policy_changed(&mut self) {
        if self.context.policy.renewal != Renewal::Auto
            && matches!(self.token.task, Task::TryRenew | Task::RetryRenew)
        {
            self.token.task = Task::Check;
        }
        self.token.held_until = self.token.held_until.filter(|_| self.context.policy.rotates);
        if self.token.in_flight.is_none()
            && self.token.failures == 0
            && self.token.task == Task::Check
            && self.token.due > self.now
            && let Validity::Alive(reading) = self.token.validity
        {
            self.plan_check(&reading);
        }
        if self.context.policy.reauth.is_none() {
            self.token.pending_request =
                self.token.pending_request.filter(|wish| *wish != PendingRequest::Reauth);
            if self.token.task == Task::Reauth {
                self.token.task = Task::Watch;
            }
        }
        if self.token.elsewhere {
            return;
        }
        match self.token.validity {
            Validity::Alive(reading) | Validity::Unverified(reading) => {
                self.plan_early_reauth(&reading);
            }
            Validity::Unknown => self.plan_reauth_of_unknown(),
            Validity::Missing | Validity::Expired | Validity::Rejected => {
                let rotated = matches!(self.token.task, Task::Rotate { .. });
                if rotated && !self.may_rotate() {
                    self.discard_rotation();
                    self.schedule_reauth();
                } else if !rotated && !self.token.is_reauthenticating() {
                    // The end of an attempt plans the next one.
                    self.schedule_reauth();
                }
            }
        }
    }

    /// The token moves to another server. What the previous server reported about its values, and
    /// what it may still respond, is discarded. A re-auth attempt in flight is kept.
    pub(super) fn server_changed(&mut self) {
        match self.token.in_flight {
            Some(InFlight::Reauth { .. }) => return,
            Some(InFlight::Current(_) | InFlight::Revoke) => {
                self.token.in_flight = Some(InFlight::Discarded(self.token.active));
            }
            Some(InFlight::Candidate(_)) => self.discard_candidate_check(),
            Some(InFlight::Discarded(_) | InFlight::Persist) | None => {}
        }
        if let Some(candidate) = &mut self.token.candidate {
            let obtained = candidate.obtained;
            *candidate = Candidate::new(self.now, obtained);
        }
        if self.token.validity != Validity::Missing {
            self.reset_value();
        } else if self.context.policy.rotates {
            self.plan_rotation();
        }
    }
}
