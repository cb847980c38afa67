//! Operator requests. They obey the same limits as every other action.

use super::Scheduler;
use super::types::TokenId;
use crate::lifecycle::{Event, OperatorRequest, RequestError};
use crate::time::{Moment, whole_millis};

impl Scheduler {
    /// An operator requests something for a token. A check or an attempt may still have to wait for
    /// its server or for a slot.
    ///
    /// # Errors
    ///
    /// If the request cannot be executed in the token's state.
    pub fn request(
        &mut self,
        id: TokenId,
        request: OperatorRequest,
        now: Moment,
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
        self.apply_event(id, Event::OperatorRequested(request), now);
        self.requeue(id, now);
        self.wake(now);
        Ok(())
    }
}
