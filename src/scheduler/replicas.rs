//! Several replicas share the tokens: which ones this replica asks about, and actions that another
//! one may be spending.

use super::Scheduler;
use super::types::{HealthSignal, Ticket, TokenId};
use crate::lifecycle::Event;
use crate::time::Moment;

impl Scheduler {
    /// Whether this replica asks about a token. What is due starts at the next
    /// [`wake`](Self::wake), so that a token that was just added can be left to another replica
    /// before anything starts.
    ///
    /// A token that another replica asks about rests: no checks, logins or warnings. Only a value
    /// from its own source is verified, and values are written. Once this replica asks, the token
    /// is checked at once; a restored schedule continues.
    pub fn set_asked(&mut self, id: TokenId, asked: bool, now: Moment) {
        if self.is_asked(id) == asked {
            return;
        }
        let Some(spec) = self.table.spec(id.0) else { return };
        let (server, rotates) = (spec.server, spec.policy.rotates);
        let mut spot_check = false;
        if asked {
            let token = self.token(id);
            let is_restored =
                token.is_some_and(|token| token.is_restored() && !token.is_taken_over());
            let spot_checks = &mut self.servers[server.index()].spot_checks;
            spot_check = is_restored && !rotates && spot_checks.start(&mut self.chance);
        } else {
            self.servers[server.index()].gate.breaker.forget(id.0);
        }
        self.apply_event(id, Event::Asked { here: asked, spot_check }, now);
        self.requeue(id, now);
        if !asked {
            self.close_if_untried(server);
        }
    }

    /// Whether this replica asks about the token; true if it was removed.
    pub fn is_asked(&self, id: TokenId) -> bool {
        self.table.is_asked(id.0)
    }

    /// The action did not start: another replica may be spending what it needs. Like
    /// [`cancel`](Self::cancel), but the action and others of the token that spend something are
    /// due again at `until`, and an operator's request for it is kept. Nothing expedites that but
    /// [`release_deferred`](Self::release_deferred) and a new value.
    pub fn defer(&mut self, ticket: Ticket, until: Moment, now: Moment) {
        self.release_hook(ticket.permit);
        self.report_health(ticket, HealthSignal::Unknown, None, now);
        self.finish_action(ticket, Event::Deferred(until), now);
    }

    /// What was [deferred](Self::defer) is due now.
    pub fn release_deferred(&mut self, id: TokenId, now: Moment) {
        self.apply_event(id, Event::Released, now);
        self.requeue(id, now);
        self.wake(now);
    }
}
