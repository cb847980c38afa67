//! The transition function, and the start of actions.

use super::backoff::{PAUSE_AFTER_CANCELLATION, SHORTEST_RETRY};
use super::check_timing::effective_timeout;
use super::context::{Context, Transition};
use super::event::{Action, Event, Notice};
use super::next_action::NextAction;
use super::policy::Renewal;
use super::reading::Method;
use super::token::{Deferral, InFlight, PendingRequest, Task, Token, Validity};
use super::types::{ReauthReason, Resource, Slot};
use crate::outcome::Connection;
use crate::time::Moment;

/// Applies an event. Appends what is to be reported to `notices`.
///
/// An event that the state does not wait for, such as a duplicate completion or timer, changes
/// nothing.
///
/// ```
/// use tokenkeep::lifecycle::{
///     Action, Context, Event, Policy, RandomFraction, Resource, Schedule, Token, transition,
/// };
/// # use tokenkeep::time::Moment;
/// # let policy = Policy {
/// #     schedule: Schedule::default(),
/// #     timeout: std::time::Duration::from_secs(10),
/// #     renewal: Default::default(),
/// #     reauth: None,
/// #     reauth_before: None,
/// #     assumed: false,
/// #     rotates: false,
/// # };
/// let draw = RandomFraction::new(0.5);
/// let context = Context { policy: &policy, renews_by: None, draw, server_in_doubt: false };
/// let now = Moment::from_millis(1_000);
/// let token = Token::with_value(now);
/// let mut notices = Vec::new();
/// let (token, action) =
///     transition(token, Event::Admitted(Resource::Server), now, &context, &mut notices);
/// assert!(matches!(action, Some(Action::Check { .. })) && token.is_busy());
/// ```
pub fn transition(
    token: Token,
    event: Event,
    now: Moment,
    context: &Context<'_>,
    notices: &mut Vec<Notice>,
) -> (Token, Option<Action>) {
    let mut transition = Transition { token, now, context, notices };
    let action = match event {
        Event::TimerFired => {
            transition.emit_deadline_warnings();
            None
        }
        Event::Admitted(resource) => transition.start_action(resource),
        Event::CheckFinished(answer) => {
            transition.check_finished(answer);
            None
        }
        Event::ReauthFinished(end) => {
            transition.reauth_finished(end);
            None
        }
        Event::PersistFinished(result) => {
            transition.persist_finished(result);
            None
        }
        Event::SourceChanged(change) => {
            transition.source_changed(change);
            None
        }
        Event::Restored { persisted, spot_check } => {
            transition.restored(persisted, spot_check);
            None
        }
        Event::RecheckRestored => {
            transition.token.recheck_restored(now);
            None
        }
        Event::PolicyChanged => {
            transition.policy_changed();
            None
        }
        Event::ServerChanged => {
            transition.server_changed();
            None
        }
        Event::Throttled(until) => {
            transition.throttled(until);
            None
        }
        Event::RetryNow => {
            transition.token.expedite_retries(now);
            None
        }
        Event::OperatorRequested(request) => {
            transition.operator_requested(request);
            None
        }
        Event::RevokeFinished(result) => {
            transition.revoke_finished(result);
            None
        }
        Event::ServerRecovered => {
            transition.token.expedite_retries(now);
            transition.expedite_reauth();
            None
        }
        Event::Cancelled => {
            transition.cancelled(now + PAUSE_AFTER_CANCELLATION);
            None
        }
        Event::Deferred(until) => {
            transition.deferred(until);
            None
        }
        Event::Released => {
            transition.token.deferral = None;
            None
        }
        Event::Asked { here, spot_check } => {
            transition.asked(here, spot_check);
            None
        }
        Event::AttemptsCounted(attempts) => {
            transition.attempts_counted(attempts);
            None
        }
        Event::ShuttingDown => {
            transition.token.expedite_write(now);
            None
        }
    };
    transition.rest_elsewhere();
    (transition.token, action)
}

