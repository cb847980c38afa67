//! What is to be seen of the keeper from outside, without a step of any token.

use super::Keeper;
use super::output::{ServerId, TokenId, TokenSpec};
use crate::lifecycle::{Need, Token};
use crate::time::Moment;

impl Keeper {
    /// What `what` makes of the token with this [key](TokenId::key); `None` if there is none.
    /// The cheapest look at one of many: nothing is copied.
    pub fn look<R>(
        &self,
        key: u32,
        what: impl FnOnce(TokenId, &Token, &TokenSpec) -> R,
    ) -> Option<R> {
        let spec = self.table.spec(key)?;
        self.table.look(key, |entry| what(TokenId(key), &entry.token, spec))
    }

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
