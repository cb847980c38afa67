//! A life that goes on after a restart, from what an earlier run knew of it.

use super::event::{Slot, Stage};
use super::reading::{Method, Reading};
use super::step::Turn;
use super::token::{DOUBTS_FOR_A_VERDICT, Standing, Token};
use crate::time::Moment;

/// What of a life must outlive a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// The moment until which the value is known to live.
    pub bound: Moment,
    /// What was left of its life when it was asked about, in milliseconds.
    pub remaining_ms: u64,
    /// A whole life, in milliseconds; 0 if unknown.
    pub life_ms: u64,
    /// The call that was answered.
    pub by: Method,
    /// A renewal of the value has been proven.
    pub proven: bool,
    /// It was told that no call extends the value's life.
    pub unextendable: bool,
    /// The response came in this boot of the machine, so `bound` was measured by this clock.
    pub this_boot: bool,
}

impl Token {
    /// What of the life of the value in use must outlive a restart; `None` while the last
    /// answer is not that it lives.
    pub fn resumable(&self) -> Option<(Slot, Resumed)> {
        let Standing::Alive(reading) = self.standing else { return None };
        let resumed = Resumed {
            bound: reading.bound(),
            remaining_ms: reading.remaining_ms,
            life_ms: self.life_ms,
            by: reading.by,
            proven: self.proven,
            unextendable: self.unextendable,
            this_boot: true,
        };
        Some((self.active, resumed))
    }

    /// Whether all that is known of the value in use comes from an earlier run.
    pub const fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Whether the expiry of the value in use was measured in an earlier boot of the machine. It
    /// orders the wait queue and nothing else.
    pub(super) const fn is_only_remembered(&self) -> bool {
        self.resumed && matches!(self.standing, Standing::Unverified(_))
    }

    /// The next check comes at `now`, for what an earlier run knew is in doubt. One that has been
    /// found dead since has none; its next attempt at a new value keeps to its budget.
    pub(super) fn doubt_resumed(&mut self, now: Moment) {
        if self.resumed && matches!(self.standing, Standing::Alive(_)) {
            self.due = self.due.min(now);
        }
    }
}

impl Turn<'_> {
    /// An earlier boot of the machine knew this of the value. How much time has passed since is
    /// not known, as the wall clock may have stood still or jumped: the token is unverified and
    /// is checked at once. The remembered expiry only orders the wait queue.
    fn remember(&mut self, resumed: &Resumed) {
        let remaining_ms = resumed.bound.as_millis() - self.now.as_millis();
        let (sent, by) = (self.now, resumed.by);
        let reading = Reading { sent, received: sent, remaining_ms, by };
        self.token.standing = Standing::Unverified(reading);
        self.token.resumed = true;
    }

    /// The source's value stands in the spare slot, and an earlier run knew this of it. The
    /// schedule goes on where it was; a spot check comes at once.
    ///
    /// The clock of an earlier boot may lie before the origin of this one: what was left then
    /// counts from the origin, so the bound stays and the check comes sooner. The reading is
    /// never compared with the next one: what was asked between the two is not known.
    pub(super) fn resumed(&mut self, resumed: Resumed, spot_check: bool) {
        let first = self.token.standing == Standing::Missing && self.token.flight.is_none();
        self.new_value_in_source();
        if !first || resumed.bound <= self.now {
            return;
        }
        if !resumed.this_boot {
            return self.remember(&resumed);
        }
        let remaining_ms = resumed.remaining_ms.min(resumed.bound.as_millis());
        let sent = Moment::from_millis(resumed.bound.as_millis() - remaining_ms);
        let reading = Reading { sent, received: sent, remaining_ms, by: resumed.by };
        self.token.standing = Standing::Alive(reading);
        self.token.stage = Stage::Calm;
        self.token.resumed = true;
        self.token.life_ms = resumed.life_ms;
        self.token.proven = resumed.proven;
        self.token.unextendable = resumed.unextendable;
        self.token.doubts = if resumed.unextendable { DOUBTS_FOR_A_VERDICT } else { 0 };
        self.plan_check(&reading);
        if spot_check {
            self.token.due = self.now;
        }
        self.plan_early_reauth(&reading);
    }
}
