//! What befalls the daemon and its surroundings: restarts, suspends, reloads, other clients,
//! operators.

use std::num::NonZeroU32;
use std::sync::Arc;

use tokenkeep::keeper::{Keeper, Limits};
use tokenkeep::lifecycle::Policy;
use tokenkeep::time::Moment;

use crate::api::{Poison, Poisoned};
use crate::chance::{Ms, SECOND, times};
use crate::faults::Incident;
use crate::invariants::Violation;
use crate::plan::schedule;
use crate::world::{Happening, World};

/// How long the daemon winds down, for what must not be lost.
const GRACE: Ms = 10 * SECOND;

/// How many tokens a reload concerns at the most.
const CHANGED_AT_ONCE: u64 = 5;

/// The most tokens of one server that are poisoned at once: more than the breaker needs to open.
const MOST_POISONED: usize = 5;

impl World {
    pub(crate) fn incident(&mut self) -> Result<(), Violation> {
        let Some(incident) = self.next_incident.take() else { return Ok(()) };
        self.plan_incident();
        let someone = self.chance.index(self.subjects.len());
        self.trace.incident(self.now, incident, someone);
        let up = self.keeper.is_some() && self.stopping.is_none();
        match incident {
            Incident::Suspend(length) => {
                self.asleep_until = self.now + length;
                self.watch.absent(self.now, self.asleep_until);
                (0..self.servers.len()).for_each(|server| self.watch.order.held_back(server));
            }
            Incident::Restart { down, killed } if up => {
                self.restart_after = down;
                self.stopping = Some(self.now);
                self.keeper.iter_mut().for_each(Keeper::close);
                let grace = if killed { 0 } else { GRACE };
                self.at(self.now + grace, Happening::Stop);
                if !killed {
                    return self.tell(None, None, Keeper::end);
                }
            }
            Incident::Reload if up => return self.reload(),
            Incident::Restart { .. } | Incident::Reload => {}
            Incident::Use => self.used_by_another(someone),
            Incident::Revoke => self.revoked_by_another(someone),
            Incident::Offer => return self.offer(someone),
            Incident::Lose(length) => {
                let kept = self.subjects[someone].source.take();
                self.lost_sources.push((someone, kept));
                self.at(self.now + length, Happening::Mend(someone));
                return self.look(someone);
            }
            Incident::Poison(length) => self.poison(someone, length),
            Incident::FullDisk(length) => self.disk_full_until = self.now + length,
            Incident::Maintenance(length) => self.close_ways(length),
            Incident::OtherLife => {
                let factor = 0.3 + self.chance.share();
                let server = self.subjects[someone].server;
                // In whole seconds, shorter ones could not be judged.
                let shortest = self.plan.life.min(10 * SECOND);
                let longest = self.plan.longest_life();
                self.cut_since = self.now;
                for subject in self.subjects.iter_mut().filter(|s| s.server == server) {
                    subject.life = times(subject.life, factor).clamp(shortest, longest);
                    if let Some(session) = subject.using {
                        self.sessions[session].life = subject.life;
                    }
                }
            }
        }
        Ok(())
    }

    fn reload(&mut self) -> Result<(), Violation> {
        for _ in 0..self.chance.between(1, CHANGED_AT_ONCE) {
            let subject = self.chance.index(self.subjects.len());
            match (self.subjects[subject].id, self.chance.between(0, 2)) {
                (Some(id), 0) => {
                    self.check_death_of(subject)?;
                    if let Some(keeper) = &mut self.keeper {
                        keeper.remove_token(id);
                    }
                    self.by_id[id.index()] = None;
                    let there = &mut self.subjects[subject];
                    there.id = None;
                    there.configured = false;
                    there.using = None;
                    let server = there.server;
                    self.watch.removed(server, subject);
                }
                (Some(id), _) => {
                    self.check_death_of(subject)?;
                    let schedule = schedule(&mut self.chance);
                    let there = &mut self.subjects[subject];
                    there.policy = Arc::new(Policy { schedule, ..*there.policy });
                    let spec = self.spec(subject);
                    self.watch.reports.changed(subject);
                    self.tell(Some(subject), None, |keeper, now, out| {
                        keeper.change_token(id, spec, now, out);
                        keeper.wake(now, out);
                    })?;
                    self.due_anew(subject);
                }
                (None, _) => {
                    let life = self.subjects[subject].life;
                    self.subjects[subject].source = Some(self.new_session(subject, life, 0));
                    self.add(subject);
                    self.look(subject)?;
                }
            }
        }
        if self.chance.odds(0.3) {
            self.change_limits();
        }
        Ok(())
    }

