//! Applies an event to one token, turns the result into outputs, and queues the token for what it
//! needs next.

use super::Scheduler;
use super::reauth_limiter::ReauthRoute;
use super::types::{Permit, SchedulerOutput, ServerId, ServerNotice, Ticket, TokenId};
use crate::lifecycle::{
    Action, Context, Event, Notice, RandomFraction, Resource, max_retry_pause, transition,
};
use crate::outcome::Connection;
use crate::time::{Moment, whole_millis};

impl Scheduler {
    /// Applies an event to a token and emits its notices and its action.
    pub(super) fn apply_event(&mut self, id: TokenId, event: Event, now: Moment) {
        let draw = self.random_fraction();
        let Some((active, spec)) = self.table.activate(id.0) else { return };
        let server_id = spec.server;
        let server = &mut self.servers[server_id.index()];
        let route = spec.reauth.map(|reauth| self.reauths[reauth.index()].route());
        let permit = match event {
            Event::Admitted(Resource::Reauth) if route == Some(ReauthRoute::Hook) => {
                spec.reauth.map_or(Permit::None, Permit::Hook)
            }
            Event::Admitted(Resource::Server | Resource::Reauth) => {
                Permit::Server { server: server_id, probe: false }
            }
            _ => Permit::None,
        };
        let context = Context {
            policy: &spec.policy,
            renews_by: server.renews_by,
            draw,
            server_in_doubt: server.gate.breaker.is_in_doubt(id.0),
        };
        let earlier = active.token;
        let (token, action) = transition(active.token, event, now, &context, &mut self.notices);
        active.token = token;
        server.counts.remove(&earlier);
        server.counts.add(&token);
        let is_refuted = server.spot_checks.refutes(&earlier, &token, now);
        if !token.is_busy() {
            active.serial = 0;
        }
        for mut notice in self.notices.drain(..) {
            if let Notice::CheckFailed { retry_in_ms, .. } = &mut notice
                && let Some(probe) = server.gate.breaker.next_probe()
            {
                *retry_in_ms = whole_millis(probe.since(now));
            }
            match notice {
                Notice::RenewsBy(method) if server.renews_by == Some(method) => {}
                Notice::RenewsBy(method) => {
                    server.renews_by = Some(method);
                    let learned = ServerNotice::RenewalLearned(method);
                    self.outputs.push(SchedulerOutput::ServerNotice(server_id, learned));
                }
                notice => {
                    let failed = match &notice {
                        Notice::ReauthFailed { fault, .. } => Some(fault.inconclusive),
                        _ => None,
                    };
                    self.outputs.push(SchedulerOutput::TokenNotice(id, notice));
                    if let (Some(inconclusive), Some(reauth)) = (failed, spec.reauth) {
                        let method = &mut self.reauths[reauth.index()];
                        if inconclusive {
                            method.is_repeated = true;
                        } else if method.record_failure(now) {
                            let failures = method.failures().map_or(0, |failures| failures.count);
                            let retry_in_ms = whole_millis(method.opens_at().since(now));
                            self.outputs.push(SchedulerOutput::ReauthExhausted {
                                reauth,
                                failures,
                                retry_in_ms,
                            });
                        }
                    }
                }
            }
        }
        let Some(mut action) = action else {
            if is_refuted {
                self.recheck_all_restored(server_id, now);
            }
            return;
        };
        let permit = match permit {
            Permit::Server { server: server_id, .. } => {
                server.gate.on_request_started(now);
                let probe = server.gate.breaker.on_request(id.0, now);
                // A probe on a connection from before the outage would not notice its end.
                if probe && let Action::Check { connection, .. } = &mut action {
                    *connection = Connection::Fresh;
                }
                Permit::Server { server: server_id, probe }
            }
            Permit::Hook(reauth) => {
                self.running_hooks += 1;
                self.reauths[reauth.index()].running += 1;
                Permit::Hook(reauth)
            }
            Permit::None => Permit::None,
        };
        self.last_serial += 1;
        active.serial = self.last_serial;
        let (due, expiry) = (earlier.due_for(Resource::Server).unwrap_or(now), earlier.expiry());
        let ticket = Ticket { token: id, due, expiry, serial: self.last_serial, permit };
        self.outputs.push(SchedulerOutput::Action(ticket, action));
    }

