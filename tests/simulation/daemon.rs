//! The daemon's double: effects go out, their ends come back, values are kept and watched.
//! What it does with values and sources is what the daemon does, in the same order.

use std::time::Duration;

use tokenkeep::lifecycle::{
    CheckResult, Method, ReauthError, ReauthOutcome, ReauthResult, Slot, SourceChange,
};
use tokenkeep::outcome::{CallError, Outcome};
use tokenkeep::scheduler::{Ticket, TokenId};
use tokenkeep::time::Moment;

use crate::api::{Fate, REFUSED, Reply, SessionId};
use crate::chance::{Ms, whole};
use crate::connections::Used;
use crate::families::Refresh;
use crate::hooks::{Brought, weigh};
use crate::invariants::Violation;
use crate::subject::{Flight, Task};
use crate::watching::Heard;
use crate::world::World;

/// The call, the slot, its value, the connection, and whether a refresh token was sent, and which.
type Asked = (Method, Slot, SessionId, Used, Option<Option<Refresh>>);

impl World {
    /// A flight comes back to the daemon, if that still is the one that began it.
    pub(crate) fn ends(&mut self, index: usize) -> Result<(), Violation> {
        // What a server still has to do for it comes after its end: it was given up.
        let Some(flight) = self.flights[index].clone() else { return Ok(()) };
        self.land(index);
        let Flight { run, ticket, subject, since, task, server, server_id, .. } = flight.clone();
        let here = run == self.run && self.scheduler.is_some();
        // Winding down, the daemon lets go of the queries that were under way.
        let aborted = self.stopping.is_some_and(|began| since < began)
            && matches!(task, Task::Ask { method: Method::Query, .. });
        if !here || aborted {
            return Ok(());
        }
        self.watch.permits.ended(&flight);
        if let Task::Hook { way, .. } = &task {
            self.watch.slots.ended(*way);
        }
        let current = self.server_ids[server] == server_id;
        let at_server = task.is_at_server() && current;
        self.watch_end(subject, index, at_server.then_some(server));
        match task {
            Task::Ask { method, slot, session, fate, used, reply, refresh } => {
                let asked = (method, slot, session, used, refresh);
                let at = (server, current);
                self.answered(ticket, (subject, since), at, asked, &fate, reply)
            }
            Task::LogIn { fate, session } => {
                let end = match (fate.instead, session) {
                    (None, Some(_)) => weigh(Brought::Fresh, session, None),
                    (instead, _) => ReauthOutcome::Failed(refused(instead)),
                };
                self.logged_in(ticket, subject, since, (server, at_server), end, session)
            }
            Task::Hook { brought, .. } => {
                let usual = self.subjects[subject].life;
                let life = brought.life(usual, &mut self.hook_chance);
                let session = life.map(|life| self.new_session(subject, usual, usual - life));
                let old = self.subjects[subject].using;
                let end = weigh(brought, session, old);
                self.logged_in(ticket, subject, since, (server, false), end, session)
            }
            Task::Store { session } => self.stored(ticket, subject, session),
        }
    }