    fn change_limits(&mut self) {
        let server = self.chance.index(self.servers.len());
        let more = |limit: NonZeroU32| limit.saturating_add(limit.get() / 2);
        let Limits { rate_limit, max_in_flight } = self.plan.servers[server].limits;
        let limits = Limits { rate_limit: more(rate_limit), max_in_flight: more(max_in_flight) };
        self.plan.servers[server].limits = limits;
        if let Some(keeper) = &mut self.keeper {
            keeper.set_limits(self.server_ids[server], limits);
        }
        self.watch.limits.set_limits(server, limits);
    }

    fn used_by_another(&mut self, subject: usize) {
        let Some(session) = self.subjects[subject].using else { return };
        let server = &self.servers[self.sessions[session].server];
        let end_before = self.sessions[session].end(server);
        if server.serve_another(&mut self.sessions[session], self.now) {
            let cut = self.sessions[session].end(server) < end_before;
            self.watch.survival.used_by_another(session, self.now, cut);
            self.watch.claims.used_by_another(self.subjects[subject].server, self.now);
        }
    }

    fn revoked_by_another(&mut self, subject: usize) {
        if let Some(session) = self.subjects[subject].using {
            self.sessions[session].revoked = true;
        }
    }

    /// An operator puts something into a token's source: mostly what is good, not always.
    fn offer(&mut self, subject: usize) -> Result<(), Violation> {
        let life = self.subjects[subject].life;
        let offered = match self.chance.between(0, 9) {
            0..=5 => Some(self.new_session(subject, life, 0)),
            6..=7 => Some(self.new_session(subject, life, life)),
            _ => self.subjects[subject].using,
        };
        if offered.is_some() {
            self.subjects[subject].source = offered;
        }
        self.look(subject)
    }

    /// An operator sees to a token that has no value, or a dead one and no way to another.
    pub(crate) fn mend(&mut self, subject: usize) -> Result<(), Violation> {
        let lost = self.lost_sources.iter().position(|(whose, _)| *whose == subject);
        let kept = lost.and_then(|lost| self.lost_sources.swap_remove(lost).1);
        let there = &self.subjects[subject];
        if there.source.is_some()
            && kept.is_none()
            && there.using.is_some_and(|session| self.lives(session))
        {
            return Ok(());
        }
        let life = there.life;
        let alive = kept.filter(|kept| {
            let session = &self.sessions[*kept];
            session.lives_at(&self.servers[session.server], self.now)
        });
        let value = alive.unwrap_or_else(|| self.new_session(subject, life, 0));
        self.subjects[subject].source = Some(value);
        self.look(subject)
    }

    fn poison(&mut self, subject: usize, length: Ms) {
        let server = self.subjects[subject].server;
        let now = self.now;
        let neighbours = self.subjects.iter().filter(|there| there.server == server);
        let poisoned = neighbours.filter(|there| there.poison_at(now).is_some()).count();
        if poisoned < MOST_POISONED && self.subjects[subject].poison_at(now).is_none() {
            let kind = self.chance.pick(&[Poison::Refused, Poison::Garbled, Poison::Hanging]);
            let poisoned = Poisoned { from: now, until: now + length, kind };
            self.subjects[subject].poisoned.push(poisoned);
        }
    }

    /// Known maintenance: nothing logs in for a while.
    fn close_ways(&mut self, length: Ms) {
        let until = self.now + length;
        for (way, closed) in self.closed.iter_mut().enumerate() {
            *closed = until.max(*closed);
            self.watch.logins.closed(way, *closed);
            if let (Some(keeper), None) = (&mut self.keeper, self.stopping) {
                keeper.close_reauth(self.way_ids[way], Moment::from_millis(*closed));
            }
        }
    }
}
