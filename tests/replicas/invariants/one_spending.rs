//! I1: never two spendings for one token at once.
//!
//! Checked: when the API begins to execute a login, a rotation or a revocation, it is executing no
//! other one for that token, of any replica. It executes from the instant of the request until its
//! response, or until the client gives up at its timeout. The requests of a replica that is stopped
//! or killed go on as long.
//!
//! Exceptions: from the restore of etcd from a backup until the last operator has accepted it. What
//! was claimed after the backup is forgotten then, and a replica that was away does not notice.

use crate::chance::Ms;
use crate::invariants::{Invariant, Violation};
use crate::world::World;

/// When etcd was restored.
#[derive(Debug, Default)]
pub(crate) struct Restores {
    until: Ms,
}

impl Restores {
    pub(super) fn restored(&mut self, _: Ms, until: Ms) {
        self.until = self.until.max(until);
    }

    /// Whether the consequences of a restore are not over.
    pub(crate) const fn is_felt(&self, now: Ms) -> bool {
        now <= self.until
    }
}

impl World {
    /// The API has begun a spending during another one.
    pub(crate) fn two_spendings(
        &mut self,
        token: usize,
        host: usize,
        other: usize,
    ) -> Result<(), Violation> {
        if self.watch.restores.is_felt(self.now) {
            return Ok(());
        }
        let what = format!("host {host} spends for token {token} while host {other} does");
        Err(self.violation(Invariant::OneSpendingAtATime, what))
    }
}
