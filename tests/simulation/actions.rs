//! What the scheduler wants: effects are begun, and how they will end is drawn.

use tokenkeep::lifecycle::{Action, Method};
use tokenkeep::outcome::Connection;
use tokenkeep::scheduler::{ReauthRoute, SchedulerOutput, Ticket};

use crate::api::{Fate, Server, SessionId, login_unavailable, refused, reset};
use crate::chance::{MINUTE, Ms, whole};
use crate::connections::{Sickness, Used};
use crate::families::Refresh;
use crate::faults::Weather;
use crate::hooks::Brought;
use crate::invariants::{Invariant, Violation};
use crate::subject::{Flight, Task};
use crate::watching::Heard;
use crate::world::{Happening, World};

/// How long a login through the server may take.
pub(crate) const LOGIN_TIMEOUT: Ms = MINUTE;

/// The longest that writing a file takes.
const SLOWEST_WRITE: Ms = 50;

impl World {
    /// Does what the scheduler wants done, and notes what it wants told.
    pub(crate) fn perform(
        &mut self,
        output: SchedulerOutput,
        later: &[SchedulerOutput],
        reading: Option<Heard>,
    ) -> Result<(), Violation> {
        self.trace.output(self.now, &output, |index| self.by_id.get(index).copied().flatten());
        match output {
            SchedulerOutput::Action(ticket, action) => self.start_effect(ticket, action),
            SchedulerOutput::TokenNotice(id, notice) => match self.whose(id) {
                Some(subject) => self.said(subject, &notice, reading),
                None => Ok(()),
            },
            SchedulerOutput::ServerNotice(id, notice) => {
                let asked = later.iter().filter_map(|output| match output {
                    SchedulerOutput::Action(ticket, Action::Check { .. }) => {
                        self.whose(ticket.token)
                    }
                    _ => None,
                });
                let asked: Vec<_> = asked.collect();
                match self.servers_by_id.get(id.index()).copied().flatten() {
                    Some(server) if self.server_ids[server] == id => {
                        self.said_of_server(server, &notice, &asked)
                    }
                    _ => Ok(()),
                }
            }
            SchedulerOutput::ReauthExhausted { .. } => Ok(()),
        }
    }

    fn start_effect(&mut self, ticket: Ticket, action: Action) -> Result<(), Violation> {
        let subject = self.by_id.get(ticket.token.index()).copied().flatten();
        let expected = self.scheduler.as_ref().is_some_and(|scheduler| scheduler.expects(ticket));
        let Some(subject) = subject.filter(|_| expected) else {
            // The token is gone since the scheduler has wanted this.
            self.watch.permits.handed_out();
            self.cancelled.push(ticket);
            return Ok(());
        };
        let server = self.subjects[subject].server;
        let (task, acts_at, ends_at) = match action {
            Action::Check { method, slot, timeout, connection } => {
                let rotates = method == Method::Renew && self.subjects[subject].policy.rotates;
                let session = match self.subjects[subject].slots[slot as usize] {
                    Some(session) => session,
                    None if rotates => self.no_value(subject),
                    None => {
                        let what = format!("token {subject} is asked about without a value");
                        return Err(self.violation(Invariant::OneAtATime, what));
                    }
                };
                self.tally.checks += 1;
                self.watch_connection((server, subject), session, connection)?;
                let starts = self.now.max(self.subjects[subject].refresh_locked_until);
                let starts = if rotates { starts } else { self.now };
                let (fate, used) =
                    self.send(subject, session, (starts, whole(timeout)), (method, connection));
                let refresh =
                    if rotates { Some(self.spend(subject, starts, &fate)?) } else { None };
                let (acts_at, ends_at) = (fate.acts_at, fate.ends_at);
                let reply = None;
                let task = Task::Ask { method, slot, session, fate, used, reply, refresh };
                (task, acts_at, ends_at)
            }
            Action::Reauth { .. } => {
                self.tally.logins += 1;
                self.start_login(subject)
            }
            // Nobody in this world asks for anything.
            Action::Revoke { .. } => return Ok(()),
            Action::Persist { slot } => {
                let Some(session) = self.subjects[subject].slots[slot as usize] else {
                    return Ok(());
                };
                let takes = self.chance.between(1, SLOWEST_WRITE);
                (Task::Store { session }, None, self.now + takes)
            }
        };
        let events = 1 + u8::from(acts_at.is_some());
        let (run, since, server_id) = (self.run, self.now, self.server_ids[server]);
        let way = self.subjects[subject].way.filter(|_| matches!(action, Action::Reauth { .. }));
        let reauth_id = way.map(|way| self.way_ids[way]);
        let flight =
            Flight { run, ticket, subject, server, server_id, reauth_id, since, task, events };
        self.watch.permits.started(&flight);
        let flight = self.add_flight(flight);
        self.watch_start(subject, flight, action)?;
        if let Some(acts_at) = acts_at {
            self.at(acts_at, Happening::Acts(flight));
        }
        self.at(ends_at, Happening::Ends(flight));
        Ok(())
    }

