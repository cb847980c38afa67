//! What is to be seen of the scheduler from outside, without a step of any token.

use super::Scheduler;
use super::types::{ServerId, StateCounts, Ticket, TokenId, TokenSpec};
use crate::lifecycle::{Method, Resource, Slot, Token, TokenSummary};
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

    /// What is known of a token; `None` for one that was removed.
    pub fn token(&self, id: TokenId) -> Option<Token> {
        self.table.inspect(id.0, |active| active.token)
    }

    /// The token with this [key](TokenId::key), if there still is one.
    pub fn id_of(&self, key: u32) -> Option<TokenId> {
        self.table.spec(key).map(|_| TokenId(key))
    }

    /// One more than the highest [key](TokenId::key) that a token has or had.
    pub fn key_limit(&self) -> u32 {
        u32::try_from(self.table.len()).unwrap_or(u32::MAX)
    }

    /// What the scheduler was told of a token.
    pub fn spec(&self, id: TokenId) -> Option<&TokenSpec> {
        self.table.spec(id.0)
    }

    /// The slot that a newcomer among a token's values is to be put into.
    pub fn spare_slot(&self, id: TokenId) -> Slot {
        self.table.active_slot(id.0).map_or(Slot::B, Slot::other)
    }

    /// Whether the token has no value, nor had one that it was told of.
    pub fn is_missing(&self, id: TokenId) -> bool {
        self.table.is_missing(id.0)
    }

    /// Which call is known to extend lives on a server.
    pub fn renews_by(&self, server: ServerId) -> Option<Method> {
        self.servers[server.index()].renews_by
    }

    /// Until when a server has asked to be left alone, past or ahead.
    pub fn throttled_until(&self, server: ServerId) -> Moment {
        self.servers[server.index()].gate.throttled_until()
    }

    /// Whether a probe of a server's open circuit breaker is in flight.
    pub fn is_probing(&self, server: ServerId) -> bool {
        self.servers[server.index()].gate.breaker.is_probing()
    }

    /// How many tokens there are in each state.
    pub fn state_counts(&self) -> StateCounts {
        self.servers.iter().map(|server| server.counts).sum()
    }

    /// The same, of one server.
    pub fn state_counts_of(&self, server: ServerId) -> StateCounts {
        self.servers[server.index()].counts
    }

    /// Bytes that the tokens, their schedule and those who wait take up, unused ones included.
    pub fn footprint(&self) -> usize {
        let waiting: usize = self.servers.iter().map(|server| server.gate.footprint()).sum();
        self.table.footprint() + self.timers.footprint() + waiting
    }

    /// Whether a value that re-auth has brought is yet to be verified, and kept nowhere else.
    pub fn has_unpersisted_candidates(&self) -> bool {
        !self.table.active_where(|active, _| active.token.has_unpersisted_candidate()).is_empty()
    }

    /// Whether the effect behind `ticket` is still waited for.
    pub fn expects(&self, ticket: Ticket) -> bool {
        self.table.serial(ticket.token.0) == ticket.serial
    }
}
