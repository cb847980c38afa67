//! What is to be seen of the keeper from outside, without a step of any token.

use super::Keeper;
use super::output::{ServerId, TokenId};
use crate::lifecycle::Need;
use crate::time::Moment;

impl Keeper {
    /// Whether a server answers, as far as is known.
    pub fn is_available(&self, server: ServerId) -> bool {
        !self.servers[server.index()].gate.breaker.is_open()
    }

    /// When a token is asked about next, its server's wishes and its breaker included as far as
    /// they are known; `None` while a call is under way or none is planned.
    pub fn next_check(&self, id: TokenId) -> Option<Moment> {
        let due = self.token(id)?.due_for(Need::Server)?;
        let gate = &self.servers[self.spec(id)?.server.index()].gate;
        Some(due.max(gate.quiet_until()).max(gate.breaker.next_probe().unwrap_or_default()))
    }
}
