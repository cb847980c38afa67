//! Admission: starts the actions that are due, as far as limits permit, most urgent first.

use std::time::Duration;

use super::Scheduler;
use super::reauth_limiter::{ReauthLimiter, ReauthRoute};
use super::types::{Ticket, TokenId};
use crate::lifecycle::{Event, Resource};
use crate::time::Moment;

impl Scheduler {
    /// Does what is due at `now`: due tokens enter the wait queues, and actions start as far as
    /// there is capacity. Calling it too early or twice is harmless.
    ///
    /// Every other event ends with this call, so that freed capacity goes to the most urgent token
    /// that is due by then, not by the last wake-up.
    pub fn wake(&mut self, now: Moment) {
        if self.is_admission_stopped {
            return self.admit_checks(now);
        }
        while let Some((at, id)) = self.timers.pop_due(now) {
            let id = TokenId(id);
            if self.table.scheduled(id.0) != Some(at) {
                continue;
            }
            let Some((active, spec)) = self.table.activate(id.0) else { continue };
            active.scheduled = None;
            if active.next_deadline(spec).is_some_and(|next| next > now) {
                // The token was checked after the timer was set.
                self.schedule_wake(id, now);
                continue;
            }
            self.apply_event(id, Event::TimerFired, now);
            self.enqueue(id, now);
        }
        if !self.is_reauth_stopped {
            self.release_delayed_reauths(now);
            self.admit_reauths(now);
        }
        self.admit_checks(now);
    }

    /// Starts requests as far as the server gates permit. After [`Scheduler::stop_admitting`], only
    /// requests that verify a candidate value that is not persisted.
    fn admit_checks(&mut self, now: Moment) {
        for index in 0..self.servers.len() {
            loop {
                let Self { servers, table, chance, .. } = self;
                let logs_in = |id| {
                    table.inspect(id, |active| !active.is_due(Resource::Server, now)) == Some(true)
                };
                let Some(id) = servers[index].gate.admit(now, chance, logs_in) else { break };
                let id = TokenId(id);
                let Some((active, _)) = self.table.activate(id.0) else { continue };
                active.waiting = None;
                if self.is_admission_stopped && !active.token.has_unpersisted_candidate() {
                    continue;
                }
                let logs_in = !active.is_due(Resource::Server, now);
                if logs_in && self.is_reauth_blocked(id, now) {
                    self.wait_for_reauth(id);
                    self.schedule_wake(id, now);
                    continue;
                }
                let resource = if logs_in { Resource::Reauth } else { Resource::Server };
                self.apply_event(id, Event::Admitted(resource), now);
                self.schedule_wake(id, now);
            }
        }
    }

    /// Starts re-auth attempts, or moves them to the wait queue of their server.
    fn admit_reauths(&mut self, now: Moment) {
        for index in 0..self.reauths.len() {
            while self.reauths[index].route() == ReauthRoute::Server
                && let Some(id) = self.reauths[index].pop(now)
            {
                self.admit_reauth(index, TokenId(id), now);
            }
        }
        while let Some(index) = self.next_with_slot(now)
            && let Some(id) = self.reauths[index].pop(now)
        {
            self.next_reauth = index + 1;
            self.admit_reauth(index, TokenId(id), now);
        }
    }

    /// The `reauth` method that starts the next command: of those with waiting tokens the one with
    /// the fewest running commands, round-robin among equals. `None` if no slot is free for any.
    fn next_with_slot(&self, now: Moment) -> Option<usize> {
        let turns = self.reauths.len();
        let in_turn = (0..turns).map(|step| (self.next_reauth + step) % turns);
        let waits = |index: &usize| {
            let reauth = &self.reauths[*index];
            reauth.has_waiting() && reauth.opens_at() <= now && self.has_slot(reauth)
        };
        let methods = in_turn.filter(|index| self.reauths[*index].route() == ReauthRoute::Hook);
        methods.filter(waits).min_by_key(|index| self.reauths[*index].running)
    }

    /// Whether a method may start one more command. A slot is reserved for each method without a
    /// running command, so that hanging commands use up only the slots of their own method.
    pub(super) fn has_slot(&self, reauth: &ReauthLimiter) -> bool {
        let free = self.max_hooks.get().saturating_sub(self.running_hooks);
        if reauth.running == 0 {
            return free > 0;
        }
        let is_idle = |other: &&ReauthLimiter| {
            other.route() == ReauthRoute::Hook && !other.is_removed && other.running == 0
        };
        free as usize > self.reauths.iter().filter(is_idle).count()
    }

    /// Starts the re-auth attempt of a token that its method has admitted.
    fn admit_reauth(&mut self, index: usize, id: TokenId, now: Moment) {
        let route = self.reauths[index].route();
        let Some((active, spec)) = self.table.activate(id.0) else { return };
        let here = spec.reauth.is_some_and(|reauth| reauth.index() == index);
        if !here || !std::mem::take(&mut active.waits_for_reauth) {
            self.table.compact(id.0);
            return;
        }
        let Some(due) = active.token.due_for(Resource::Reauth).filter(|due| *due <= now) else {
            return self.schedule_wake(id, now);
        };
        if route == ReauthRoute::Server {
            self.wait_for_server(id, now);
            self.table.compact(id.0);
            return;
        }
        let server = &mut self.servers[spec.server.index()];
        let delay_max = spec.policy.reauth.map(|reauth| reauth.delay_max).unwrap_or_default();
        let until = due + delay_max;
        let is_futile = server.gate.breaker.is_open() && server.counts.asked() > 0;
        if is_futile && active.token.expiry().is_none() && now < until {
            active.waits_for_reauth = true;
            server.delayed_reauths.insert((until, id.0));
            self.table.compact(id.0);
            return;
        }
        self.apply_event(id, Event::Admitted(Resource::Reauth), now);
        self.schedule_wake(id, now);
    }

    /// While a server is down, re-auth commands for its dead tokens are delayed: they would most
    /// likely fail and use up the attempts. They start when the server is back, when no check is
    /// left that could notice it, or after `delay_max`.
    fn release_delayed_reauths(&mut self, now: Moment) {
        for index in 0..self.servers.len() {
            let server = &mut self.servers[index];
            if server.delayed_reauths.is_empty() {
                continue;
            }
            let is_down = server.gate.breaker.is_open() && server.counts.asked() > 0;
            let released = if is_down {
                let later = server.delayed_reauths.split_off(&(now + Duration::from_millis(1), 0));
                std::mem::replace(&mut server.delayed_reauths, later)
            } else {
                std::mem::take(&mut server.delayed_reauths)
            };
            for (_, id) in released {
                if let Some((active, _)) = self.table.activate(id) {
                    active.waits_for_reauth = false;
                    self.enqueue(TokenId(id), now);
                }
            }
        }
    }

    /// Whether the token's `reauth` method admits no attempt at `now`.
    fn is_reauth_blocked(&self, id: TokenId, now: Moment) -> bool {
        let reauth = self.spec(id).and_then(|spec| spec.reauth);
        self.is_reauth_stopped
            || reauth.is_some_and(|reauth| now < self.reauths[reauth.index()].opens_at())
    }

    pub(super) fn finish_action(&mut self, ticket: Ticket, event: Event, now: Moment) {
        if self.expects(ticket) {
            self.apply_event(ticket.token, event, now);
            self.requeue(ticket.token, now);
        }
        self.wake(now);
    }
}
