//! Who may start: those that have come due wait for a place, and the most urgent get it.

use super::Keeper;
use super::output::{Output, TokenId};
use super::reauth::ReauthRoute;
use crate::lifecycle::{Event, Need};
use crate::time::Moment;

impl Keeper {
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
            if self.table.listed(id.0) != Some(at) {
                continue;
            }
            let Some((entry, _)) = self.table.open(id.0) else { continue };
            entry.listed = None;
            if entry.wants().is_some_and(|next| next > now) {
                // It was answered since it was listed.
                self.put_on_agenda(id, now);
                continue;
            }
            self.advance(id, Event::Woke, now, out);
            self.queue_or_store(id, now, out);
        }
        if !self.reauth_stopped {
            for index in 0..self.reauths.len() {
                self.admit_reauths(index, now, out);
            }
        }
        self.admit_to_servers(now, out);
    }

    /// Lets requests start, as far as their servers' gates allow. After the keeper was closed
    /// only those that a new value may depend on, which nobody keeps yet.
    fn admit_to_servers(&mut self, now: Moment, out: &mut Vec<Output>) {
        for index in 0..self.servers.len() {
            while let Some(id) = self.servers[index].gate.admit(now) {
                let id = TokenId(id);
                let Some((entry, _)) = self.table.open(id.0) else { continue };
                entry.waiting = None;
                if self.closed && !entry.token.has_unkept_candidate() {
                    continue;
                }
                let logs_in = !entry.is_due(Need::Server, now);
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
            let Some((entry, spec)) = self.table.open(id.0) else { continue };
            let here = spec.reauth.is_some_and(|reauth| reauth.index() == index);
            if !here || !std::mem::take(&mut entry.waits_for_reauth) {
                self.table.close(id.0);
                continue;
            }
            if !entry.is_due(Need::Reauth, now) {
                self.put_on_agenda(id, now);
            } else if route == ReauthRoute::Server {
                self.wait_for_server(id, now);
                self.table.close(id.0);
            } else {
                self.advance(id, Event::Admitted(Need::Reauth), now, out);
                self.put_on_agenda(id, now);
            }
        }
    }

    /// Whether a token's way to a new value is left alone at `now`.
    fn is_closed_to(&self, id: TokenId, now: Moment) -> bool {
        let reauth = self.spec(id).and_then(|spec| spec.reauth);
        self.reauth_stopped
            || reauth.is_some_and(|reauth| now < self.reauths[reauth.index()].opens_at())
    }
}
