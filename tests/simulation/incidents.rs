//! What befalls the daemon and its surroundings: restarts, suspends, reloads, other clients,
//! operators.

use std::num::NonZeroU32;
use std::sync::Arc;

use tokenkeep::lifecycle::Policy;
use tokenkeep::scheduler::{Scheduler, SchedulerOutput, ServerLimits};
use tokenkeep::time::Moment;

use crate::actions::LOGIN_TIMEOUT;
use crate::api::{Poison, Poisoned};
use crate::chance::{Ms, SECOND, times};
use crate::faults::Incident;
use crate::invariants::Violation;
use crate::plan::schedule;
use crate::world::{Happening, World};

/// How long the daemon winds down, for what must not be lost.
const GRACE: Ms = 10 * SECOND;

/// How many tokens one batch of changes concerns at the most.
const CHANGED_IN_A_BATCH: u64 = 30;

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
        let up = self.scheduler.is_some() && self.stopping.is_none() && !self.ending;
        let server_of = self.subjects[someone].server;
        match incident {
            Incident::Suspend(length) => {
                self.asleep_until = self.now + length;
                self.watch.absent(self.now, self.asleep_until);
                (0..self.servers.len()).for_each(|server| {
                    self.watch.order.held_back(server);
                    self.watch.outages.disturbed(server);
                    self.watch.outages.excused_until(server, self.asleep_until);
                });
            }
            Incident::Restart { down, killed, boot } if up => {
                self.restart_after = down;
                self.boot = boot.map(|clock| clock.error(down));
                if killed {
                    self.stopping = Some(self.now);
                    self.scheduler.iter_mut().for_each(Scheduler::stop_admitting);
                    self.at(self.now, Happening::Stop);
                } else {
                    self.ending = true;
                    self.scheduler.iter_mut().for_each(Scheduler::stop_reauth);
                    let grace = self.chance.between(0, GRACE);
                    self.at(self.now + grace, Happening::Close);
                }
            }
            Incident::Reload if up => return self.reload(),
            Incident::Batch if up => return self.batch(),
            Incident::Restart { .. } | Incident::Reload | Incident::Batch => {}
            Incident::PoisonMany(length) => self.poison_many(server_of, length),
            Incident::Sicken(sickness) => {
                self.servers[server_of].connections.fall_sick(self.now, sickness);
                self.watch.outages.disturbed(server_of);
            }
            Incident::Races(length) => {
                self.servers[server_of].connections.race(self.now + length);
                self.watch.outages.disturbed(server_of);
            }
            Incident::HangHooks(length) => {
                let way = self.chance.index(self.plan.ways.len());
                self.hooks_hang_until[way] = self.now + length;
            }
            Incident::LoginsDown(length) => {
                let way = self.chance.index(self.plan.ways.len());
                self.logins_down_until[way] = self.now + length;
                let until = self.now + length + LOGIN_TIMEOUT;
                (0..self.servers.len())
                    .for_each(|server| self.watch.outages.disturbed_until(server, until));
            }
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

    /// The daemon's time to go on with checks is over.
    pub(crate) fn close(&mut self) -> Result<(), Violation> {
        self.ending = false;
        self.stopping = Some(self.now);
        self.scheduler.iter_mut().for_each(Scheduler::stop_admitting);
        self.at(self.now + GRACE, Happening::Stop);
        self.tell(None, None, Scheduler::flush_pending_writes)
    }

    fn reload(&mut self) -> Result<(), Violation> {
        for _ in 0..self.chance.between(1, CHANGED_AT_ONCE) {
            let subject = self.chance.index(self.subjects.len());
            match (self.subjects[subject].id, self.chance.between(0, 3)) {
                (Some(_), 0) => {
                    self.check_death_of(subject)?;
                    self.remove(subject);
                }
                (Some(_), 1) => self.move_token(subject)?,
                (Some(id), _) => {
                    self.check_death_of(subject)?;
                    let schedule = schedule(&mut self.chance);
                    let there = &mut self.subjects[subject];
                    there.policy = Arc::new(Policy { schedule, ..*there.policy });
                    let spec = self.spec(subject);
                    self.watch.reports.changed(subject);
                    self.tell(Some(subject), None, |scheduler, now| {
                        scheduler.change_token(id, spec, now);
                        scheduler.wake(now);
                    })?;
                    self.due_anew(subject);
                }
                (None, _) => {
                    self.new_source(subject);
                    self.add(subject);
                    self.look(subject)?;
                }
            }
        }
        if self.chance.odds(0.3) {
            self.change_limits();
        }
        if self.chance.odds(0.3) {
            let server = self.chance.index(self.servers.len());
            self.rename_server(server)?;
        }
        if self.chance.odds(0.3) {
            let way = self.chance.index(self.plan.ways.len());
            self.rename_way(way)?;
        }
        Ok(())
    }

    fn remove(&mut self, subject: usize) {
        self.trace.reload(self.now, "without token", subject);
        let there = &mut self.subjects[subject];
        let Some(id) = there.id.take() else { return };
        there.configured = false;
        there.using = None;
        let server = there.server;
        if let Some(scheduler) = &mut self.scheduler {
            scheduler.remove_token(id);
            // Pending notices about it must not reach the token that reuses its id.
            scheduler.outputs.retain(
                |output| !matches!(output, SchedulerOutput::TokenNotice(whose, _) if *whose == id),
            );
        }
        self.by_id[id.index()] = None;
        self.watch.removed(server, subject);
    }

    fn new_source(&mut self, subject: usize) {
        let life = self.subjects[subject].life;
        self.subjects[subject].source = Some(self.given_session(subject, life, 0));
    }

    /// The token is another server's from now on, which does not know its values.
    fn move_token(&mut self, subject: usize) -> Result<(), Violation> {
        let to = self.chance.index(self.servers.len());
        let there = &self.subjects[subject];
        let (Some(id), from) = (there.id, there.server) else { return Ok(()) };
        // Nobody moves it where the rules of its renewal make no sense.
        let busy = self.watch.limits.is_busy(subject);
        let traits = |server: usize| &self.servers[server].traits;
        let fits = traits(to).rotates == traits(from).rotates && !traits(to).refuses_renewing;
        if busy || to == from || !fits {
            return Ok(());
        }
        self.trace.reload(self.now, "another server for token", subject);
        self.check_death_of(subject)?;
        self.end_family(subject);
        let there = &mut self.subjects[subject];
        there.server = to;
        let values = [there.slots[0], there.slots[1], there.source, there.using];
        for session in values.into_iter().flatten() {
            self.sessions[session].move_to(to);
        }
        self.watch.outages.disturbed(from);
        self.watch.outages.disturbed(to);
        self.forgotten(from, subject);
        let spec = self.spec(subject);
        self.tell(Some(subject), None, |scheduler, now| {
            scheduler.change_token(id, spec, now);
            scheduler.wake(now);
        })
    }

    /// A server has another name from now on: to the scheduler it is another one.
    fn rename_server(&mut self, server: usize) -> Result<(), Violation> {
        let Some(scheduler) = &mut self.scheduler else { return Ok(()) };
        self.trace.reload(self.now, "another name for server", server);
        let old = self.server_ids[server];
        let new = scheduler.add_server(self.plan.servers[server].limits);
        self.server_ids[server] = new;
        self.name_server(server);
        self.servers[server].connections.restarted(self.now);
        self.watch.renamed(server, &self.plan);
        // Renewals whose responses are not waited for any more look like those of others.
        self.watch.claims.used_by_another(server, self.now);
        let of_server: Vec<_> = (0..self.subjects.len())
            .filter(|subject| self.subjects[*subject].server == server)
            .filter(|subject| self.subjects[*subject].id.is_some())
            .collect();
        self.respecify(&of_server)?;
        for subject in &of_server {
            self.forgotten(server, *subject);
        }
        if let Some(scheduler) = &mut self.scheduler {
            scheduler.remove_server(old);
        }
        self.act_on_batch(&of_server)
    }

    /// Whatever a server has said of a token counts no more.
    fn forgotten(&mut self, server: usize, subject: usize) {
        self.watch.reports.changed(subject);
        let there = &mut self.subjects[subject];
        let token = there.id.and_then(|id| self.scheduler.as_ref()?.token(id));
        // An attempt under way decides as it would have.
        let logs_in = token.is_some_and(|token| token.is_reauthenticating());
        self.watch.moved(server, subject, logs_in);
        there.unconfirmed = false;
        for session in there.slots.into_iter().chain([there.nothing]).flatten() {
            self.watch.fresh.forget(self.now, session);
        }
        if let Some(session) = there.using.filter(|_| !logs_in) {
            self.watch.survival.put_in_use(session, self.now);
        }
    }

    /// The same for a `[reauth]`, with all of its budget.
    fn rename_way(&mut self, way: usize) -> Result<(), Violation> {
        let Some(scheduler) = &mut self.scheduler else { return Ok(()) };
        self.trace.reload(self.now, "another name for way", way);
        let old = self.way_ids[way];
        self.way_ids[way] = scheduler.add_reauth(self.plan.ways[way]);
        scheduler.pause_reauth(self.way_ids[way], Moment::from_millis(self.closed[way]));
        self.watch.logins.renamed(way);
        self.watch.slots.renamed(self.now);
        let by_way: Vec<_> = (0..self.subjects.len())
            .filter(|subject| self.subjects[*subject].way == Some(way))
            .filter(|subject| self.subjects[*subject].id.is_some())
            .collect();
        self.respecify(&by_way)?;
        if let Some(scheduler) = &mut self.scheduler {
            scheduler.remove_reauth(old);
        }
        self.act_on_batch(&by_way)?;
        for subject in &by_way {
            self.due_anew(*subject);
        }
        Ok(())
    }

    /// The scheduler hears of what these tokens' configuration says now.
    fn respecify(&mut self, subjects: &[usize]) -> Result<(), Violation> {
        for subject in subjects {
            self.check_death_of(*subject)?;
            let Some(id) = self.subjects[*subject].id else { continue };
            let spec = self.spec(*subject);
            self.watch.reports.changed(*subject);
            self.hear(|scheduler, now| scheduler.change_token(id, spec, now));
        }
        Ok(())
    }

    /// Many things happen to tokens before the daemon comes to do what the scheduler wants.
    fn batch(&mut self) -> Result<(), Violation> {
        let mut about = Vec::new();
        let begins = self.chance.index(self.subjects.len());
        let length = self.chance.between(1, CHANGED_IN_A_BATCH);
        let in_order = self.chance.odds(0.5);
        for step in 0..length {
            let subject = if in_order {
                (begins + usize::try_from(step).unwrap_or(0)) % self.subjects.len()
            } else {
                self.chance.index(self.subjects.len())
            };
            if about.contains(&subject) {
                continue;
            }
            about.push(subject);
            self.check_death_of(subject)?;
            let draw = self.chance.between(0, 9);
            if self.subjects[subject].id.is_none() {
                self.new_source(subject);
                self.add(subject);
                self.offer_in_batch(subject);
            } else {
                if draw < 5 {
                    self.new_source(subject);
                    self.offer_in_batch(subject);
                }
                if (3..7).contains(&draw) {
                    self.remove(subject);
                }
                if draw == 6 {
                    self.new_source(subject);
                    self.add(subject);
                }
            }
        }
        about.retain(|subject| self.subjects[*subject].id.is_some());
        self.act_on_batch(&about)?;
        // Those that were added last are looked at next.
        let unseen: Vec<_> =
            about.into_iter().filter(|subject| self.subjects[*subject].seen.is_none()).collect();
        unseen.into_iter().try_for_each(|subject| self.look(subject))
    }

    fn offer_in_batch(&mut self, subject: usize) {
        if let Some((id, change)) = self.look_into(subject) {
            self.hear(|scheduler, now| scheduler.source_changed(id, change, now));
        }
    }

    fn change_limits(&mut self) {
        let server = self.chance.index(self.servers.len());
        let more = |limit: NonZeroU32| limit.saturating_add(limit.get() / 2);
        let ServerLimits { rate_limit, max_in_flight } = self.plan.servers[server].limits;
        let limits =
            ServerLimits { rate_limit: more(rate_limit), max_in_flight: more(max_in_flight) };
        self.plan.servers[server].limits = limits;
        if let Some(scheduler) = &mut self.scheduler {
            scheduler.set_limits(self.server_ids[server], limits);
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
        self.end_family(subject);
    }

    /// An operator puts something into a token's source: mostly what is good, not always.
    fn offer(&mut self, subject: usize) -> Result<(), Violation> {
        let life = self.subjects[subject].life;
        let offered = match self.chance.between(0, 9) {
            0..=5 => Some(self.given_session(subject, life, 0)),
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
        let value = alive.unwrap_or_else(|| self.given_session(subject, life, 0));
        // A refresh token may be all that the operator has.
        let there = &mut self.subjects[subject];
        if !there.is_refresh_new || self.chance.odds(0.5) {
            there.source = Some(value);
        }
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
            self.watch.outages.disturbed(server);
        }
    }

    /// Up to nearly all tokens of a server fail from now on, quickly, and the others do not.
    fn poison_many(&mut self, server: usize, length: Ms) {
        let (now, share) = (self.now, 0.1 + 0.7 * self.chance.share());
        let kind = self.chance.pick(&[Poison::Refused, Poison::Garbled]);
        let (chance, watch) = (&mut self.chance, &mut self.watch);
        let of_server = self.subjects.iter_mut().filter(|there| there.server == server);
        for there in of_server.filter(|there| there.poison_at(now).is_none()) {
            if chance.odds(share) {
                there.poisoned.push(Poisoned { from: now, until: now + length, kind });
            }
        }
        watch.outages.disturbed(server);
    }

    /// Known maintenance: nothing logs in for a while.
    fn close_ways(&mut self, length: Ms) {
        let until = self.now + length;
        for (way, closed) in self.closed.iter_mut().enumerate() {
            *closed = until.max(*closed);
            self.watch.logins.closed(way, *closed);
            if let (Some(scheduler), None) = (&mut self.scheduler, self.stopping) {
                scheduler.pause_reauth(self.way_ids[way], Moment::from_millis(*closed));
            }
        }
    }
}
