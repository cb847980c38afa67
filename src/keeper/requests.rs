//! What people ask for: the keeper holds it to the same gates as everything else.

use super::Keeper;
use super::output::{Contact, Output, Ticket, TokenId};
use crate::lifecycle::{Event, Refusal, Request};
use crate::outcome::Fault;
use crate::time::{Moment, whole_millis};

impl Keeper {
    /// A person asks for something that concerns a token. A check or an attempt may still have
    /// to wait for its server, or for a place.
    ///
    /// # Errors
    ///
    /// Why it changes nothing.
    pub fn request(
        &mut self,
        id: TokenId,
        request: Request,
        now: Moment,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusal> {
        let (Some(token), Some(spec)) = (self.token(id), self.spec(id)) else {
            return Err(Refusal::NoValue);
        };
        token.weigh(request, &spec.policy, now)?;
        if let (Request::Reauth, Some(reauth)) = (request, spec.reauth) {
            let opens = self.reauths[reauth.index()].opens_at();
            if now < opens {
                return Err(Refusal::Held { retry_in_ms: whole_millis(opens.since(now)) });
            }
        }
        if request == Request::Pause {
            let server = spec.server.index();
            self.servers[server].gate.breaker.forget(id.0);
        }
        self.advance(id, Event::Requested(request), now, out);
        self.settle(id, now, out);
        self.wake(now, out);
        Ok(())
    }

    /// The end of a revocation.
    pub fn revoked(
        &mut self,
        ticket: Ticket,
        result: Result<(), Fault>,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let contact = match &result {
            Err(fault) if fault.local => Contact::None,
            Err(fault) if fault.status.is_none() => Contact::Failed(fault.clone()),
            Err(_) | Ok(()) => Contact::Made,
        };
        self.server_result(ticket, contact, None, now, out);
        self.conclude(ticket, Event::Revoked(result), now, out);
    }
}
