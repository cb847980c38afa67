//! Server health: what a finished request says about its server, and what that changes for the
//! server's tokens.

use std::time::Duration;

use super::Scheduler;
use super::circuit_breaker::{BreakerChange, CheckFailure};
use super::token_slot::ActiveToken;
use super::types::{
    HealthSignal, Permit, SchedulerOutput, ServerId, ServerNotice, StateCounts, Ticket, TokenId,
};
use crate::lifecycle::{Event, Token, backoff, max_retry_pause};
use crate::time::Moment;

/// How many waiting tokens, most urgent first, influence how often a server that is down is probed.
/// Of a million, the first have so little time left that the others are probed often enough.
const URGENT_CONSIDERED: usize = 256;

impl Scheduler {
    /// Reports to a server's gate what a finished request says about the server.
    pub(super) fn report_health(
        &mut self,
        ticket: Ticket,
        signal: HealthSignal,
        wish: Option<Duration>,
        now: Moment,
    ) {
        let Permit::Server { server: id, probe: is_probe } = ticket.permit else { return };
        let draw = self.random_fraction();
        // The id of a removed token may belong to another one by now. A server must not count as down
        // because of a token that only another replica asks about.
        let counts = self.expects(ticket) && self.table.is_asked(ticket.token.0);
        let asked = self.table.spec(ticket.token.0).filter(|_| counts);
        let schedule = asked.map(|spec| spec.policy.schedule);
        self.servers[id.index()].gate.on_request_finished();
        if self.servers[id.index()].is_removed {
            return self.release_server(id);
        }
        let server = &mut self.servers[id.index()];
        if let Some(until) = wish.and_then(|wish| server.gate.throttle(now, wish)) {
            self.server_throttled(id, until, now);
        }
        let server = &mut self.servers[id.index()];
        let token = ticket.token.0;
        let (change, fault) = match (signal, schedule) {
            (HealthSignal::Available, _) => {
                (server.gate.breaker.on_response(token, self.last_serial), None)
            }
            (HealthSignal::Unavailable(fault), Some(schedule)) => {
                let is_quick = server.gate.breaker.is_quick() && server.gate.has_untried(now);
                let urgent = server.gate.urgent(now).take(URGENT_CONSIDERED);
                let readings = urgent
                    .filter_map(|id| self.table.inspect(id, |active| active.token.reading())?);
                let longest = readings.filter_map(|reading| max_retry_pause(&reading, now)).min();
                let gap = |failures| {
                    let gap = backoff(failures, &schedule, None, now, draw);
                    let gap = longest.map_or(gap, |longest| gap.min(longest));
                    if is_quick { Duration::ZERO } else { gap }
                };
                let (serial, asked) = (ticket.serial, server.counts.asked());
                let known = self.table.inspect(token, |active| {
                    (active.token.had_response(), StateCounts::asks(&active.token))
                });
                let (is_proven, is_asked) = known.unwrap_or_default();
                let failure = CheckFailure { token, serial, is_probe, is_proven, is_asked, asked };
                (server.gate.breaker.on_failure(failure, now, gap), Some(fault))
            }
            (HealthSignal::Unavailable(_), None) | (HealthSignal::Unknown, _) => {
                if is_probe {
                    server.gate.breaker.on_probe_cancelled();
                }
                if !self.table.is_asked(token) {
                    self.close_if_untried(id);
                }
                (BreakerChange::None, None)
            }
        };
        let server = &mut self.servers[id.index()];
        let tokens = server.counts.total();
        match change {
            BreakerChange::None => {}
            BreakerChange::Opened => {
                let fault = fault.unwrap_or_default();
                self.outputs.push(SchedulerOutput::ServerNotice(
                    id,
                    ServerNotice::Unavailable { tokens, fault },
                ));
                self.notify_failing_tokens(id, &Event::RetryNow, now);
            }
            BreakerChange::Closed => {
                self.outputs
                    .push(SchedulerOutput::ServerNotice(id, ServerNotice::Recovered { tokens }));
                self.notify_failing_tokens(id, &Event::ServerRecovered, now);
            }
            BreakerChange::RetryFailed(failed) => {
                for id in failed {
                    self.apply_event(TokenId(id), Event::RetryNow, now);
                    self.enqueue(TokenId(id), now);
                }
            }
        }
    }

    /// Another replica asks about a token by now: the circuit breaker must not stay open because of it.
    pub(super) fn close_if_untried(&mut self, server: ServerId) {
        if self.servers[server.index()].gate.close_if_untried() {
            self.outputs.push(SchedulerOutput::ServerNotice(server, ServerNotice::Untried));
        }
    }

    /// The server asked for a pause until `until`: notifies tokens that expire before.
    fn server_throttled(&mut self, server: ServerId, until: Moment, now: Moment) {
        let dies =
            |token: &Token| token.expiry().is_some_and(|expiry| expiry > now && expiry <= until);
        for id in self.table.ids_where(|token, spec| spec.server == server && dies(token)) {
            self.apply_event(TokenId(id), Event::Throttled(until), now);
            self.table.compact(id);
        }
    }

    /// A server is down, or is back. Its tokens that wait for a retry now follow the circuit
    /// breaker, or retry at once, except tokens with failures of their own.
    fn notify_failing_tokens(&mut self, server: ServerId, event: &Event, now: Moment) {
        let breaker = &self.servers[server.index()].gate.breaker;
        let waits = |active: &ActiveToken| {
            let fails = active.token.is_failing() && !breaker.has_own_failures(active.id);
            fails || *event == Event::ServerRecovered && active.token.is_reauth_inconclusive()
        };
        for id in self.table.active_where(|active, spec| spec.server == server && waits(active)) {
            self.apply_event(TokenId(id), event.clone(), now);
            self.enqueue(TokenId(id), now);
        }
    }
}
