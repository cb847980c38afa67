//! What is to be seen of the keeper from outside, without a step of any token.

use super::Keeper;
use super::output::{ServerId, TokenId};
use crate::lifecycle::Need;
use crate::time::Moment;

impl Keeper {
    /// One more than the highest [key](TokenId::key) that a token can have now: whoever looks at
    /// all tokens piece by piece goes through the keys below it.
    pub fn keys(&self) -> u32 {
        u32::try_from(self.tokens.len()).unwrap_or(u32::MAX)
    }

    /// How many tokens depend on a server.
    pub fn tokens_of(&self, server: ServerId) -> usize {
        self.servers[server.index()].tokens
    }

    /// Whether a server answers, as far as is known.
    pub fn is_available(&self, server: ServerId) -> bool {
        !self.servers[server.index()].gate.breaker.is_open()
    }

    /// When a token is asked about next, its server's wishes and its breaker included as far as
    /// they are known; `None` while a call is under way or none is planned.
    pub fn next_check(&self, id: TokenId) -> Option<Moment> {
        let entry = self.tokens[id.index()].as_ref()?;
        let due = entry.token.due_for(Need::Server)?;
        let gate = &self.servers[entry.spec.server.index()].gate;
        Some(due.max(gate.quiet_until()).max(gate.breaker.next_probe().unwrap_or_default()))
    }
}