impl Transition<'_> {
    /// Starts the action that needs this resource, if one is due.
    fn start_action(&mut self, resource: Resource) -> Option<Action> {
        let (due, next_action) = self.token.next_action(resource)?;
        if due > self.now {
            return None;
        }
        self.token.deferral = self.token.deferral.filter(|deferral| deferral.until > self.now);
        match next_action {
            NextAction::Persist => {
                self.token.in_flight = Some(InFlight::Persist);
                Some(Action::Persist { slot: self.token.active })
            }
            NextAction::Reauth => self.start_reauth(),
            NextAction::Revoke => {
                self.token.pending_request = None;
                self.token.in_flight = Some(InFlight::Revoke);
                let timeout = self.context.policy.timeout;
                Some(Action::Revoke { slot: self.token.active, timeout })
            }
            NextAction::CheckCurrent => {
                let method = self.check_method();
                self.token.in_flight = Some(InFlight::Current(method));
                Some(self.check(method, self.token.active, self.token.current_connection(self.now)))
            }
            NextAction::CheckCandidate => {
                let method = self.query_method();
                self.token.in_flight = Some(InFlight::Candidate(method));
                let connection = self.token.candidate_connection();
                Some(self.check(method, self.token.active.other(), connection))
            }
        }
    }

    fn start_reauth(&mut self) -> Option<Action> {
        let reauth = self.context.policy.reauth?;
        let requested = self.token.pending_request.take();
        let reason = match self.token.validity {
            _ if requested == Some(PendingRequest::Reauth) => ReauthReason::Requested,
            Validity::Rejected => ReauthReason::Rejected,
            Validity::Missing => ReauthReason::Missing,
            Validity::Unknown | Validity::Alive(_) | Validity::Unverified(_) => {
                ReauthReason::Expiring
            }
            Validity::Expired => ReauthReason::Expired,
        };
        let (requested, earlier) = (reason == ReauthReason::Requested, self.token.budget);
        let attempt = self.token.budget.start_attempt(&reauth, self.now);
        self.token.in_flight = Some(InFlight::Reauth { attempt, requested, earlier });
        self.token.exhaustion_reported = false;
        self.token.early_reauth_at = None;
        self.notify(Notice::ReauthStarted { reason, attempt });
        Some(Action::Reauth { reason, attempt })
    }

    fn check(&mut self, method: Method, slot: Slot, connection: Connection) -> Action {
        self.token.refresh_replaced = false;
        let configured = self.context.policy.timeout;
        // An expiry from an earlier boot does not relate to this boot's clock.
        let expiry = self.token.expiry().filter(|_| !self.token.is_from_earlier_boot());
        // What may spend the refresh token is not given up early.
        let timeout = if self.context.policy.rotates && method == Method::Renew {
            configured
        } else {
            effective_timeout(configured, expiry, self.now)
        };
        Action::Check { method, slot, timeout, connection }
    }

    /// The action in flight did not start: another replica may be spending what it needs until
    /// `until`. A request of an operator is kept, unless the policy forbids it by now.
    fn deferred(&mut self, until: Moment) {
        let Some(in_flight) = self.token.in_flight else { return };
        let checks = matches!(in_flight, InFlight::Current(_) | InFlight::Candidate(_));
        let spends = match in_flight {
            InFlight::Current(_) | InFlight::Candidate(_) => true,
            InFlight::Reauth { requested, .. } => {
                if requested && !self.token.paused && self.context.policy.reauth.is_some() {
                    self.token.pending_request = Some(PendingRequest::Reauth);
                }
                true
            }
            InFlight::Revoke => {
                self.token.pending_request = Some(PendingRequest::Revoke);
                true
            }
            InFlight::Discarded(_) | InFlight::Persist => false,
        };
        self.cancelled(self.now);
        if spends {
            let until = until.max(self.now + SHORTEST_RETRY);
            self.token.deferral = Some(Deferral { until, checks });
        }
    }

    /// The action in flight did not start, or will never complete: it is due again at `retry`.
    fn cancelled(&mut self, retry: Moment) {
        match self.token.in_flight.take() {
            Some(InFlight::Current(_)) => self.token.due = self.token.due.max(retry),
            Some(InFlight::Candidate(_)) => {
                if let Some(candidate) = &mut self.token.candidate {
                    candidate.due = candidate.due.max(retry);
                }
            }
            Some(InFlight::Persist) => {
                if let Some(pending_write) = &mut self.token.pending_write {
                    pending_write.due = pending_write.due.max(retry);
                }
            }
            Some(InFlight::Reauth { earlier, .. }) => {
                self.token.budget = earlier;
                match self.token.validity {
                    Validity::Alive(reading) | Validity::Unverified(reading) => {
                        self.plan_early_reauth(&reading);
                        self.token.early_reauth_at =
                            self.token.early_reauth_at.map(|early| early.max(retry));
                    }
                    Validity::Unknown => {
                        self.plan_reauth_of_unknown();
                        self.token.early_reauth_at =
                            self.token.early_reauth_at.map(|early| early.max(retry));
                    }
                    Validity::Missing | Validity::Expired | Validity::Rejected => {
                        self.schedule_reauth();
                        self.token.due = self.token.due.max(retry);
                    }
                }
            }
            Some(InFlight::Discarded(_) | InFlight::Revoke) | None => {}
        }
    }

    /// The call that the task needs, as far as the configuration permits it.
    fn check_method(&self) -> Method {
        match self.token.task {
            Task::Check if self.renewing_is_the_check() => Method::Renew,
            Task::TryRenew | Task::RetryRenew | Task::Rotate { .. } => Method::Renew,
            Task::Watch
            | Task::Check
            | Task::ConfirmRejection { .. }
            | Task::ConfirmRefusal
            | Task::ConfirmGrowth
            | Task::ConfirmRenewal
            | Task::Reauth => self.query_method(),
        }
    }

    /// Past the expiry every second check is a query, which tells whether the token is alive even
    /// if only the renewing call fails.
    fn renewing_is_the_check(&self) -> bool {
        let past_bound = matches!(self.token.validity, Validity::Unverified(_));
        self.context.renews_by == Some(Method::Renew)
            && self.context.policy.renewal == Renewal::Auto
            && !self.token.renew_refused
            && !(past_bound && self.token.failures % 2 == 1)
    }

    /// The call that only reads the remaining life, or the renewing one if queries are not
    /// permitted.
    fn query_method(&self) -> Method {
        match self.context.policy.renewal {
            Renewal::Auto | Renewal::Query => Method::Query,
            Renewal::Renew => Method::Renew,
        }
    }
}
