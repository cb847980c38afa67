//! What the end of a request says of its server, and what follows for the server's tokens.

use std::time::Duration;

use super::Keeper;
use super::breaker::Change;
use super::entry::Entry;
use super::output::{Contact, Output, Place, ServerId, ServerNotice, Ticket, TokenId};
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
        let Place::Server { server: id, probe } = ticket.place else { return };
        let draw = self.draw();
        // The number of a token that was removed may be another's by now.
        let asked = self.table.spec(ticket.token.0).filter(|_| self.expects(ticket));
        let schedule = asked.map(|spec| spec.policy.schedule);
        let server = &mut self.servers[id.index()];
        server.gate.release();
        if let Some(until) = wish.and_then(|wish| server.gate.quiet(now, wish)) {
            self.quieted(id, until, now, out);
        }
        if contact == Contact::Failed
            && !probe
            && let Some(schedule) = schedule
            && let Some((entry, _)) = self.table.open(ticket.token.0)
        {
            entry.trouble.add(&schedule, now);
        }
        let server = &mut self.servers[id.index()];
        let change = match (contact, schedule) {
            (Contact::Made, _) => server.gate.breaker.answered(),
            (Contact::Failed, Some(schedule)) => {
                let urgent = server.gate.urgent(now).take(URGENT_WEIGHED);
                let readings =
                    urgent.filter_map(|id| self.table.look(id, |entry| entry.token.reading())?);
                let longest = readings.filter_map(|reading| patience(&reading, now)).min();
                let gap = |failures| {
                    let gap = backoff(failures, &schedule, None, now, draw);
                    longest.map_or(gap, |longest| gap.min(longest))
                };
                let tokens = server.census.total();
                server.gate.breaker.unavailable(ticket.token.0, tokens, probe, now, gap)
            }
            (Contact::Failed, None) | (Contact::None, _) => {
                if probe {
                    server.gate.breaker.probe_lost();
                }
                Change::None
            }
        };
        let tokens = server.census.total();
        match change {
            Change::None => return,
            Change::Opened => out.push(Output::Server(id, ServerNotice::Unavailable { tokens })),
            Change::Closed => out.push(Output::Server(id, ServerNotice::Recovered { tokens })),
        }
        self.summon(id, now, out);
    }

    /// A server wants quiet until then: the tokens that will not live so long are told of.
    fn quieted(&mut self, server: ServerId, until: Moment, now: Moment, out: &mut Vec<Output>) {
        let dies = |token: &Token| token.bound().is_some_and(|bound| bound > now && bound <= until);
        for id in self.table.all(|token, spec| spec.server == server && dies(token)) {
            self.advance(TokenId(id), Event::Quieted(until), now, out);
            self.table.close(id);
        }
    }

    /// A server is down, or back: those of its tokens that wait out a pause of their own
    /// now follow its breaker, or need not wait any longer.
    fn summon(&mut self, server: ServerId, now: Moment, out: &mut Vec<Output>) {
        let hurried = |entry: &Entry| entry.is_to_be_hurried(now);
        for id in self.table.restless(|entry, spec| spec.server == server && hurried(entry)) {
            self.advance(TokenId(id), Event::Summoned, now, out);
            self.queue_or_store(TokenId(id), now, out);
        }
    }
}
