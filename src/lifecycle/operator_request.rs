//! Operator requests: check, reauth, pause, resume, revoke.
//!
//! A request only expedites or suspends what the state machine does anyway: it never bypasses a
//! server's limits, and a requested re-auth attempt counts like any other.

use super::context::Transition;
use super::event::Notice;
use super::policy::Policy;
use super::token::{InFlight, PendingRequest, Task, Token, Validity};
use super::types::{OperatorRequest, RequestError};
use crate::outcome::CallError;
use crate::time::{Moment, whole_millis};

impl Token {
    /// Whether `request` can be executed at `now`.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub fn validate_request(
        &self,
        request: OperatorRequest,
        policy: &Policy,
        now: Moment,
    ) -> Result<(), RequestError> {
        match (request, self.validity) {
            (OperatorRequest::Check | OperatorRequest::Reauth | OperatorRequest::Revoke, _)
                if self.elsewhere =>
            {
                Err(RequestError::Elsewhere)
            }
            (OperatorRequest::Check | OperatorRequest::Reauth, _) if self.paused => {
                Err(RequestError::Paused)
            }
            (OperatorRequest::Check, _) if matches!(self.task, Task::Rotate { .. }) => Ok(()),
            (
                OperatorRequest::Check | OperatorRequest::Revoke,
                Validity::Missing | Validity::Expired | Validity::Rejected,
            ) => Err(RequestError::NoValue),
            (
                OperatorRequest::Check
                | OperatorRequest::Revoke
                | OperatorRequest::Pause
                | OperatorRequest::Resume,
                _,
            ) => Ok(()),
            (OperatorRequest::Reauth, _) => {
                let reauth = policy.reauth.ok_or(RequestError::NoReauth)?;
                if self.budget.is_exhausted(&reauth, now) {
                    let opens = self.budget.next_attempt_at(&reauth, now);
                    return Err(RequestError::Exhausted {
                        retry_in_ms: whole_millis(opens.since(now)),
                    });
                }
                Ok(())
            }
        }
    }

    fn check_now(&mut self, now: Moment) {
        if !matches!(self.task, Task::Watch | Task::Reauth) {
            self.due = self.due.min(now);
        }
        if let Some(candidate) = &mut self.candidate {
            candidate.due = candidate.due.min(now);
        }
    }
}

impl Transition<'_> {
    pub(super) fn operator_requested(&mut self, request: OperatorRequest) {
        if self.token.validate_request(request, self.context.policy, self.now).is_err() {
            return;
        }
        match request {
            OperatorRequest::Check => self.token.check_now(self.now),
            OperatorRequest::Reauth => self.token.pending_request = Some(PendingRequest::Reauth),
            OperatorRequest::Revoke => self.token.pending_request = Some(PendingRequest::Revoke),
            OperatorRequest::Pause => {
                self.token.paused = true;
                self.token.pending_request = None;
            }
            OperatorRequest::Resume => {
                if std::mem::take(&mut self.token.paused) {
                    self.token.check_now(self.token.not_held(self.now));
                }
            }
        }
    }

    /// A revocation has finished. If the token has moved to another server since, the result is
    /// ignored.
    pub(super) fn revoke_finished(&mut self, result: Result<(), CallError>) {
        let counts = match self.token.in_flight {
            Some(InFlight::Revoke) => true,
            Some(InFlight::Discarded(_)) => false,
            Some(
                InFlight::Current(_)
                | InFlight::Candidate(_)
                | InFlight::Reauth { .. }
                | InFlight::Persist,
            )
            | None => return,
        };
        self.token.in_flight = None;
        match result {
            Ok(()) if counts => {
                self.notify(Notice::Revoked);
                self.token.validity = Validity::Rejected;
                self.token.forget_failures();
                self.token.unrecovered = true;
                self.token.pending_write = None;
                self.token.early_reauth_at = None;
                self.token.pending_reauth = None;
                if self.token.candidate.is_some() {
                    self.promote_candidate();
                } else {
                    self.schedule_reauth();
                }
            }
            Ok(()) => {}
            Err(fault) => self.notify(Notice::RevokeFailed { fault }),
        }
    }
}
