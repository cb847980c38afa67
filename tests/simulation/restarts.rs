//! The daemon's end and its start: what outlives it, and what does not.

use tokenkeep::keeper::{Failures, Keeper};
use tokenkeep::lifecycle::Attempts;
use tokenkeep::time::Moment;

use crate::chance::SECOND;
use crate::invariants::Violation;
use crate::world::{Happening, World};

/// What the daemon's state directory holds while it is down.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    attempts: Vec<(usize, Attempts)>,
    failures: Vec<(usize, Failures)>,
}

impl World {
    /// The daemon goes down; what it must keep is kept.
    pub(crate) fn stop(&mut self) -> Result<(), Violation> {
        let Some(began) = self.stopping.take() else { return Ok(()) };
        let Some(keeper) = self.keeper.take() else { return Ok(()) };
        let mut saved = Saved::default();
        for (number, subject) in self.subjects.iter_mut().enumerate() {
            if let Some(attempts) = subject.id.take().and_then(|id| keeper.token(id)?.attempts()) {
                saved.attempts.push((number, attempts));
            }
        }
        for (number, id) in self.way_ids.iter().enumerate() {
            if let Some(failures) = keeper.failures(*id) {
                saved.failures.push((number, failures));
            }
        }
        self.saved = saved;
        let starts = self.now + self.restart_after.max(SECOND);
        self.watch.absent(began, starts);
        self.at(starts, Happening::Start);
        self.check_deaths()
    }

    /// The daemon starts: a new keeper, and every source read.
    pub(crate) fn start(&mut self) -> Result<(), Violation> {
        self.run += 1;
        self.tally.runs += 1;
        self.check_deaths()?;
        let mut keeper = Keeper::new(self.plan.max_hooks, self.chance.seed());
        self.server_ids =
            self.plan.servers.iter().map(|server| keeper.add_server(server.limits)).collect();
        self.way_ids = self.plan.ways.iter().map(|way| keeper.add_reauth(*way)).collect();
        let saved = std::mem::take(&mut self.saved);
        for (way, failures) in saved.failures {
            keeper.restore_failures(self.way_ids[way], failures);
        }
        for (way, until) in self.closed.iter().enumerate() {
            keeper.close_reauth(self.way_ids[way], Moment::from_millis(*until));
        }
        self.keeper = Some(keeper);
        self.by_id.clear();
        self.watch.restarted(&self.plan);
        let configured: Vec<_> =
            (0..self.subjects.len()).filter(|number| self.subjects[*number].configured).collect();
        for subject in &configured {
            self.add(*subject);
        }
        for (subject, attempts) in saved.attempts {
            if let (Some(keeper), Some(id)) = (&mut self.keeper, self.subjects[subject].id) {
                keeper.restore_attempts(id, attempts);
            }
        }
        for subject in configured {
            self.look(subject)?;
        }
        Ok(())
    }

    /// A token is configured from now on; its source is still to be looked at.
    pub(crate) fn add(&mut self, subject: usize) {
        let spec = self.spec(subject);
        let Some(keeper) = &mut self.keeper else { return };
        let id = keeper.add_token(spec, false, Moment::from_millis(self.now));
        if self.by_id.len() <= id.index() {
            self.by_id.resize(id.index() + 1, None);
        }
        self.by_id[id.index()] = Some(subject);
        let there = &mut self.subjects[subject];
        there.id = Some(id);
        there.configured = true;
        there.slots = [None, None];
        there.using = None;
        there.seen = None;
        there.look_again = false;
        self.watch.added(subject);
    }
}
