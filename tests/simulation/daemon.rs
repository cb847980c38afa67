//! The daemon's double: effects go out, their ends come back, values are kept and watched.
//! What it does with values and sources is what the daemon does, in the same order.

use std::time::Duration;

use tokenkeep::keeper::{Output, ReauthRoute, Ticket};
use tokenkeep::lifecycle::{
    Answer, Effect, Method, ReauthEnd, ReauthFault, Reauthenticated, Slot, SourceChange, Token,
};
use tokenkeep::outcome::{Fault, Outcome};
use tokenkeep::time::Moment;

use crate::api::{Fate, Poison, Reply, SessionId};
use crate::chance::{MINUTE, Ms, whole};
use crate::faults::Weather;
use crate::hooks::{Brought, weigh};
use crate::invariants::{Invariant, Violation};
use crate::watching::Heard;
use crate::world::{Errand, Flight, Happening, World};

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
        if self.stopping.is_some() && !matches!(effect, Effect::Store { .. }) {
            return Ok(());
        }
        let (errand, acts_at, ends_at) = match effect {
            Effect::Ask { method, slot, timeout } => {
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
        let subject = &self.subjects[subject];
        let poisoned = subject.poisoned.last().is_some_and(|(_, until)| now < *until);
        let poison: Option<Poison> = poisoned.then_some(subject.poison);
        self.servers[subject.server].fate(now, timeout, poison)
    }

    /// A request reaches its server and is served, whether or not anybody still waits.
    pub(crate) fn acts(&mut self, index: usize) {
        let Some(flight) = self.flights[index].as_mut() else { return };
        let there = &self.subjects[flight.subject];
        let server = &mut self.servers[there.server];
        match &mut flight.errand {
            Errand::Ask { method, session, reply, .. } => {
                let (session, end_before) = (*session, self.sessions[*session].end(server));
                let served = server.serve(&mut self.sessions, session, *method, self.now);
                let (extended, renewed) = (served.extended, served.replaced.unwrap_or(session));
                *reply = Some(served);
                if extended {
                    self.watch_renewed(renewed, end_before);
                }
            }
            Errand::LogIn { session, .. } => {
                self.sessions.push(server.log_in(there.server, there.life, 0, self.now));
                *session = Some(self.sessions.len() - 1);
            }
            Errand::Hook(_) | Errand::Store { .. } => {}
        }
        self.land(index);
    }

    /// A flight comes back to the daemon, if that still is the one that began it.
    pub(crate) fn ends(&mut self, index: usize) -> Result<(), Violation> {
        // What a server still has to do for it comes after its end: it was given up.
        let Some(flight) = self.flights[index].clone() else { return Ok(()) };
        self.land(index);
        let Flight { run, ticket, subject, since, errand, .. } = flight;
        let here = run == self.run && self.keeper.is_some();
        let aborted = self.stopping.is_some()
            && matches!(errand, Errand::Ask { method: Method::Query, .. });
        if !here || aborted {
            return Ok(());
        }
        let at_server = matches!(errand, Errand::Ask { .. } | Errand::LogIn { .. });
        self.watch_end(subject, index, at_server);
        match errand {
            Errand::Ask { method, slot, session, fate, reply } => {
                self.answered(ticket, subject, since, (method, slot, session), fate, reply)
            }
            Errand::LogIn { fate, session } => {
                let end = match (fate.instead, session) {
                    (None, Some(_)) => weigh(Brought::Fresh, session, None),
                    (instead, _) => Reauthenticated::Failed(refused(instead)),
                };
                self.logged_in(ticket, subject, since, end, session)
            }
            Errand::Hook(brought) => {
                let usual = self.subjects[subject].life;
                let life = brought.life(usual, &mut self.hook_chance);
                let session = life.map(|life| self.new_session(subject, usual, usual - life));
                let old = self.subjects[subject].using;
                let end = weigh(brought, session, old);
                self.logged_in(ticket, subject, since, end, session)
            }
            Errand::Store { session } => self.stored(ticket, subject, session),
        }
    }

    fn answered(
        &mut self,
        ticket: Ticket,
        subject: usize,
        since: Ms,
        (method, slot, session): (Method, Slot, SessionId),
        fate: Fate,
        reply: Option<Reply>,
    ) -> Result<(), Violation> {
        let expected = self.is_expected(ticket, subject);
        let (outcome, replaced, end) = match (fate.instead, reply) {
            (Some(instead), _) => (instead, None, None),
            (None, Some(reply)) => (reply.outcome, reply.replaced, Some(reply.reported_end)),
            (None, None) => (Outcome::Unavailable(Fault::new("no answer in time")), None, None),
        };
        self.trace.answer(self.now, subject, (method, slot), &outcome);
        if let Outcome::Throttled { retry_after, .. } = &outcome {
            self.watch_quiet(subject, whole(*retry_after));
        }
        let current = self.subjects[subject].slots[slot as usize] == Some(session);
        let reading = match (&outcome, end) {
            (Outcome::Alive { remaining }, Some(end)) => Some(Heard {
                session: replaced.unwrap_or(session),
                sent: since,
                remaining: whole(*remaining),
                end,
            }),
            _ => None,
        };
        if expected {
            if let Some(replaced) = replaced {
                self.subjects[subject].slots[slot as usize] = Some(replaced);
            }
            if current {
                self.watch_answer(subject, session, replaced, &outcome);
            }
        }
        let reading = reading.filter(|_| expected && current);
        let refused = method == Method::Renew && matches!(outcome, Outcome::Misconfigured(_));
        let answer = Answer {
            sent: Moment::from_millis(since),
            received: Moment::from_millis(self.now),
            outcome,
            replaced: replaced.is_some(),
        };
        self.tell(Some(subject), reading, |keeper, now, out| {
            keeper.answered(ticket, answer, now, out);
        })?;
        if refused {
            self.due_anew(subject);
        }
        Ok(())
    }

    fn logged_in(
        &mut self,
        ticket: Ticket,
        subject: usize,
        since: Ms,
        result: Reauthenticated,
        session: Option<SessionId>,
    ) -> Result<(), Violation> {
        let expected = self.is_expected(ticket, subject);
        if expected && let (Reauthenticated::NewValue { stored }, Some(session)) = (&result, session)
        {
            let Some(keeper) = &self.keeper else { return Ok(()) };
            let spare = keeper.spare_slot(ticket.token);
            let subject = &mut self.subjects[subject];
            if *stored {
                subject.source = Some(session);
                subject.seen = Some(session);
            }
            subject.slots[spare as usize] = Some(session);
        }
        self.trace.login(self.now, subject, &result);
        if let Reauthenticated::Failed(ReauthFault { retry_after: Some(wish), .. }) = &result {
            self.watch_quiet(subject, whole(*wish));
        }
        let end = ReauthEnd { result, duration: Duration::from_millis(self.now - since) };
        self.tell(Some(subject), None, |keeper, now, out| {
            keeper.reauthenticated(ticket, end, now, out);
        })?;
        if std::mem::take(&mut self.subjects[subject].look_again) {
            self.look(subject)?;
        }
        Ok(())
    }

    fn stored(
        &mut self,
        ticket: Ticket,
        subject: usize,
        session: SessionId,
    ) -> Result<(), Violation> {
        if self.now < self.disk_full_until {
            let result = Err("no space left on the device".into());
            return self.tell(Some(subject), None, |keeper, now, out| {
                keeper.stored(ticket, result, now, out);
            });
        }
        let there = &mut self.subjects[subject];
        let changed = there.source.is_some()
            && there.source != Some(session)
            && there.seen.is_some_and(|seen| there.source != Some(seen));
        if !changed {
            there.source = Some(session);
            there.seen = Some(session);
        }
        self.tell(Some(subject), None, |keeper, now, out| keeper.stored(ticket, Ok(()), now, out))?;
        if changed { self.look(subject) } else { Ok(()) }
    }

    /// Looks at a token's source, as the daemon does when it has changed.
    pub(crate) fn look(&mut self, subject: usize) -> Result<(), Violation> {
        let there = &mut self.subjects[subject];
        let (Some(id), Some(keeper), None) = (there.id, &self.keeper, self.stopping) else {
            return Ok(());
        };
        if keeper.token(id).is_some_and(Token::is_reauthenticating) {
            there.look_again = true;
            return Ok(());
        }
        let before = std::mem::replace(&mut there.seen, there.source);
        let spare = keeper.spare_slot(id);
        let change = match there.source {
            None => SourceChange::Lost("there is no such file".into()),
            found if found == before => SourceChange::Restored,
            found if found == there.slots[spare.other() as usize] => SourceChange::Reverted,
            found => {
                there.slots[spare as usize] = found;
                SourceChange::NewValue
            }
        };
        self.trace.source(self.now, subject, &change);
        self.tell(Some(subject), None, |keeper, now, out| keeper.source_changed(id, change, now, out))
    }

    fn is_expected(&self, ticket: Ticket, subject: usize) -> bool {
        self.subjects[subject].id == Some(ticket.token)
            && self.keeper.as_ref().is_some_and(|keeper| keeper.expects(ticket))
    }

    pub(crate) fn route_of(&self, subject: usize) -> ReauthRoute {
        self.subjects[subject].way.map_or(ReauthRoute::Hook, |way| self.plan.ways[way].route)
    }
}

fn refused(outcome: Option<Outcome>) -> ReauthFault {
    let (fault, retry_after) = match outcome {
        Some(Outcome::Throttled { retry_after, fault }) => (fault, Some(retry_after)),
        Some(
            Outcome::Unavailable(fault)
            | Outcome::Misconfigured(fault)
            | Outcome::Expired(fault)
            | Outcome::Rejected(fault),
        ) => (fault, None),
        Some(Outcome::Alive { .. }) | None => (Fault::new("no answer in time"), None),
    };
    ReauthFault { error: fault.error, exit_status: None, status: fault.status, retry_after }
}