    /// Updates queues and timer of a token after an event.
    pub(super) fn requeue(&mut self, id: TokenId, now: Moment) {
        self.leave_queue(id);
        self.enqueue(id, now);
    }

    /// Adds the token to the queue that it needs, or starts a pending write, and sets its timer.
    pub(super) fn enqueue(&mut self, id: TokenId, now: Moment) {
        let Some((active, spec)) = self.table.activate(id.0) else { return };
        let breaker = &self.servers[spec.server.index()].gate.breaker;
        if breaker.is_open() && active.token.is_failing() && !breaker.has_own_failures(id.0) {
            self.apply_event(id, Event::RetryNow, now);
        }
        let Some((active, _)) = self.table.activate(id.0) else { return };
        if active.is_due(Resource::None, now) {
            self.apply_event(id, Event::Admitted(Resource::None), now);
            self.leave_queue(id);
        } else if active.is_due(Resource::Server, now) {
            self.wait_for_server(id, now);
        } else if active.is_due(Resource::Reauth, now) {
            self.wait_for_reauth(id);
        }
        self.schedule_wake(id, now);
    }

    pub(super) fn wait_for_server(&mut self, id: TokenId, now: Moment) {
        let Some((active, spec)) = self.table.activate(id.0) else { return };
        if active.waiting.is_none() {
            let waiting = active.wait_key();
            active.waiting = Some(waiting);
            let max_retry_pause =
                active.token.reading().and_then(|reading| max_retry_pause(&reading, now));
            let max_retry_pause = max_retry_pause.unwrap_or(spec.policy.schedule.retry_max);
            self.servers[spec.server.index()].gate.wait(waiting, now, max_retry_pause);
        }
    }

    pub(super) fn wait_for_reauth(&mut self, id: TokenId) {
        let Some((active, spec)) = self.table.activate(id.0) else { return };
        if let Some(reauth) = spec.reauth
            && active.waiting.is_none()
            && !std::mem::replace(&mut active.waits_for_reauth, true)
        {
            self.reauths[reauth.index()].push(id.0);
        }
    }

    pub(super) fn leave_queue(&mut self, id: TokenId) {
        let Some((active, spec)) = self.table.activate(id.0) else { return };
        if let Some(waiting) = active.waiting.take() {
            self.servers[spec.server.index()].gate.leave(waiting);
        }
    }

    /// Sets the token's timer, and compacts the token if it is idle.
    pub(super) fn schedule_wake(&mut self, id: TokenId, now: Moment) {
        let Some((active, spec)) = self.table.activate(id.0) else { return };
        let next = active.next_deadline(spec).map(|next| next.max(now));
        if let Some(next) = next
            && active.scheduled.is_none_or(|scheduled| next < scheduled)
        {
            active.scheduled = Some(next);
            self.timers.add(next, id.0);
        }
        self.table.compact(id.0);
        if self.timers.needs_sweep(self.table.len()) {
            self.timers.sweep(|id| self.table.scheduled(id));
        }
    }

    pub(super) fn random_fraction(&mut self) -> RandomFraction {
        RandomFraction::new(self.chance.f64())
    }

    /// Checks all restored tokens of a server again.
    pub(super) fn recheck_all_restored(&mut self, server: ServerId, now: Moment) {
        for id in self.table.ids_where(|token, spec| spec.server == server && token.is_restored()) {
            self.apply_event(TokenId(id), Event::RecheckRestored, now);
            self.enqueue(TokenId(id), now);
        }
    }
}
