//! Spending happens: safety alone would be kept by replicas that never spend.
//!
//! Checked while nothing has gone wrong for long enough that every claim can be stolen: a token
//! of which no replica holds a living value has one within that time again, if a login is configured
//! and attempts are left. A spending is not held because etcd is unreachable.
//!
//! Exceptions: tokens that logged in as often as `max_attempts` in the current window, or whose count
//! in etcd says so (by a wrong clock a window ends late); worlds that lose messages all the time, in
//! which etcd may seem unreachable.

use tokenkeep::cluster::replica::{Key, Record};

use crate::chance::{Ms, whole};
use crate::host::key_of;
use crate::invariants::{Invariant, Violation};
use crate::world::World;

/// What waits for a spending.
#[derive(Debug)]
pub(crate) struct Spending {
    dead_since: Vec<Option<Ms>>,
    /// A spending was held as etcd was unreachable: its token, its host, and when.
    unreachable: Option<(usize, usize, Ms)>,
}

impl Spending {
    pub(super) fn new(tokens: usize) -> Self {
        Self { dead_since: vec![None; tokens], unreachable: None }
    }

    /// A token has a new value.
    pub(super) fn renewed(&mut self, token: usize) {
        self.dead_since[token] = None;
    }

    /// A spending was held.
    pub(crate) fn held(&mut self, token: usize, host: usize, unreachable: bool, now: Ms) {
        if unreachable {
            self.unreachable = Some((token, host, now));
        }
    }
}

impl World {
    /// Looks what waits for too long.
    pub(super) fn look_at_spending(&mut self) -> Result<(), Violation> {
        let now = self.now;
        let settled = self.settling_time();
        let calm = self.calm_for();
        if let Some((token, host, at)) = self.watch.spending.unreachable.take()
            && self.plan.losses == 0.0
            && calm > settled + (now - at)
        {
            let what = format!("host {host} holds a spending for token {token}: unreachable");
            return Err(self.violation(Invariant::SpendingHappens, what));
        }
        let Some(reauth) = self.plan.policy.reauth else { return Ok(()) };
        let window = whole(reauth.window) * 12 / 10;
        for token in 0..self.plan.lives.len() {
            let mut held =
                self.hosts.iter().filter_map(|host| host.daemon.as_ref()?.current(token));
            let is_alive = held.any(|(value, _)| self.api.is_alive(value.session, now));
            let since = &mut self.watch.spending.dead_since[token];
            if is_alive {
                *since = None;
                continue;
            }
            let since = *since.get_or_insert(now);
            let attempts = self.watch.attempts.since(token, now.saturating_sub(window));
            let is_listed = self.hosts.iter().all(|host| host.configured[token]);
            let counted = match self.etcd.get(&Key::Count(key_of(token))) {
                Some(Record::Count(count)) => count.counted,
                _ => 0,
            };
            let max = reauth.max_attempts.get();
            let has_attempts = attempts < max as usize && counted < max;
            let waits = now - since;
            // The death of a session that the API has ended is noticed by the next check.
            let life = self.api.life(token);
            if is_listed && has_attempts && waits > settled + life && calm > settled {
                let claimed = self.claim_exists(token);
                let what = format!(
                    "token {token} is dead for {waits} ms, {attempts} logins; claimed: {claimed}"
                );
                return Err(self.violation(Invariant::SpendingHappens, what));
            }
        }
        Ok(())
    }

    /// Checks what depends on time alone.
    pub(crate) fn sample(&mut self) -> Result<(), Violation> {
        self.must_look_at_all()?;
        self.look_at_deaths()?;
        self.look_at_operations()?;
        self.look_at_spending()?;
        let next = self.now + self.beat_time();
        self.at(next, crate::world::Happening::Sample);
        Ok(())
    }
}