    fn start_login(&mut self, subject: usize) -> (Task, Option<Ms>, Ms) {
        let way = self.subjects[subject].way.unwrap_or(0);
        let is_down = self.now < self.logins_down_until[way];
        match self.route_of(subject) {
            ReauthRoute::Server => {
                let fate = self.login_fate(subject);
                let fate = if is_down { login_unavailable(fate.ends_at) } else { fate };
                let (acts_at, ends_at) = (fate.acts_at, fate.ends_at);
                (Task::LogIn { fate, session: None }, acts_at, ends_at)
            }
            ReauthRoute::Hook => {
                let server = &mut self.servers[self.subjects[subject].server];
                let is_well = server.climate.at(self.now) == Weather::Fair;
                let hangs = self.now < self.hooks_hang_until[way];
                let chance = &mut self.hook_chance;
                let (brought, takes) = Brought::draw(chance, is_well, hangs, is_down);
                (Task::Hook { brought, way }, None, self.now + takes)
            }
        }
    }

    /// Every login uses a connection of its own.
    fn login_fate(&mut self, subject: usize) -> Fate {
        let now = self.now;
        let there = &self.subjects[subject];
        self.servers[there.server].fate(now, LOGIN_TIMEOUT, there.poison_at(now), None)
    }

    /// A refresh token is sent; `None` if that is decided when the request before has ended.
    fn spend(
        &mut self,
        subject: usize,
        starts: Ms,
        fate: &Fate,
    ) -> Result<Option<Refresh>, Violation> {
        let left = self.left(subject);
        let there = &mut self.subjects[subject];
        there.refresh_locked_until = fate.ends_at;
        let Some(refresh) = there.refresh.filter(|_| starts == self.now) else { return Ok(None) };
        self.watch.spent.sent(self.now, subject, refresh, left, &there.policy)?;
        Ok(Some(refresh))
    }

    /// Sends a request about a value as the adapter does.
    fn send(
        &mut self,
        subject: usize,
        session: SessionId,
        (now, timeout): (Ms, Ms),
        (method, connection): (Method, Connection),
    ) -> (Fate, Used) {
        let there = &mut self.subjects[subject];
        let server = &mut self.servers[there.server];
        let mut used = server.connections.take(now, connection);
        let mut lost = server.connections.is_lost_to_a_race(used, now);
        if lost {
            server.connections.lost();
            if method == Method::Query {
                used = server.connections.take(now, Connection::Fresh);
                lost = false;
                self.tally.resent += 1;
            }
        }
        let sickness = server.connections.sickness(used, now);
        let mut fate = server.fate(now, timeout, there.poison_at(now), sickness);
        if lost {
            let at = fate.ends_at.min(now + server.traits.latency.1);
            fate = if server.traits.rotates { reset(at) } else { refused(at) };
        }
        if sickness.is_some() || lost {
            self.tally.spoilt += 1;
            if sickness == Some(Sickness::Misrouted) {
                Server::slight(&mut self.sessions[session]);
            }
            if !self.watch.fresh.must_be_fresh(session) {
                there.spoilt.push((now, fate.ends_at));
            }
        }
        (fate, used)
    }

    /// A request reaches its server and is served, whether or not anybody still waits.
    pub(crate) fn acts(&mut self, index: usize) {
        if let Some(flight) = self.flights[index].clone().filter(|f| refresh_of(f).is_some()) {
            self.rotates(index, &flight);
            self.land(index);
            return;
        }
        let Some(flight) = self.flights[index].as_mut() else { return };
        let whose = &self.subjects[flight.subject];
        let server = &mut self.servers[flight.server];
        match &mut flight.task {
            Task::Ask { method, session, reply, .. } => {
                let (session, end_before) = (*session, self.sessions[*session].end(server));
                let answer = server.serve(&mut self.sessions, session, *method, self.now);
                let (extended, renewed) = (answer.extended, answer.replaced.unwrap_or(session));
                *reply = Some(answer);
                if extended {
                    if flight.run != self.run {
                        // Nobody who runs now has asked for that.
                        self.watch.claims.used_by_another(flight.server, self.now);
                    }
                    self.watch_renewed(renewed, end_before);
                }
            }
            Task::LogIn { session, .. } => {
                self.sessions.push(server.log_in(flight.server, whose.life, 0, self.now));
                *session = Some(self.sessions.len() - 1);
            }
            Task::Hook { .. } | Task::Store { .. } => {}
        }
        self.land(index);
    }

    pub(crate) fn route_of(&self, subject: usize) -> ReauthRoute {
        self.subjects[subject].way.map_or(ReauthRoute::Hook, |way| self.plan.ways[way].route)
    }
}

/// The value and the refresh token of a request that spends one.
pub(crate) fn refresh_of(flight: &Flight) -> Option<(SessionId, Option<Refresh>)> {
    match &flight.task {
        Task::Ask { session, refresh, .. } => refresh.map(|refresh| (*session, refresh)),
        Task::LogIn { .. } | Task::Hook { .. } | Task::Store { .. } => None,
    }
}
