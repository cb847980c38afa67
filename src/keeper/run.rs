//! The keeper at work: stepping tokens, and queueing them for what they need.

use super::Keeper;
use super::output::{Output, Place, ServerNotice, Ticket, TokenId};
use super::reauth::ReauthRoute;
use crate::lifecycle::{Context, Draw, Effect, Event, Need, Notice, patience, step};
use crate::outcome::Connection;
use crate::time::{Moment, whole_millis};

impl Keeper {
    pub(super) fn conclude(
        &mut self,
        ticket: Ticket,
        event: Event,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        if self.expects(ticket) {
            self.advance(ticket.token, event, now, out);
            self.settle(ticket.token, now, out);
        }
        self.wake(now, out);
    }

    /// Steps one token, and passes on what comes of it.
    pub(super) fn advance(
        &mut self,
        id: TokenId,
        event: Event,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let draw = self.draw();
        let Some((entry, spec)) = self.table.open(id.0) else { return };
        let server_id = spec.server;
        let server = &mut self.servers[server_id.index()];
        let route = spec.reauth.map(|reauth| self.reauths[reauth.index()].route());
        let place = match event {
            Event::Admitted(Need::Reauth) if route == Some(ReauthRoute::Hook) => {
                spec.reauth.map_or(Place::None, Place::Hook)
            }
            Event::Admitted(Need::Server | Need::Reauth) => {
                Place::Server { server: server_id, probe: false }
            }
            _ => Place::None,
        };
        let context = Context {
            policy: &spec.policy,
            renews_by: server.renews_by,
            draw,
            in_doubt: server.gate.breaker.is_in_doubt(id.0),
        };
        let earlier = entry.token;
        let (token, effect) = step(entry.token, event, now, &context, &mut self.notices);
        entry.token = token;
        server.census.remove(&earlier);
        server.census.add(&token);
        let distrusted = server.trial.judge(&earlier, &token, now);
        if !token.is_busy() {
            entry.serial = 0;
        }
        for notice in self.notices.drain(..) {
            match notice {
                Notice::RenewsBy(method) if server.renews_by == Some(method) => {}
                Notice::RenewsBy(method) => {
                    server.renews_by = Some(method);
                    let learned = ServerNotice::RenewalLearned(method);
                    out.push(Output::Server(server_id, learned));
                }
                Notice::CheckFailed { fault, misconfigured, attempt, retry_in_ms } => {
                    let probe = server.gate.breaker.next_probe();
                    let retry_in_ms =
                        probe.map_or(retry_in_ms, |probe| whole_millis(probe.since(now)));
                    let notice = Notice::CheckFailed { fault, misconfigured, attempt, retry_in_ms };
                    out.push(Output::Token(id, notice));
                }
                notice => {
                    let failed = match &notice {
                        Notice::ReauthFailed { fault, .. } => Some(fault.inconclusive),
                        _ => None,
                    };
                    out.push(Output::Token(id, notice));
                    if let (Some(inconclusive), Some(reauth)) = (failed, spec.reauth) {
                        let way = &mut self.reauths[reauth.index()];
                        if inconclusive {
                            way.is_repeated = true;
                        } else if way.failed(now) {
                            let failures = way.failures().map_or(0, |failures| failures.count);
                            let retry_in_ms = whole_millis(way.opens_at().since(now));
                            out.push(Output::ReauthExhausted { reauth, failures, retry_in_ms });
                        }
                    }
                }
            }
        }
        let Some(mut effect) = effect else {
            if distrusted {
                self.doubt_all(server_id, now, out);
            }
            return;
        };
        let place = match place {
            Place::Server { server: server_id, .. } => {
                server.gate.occupy(now);
                let probe = server.gate.breaker.started(id.0, now);
                // A probe that used a connection from before the outage would not find its end.
                if probe && let Effect::Ask { connection, .. } = &mut effect {
                    *connection = Connection::Fresh;
                }
                Place::Server { server: server_id, probe }
            }
            Place::Hook(reauth) => {
                self.hooks += 1;
                self.reauths[reauth.index()].running += 1;
                Place::Hook(reauth)
            }
            Place::None => Place::None,
        };
        self.last_serial += 1;
        entry.serial = self.last_serial;
        let (due, bound) = (earlier.due_for(Need::Server).unwrap_or(now), earlier.bound());
        let ticket = Ticket { token: id, due, bound, serial: self.last_serial, place };
        out.push(Output::Effect(ticket, effect));
    }

    /// After an event: the token waits where it has to, and the agenda knows of it.
    pub(super) fn settle(&mut self, id: TokenId, now: Moment, out: &mut Vec<Output>) {
        self.leave_queue(id);
        self.queue_or_store(id, now, out);
    }

    /// The token waits where it has to, or writes what it has to, and goes to rest.
    pub(super) fn queue_or_store(&mut self, id: TokenId, now: Moment, out: &mut Vec<Output>) {
        let Some((entry, spec)) = self.table.open(id.0) else { return };
        let breaker = &self.servers[spec.server.index()].gate.breaker;
        if breaker.is_open() && entry.token.is_failing() && !breaker.has_own_trouble(id.0) {
            self.advance(id, Event::Summoned, now, out);
        }
        let Some((entry, _)) = self.table.open(id.0) else { return };
        if entry.is_due(Need::Nothing, now) {
            self.advance(id, Event::Admitted(Need::Nothing), now, out);
            self.leave_queue(id);
        } else if entry.is_due(Need::Server, now) {
            self.wait_for_server(id, now);
        } else if entry.is_due(Need::Reauth, now) {
            self.wait_for_reauth(id);
        }
        self.put_on_agenda(id, now);
    }

    pub(super) fn wait_for_server(&mut self, id: TokenId, now: Moment) {
        let Some((entry, spec)) = self.table.open(id.0) else { return };
        if entry.waiting.is_none() {
            let waiting = entry.place_in_line();
            entry.waiting = Some(waiting);
            let patience = entry.token.reading().and_then(|reading| patience(&reading, now));
            let patience = patience.unwrap_or(spec.policy.schedule.retry_max);
            self.servers[spec.server.index()].gate.wait(waiting, now, patience);
        }
    }

    pub(super) fn wait_for_reauth(&mut self, id: TokenId) {
        let Some((entry, spec)) = self.table.open(id.0) else { return };
        if let Some(reauth) = spec.reauth
            && entry.waiting.is_none()
            && !std::mem::replace(&mut entry.waits_for_reauth, true)
        {
            self.reauths[reauth.index()].wait(id.0);
        }
    }

    pub(super) fn leave_queue(&mut self, id: TokenId) {
        let Some((entry, spec)) = self.table.open(id.0) else { return };
        if let Some(waiting) = entry.waiting.take() {
            self.servers[spec.server.index()].gate.leave(waiting);
        }
    }

    /// Makes sure that the token is looked at when it next wants to be; until then it rests, if
    /// nothing goes on with it.
    pub(super) fn put_on_agenda(&mut self, id: TokenId, now: Moment) {
        let Some((entry, _)) = self.table.open(id.0) else { return };
        let next = entry.wants().map(|next| next.max(now));
        if let Some(next) = next
            && entry.listed.is_none_or(|listed| next < listed)
        {
            entry.listed = Some(next);
            self.agenda.add(next, id.0);
        }
        self.table.close(id.0);
        if self.agenda.is_overfull(self.table.len()) {
            self.agenda.sweep(|id| self.table.listed(id));
        }
    }

    pub(super) fn draw(&mut self) -> Draw {
        Draw::new(self.chance.f64())
    }
}
