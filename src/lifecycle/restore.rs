//! A life that goes on after a restart, from what an earlier run knew of it.

use super::event::{DeadlineStage, Slot};
use super::reading::{Method, Reading};
use super::token::{DOUBTS_TO_CONCLUDE, Token, Validity};
use super::transition::Transition;
use crate::time::Moment;

/// What of a life must outlive a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PersistedLife {
    /// The moment until which the value is known to live.
    pub expiry: Moment,
    /// What was left of its life when it was asked about, in milliseconds.
    pub remaining_ms: u64,
    /// A whole life, in milliseconds; 0 if unknown.
    pub life_ms: u64,
    /// The call that was answered.
    pub by: Method,
    /// A renewal of the value has been proven.
    pub proven: bool,
    /// It was told that no call extends the value's life.
    pub unrenewable: bool,
    /// The response came in this boot of the machine, so `expiry` was measured by this clock.
    pub this_boot: bool,
}

impl Token {
    /// What of the life of the value in use must outlive a restart; `None` while the last
    /// answer is not that it lives.
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

    /// Whether all that is known of the value in use comes from an earlier run.
    pub const fn is_restored(&self) -> bool {
        self.restored
    }

    /// Whether the expiry of the value in use was measured in an earlier boot of the machine. It
    /// orders the wait queue and nothing else.
    pub(super) const fn is_from_earlier_boot(&self) -> bool {
        self.restored && matches!(self.validity, Validity::Unverified(_))
    }

    /// The next check comes at `now`, for what an earlier run knew is in doubt. One that has been
    /// found dead since has none; its next attempt at a new value keeps to its budget.
    pub(super) fn recheck_restored(&mut self, now: Moment) {
        if self.restored && matches!(self.validity, Validity::Alive(_)) {
            self.due = self.due.min(now);
        }
    }
}

impl Transition<'_> {
    /// An earlier boot of the machine knew this of the value. How much time has passed since is
    /// not known, as the wall clock may have stood still or jumped: the token is unverified and
    /// is checked at once. The remembered expiry only orders the wait queue.
    fn restore_from_earlier_boot(&mut self, persisted: &PersistedLife) {
        let remaining_ms = persisted.expiry.as_millis() - self.now.as_millis();
        let (sent, by) = (self.now, persisted.by);
        let reading = Reading { sent, received: sent, remaining_ms, by };
        self.token.validity = Validity::Unverified(reading);
        self.token.restored = true;
    }

    /// The source's value stands in the spare slot, and an earlier run knew this of it. The
    /// schedule goes on where it was; a spot check comes at once.
    ///
    /// The clock of an earlier boot may lie before the origin of this one: what was left then
    /// counts from the origin, so the expiry stays and the check comes sooner. The reading is
    /// never compared with the next one: what was asked between the two is not known.
    pub(super) fn restored(&mut self, persisted: PersistedLife, spot_check: bool) {
        let first = self.token.validity == Validity::Missing && self.token.in_flight.is_none();
        self.new_value_in_source();
        if !first || persisted.expiry <= self.now {
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
