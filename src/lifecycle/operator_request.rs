//! What people may ask for, and what a token makes of it.
//!
//! A request hurries or holds what the rules would do anyway: it never goes past a server's
//! gate, and an attempt at a new value counts like any other.

use super::event::Notice;
use super::policy::Policy;
use super::token::{InFlight, Task, Token, Validity};
use super::transition::Transition;
use crate::outcome::CallError;
use crate::time::{Moment, whole_millis};

/// Something that a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorRequest {
    /// Ask about the value in use now.
    Check,
    /// Obtain a new value now, although the one in use may live.
    Reauth,
    /// Neither ask nor log in until [`Resume`](Self::Resume).
    Pause,
    /// Go on after a pause, with a check at once.
    Resume,
    /// End the life of the value in use; what follows is what follows any death.
    Revoke,
}

/// Why a request changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The value is dead, or there is none.
    #[error("there is no living value to ask about; `reauth` obtains a new one")]
    NoValue,
    /// The token is paused.
    #[error("the token is paused; resume it first")]
    Paused,
    /// The token has no way to a new value.
    #[error("the token has no `reauth` in the configuration")]
    NoReauth,
    /// No attempt is left in this window.
    #[error("no attempt is left; the window ends in {} s", retry_in_ms.div_ceil(1_000))]
    Exhausted {
        /// Time until the window ends, in milliseconds.
        retry_in_ms: u64,
    },
    /// The way to new values is left alone: too many failures of all its tokens, or `quiet`.
    #[error("its way to new values is left alone for another {} s", retry_in_ms.div_ceil(1_000))]
    Held {
        /// Time until it opens, in milliseconds.
        retry_in_ms: u64,
    },
}

/// A request that waits for its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PendingRequest {
    Reauth,
    Revoke,
}

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

    /// Whether it is neither asked about nor logged in for.
    pub const fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether a new value was asked for, and may be obtained: not before something is known
    /// of the one in use, as an attempt is measured by that.
    pub(super) fn wants_new_value(&self) -> bool {
        self.pending_request == Some(PendingRequest::Reauth)
            && self.candidate.is_none()
            && self.validity != Validity::Unknown
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
