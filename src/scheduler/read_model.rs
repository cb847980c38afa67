//! What is to be seen of the scheduler from outside, without a step of any token.

use super::Scheduler;
use super::types::{ServerId, TokenId};
use crate::lifecycle::{Resource, TokenSummary};
use crate::time::Moment;

impl Scheduler {
    /// The token with this [key](TokenId::key), what there is to be seen of it in passing, and
    /// its server; `None` if there is none. The cheapest look at one of many: a few nanoseconds.
    pub fn summary(&self, key: u32) -> Option<(TokenId, TokenSummary, ServerId)> {
        self.table.summary(key).map(|(summary, spec)| (TokenId(key), summary, spec.server))
    }

    /// Whether a server answers, as far as is known.
    pub fn is_available(&self, server: ServerId) -> bool {
        !self.servers[server.index()].gate.breaker.is_open()
    }

    /// When a token is asked about next, its server's wishes and its breaker included as far as
    /// they are known; `None` while a call is under way or none is planned.
    pub fn next_check(&self, id: TokenId) -> Option<Moment> {
        let due = self.token(id)?.due_for(Resource::Server)?;
        let gate = &self.servers[self.spec(id)?.server.index()].gate;
        Some(due.max(gate.throttled_until()).max(gate.breaker.next_probe().unwrap_or_default()))
    }
}
