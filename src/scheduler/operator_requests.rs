//! What people ask for: the scheduler holds it to the same gates as everything else.

use super::Scheduler;
use super::types::{HealthSignal, SchedulerOutput, Ticket, TokenId};
use crate::lifecycle::{Event, OperatorRequest, RequestError};
use crate::outcome::CallError;
use crate::time::{Moment, whole_millis};

impl Scheduler {
    /// A person asks for something that concerns a token. A check or an attempt may still have
    /// to wait for its server, or for a place.
    ///
    /// # Errors
    ///
    /// Why it changes nothing.
    pub fn request(
        &mut self,
        id: TokenId,
        request: OperatorRequest,
        now: Moment,
        out: &mut Vec<SchedulerOutput>,
    ) -> Result<(), RequestError> {
        let (Some(token), Some(spec)) = (self.token(id), self.spec(id)) else {
            return Err(RequestError::NoValue);
        };
        token.validate_request(request, &spec.policy, now)?;
        if let (OperatorRequest::Reauth, Some(reauth)) = (request, spec.reauth) {
            let opens = self.reauths[reauth.index()].opens_at();
            if now < opens {
                return Err(RequestError::Held { retry_in_ms: whole_millis(opens.since(now)) });
            }
        }
        if request == OperatorRequest::Pause {
            let server = spec.server.index();
            self.servers[server].gate.breaker.forget(id.0);
        }
        self.apply_event(id, Event::OperatorRequested(request), now, out);
        self.requeue(id, now, out);
        self.wake(now, out);
        Ok(())
    }

    /// The end of a revocation.
    pub fn revoke_finished(
        &mut self,
        ticket: Ticket,
        result: Result<(), CallError>,
        now: Moment,
        out: &mut Vec<SchedulerOutput>,
    ) {
        let signal = match &result {
            Err(fault) if fault.local => HealthSignal::Unknown,
            Err(fault) if fault.status.is_none() => HealthSignal::Unavailable(fault.clone()),
            Err(_) | Ok(()) => HealthSignal::Available,
        };
        self.report_health(ticket, signal, None, now, out);
        self.finish_action(ticket, Event::RevokeFinished(result), now, out);
    }
}
