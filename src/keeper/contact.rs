//! What the end of a request says of its server, and what follows for the server's tokens.

use std::time::Duration;

use super::Keeper;
use super::breaker::{Change, Failure};
use super::entry::Entry;
use super::output::{Census, Contact, Output, Place, ServerId, ServerNotice, Ticket, TokenId};
use crate::lifecycle::{Event, Token, backoff, patience};
use crate::time::Moment;

/// How many of those that wait, from the most urgent on, have a say in how often a server that
/// is down is probed: of a million, the first have so little time left that all others come
/// often enough with them.
const URGENT_WEIGHED: usize = 256;

impl Keeper {
    /// What the end of a request says of its server.
    pub(super) fn server_result(
        &mut self,
        ticket: Ticket,
        contact: Contact,
        wish: Option<Duration>,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let Place::Server { server: id, probe: is_probe } = ticket.place else { return };
        let draw = self.draw();
        // The number of a token that was removed may be another's by now.
        let asked = self.table.spec(ticket.token.0).filter(|_| self.expects(ticket));
        let schedule = asked.map(|spec| spec.policy.schedule);
        self.servers[id.index()].gate.release();
        if self.servers[id.index()].is_removed {
            return self.release_server(id);
        }
        let server = &mut self.servers[id.index()];
        if let Some(until) = wish.and_then(|wish| server.gate.quiet(now, wish)) {
            self.quieted(id, until, now, out);
        }
        let server = &mut self.servers[id.index()];
        let token = ticket.token.0;
        let (change, fault) = match (contact, schedule) {
            (Contact::Made, _) => (server.gate.breaker.answered(token, self.last_serial), None),
            (Contact::Failed(fault), Some(schedule)) => {
                let is_quick = server.gate.breaker.is_quick() && server.gate.has_untried(now);
                let urgent = server.gate.urgent(now).take(URGENT_WEIGHED);
                let readings =
                    urgent.filter_map(|id| self.table.look(id, |entry| entry.token.reading())?);
                let longest = readings.filter_map(|reading| patience(&reading, now)).min();
                let gap = |failures| {
                    let gap = backoff(failures, &schedule, None, now, draw);
                    let gap = longest.map_or(gap, |longest| gap.min(longest));
                    if is_quick { Duration::ZERO } else { gap }
                };
                let (serial, asked) = (ticket.serial, server.census.asked());
                let known = self
                    .table
                    .look(token, |entry| (entry.token.had_response(), Census::asks(&entry.token)));
                let (is_proven, is_asked) = known.unwrap_or_default();
                let failure = Failure { token, serial, is_probe, is_proven, is_asked, asked };
                (server.gate.breaker.unavailable(failure, now, gap), Some(fault))
            }
            (Contact::Failed(_), None) | (Contact::None, _) => {
                if is_probe {
                    server.gate.breaker.probe_lost();
                }
                (Change::None, None)
            }
        };
        let tokens = server.census.total();
        match change {
            Change::None => {}
            Change::Opened => {
                let fault = fault.unwrap_or_default();
                out.push(Output::Server(id, ServerNotice::Unavailable { tokens, fault }));
                self.tell_failing(id, &Event::Summoned, now, out);
            }
            Change::Closed => {
                out.push(Output::Server(id, ServerNotice::Recovered { tokens }));
                self.tell_failing(id, &Event::ServerRecovered, now, out);
            }
            Change::Answered(failed) => {
                for id in failed {
                    self.advance(TokenId(id), Event::Summoned, now, out);
                    self.queue_or_store(TokenId(id), now, out);
                }
            }
        }
    }

    /// A server wants quiet until then: the tokens that will not live so long are told of.
    fn quieted(&mut self, server: ServerId, until: Moment, now: Moment, out: &mut Vec<Output>) {
        let dies = |token: &Token| token.bound().is_some_and(|bound| bound > now && bound <= until);
        for id in self.table.all(|token, spec| spec.server == server && dies(token)) {
            self.advance(TokenId(id), Event::Quieted(until), now, out);
            self.table.close(id);
        }
    }

    /// A server is down, or back: those of its tokens that wait out a pause of their own now
    /// follow its breaker, or need not wait any longer. Not those whose own calls fail.
    fn tell_failing(
        &mut self,
        server: ServerId,
        event: &Event,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let breaker = &self.servers[server.index()].gate.breaker;
        let waits = |entry: &Entry| {
            let fails = entry.token.is_failing() && !breaker.has_own_trouble(entry.id);
            fails || *event == Event::ServerRecovered && entry.token.repeats_login()
        };
        for id in self.table.restless(|entry, spec| spec.server == server && waits(entry)) {
            self.advance(TokenId(id), event.clone(), now, out);
            self.queue_or_store(TokenId(id), now, out);
        }
    }
}
