//! Invariants 10 and 15: nothing that was handed out is lost, and nothing is kept of what is
//! not configured any more.

use std::collections::HashMap;
use std::hash::Hash;

use tokenkeep::scheduler::{ReauthId, Scheduler, ServerId};

use super::{Invariant, Violation};
use crate::chance::Ms;
use crate::subject::{Flight, Task};

/// The books of actions in flight.
#[derive(Debug, Default)]
pub(crate) struct Permits {
    at_servers: HashMap<ServerId, u32>,
    by_reauths: HashMap<ReauthId, u32>,
    hooks: u32,
    handed_out: u64,
    completed: u64,
    cancelled: u64,
    in_flight: u64,
}

impl Permits {
    pub(crate) fn started(&mut self, flight: &Flight) {
        self.handed_out += 1;
        self.in_flight += 1;
        if flight.task.is_at_server() {
            *self.at_servers.entry(flight.server_id).or_default() += 1;
        }
        if let (Some(reauth), Task::Hook { .. }) = (flight.reauth_id, &flight.task) {
            *self.by_reauths.entry(reauth).or_default() += 1;
        }
        self.hooks += u32::from(matches!(flight.task, Task::Hook { .. }));
    }

    pub(crate) fn ended(&mut self, flight: &Flight) {
        self.completed += 1;
        self.in_flight -= 1;
        if flight.task.is_at_server() {
            give_back(&mut self.at_servers, &flight.server_id);
        }
        if let (Some(reauth), Task::Hook { .. }) = (flight.reauth_id, &flight.task) {
            give_back(&mut self.by_reauths, &reauth);
        }
        self.hooks -= u32::from(matches!(flight.task, Task::Hook { .. }));
    }

    /// An action was handed out that cannot begin.
    pub(crate) fn handed_out(&mut self) {
        self.handed_out += 1;
    }

    pub(crate) fn cancelled(&mut self) {
        self.cancelled += 1;
    }

    pub(super) fn restarted(&mut self) {
        *self = Self::default();
    }

    /// The scheduler's counts are those of what is in flight. `servers` and `reauths` are the
    /// configured ones.
    pub(crate) fn check(
        &self,
        now: Ms,
        scheduler: &Scheduler,
        servers: &[ServerId],
        reauths: &[ReauthId],
    ) -> Result<(), Violation> {
        let broken = |invariant, what| Err(Violation { invariant, at: now, what });
        let Self { handed_out, completed, cancelled, in_flight, .. } = self;
        if *handed_out != completed + cancelled + in_flight {
            let what = format!(
                "{handed_out} actions were handed out, {completed} have completed, {cancelled} \
                 were cancelled, {in_flight} are in flight"
            );
            return broken(Invariant::NothingIsLost, what);
        }
        for server in servers.iter().chain(self.at_servers.keys()) {
            let (held, used) =
                (scheduler.in_flight(*server), self.at_servers.get(server).copied().unwrap_or(0));
            if held != used {
                let what = format!(
                    "{held} permits of server {} are taken, {used} requests are in flight",
                    server.index()
                );
                return broken(Invariant::NothingIsLost, what);
            }
            if scheduler.is_probing(*server) && used == 0 {
                let what = format!("server {} waits for a probe that is none", server.index());
                return broken(Invariant::NothingIsLost, what);
            }
        }
        if scheduler.running_hooks() != self.hooks {
            let (held, used) = (scheduler.running_hooks(), self.hooks);
            let what = format!("{held} hook slots are taken, {used} commands run");
            return broken(Invariant::NothingIsLost, what);
        }
        let known = (scheduler.server_count(), scheduler.reauth_count());
        let wanted = (count(servers, &self.at_servers), count(reauths, &self.by_reauths));
        if known != wanted {
            let what = format!(
                "{} servers and {} reauth methods are known; configured or with work in flight \
                 are {} and {}",
                known.0, known.1, wanted.0, wanted.1
            );
            return broken(Invariant::NothingIsKept, what);
        }
        Ok(())
    }
}

fn give_back<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// The configured ones, and the others that have work in flight.
fn count<K: Eq + Hash>(configured: &[K], in_flight: &HashMap<K, u32>) -> usize {
    configured.len() + in_flight.keys().filter(|key| !configured.contains(key)).count()
}
