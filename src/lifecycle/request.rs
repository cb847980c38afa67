//! What people may ask for, and what a token makes of it.
//!
//! A request hurries or holds what the rules would do anyway: it never goes past a server's
//! gate, and an attempt at a new value counts like any other.

use super::event::Notice;
use super::policy::Policy;
use super::step::Turn;
use super::token::{Flight, Standing, Task, Token};
use crate::outcome::Fault;
use crate::time::{Moment, whole_millis};

/// Something that a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
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
pub enum Refusal {
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
pub(super) enum Wish {
    Reauth,
    Revoke,
}

impl Token {
    /// Whether `request` makes sense at `now`.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub fn weigh(&self, request: Request, policy: &Policy, now: Moment) -> Result<(), Refusal> {
        match (request, self.standing) {
            (Request::Check | Request::Reauth, _) if self.paused => Err(Refusal::Paused),
            (
                Request::Check | Request::Revoke,
                Standing::Missing | Standing::Expired | Standing::Rejected,
            ) => Err(Refusal::NoValue),
            (Request::Check | Request::Revoke | Request::Pause | Request::Resume, _) => Ok(()),
            (Request::Reauth, _) => {
                let reauth = policy.reauth.ok_or(Refusal::NoReauth)?;
                if self.budget.is_exhausted(&reauth, now) {
                    let opens = self.budget.allows_from(&reauth, now);
                    return Err(Refusal::Exhausted { retry_in_ms: whole_millis(opens.since(now)) });
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
        self.wish == Some(Wish::Reauth)
            && self.candidate.is_none()
            && self.standing != Standing::Unknown
    }

    fn hasten(&mut self, now: Moment) {
        if !matches!(self.task, Task::Watch | Task::Reauth) {
            self.due = self.due.min(now);
        }
        if let Some(candidate) = &mut self.candidate {
            candidate.due = candidate.due.min(now);
        }
    }
}

impl Turn<'_> {
    pub(super) fn requested(&mut self, request: Request) {
        if self.token.weigh(request, self.context.policy, self.now).is_err() {
            return;
        }
        match request {
            Request::Check => self.token.hasten(self.now),
            Request::Reauth => self.token.wish = Some(Wish::Reauth),
            Request::Revoke => self.token.wish = Some(Wish::Revoke),
            Request::Pause => {
                self.token.paused = true;
                self.token.wish = None;
            }
            Request::Resume => {
                if std::mem::take(&mut self.token.paused) {
                    self.token.hasten(self.now);
                }
            }
        }
    }

    /// The end of a revocation. Where another server is asked since, it says nothing.
    pub(super) fn revoked(&mut self, result: Result<(), Fault>) {
        let counts = match self.token.flight {
            Some(Flight::Revoke) => true,
            Some(Flight::Outdated(_)) => false,
            Some(Flight::Current(_) | Flight::Candidate(_) | Flight::Reauth(_) | Flight::Store)
            | None => return,
        };
        self.token.flight = None;
        match result {
            Ok(()) if counts => {
                self.say(Notice::Revoked);
                self.token.standing = Standing::Rejected;
                self.token.forget_failures();
                self.token.troubled = true;
                self.token.unstored = None;
                self.token.early = None;
                self.token.proving = None;
                if self.token.candidate.is_some() {
                    self.take_spare();
                } else {
                    self.seek_new_value();
                }
            }
            Ok(()) => {}
            Err(fault) => self.say(Notice::RevokeFailed { fault }),
        }
    }
}
