//! Completions: reports the result of an action, or a changed source, to the token and its server.
//! A completion with a stale ticket changes no token.

use super::Scheduler;
use super::token_slot::ActiveToken;
use super::types::{HealthSignal, Ticket, TokenId};
use crate::lifecycle::{CheckResult, Event, ReauthOutcome, ReauthResult, Resource, SourceChange};
use crate::outcome::{CallError, Outcome};
use crate::time::Moment;

impl Scheduler {
    /// Cancels an action that did not start or will never complete. Releases its permit; the token
    /// may start the action again.
    pub fn cancel(&mut self, ticket: Ticket, now: Moment) {
        self.release_hook(ticket.permit);
        self.report_health(ticket, HealthSignal::Unknown, None, now);
        self.finish_action(ticket, Event::Cancelled, now);
    }

    /// A check has finished.
    pub fn check_finished(&mut self, ticket: Ticket, answer: CheckResult, now: Moment) {
        let signal = match &answer.outcome {
            Outcome::Unavailable(fault) | Outcome::Misconfigured(fault) if fault.local => {
                HealthSignal::Unknown
            }
            Outcome::Unavailable(fault) => HealthSignal::Unavailable(fault.clone()),
            _ => HealthSignal::Available,
        };
        let wish = match answer.outcome {
            Outcome::Throttled { retry_after, .. } => Some(retry_after),
            _ => None,
        };
        self.report_health(ticket, signal, wish, now);
        self.finish_action(ticket, Event::CheckFinished(answer), now);
    }

    /// A re-auth attempt has finished.
    pub fn reauth_finished(&mut self, ticket: Ticket, end: ReauthResult, now: Moment) {
        self.release_hook(ticket.permit);
        let (signal, wish) = match &end.result {
            ReauthOutcome::NewValue { .. } | ReauthOutcome::SameValue => {
                (HealthSignal::Available, None)
            }
            ReauthOutcome::Failed(fault) if fault.unavailable => {
                let failure =
                    CallError { status: fault.status, ..CallError::new(fault.error.clone()) };
                (HealthSignal::Unavailable(failure), None)
            }
            ReauthOutcome::Failed(fault) if fault.status.is_some() => {
                (HealthSignal::Available, fault.retry_after)
            }
            ReauthOutcome::Failed(_) => (HealthSignal::Unknown, None),
        };
        self.report_health(ticket, signal, wish, now);
        if !matches!(end.result, ReauthOutcome::Failed(_)) {
            self.repeat_logins(ticket.token, now);
        }
        self.finish_action(ticket, Event::ReauthFinished(end), now);
    }

    /// A login succeeded: attempts by the same method that wait after an inconclusive one start
    /// now.
    fn repeat_logins(&mut self, id: TokenId, now: Moment) {
        let Some(reauth) = self.spec(id).and_then(|spec| spec.reauth) else { return };
        if !std::mem::take(&mut self.reauths[reauth.index()].is_repeated) {
            return;
        }
        let waits =
            |active: &ActiveToken| active.id != id.0 && active.token.is_reauth_inconclusive();
        for id in
            self.table.active_where(|active, spec| spec.reauth == Some(reauth) && waits(active))
        {
            self.apply_event(TokenId(id), Event::ServerRecovered, now);
            self.enqueue(TokenId(id), now);
        }
    }

    /// Writing a value to its store has finished; the error says why it failed.
    pub fn persist_finished(&mut self, ticket: Ticket, result: Result<(), Box<str>>, now: Moment) {
        self.finish_action(ticket, Event::PersistFinished(result), now);
    }

    /// A revocation has finished.
    pub fn revoke_finished(&mut self, ticket: Ticket, result: Result<(), CallError>, now: Moment) {
        let signal = match &result {
            Err(fault) if fault.local => HealthSignal::Unknown,
            Err(fault) if fault.status.is_none() => HealthSignal::Unavailable(fault.clone()),
            Err(_) | Ok(()) => HealthSignal::Available,
        };
        self.report_health(ticket, signal, None, now);
        self.finish_action(ticket, Event::RevokeFinished(result), now);
    }

    /// A token's source was read again.
    pub fn source_changed(&mut self, id: TokenId, change: SourceChange, now: Moment) {
        self.apply_event(id, Event::SourceChanged(change), now);
        self.requeue(id, now);
        self.wake(now);
    }

    /// Before shutdown: writes once more what could not be written.
    pub fn flush_pending_writes(&mut self, now: Moment) {
        for id in
            self.table.active_where(|active, _| active.token.due_for(Resource::None).is_some())
        {
            self.apply_event(TokenId(id), Event::ShuttingDown, now);
            self.enqueue(TokenId(id), now);
        }
    }
}