    fn answered(
        &mut self,
        ticket: Ticket,
        (subject, since): (usize, Ms),
        (server, at_server): (usize, bool),
        (method, slot, session, used, refresh): Asked,
        fate: &Fate,
        reply: Option<Reply>,
    ) -> Result<(), Violation> {
        let expected = self.is_expected(ticket, subject);
        // What an earlier server says does not.
        let counts = at_server && self.subjects[subject].server == server;
        let next = reply.as_ref().and_then(|reply| reply.refresh);
        let (mut outcome, replaced, end) = match (fate.instead.clone(), reply) {
            (Some(instead), _) => (instead, None, None),
            (None, Some(reply)) => (reply.outcome, reply.replaced, Some(reply.reported_end)),
            (None, None) => (Outcome::Unavailable(CallError::new("no answer in time")), None, None),
        };
        if let Some(sent) = refresh {
            if let Outcome::Unavailable(fault) = &mut outcome {
                fault.may_have_acted = *fault.error != *REFUSED && fault.status != Some(503);
            } else if let Some(sent) = sent {
                self.store_refresh(subject, sent, next);
            }
            if expected {
                let (left, there) = (self.left(subject), &self.subjects[subject]);
                // The scheduler cannot know which one was sent if another has come meanwhile.
                let sent = sent.filter(|sent| there.refresh == Some(*sent));
                let using = there.using.filter(|_| !self.watch.logins.is_dead(subject));
                let (whose, rule) = ((subject, using), (left, &*there.policy));
                self.watch.spent.ended(self.now, whose, sent, &outcome, rule);
            }
        }
        self.trace.answer(self.now, subject, (method, slot), &outcome);
        if let Outcome::Throttled { retry_after, .. } = &outcome
            && at_server
        {
            self.watch_quiet(server, whole(*retry_after));
        }
        let refused = method == Method::Renew
            && matches!(outcome, Outcome::Misconfigured(_))
            && self.servers[server].traits.refuses_renewing;
        let concluded = !matches!(outcome, Outcome::Unavailable(_));
        let now = self.now;
        self.servers[server].connections.give_back(now, used, fate.responded, &outcome);
        let rejected = matches!(outcome, Outcome::Rejected(_));
        let throttled = matches!(outcome, Outcome::Throttled { .. });
        if expected && !throttled && counts {
            self.watch.fresh.answered(session, since, concluded && !rejected);
        }
        let there = &self.subjects[subject];
        let held = there.slots[slot as usize];
        let current =
            counts && (held == Some(session) || held.is_none() && there.nothing == Some(session));
        // The daemon also takes a value from a server that was renamed meanwhile. Here the next renewal
        // replaces it.
        let replaced = replaced.filter(|_| current || refresh.is_none());
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
                self.watch_answer((subject, since), session, replaced, &outcome);
            }
        }
        let reading = reading.filter(|_| expected && current);
        let made = !matches!(outcome, Outcome::Unavailable(_));
        let answer = CheckResult {
            sent: Moment::from_millis(since),
            received: Moment::from_millis(self.now),
            outcome,
            replaced: replaced.is_some(),
            cannot_renew: false,
        };
        if reading.is_some() {
            self.subjects[subject].unconfirmed = false;
        }
        if at_server && (made || expected) {
            self.contact(since, server, subject, made);
        }
        self.tell(Some(subject), reading, |scheduler, now| {
            scheduler.check_finished(ticket, answer, now);
        })?;
        if at_server && (made || expected) {
            self.watch_outage(server)?;
        }
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
        (server, at_server): (usize, bool),
        result: ReauthOutcome,
        session: Option<SessionId>,
    ) -> Result<(), Violation> {
        let expected = self.is_expected(ticket, subject);
        let mut refresh = None;
        if expected && let (ReauthOutcome::NewValue { stored }, Some(session)) = (&result, session)
        {
            let Some(scheduler) = &self.scheduler else { return Ok(()) };
            let spare = scheduler.spare_slot(ticket.token);
            let subject = &mut self.subjects[subject];
            if *stored {
                subject.source = Some(session);
                subject.seen = Some(session);
            }
            subject.slots[spare as usize] = Some(session);
            refresh = self.found_family(session);
        }
        if let Some(refresh) = refresh {
            let there = &mut self.subjects[subject];
            (there.refresh, there.is_refresh_new) = (Some(refresh), false);
        }
        self.watch.outages.login_ended(self.now, self.subjects[subject].server, subject);
        self.trace.login(self.now, subject, &result);
        if let ReauthOutcome::Failed(ReauthError { retry_after: Some(wish), .. }) = &result {
            self.watch_quiet(server, whole(*wish));
        }
        let inconclusive =
            matches!(&result, ReauthOutcome::Failed(fault) if fault.inconclusive) && expected;
        if at_server {
            match &result {
                ReauthOutcome::Failed(fault) if fault.unavailable => {
                    if expected {
                        self.contact(since, server, subject, false);
                    }
                }
                ReauthOutcome::Failed(fault) if fault.status.is_none() => {}
                _ => self.contact(since, server, subject, true),
            }
        }
        let failures = self.failures_of(subject);
        if inconclusive {
            self.tally.inconclusive_logins += 1;
            self.watch.logins.inconclusive(subject);
        }
        let end = ReauthResult { result, duration: Duration::from_millis(self.now - since) };
        self.tell(Some(subject), None, |scheduler, now| {
            scheduler.reauth_finished(ticket, end, now);
        })?;
        if inconclusive {
            self.check_that_it_was_free(subject, failures)?;
        }
        if at_server && expected {
            self.watch_outage(server)?;
        }
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
            return self.tell(Some(subject), None, |scheduler, now| {
                scheduler.persist_finished(ticket, result, now);
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
        self.tell(Some(subject), None, |scheduler, now| {
            scheduler.persist_finished(ticket, Ok(()), now);
        })?;
        if changed { self.look(subject) } else { Ok(()) }
    }

    /// Looks at a token's source, as the daemon does when it has changed.
    pub(crate) fn look(&mut self, subject: usize) -> Result<(), Violation> {
        let Some((id, change)) = self.look_into(subject) else { return Ok(()) };
        self.tell(Some(subject), None, |scheduler, now| {
            scheduler.source_changed(id, change, now);
        })
    }

    /// What a look at a token's source finds, to be told to the scheduler.
    pub(crate) fn look_into(&mut self, subject: usize) -> Option<(TokenId, SourceChange)> {
        let there = &mut self.subjects[subject];
        let (Some(id), Some(scheduler), None) = (there.id, &self.scheduler, self.stopping) else {
            return None;
        };
        if scheduler.token(id).is_some_and(|token| token.is_reauthenticating()) {
            there.look_again = true;
            return None;
        }
        if std::mem::take(&mut there.is_refresh_new) {
            self.hear_of_refresh(subject, id);
        }
        let there = &mut self.subjects[subject];
        let Some(scheduler) = &self.scheduler else { return None };
        let before = std::mem::replace(&mut there.seen, there.source);
        let spare = scheduler.spare_slot(id);
        let change = match there.source {
            None => SourceChange::Lost("there is no such file".into()),
            found if found == before => SourceChange::Reappeared,
            found if found == there.slots[spare.other() as usize] => SourceChange::Reverted,
            found => {
                there.slots[spare as usize] = found;
                if let Some(found) = found {
                    self.watch.fresh.forget(self.now, found);
                }
                SourceChange::NewValue
            }
        };
        self.trace.source(self.now, subject, &change);
        Some((id, change))
    }

    /// An operator has replaced a token's refresh token.
    fn hear_of_refresh(&mut self, subject: usize, id: TokenId) {
        let change = SourceChange::NewRefreshToken;
        self.trace.source(self.now, subject, &change);
        self.watch.logins.has_new_refresh_token(subject);
        let is_outdated = self.watch.limits.is_busy(subject) && self.has_no_living_value(subject);
        let there = &mut self.subjects[subject];
        if is_outdated {
            there.renewal_outdated_at = Some(self.now);
        }
        for session in there.slots.into_iter().chain([there.nothing]).flatten() {
            self.watch.fresh.forget(self.now, session);
        }
        self.hear(|scheduler, now| scheduler.source_changed(id, change, now));
    }

    fn is_expected(&self, ticket: Ticket, subject: usize) -> bool {
        self.subjects[subject].id == Some(ticket.token)
            && self.scheduler.as_ref().is_some_and(|scheduler| scheduler.expects(ticket))
    }
}

fn refused(outcome: Option<Outcome>) -> ReauthError {
    let unavailable = matches!(outcome, None | Some(Outcome::Unavailable(_)));
    let inconclusive = unavailable || matches!(outcome, Some(Outcome::Throttled { .. }));
    let (fault, retry_after) = match outcome {
        Some(Outcome::Throttled { retry_after, fault }) => (fault, Some(retry_after)),
        Some(
            Outcome::Unavailable(fault)
            | Outcome::Misconfigured(fault)
            | Outcome::Expired(fault)
            | Outcome::Rejected(fault),
        ) => (fault, None),
        Some(Outcome::Alive { .. }) | None => (CallError::new("no answer in time"), None),
    };
    ReauthError {
        error: fault.error,
        exit_status: None,
        status: fault.status,
        unavailable,
        inconclusive,
        retry_after,
    }
}
