//! What people may ask for, and what a token makes of it.
//!
//! A request hurries or holds what the rules would do anyway: it never goes past a server's
//! gate, and an attempt at a new value counts like any other.

use super::context::Transition;
use super::event::Notice;
use super::policy::Policy;
use super::token::{InFlight, PendingRequest, Task, Token, Validity};
use super::types::{OperatorRequest, RequestError};
use crate::outcome::CallError;
use crate::time::{Moment, whole_millis};

impl Token {
    /// Whether `request` makes sense at `now`.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub fn validate_request(
        &self,
        request: OperatorRequest,
        policy: &Policy,
        now: Moment,
    ) -> Result<(), RequestError> {
        match (request, self.validity) {
            (OperatorRequest::Check | OperatorRequest::Reauth, _) if self.paused => {
                Err(RequestError::Paused)
            }
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
                    self.token.check_now(self.now);
                }
            }
        }
    }

    /// The end of a revocation. Where another server is asked since, it says nothing.
    pub(super) fn revoke_finished(&mut self, result: Result<(), CallError>) {
        let counts = match self.token.in_flight {
            Some(InFlight::Revoke) => true,
            Some(InFlight::Discarded(_)) => false,
            Some(
                InFlight::Current(_)
                | InFlight::Candidate(_)
                | InFlight::Reauth(_)
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
