//! Operations are bounded: in a steady state, N replicas send N beats each third of the failover
//! time, whatever the number of tokens.
//!
//! Checked while nothing has gone wrong for a while, for spans of twenty beats: a replica sends at
//! most 22 beats and two other operations, and at most eight more for each spending and each new value
//! of the world in that span. Also (in `glue.rs`): one turn of a daemon has at most 400 outputs, and
//! ends after 50 rounds.

use crate::chance::Ms;
use crate::invariants::{Invariant, Violation};
use crate::world::World;

/// A span has so many beats.
const BEATS: u64 = 20;

/// What was sent since the last incident.
#[derive(Debug)]
pub(crate) struct Calm {
    /// When the last incident was over.
    since: Ms,
    /// When this span began.
    began: Ms,
    beats: Vec<u64>,
    others: Vec<u64>,
    /// Spendings and new values at the beginning of the span.
    spent: u64,
}

impl Calm {
    pub(super) fn new(hosts: usize) -> Self {
        Self { since: 0, began: 0, beats: vec![0; hosts], others: vec![0; hosts], spent: 0 }
    }

    /// Something is wrong until then.
    pub(crate) fn disturbed(&mut self, until: Ms) {
        self.since = self.since.max(until);
    }

    /// A replica sends an operation.
    pub(crate) fn operation(&mut self, host: usize, is_beat: bool) {
        if is_beat { self.beats[host] += 1 } else { self.others[host] += 1 }
    }

    fn begin(&mut self, now: Ms, spent: u64) {
        self.began = now;
        self.spent = spent;
        self.beats.fill(0);
        self.others.fill(0);
    }
}

impl World {
    /// For how long nothing has been wrong.
    pub(super) fn calm_for(&self) -> Ms {
        let trouble = self.watch.coverage.troubled_until().max(self.watch.calm.since);
        let is_complete = self.hosts.iter().all(|host| host.is_running(self.now));
        if is_complete { self.now.saturating_sub(trouble) } else { 0 }
    }

    /// How long the consequences of trouble are felt.
    pub(super) fn settling_time(&self) -> Ms {
        let delay =
            self.plan.policy.reauth.map_or(0, |reauth| crate::chance::whole(reauth.delay_max));
        3 * self.longest_limit() + 2 * delay + 9 * self.beat_time() + 120_000
    }

    /// Looks what was sent in a calm span.
    pub(super) fn look_at_operations(&mut self) -> Result<(), Violation> {
        let spent = self.tally.granted + self.tally.held + self.tally.values;
        let span = BEATS * self.beat_time();
        if self.calm_for() < self.settling_time() + self.now.saturating_sub(self.watch.calm.began) {
            self.watch.calm.begin(self.now, spent);
            return Ok(());
        }
        if self.now < self.watch.calm.began + span {
            return Ok(());
        }
        let beats = (self.now - self.watch.calm.began) / self.beat_time();
        let permitted = 8 * (spent - self.watch.calm.spent) + 2;
        for host in 0..self.hosts.len() {
            let (sent, others) = (self.watch.calm.beats[host], self.watch.calm.others[host]);
            // The clock of a host may be faster.
            if sent > beats * 11 / 10 + permitted || others > permitted {
                let what = format!(
                    "host {host} has sent {sent} beats in the time of {beats}, and {others} other \
                     operations, {permitted} permitted"
                );
                return Err(self.violation(Invariant::SteadyState, what));
            }
        }
        self.tally.calm_spans += 1;
        self.watch.calm.begin(self.now, spent);
        Ok(())
    }
}
