//! The keeper at work: stepping tokens, queueing them, admitting them.

use std::time::Duration;

use super::breaker::Change;
use super::output::{Contact, Output, Place, ServerId, ServerNotice, Ticket, TokenId};
use super::reauth::ReauthRoute;
use super::{Entry, Keeper};
use crate::lifecycle::{Context, Draw, Event, Need, Notice, backoff, patience, step};
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
        let asked = self.entry(ticket.token).filter(|_| self.expects(ticket));
        let schedule = asked.map(|entry| entry.spec.policy.schedule);
        let server = &mut self.servers[id.index()];
        server.gate.release();
        if let Some(wish) = wish {
            server.gate.quiet(now, wish);
            self.quieted(id, now + wish, now, out);
        }
        let server = &mut self.servers[id.index()];
        let change = match (contact, schedule) {
            (Contact::Made, _) => server.gate.breaker.answered(),
            (Contact::Failed, Some(schedule)) => {
                let urgent =
                    server.gate.urgent(now).filter_map(|id| self.tokens[id as usize].as_ref());
                let readings = urgent.filter_map(|entry| entry.token.reading());
                let longest = readings.filter_map(|reading| patience(&reading, now)).min();
                let gap = |failures| {
                    let gap = backoff(failures, &schedule, None, now, draw);
                    longest.map_or(gap, |longest| gap.min(longest))
                };
                let tokens = server.tokens;
                server.gate.breaker.unavailable(ticket.token.0, tokens, probe, now, gap)
            }
            (Contact::Failed, None) | (Contact::None, _) => {
                if probe {
                    server.gate.breaker.probe_lost();
                }
                Change::None
            }
        };
        let tokens = server.tokens;
        match change {
            Change::None => return,
            Change::Opened => out.push(Output::Server(id, ServerNotice::Unavailable { tokens })),
            Change::Closed => out.push(Output::Server(id, ServerNotice::Recovered { tokens })),
        }
        self.summon(id, now, out);
    }

    /// A server wants quiet until then: the tokens that will not live so long are told of.
    fn quieted(&mut self, server: ServerId, until: Moment, now: Moment, out: &mut Vec<Output>) {
        for index in 0..self.tokens.len() {
            let concerned = self.tokens[index].as_ref().is_some_and(|entry| {
                entry.spec.server == server
                    && entry.token.bound().is_some_and(|bound| bound > now && bound <= until)
            });
            if concerned {
                let id = TokenId(u32::try_from(index).unwrap_or(u32::MAX));
                self.advance(id, Event::Quieted(until), now, out);
            }
        }
    }

    /// A server is down, or back: those of its tokens that wait out a pause of their own
    /// now follow its breaker, or need not wait any longer.
    pub(super) fn summon(&mut self, server: ServerId, now: Moment, out: &mut Vec<Output>) {
        for index in 0..self.tokens.len() {
            let failing = self.tokens[index]
                .as_ref()
                .is_some_and(|entry| entry.spec.server == server && entry.token.is_failing());
            if failing {
                let id = TokenId(u32::try_from(index).unwrap_or(u32::MAX));
                self.advance(id, Event::Summoned, now, out);
                self.queue_or_store(id, now, out);
            }
        }
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
        let Some(entry) = self.tokens[id.index()].as_mut() else { return };
        let server_id = entry.spec.server;
        let server = &mut self.servers[server_id.index()];
        let route = entry.spec.reauth.map(|reauth| self.reauths[reauth.index()].route());
        let place = match event {
            Event::Admitted(Need::Reauth) if route == Some(ReauthRoute::Hook) => Place::Hook,
            Event::Admitted(Need::Server | Need::Reauth) => {
                Place::Server { server: entry.spec.server, probe: false }
            }
            _ => Place::None,
        };
        let context = Context { policy: &entry.spec.policy, renews_by: server.renews_by, draw };
        let earlier = entry.token;
        let (token, effect) = step(entry.token, event, now, &context, &mut self.notices);
        entry.token = token;
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
                    out.push(Output::Server(entry.spec.server, learned));
                }
                Notice::CheckFailed { fault, misconfigured, attempt, retry_in_ms } => {
                    let probe = server.gate.breaker.next_probe();
                    let retry_in_ms =
                        probe.map_or(retry_in_ms, |probe| whole_millis(probe.since(now)));
                    let notice = Notice::CheckFailed { fault, misconfigured, attempt, retry_in_ms };
                    out.push(Output::Token(id, notice));
                }
                notice => {
                    let failed = matches!(notice, Notice::ReauthFailed { .. });
                    out.push(Output::Token(id, notice));
                    if failed && let Some(reauth) = entry.spec.reauth {
                        let way = &mut self.reauths[reauth.index()];
                        if way.failed(now) {
                            let failures = way.failures().map_or(0, |failures| failures.count);
                            let retry_in_ms = whole_millis(way.opens_at().since(now));
                            out.push(Output::ReauthExhausted { reauth, failures, retry_in_ms });
                        }
                    }
                }
            }
        }
        let Some(effect) = effect else {
            if distrusted {
                self.doubt_all(server_id, now, out);
            }
            return;
        };
        let place = match place {
            Place::Server { server: server_id, .. } => {
                server.gate.occupy(now);
                let probe = server.gate.breaker.started(id.0);
                Place::Server { server: server_id, probe }
            }
            Place::Hook => {
                self.hooks += 1;
                Place::Hook
            }
            Place::None => Place::None,
        };
        self.last_serial += 1;
        entry.serial = self.last_serial;
        out.push(Output::Effect(Ticket { token: id, serial: self.last_serial, place }, effect));
    }

    /// After an event: the token waits where it has to, and the agenda knows of it.
    pub(super) fn settle(&mut self, id: TokenId, now: Moment, out: &mut Vec<Output>) {
        self.leave_queue(id);
        self.queue_or_store(id, now, out);
        self.wake(now, out);
    }

    pub(super) fn queue_or_store(&mut self, id: TokenId, now: Moment, out: &mut Vec<Output>) {
        let Some(entry) = self.entry(id) else { return };
        let held = self.servers[entry.spec.server.index()].gate.breaker.is_open();
        if held && entry.token.is_failing() {
            self.advance(id, Event::Summoned, now, out);
        }
        if self.is_due(id, Need::Nothing, now) {
            self.advance(id, Event::Admitted(Need::Nothing), now, out);
            self.leave_queue(id);
        } else if self.is_due(id, Need::Server, now) {
            self.wait_for_server(id, now);
        } else if self.is_due(id, Need::Reauth, now) {
            self.wait_for_reauth(id);
        }
        self.put_on_agenda(id, now);
    }

    fn wait_for_server(&mut self, id: TokenId, now: Moment) {
        let Some(entry) = self.tokens[id.index()].as_mut() else { return };
        if entry.waiting.is_none() {
            let waiting = (entry.token.bound().unwrap_or(Moment::NEVER), id.0);
            entry.waiting = Some(waiting);
            let patience = entry.token.reading().and_then(|reading| patience(&reading, now));
            let patience = patience.unwrap_or(entry.spec.policy.schedule.retry_max);
            self.servers[entry.spec.server.index()].gate.wait(waiting, now, patience);
        }
    }

    fn wait_for_reauth(&mut self, id: TokenId) {
        let Some(entry) = self.tokens[id.index()].as_mut() else { return };
        if let Some(reauth) = entry.spec.reauth
            && entry.waiting.is_none()
            && !std::mem::replace(&mut entry.waits_for_reauth, true)
        {
            self.reauths[reauth.index()].wait(id.0);
        }
    }

    fn entry(&self, id: TokenId) -> Option<&Entry> {
        self.tokens[id.index()].as_ref()
    }

    fn is_due(&self, id: TokenId, need: Need, now: Moment) -> bool {
        self.entry(id).and_then(|entry| entry.token.due_for(need)).is_some_and(|due| due <= now)
    }

    pub(super) fn leave_queue(&mut self, id: TokenId) {
        let Some(entry) = self.tokens[id.index()].as_mut() else { return };
        if let Some(waiting) = entry.waiting.take() {
            self.servers[entry.spec.server.index()].gate.leave(waiting);
        }
    }

    /// Does what is due at `now`: whoever has come due waits for a place, and those are let in
    /// for whom there is one. Coming too early or twice does no harm.
    ///
    /// Every other event ends with this too, so that a place that it sets free goes to the most
    /// urgent of all that are due, not of those that were at the last wake-up.
    pub fn wake(&mut self, now: Moment, out: &mut Vec<Output>) {
        if self.closed {
            return self.admit_to_servers(now, out);
        }
        while let Some((at, id)) = self.agenda.take_due(now) {
            let id = TokenId(id);
            let Some(entry) = self.tokens[id.index()].as_mut() else { continue };
            if entry.agenda != Some(at) {
                continue;
            }
            entry.agenda = None;
            self.advance(id, Event::Woke, now, out);
            self.queue_or_store(id, now, out);
        }
        for index in 0..self.reauths.len() {
            self.admit_reauths(index, now, out);
        }
        self.admit_to_servers(now, out);
    }

    /// Lets requests start, as far as their servers' gates allow. After the keeper was closed
    /// only those that a new value may depend on, which nobody keeps yet.
    fn admit_to_servers(&mut self, now: Moment, out: &mut Vec<Output>) {
        for index in 0..self.servers.len() {
            while let Some(id) = self.servers[index].gate.admit(now) {
                let id = TokenId(id);
                let Some(entry) = self.tokens[id.index()].as_mut() else { continue };
                entry.waiting = None;
                if self.closed && !entry.token.has_unkept_candidate() {
                    continue;
                }
                let logs_in = !self.is_due(id, Need::Server, now);
                if logs_in && self.is_closed_to(id, now) {
                    self.wait_for_reauth(id);
                    self.put_on_agenda(id, now);
                    continue;
                }
                let need = if logs_in { Need::Reauth } else { Need::Server };
                self.advance(id, Event::Admitted(need), now, out);
                self.put_on_agenda(id, now);
            }
        }
    }

    /// Lets attempts by one way start, or go on to wait for their server.
    fn admit_reauths(&mut self, index: usize, now: Moment, out: &mut Vec<Output>) {
        let route = self.reauths[index].route();
        while route == ReauthRoute::Server || self.hooks < self.max_hooks.get() {
            let Some(id) = self.reauths[index].next(now).map(TokenId) else { break };
            let Some(entry) = self.tokens[id.index()].as_mut() else { continue };
            let here = entry.spec.reauth.is_some_and(|reauth| reauth.index() == index);
            if !here || !std::mem::take(&mut entry.waits_for_reauth) {
                continue;
            }
            if !self.is_due(id, Need::Reauth, now) {
                self.put_on_agenda(id, now);
            } else if route == ReauthRoute::Server {
                self.wait_for_server(id, now);
            } else {
                self.advance(id, Event::Admitted(Need::Reauth), now, out);
                self.put_on_agenda(id, now);
            }
        }
    }

    /// Whether a token's way to a new value is left alone at `now`.
    fn is_closed_to(&self, id: TokenId, now: Moment) -> bool {
        let reauth = self.entry(id).and_then(|entry| entry.spec.reauth);
        reauth.is_some_and(|reauth| now < self.reauths[reauth.index()].opens_at())
    }

    /// Makes sure that the token is looked at when it next wants to be.
    pub(super) fn put_on_agenda(&mut self, id: TokenId, now: Moment) {
        let Some(entry) = self.tokens[id.index()].as_mut() else { return };
        let token = &entry.token;
        let server = if entry.waiting.is_none() { token.due_for(Need::Server) } else { None };
        let waits_for_reauth = entry.waits_for_reauth || entry.waiting.is_some();
        let reauth = if waits_for_reauth { None } else { token.due_for(Need::Reauth) };
        let wants = [server, reauth, token.due_for(Need::Nothing), token.next_alarm()];
        let Some(next) = wants.into_iter().flatten().min() else { return };
        let next = next.max(now);
        if entry.agenda.is_none_or(|listed| next < listed) {
            entry.agenda = Some(next);
            self.agenda.add(next, id.0);
        }
    }

    pub(super) fn draw(&mut self) -> Draw {
        Draw::new(self.chance.f64())
    }
}
