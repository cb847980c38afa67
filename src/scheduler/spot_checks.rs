//! Spot checks after a restart: whether persisted lives of a server's tokens are reliable.
//!
//! A small share of the restored tokens is checked at once. If too many of them are dead, or one
//! lives clearly shorter than recorded, all restored tokens of the server are checked again.

use crate::lifecycle::{Token, Validity};
use crate::time::Moment;

/// The share of restored tokens that is checked at once, and at least one per server. Five
/// thousand of a million reveal a useless state database as surely as more would.
const CHECKED_SHARE: f64 = 0.005;

/// The share of spot checks, as a divisor, that may find a token dead: users log out, and another
/// login can end a session.
const TOLERATED: u32 = 10;

/// A life is clearly shorter than recorded if this share of it is missing, as a divisor.
const CLEARLY_LESS: u32 = 10;

/// Spot checks of one server's tokens.
#[derive(Debug, Default)]
pub(super) struct SpotChecks {
    started: u32,
    dead: u32,
    /// A life was clearly shorter than recorded.
    is_refuted: bool,
}

impl SpotChecks {
    /// Decides whether the next restored token is checked at once.
    pub(super) fn start(&mut self, chance: &mut fastrand::Rng) -> bool {
        let starts = self.started == 0 || chance.f64() < CHECKED_SHARE;
        self.started += u32::from(starts);
        starts
    }

    /// Evaluates a transition of one of the server's tokens. Returns true once persisted lives
    /// are known to be unreliable: a life is clearly shorter than recorded, or the number of
    /// tokens that should have lived and are dead reaches a tenth of the spot checks.
    pub(super) fn refutes(&mut self, earlier: &Token, token: &Token, now: Moment) -> bool {
        let was_restored = earlier.is_restored() && !earlier.is_taken_over();
        let should_live = was_restored && earlier.expiry().is_some_and(|expiry| expiry > now);
        if !self.is_refuted
            && let (Validity::Alive(earlier), Validity::Alive(reading), true, false) =
                (earlier.validity(), token.validity(), was_restored, token.is_restored())
            && reading.latest_end() + earlier.remaining() / CLEARLY_LESS < earlier.expiry()
        {
            self.is_refuted = true;
            return true;
        }
        let is_dead = matches!(token.validity(), Validity::Expired | Validity::Rejected);
        let was_dead = matches!(earlier.validity(), Validity::Expired | Validity::Rejected);
        if !should_live || !is_dead || was_dead {
            return false;
        }
        self.dead += 1;
        self.dead == (self.started / TOLERATED).max(1)
    }
}
