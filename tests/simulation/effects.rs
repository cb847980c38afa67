//! What the keeper wants: effects are begun, and how they will end is drawn.

use tokenkeep::keeper::{Output, ReauthRoute, Ticket};
use tokenkeep::lifecycle::Effect;

use crate::api::Fate;
use crate::chance::{MINUTE, Ms, whole};
use crate::faults::Weather;
use crate::hooks::Brought;
use crate::invariants::{Invariant, Violation};
use crate::subject::{Errand, Flight};
use crate::watching::Heard;
use crate::world::{Happening, World};

/// How long a login through the server may take.
pub(crate) const LOGIN_TIMEOUT: Ms = MINUTE;

/// The longest that writing a file takes.
const SLOWEST_WRITE: Ms = 50;

impl World {
    /// Does what the keeper wants done, and notes what it wants told.
    pub(crate) fn perform(
        &mut self,
        output: Output,
        later: &[Output],
        reading: Option<Heard>,
    ) -> Result<(), Violation> {
        self.trace.output(self.now, &output, |index| self.by_id[index]);
        match output {
            Output::Effect(ticket, effect) => self.start_effect(ticket, effect),
            Output::Token(id, notice) => match self.by_id[id.index()] {
                Some(subject) => self.said(subject, &notice, reading),
                None => Ok(()),
            },
            Output::Server(id, notice) => {
                let asked = later.iter().filter_map(|output| match output {
                    Output::Effect(ticket, Effect::Ask { .. }) => self.by_id[ticket.token.index()],
                    _ => None,
                });
                let asked: Vec<_> = asked.collect();
                self.said_of_server(id, notice, &asked)
            }
            Output::ReauthExhausted { .. } => Ok(()),
        }
    }

    fn start_effect(&mut self, ticket: Ticket, effect: Effect) -> Result<(), Violation> {
        let Some(subject) = self.by_id[ticket.token.index()] else { return Ok(()) };
        let (errand, acts_at, ends_at) = match effect {
            Effect::Ask { method, slot, timeout, .. } => {
                let Some(session) = self.subjects[subject].slots[slot as usize] else {
                    let what = format!("token {subject} is asked about without a value");
                    return Err(self.violation(Invariant::OneAtATime, what));
                };
                self.tally.checks += 1;
                let fate = self.fate(subject, whole(timeout));
                let (acts_at, ends_at) = (fate.acts_at, fate.ends_at);
                (Errand::Ask { method, slot, session, fate, reply: None }, acts_at, ends_at)
            }
            Effect::Reauth { .. } => {
                self.tally.logins += 1;
                match self.route_of(subject) {
                    ReauthRoute::Server => {
                        let fate = self.fate(subject, LOGIN_TIMEOUT);
                        let (acts_at, ends_at) = (fate.acts_at, fate.ends_at);
                        (Errand::LogIn { fate, session: None }, acts_at, ends_at)
                    }
                    ReauthRoute::Hook => {
                        let server = &mut self.servers[self.subjects[subject].server];
                        let is_well = server.climate.at(self.now) == Weather::Fair;
                        let (brought, takes) = Brought::draw(&mut self.hook_chance, is_well);
                        (Errand::Hook(brought), None, self.now + takes)
                    }
                }
            }
            // Nobody in this world asks for anything.
            Effect::Revoke { .. } => return Ok(()),
            Effect::Store { slot } => {
                let Some(session) = self.subjects[subject].slots[slot as usize] else {
                    return Ok(());
                };
                let takes = self.chance.between(1, SLOWEST_WRITE);
                (Errand::Store { session }, None, self.now + takes)
            }
        };
        let events = 1 + u8::from(acts_at.is_some());
        let (run, since) = (self.run, self.now);
        let flight = self.add_flight(Flight { run, ticket, subject, since, errand, events });
        self.watch_start(subject, flight, effect)?;
        if let Some(acts_at) = acts_at {
            self.at(acts_at, Happening::Acts(flight));
        }
        self.at(ends_at, Happening::Ends(flight));
        Ok(())
    }

    fn fate(&mut self, subject: usize, timeout: Ms) -> Fate {
        let now = self.now;
        let there = &self.subjects[subject];
        self.servers[there.server].fate(now, timeout, there.poison_at(now))
    }

    /// A request reaches its server and is served, whether or not anybody still waits.
    pub(crate) fn acts(&mut self, index: usize) {
        let Some(flight) = self.flights[index].as_mut() else { return };
        let whose = &self.subjects[flight.subject];
        let server = &mut self.servers[whose.server];
        match &mut flight.errand {
            Errand::Ask { method, session, reply, .. } => {
                let (session, end_before) = (*session, self.sessions[*session].end(server));
                let answer = server.serve(&mut self.sessions, session, *method, self.now);
                let (extended, renewed) = (answer.extended, answer.replaced.unwrap_or(session));
                *reply = Some(answer);
                if extended {
                    if flight.run != self.run {
                        // Nobody who runs now has asked for that.
                        self.watch.claims.used_by_another(whose.server, self.now);
                    }
                    self.watch_renewed(renewed, end_before);
                }
            }
            Errand::LogIn { session, .. } => {
                self.sessions.push(server.log_in(whose.server, whose.life, 0, self.now));
                *session = Some(self.sessions.len() - 1);
            }
            Errand::Hook(_) | Errand::Store { .. } => {}
        }
        self.land(index);
    }

    pub(crate) fn route_of(&self, subject: usize) -> ReauthRoute {
        self.subjects[subject].way.map_or(ReauthRoute::Hook, |way| self.plan.ways[way].route)
    }
}
