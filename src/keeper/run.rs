//! The keeper at work: stepping tokens, queueing them, admitting them.

use std::time::Duration;

use super::breaker::Change;
use super::output::{Output, Place, ReauthRoute, ServerId, ServerNotice, Ticket, TokenId};
use super::{Entry, Keeper};
use crate::lifecycle::{Context, Draw, Event, Need, Notice, backoff, step};
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
        self.admit(now, out);
    }

    /// What the end of a request says of its server.
    pub(super) fn server_result(
        &mut self,
        ticket: Ticket,
        reached: bool,
        wish: Option<Duration>,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let Place::Server { server: id, probe } = ticket.place else { return };
        let draw = self.draw();
        let schedule =
            self.tokens[ticket.token.index()].as_ref().map(|entry| entry.spec.policy.schedule);
        let server = &mut self.servers[id.index()];
        server.gate.release();
        if let Some(wish) = wish {
            server.gate.quiet(now, wish);
        }
        let change = if reached {
            server.gate.breaker.answered()
        } else if let Some(schedule) = schedule {
            let bound = server.gate.earliest_bound(now);
            let gap = |failures| backoff(failures, &schedule, bound, now, draw);
            let tokens = server.tokens;
            server.gate.breaker.unavailable(ticket.token.0, tokens, probe, now, gap)
        } else {
            server.gate.breaker.probe_lost();
            Change::None
        };
        let tokens = server.tokens;
        match change {
            Change::None => return,
            Change::Opened => out.push(Output::Server(id, ServerNotice::Unavailable { tokens })),
            Change::Closed => out.push(Output::Server(id, ServerNotice::Recovered { tokens })),
        }
        self.summon(id, now, out);
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
        let server = &mut self.servers[entry.spec.server.index()];
        let place = match event {
            Event::Admitted(Need::Reauth) if entry.spec.route == ReauthRoute::Hook => Place::Hook,
            Event::Admitted(Need::Server | Need::Reauth) => {
                Place::Server { server: entry.spec.server, probe: false }
            }
            _ => Place::None,
        };
        let context = Context { policy: &entry.spec.policy, renews_by: server.renews_by, draw };
        let (token, effect) = step(entry.token, event, now, &context, &mut self.notices);
        entry.token = token;
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
                notice => out.push(Output::Token(id, notice)),
            }
        }
        let Some(effect) = effect else { return };
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
        self.admit(now, out);
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
            self.wait_for_reauth(id, now);
        }
        self.put_on_agenda(id, now);
    }

    fn wait_for_server(&mut self, id: TokenId, now: Moment) {
        let Some(entry) = self.tokens[id.index()].as_mut() else { return };
        if entry.waiting.is_none() {
            let waiting = (entry.token.bound().unwrap_or(Moment::NEVER), id.0);
            entry.waiting = Some(waiting);
            self.servers[entry.spec.server.index()].gate.wait(waiting, now);
        }
    }

    fn wait_for_reauth(&mut self, id: TokenId, now: Moment) {
        let Some(entry) = self.tokens[id.index()].as_mut() else { return };
        match entry.spec.route {
            ReauthRoute::Server => self.wait_for_server(id, now),
            ReauthRoute::Hook => {
                if !std::mem::replace(&mut entry.waits_for_hook, true) {
                    self.hook_queue.push_back(id);
                }
            }
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

    /// Lets those in whom there is a place for.
    pub(super) fn admit(&mut self, now: Moment, out: &mut Vec<Output>) {
        for index in 0..self.servers.len() {
            while let Some(id) = self.servers[index].gate.admit(now) {
                let id = TokenId(id);
                let Some(entry) = self.tokens[id.index()].as_mut() else { continue };
                entry.waiting = None;
                let asks = entry.token.due_for(Need::Server).is_some_and(|due| due <= now);
                let need = if asks { Need::Server } else { Need::Reauth };
                self.advance(id, Event::Admitted(need), now, out);
                self.put_on_agenda(id, now);
            }
        }
        while self.hooks < self.max_hooks.get() {
            let Some(id) = self.hook_queue.pop_front() else { break };
            let Some(entry) = self.tokens[id.index()].as_mut() else { continue };
            if std::mem::take(&mut entry.waits_for_hook) && entry.spec.route == ReauthRoute::Hook {
                self.advance(id, Event::Admitted(Need::Reauth), now, out);
                self.put_on_agenda(id, now);
            }
        }
    }

    /// Makes sure that the token is looked at when it next wants to be.
    pub(super) fn put_on_agenda(&mut self, id: TokenId, now: Moment) {
        let Some(entry) = self.tokens[id.index()].as_mut() else { return };
        let token = &entry.token;
        let server = if entry.waiting.is_none() { token.due_for(Need::Server) } else { None };
        let waits_for_reauth = entry.waits_for_hook || entry.waiting.is_some();
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
