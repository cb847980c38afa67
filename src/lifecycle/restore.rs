//! Restores a life after a restart.

use super::context::Transition;
use super::reading::Reading;
use super::token::{DOUBTS_TO_CONCLUDE, Token, Validity};
use super::types::{DeadlineStage, PersistedLife, Slot};
use crate::time::Moment;

impl Token {
    /// The life of the current value that is persisted; `None` unless the value is alive.
    pub fn persisted_life(&self) -> Option<(Slot, PersistedLife)> {
        let Validity::Alive(reading) = self.validity else { return None };
        let persisted = PersistedLife {
            expiry: reading.expiry(),
            remaining_ms: reading.remaining_ms,
            life_ms: self.life_ms,
            by: reading.by,
            proven: self.proven,
            unrenewable: self.unrenewable,
            this_boot: true,
        };
        Some((self.active, persisted))
    }

    /// Whether everything known about the current value comes from an earlier run, or from before
    /// another replica asked about it.
    pub const fn is_restored(&self) -> bool {
        self.restored
    }

    /// Checks a restored token at `now`, because persisted lives are unreliable. A token that was
    /// found dead since has no check; its next attempt obeys its budget.
    pub(super) fn recheck_restored(&mut self, now: Moment) {
        if self.restored && matches!(self.validity, Validity::Alive(_)) {
            self.due = self.due.min(self.not_held(now));
        }
    }
}

impl Transition<'_> {
    /// The life was persisted in an earlier boot. How much time has passed is unknown, because the
    /// wall clock may have stopped or jumped: the token is unverified and is checked at once. The
    /// persisted expiry only orders the wait queue.
    fn restore_from_earlier_boot(&mut self, persisted: &PersistedLife) {
        let remaining_ms = persisted.expiry.as_millis() - self.now.as_millis();
        let (sent, by) = (self.now, persisted.by);
        let reading = Reading { sent, received: sent, remaining_ms, by };
        self.token.validity = Validity::Unverified(reading);
        self.token.restored = true;
    }

    /// The source's value is in the spare slot and its life was persisted. The schedule continues;
    /// a spot check is due at once.
    ///
    /// The request may have been sent before the origin of this boot's clock. Then the reading
    /// starts at the origin, so that the expiry stays and the check is earlier. The reading is
    /// never compared with the next one, because requests between the two are unknown.
    pub(super) fn restored(&mut self, persisted: PersistedLife, spot_check: bool) {
        let first = self.token.validity == Validity::Missing && self.token.in_flight.is_none();
        self.new_value_in_source();
        let is_current = self.token.candidate.is_none();
        if !first || !is_current || persisted.expiry <= self.now {
            return;
        }
        if !persisted.this_boot {
            return self.restore_from_earlier_boot(&persisted);
        }
        let remaining_ms = persisted.remaining_ms.min(persisted.expiry.as_millis());
        let sent = Moment::from_millis(persisted.expiry.as_millis() - remaining_ms);
        let reading = Reading { sent, received: sent, remaining_ms, by: persisted.by };
        self.token.validity = Validity::Alive(reading);
        self.token.stage = DeadlineStage::Calm;
        self.token.restored = true;
        self.token.life_ms = persisted.life_ms;
        self.token.proven = persisted.proven;
        self.token.unrenewable = persisted.unrenewable;
        self.token.doubts = if persisted.unrenewable { DOUBTS_TO_CONCLUDE } else { 0 };
        self.plan_check(&reading);
        if spot_check {
            self.token.due = self.now;
        }
        self.plan_early_reauth(&reading);
    }
}
