//! Queries: the state of tokens and servers, without side effects.

use super::Scheduler;
use super::reauth_limiter::ReauthRoute;
use super::types::{ServerId, StateCounts, Ticket, TokenId, TokenSpec};
use crate::lifecycle::{Method, Resource, Slot, Token, TokenSummary};
use crate::time::Moment;

impl Scheduler {
    /// Summary and configuration of the token with this [key](TokenId::key); `None` if there is
    /// none. The cheapest query, for reading a million tokens: a few nanoseconds each.
    #[inline]
    pub fn summary(&self, key: u32) -> Option<(TokenId, TokenSummary, &TokenSpec)> {
        self.table.summary(key).map(|(summary, spec)| (TokenId(key), summary, spec))
    }

    /// Whether the server's circuit breaker is closed.
    pub fn is_available(&self, server: ServerId) -> bool {
        !self.servers[server.index()].gate.breaker.is_open()
    }

    /// Whether nothing is known to be wrong with the way to the server: no request has failed since
    /// its last response, except those of tokens that only another replica asks about by now.
    pub fn is_reached(&self, server: ServerId) -> bool {
        !self.servers[server.index()].gate.breaker.is_suspected()
    }

    /// When a token is checked next, including the pause of its server and the circuit breaker;
    /// `None` while an action is in flight or no check is planned.
    pub fn next_check(&self, id: TokenId) -> Option<Moment> {
        let due = self.token(id)?.due_for(Resource::Server)?;
        Some(due.max(self.next_request(self.spec(id)?.server)))
    }

    /// When a token's next re-auth attempt starts at the earliest, including the pause of its method
    /// and, for a login request, of its server; `None` while an action is in flight or no attempt is
    /// planned.
    pub fn next_reauth(&self, id: TokenId) -> Option<Moment> {
        let due = self.token(id)?.due_for(Resource::Reauth)?;
        let TokenSpec { server, reauth, .. } = self.spec(id)?;
        let limiter = &self.reauths[reauth.as_ref()?.index()];
        let due = due.max(limiter.opens_at());
        Some(match limiter.route() {
            ReauthRoute::Hook => due,
            ReauthRoute::Server => due.max(self.next_request(*server)),
        })
    }

    /// When a server permits the next request: not while it asked for a pause, and single probes
    /// while its circuit breaker is open.
    pub fn next_request(&self, server: ServerId) -> Moment {
        let gate = &self.servers[server.index()].gate;
        gate.throttled_until().max(gate.breaker.next_probe().unwrap_or_default())
    }

    /// The state of a token; `None` if it was removed.
    pub fn token(&self, id: TokenId) -> Option<Token> {
        self.table.inspect(id.0, |active| active.token)
    }

    /// The token with this [key](TokenId::key), if it exists.
    pub fn id_of(&self, key: u32) -> Option<TokenId> {
        self.table.spec(key).map(|_| TokenId(key))
    }

    /// One more than the highest [key](TokenId::key) ever used.
    pub fn key_limit(&self) -> u32 {
        u32::try_from(self.table.len()).unwrap_or(u32::MAX)
    }

    /// The configuration of a token.
    pub fn spec(&self, id: TokenId) -> Option<&TokenSpec> {
        self.table.spec(id.0)
    }

    /// The slot for a candidate value.
    pub fn spare_slot(&self, id: TokenId) -> Slot {
        self.table.active_slot(id.0).map_or(Slot::B, Slot::other)
    }

    /// Whether the token has no value.
    pub fn is_missing(&self, id: TokenId) -> bool {
        self.table.is_missing(id.0)
    }

    /// Which call is known to renew tokens on a server.
    pub fn renews_by(&self, server: ServerId) -> Option<Method> {
        self.servers[server.index()].renews_by
    }

    /// Until when a server has asked for a pause; may be in the past.
    pub fn throttled_until(&self, server: ServerId) -> Moment {
        self.servers[server.index()].gate.throttled_until()
    }

    /// Whether a probe of a server's open circuit breaker is in flight.
    pub fn is_probing(&self, server: ServerId) -> bool {
        self.servers[server.index()].gate.breaker.is_probing()
    }

    /// Number of tokens in each state.
    pub fn state_counts(&self) -> StateCounts {
        self.servers.iter().map(|server| server.counts).sum()
    }

    /// The same for one server.
    pub fn state_counts_of(&self, server: ServerId) -> StateCounts {
        self.servers[server.index()].counts
    }

    /// Allocated bytes of tokens, timers and wait queues.
    pub fn footprint(&self) -> usize {
        let waiting: usize = self.servers.iter().map(|server| server.gate.footprint()).sum();
        self.table.footprint() + self.timers.footprint() + waiting
    }

    /// Whether a value from re-auth is neither verified nor persisted yet.
    pub fn has_unpersisted_candidates(&self) -> bool {
        !self.table.active_where(|active, _| active.token.has_unpersisted_candidate()).is_empty()
    }

    /// Whether the completion of `ticket` is still awaited.
    pub fn expects(&self, ticket: Ticket) -> bool {
        self.table.serial(ticket.token.0) == ticket.serial
    }
}
