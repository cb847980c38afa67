//! The daemon's end and its start: what outlives it, and what does not.

use std::collections::HashMap;

use tokenkeep::lifecycle::{Method, PersistedLife, ReauthAttempts, Resource, State};
use tokenkeep::scheduler::{ReauthFailures, Scheduler};
use tokenkeep::time::Moment;

use crate::api::SessionId;
use crate::chance::SECOND;
use crate::invariants::{Invariant, Violation};
use crate::world::{Happening, World};

/// What the daemon's state directory holds while it is down.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    attempts: Vec<(usize, ReauthAttempts)>,
    failures: Vec<(usize, ReauthFailures)>,
    /// By token: what is known of the value that it uses.
    lives: HashMap<usize, (SessionId, PersistedLife)>,
    lessons: Vec<(usize, Method)>,
}

/// The share of restarts that find the lives of the run before.
const RESUMING: f64 = 0.7;

impl World {
    /// The daemon goes down; what it must keep is kept.
    pub(crate) fn stop(&mut self) -> Result<(), Violation> {
        let Some(began) = self.stopping.take() else { return Ok(()) };
        self.ending = false;
        let Some(scheduler) = self.scheduler.take() else { return Ok(()) };
        let mut saved = Saved::default();
        let resuming = self.chance.odds(RESUMING);
        for (number, subject) in self.subjects.iter_mut().enumerate() {
            let Some(token) = subject.id.take().and_then(|id| scheduler.token(id)) else {
                continue;
            };
            if let Some(attempts) = token.attempts() {
                saved.attempts.push((number, attempts));
            }
            if let Some((slot, resumed)) = token.persisted_life().filter(|_| resuming)
                && let Some(session) = subject.slots[slot as usize]
            {
                saved.lives.insert(number, (session, resumed));
            }
        }
        for (number, id) in self.server_ids.iter().enumerate().filter(|_| resuming) {
            if let Some(method) = scheduler.renews_by(*id) {
                saved.lessons.push((number, method));
            }
        }
        for (number, id) in self.way_ids.iter().enumerate() {
            if let Some(failures) = scheduler.reauth_failures(*id) {
                saved.failures.push((number, failures));
            }
        }
        self.saved = saved;
        let starts = self.now + self.restart_after.max(SECOND);
        self.watch.absent(began, starts);
        self.at(starts, Happening::Start);
        self.check_deaths()
    }

    /// The daemon starts: a new scheduler, and every source read.
    pub(crate) fn start(&mut self) -> Result<(), Violation> {
        self.run += 1;
        self.tally.runs += 1;
        self.check_deaths()?;
        let mut scheduler = Scheduler::new(self.plan.max_hooks, self.chance.seed());
        self.server_ids =
            self.plan.servers.iter().map(|server| scheduler.add_server(server.limits)).collect();
        self.way_ids = self.plan.ways.iter().map(|way| scheduler.add_reauth(*way)).collect();
        let saved = std::mem::take(&mut self.saved);
        self.servers_by_id.clear();
        let boot = self.boot.take();
        for (way, failures) in saved.failures {
            scheduler.restore_reauth_failures(self.way_ids[way], failures);
        }
        for (server, method) in saved.lessons {
            scheduler.restore_renewal_method(self.server_ids[server], method);
        }
        for (way, until) in self.closed.iter().enumerate() {
            scheduler.pause_reauth(self.way_ids[way], Moment::from_millis(*until));
        }
        self.scheduler = Some(scheduler);
        self.by_id.clear();
        for server in 0..self.servers.len() {
            self.name_server(server);
            self.servers[server].connections.restarted(self.now);
        }
        self.watch.restarted(&self.plan);
        let configured: Vec<_> =
            (0..self.subjects.len()).filter(|number| self.subjects[*number].configured).collect();
        for subject in &configured {
            self.subjects[*subject].refresh_locked_until = 0;
            self.add(*subject);
        }
        for (subject, attempts) in saved.attempts {
            if let (Some(scheduler), Some(id)) = (&mut self.scheduler, self.subjects[subject].id) {
                scheduler.restore_reauth_attempts(id, attempts, Moment::from_millis(self.now));
            }
        }
        for subject in configured {
            let life = saved.lives.get(&subject);
            match life.filter(|(session, _)| self.subjects[subject].source == Some(*session)) {
                Some((session, resumed)) => self.resume(subject, *session, *resumed, boot)?,
                None => self.look(subject)?,
            }
        }
        self.check_that_nothing_is_postponed()
    }

    /// A token's source still holds the value that the run before has used.
    fn resume(
        &mut self,
        subject: usize,
        session: SessionId,
        mut resumed: PersistedLife,
        boot: Option<i64>,
    ) -> Result<(), Violation> {
        if let Some(error) = boot {
            let expiry = resumed.expiry.as_millis().saturating_add_signed(error);
            resumed =
                PersistedLife { expiry: Moment::from_millis(expiry), this_boot: false, ..resumed };
            self.tally.other_boots += 1;
        }
        let there = &mut self.subjects[subject];
        let (Some(id), Some(scheduler)) = (there.id, &self.scheduler) else { return Ok(()) };
        there.seen = Some(session);
        there.unconfirmed = boot.is_some();
        there.slots[scheduler.spare_slot(id) as usize] = Some(session);
        self.tell(Some(subject), None, |scheduler, now| {
            scheduler.restore(id, resumed, now);
        })?;
        let token = self.scheduler.as_ref().and_then(|scheduler| scheduler.token(id));
        if boot.is_none() && token.is_some_and(|token| token.is_restored()) {
            let expiry = resumed.expiry.as_millis();
            self.watch.survival.resumed(session, expiry, resumed.remaining_ms);
            self.watch.schedule.checked(self.now, subject, expiry);
            self.due_anew(subject);
        }
        Ok(())
    }

    /// The scheduler's number of a server is that server's.
    pub(crate) fn name_server(&mut self, server: usize) {
        let index = self.server_ids[server].index();
        if self.servers_by_id.len() <= index {
            self.servers_by_id.resize(index + 1, None);
        }
        self.servers_by_id[index] = Some(server);
    }

    /// Whatever another boot knew of a token has not been confirmed by this one: it is asked
    /// about as soon as its turn comes, and does not count as alive.
    fn check_that_nothing_is_postponed(&self) -> Result<(), Violation> {
        let Some(scheduler) = &self.scheduler else { return Ok(()) };
        let now = Moment::from_millis(self.now);
        for (number, there) in self.subjects.iter().enumerate().filter(|(_, s)| s.unconfirmed) {
            let Some(token) = there.id.and_then(|id| scheduler.token(id)) else { continue };
            let is_due = token.due_for(Resource::Server).is_some_and(|due| due <= now);
            let what = if matches!(token.state(), State::Alive | State::Retrying) {
                format!("token {number} is said to be alive before a response of this boot")
            } else if !is_due && !token.is_busy() {
                format!("token {number} is not due, for what an earlier boot has heard")
            } else {
                continue;
            };
            return Err(self.violation(Invariant::BootsPostponeNothing, what));
        }
        Ok(())
    }

    /// A token is configured from now on; its source is still to be looked at.
    pub(crate) fn add(&mut self, subject: usize) {
        let spec = self.spec(subject);
        let Some(scheduler) = &mut self.scheduler else { return };
        let id = scheduler.add_token(spec, false, Moment::from_millis(self.now));
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
        there.is_refresh_new = false;
        there.unconfirmed = false;
        self.watch.added(subject);
    }
}
