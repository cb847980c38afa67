//! What the watchers are told of the world's steps.

use tokenkeep::keeper::{ServerId, ServerNotice};
use tokenkeep::lifecycle::{Effect, Method, Need, Notice};
use tokenkeep::outcome::Outcome;
use tokenkeep::time::Moment;

use crate::api::{Extends, SessionId};
use crate::chance::{MINUTE, Ms, SECOND};
use crate::invariants::{Answered, Invariant, Violation};
use crate::world::{Happening, World};

/// What is known of one answer before the keeper hears it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) session: SessionId,
    pub(crate) sent: Ms,
    pub(crate) remaining: Ms,
    /// The end that the server spoke of, on our clock and before any rounding.
    pub(crate) end: Ms,
}

impl World {
    pub(crate) fn watch_start(
        &mut self,
        subject: usize,
        flight: usize,
        effect: Effect,
    ) -> Result<(), Violation> {
        let there = &self.subjects[subject];
        let bound = self.bound_of(subject);
        let by_server = there.way.is_some_and(|way| self.watch.logins.is_by_server(way));
        let server = match effect {
            Effect::Ask { .. } | Effect::Revoke { .. } => Some(there.server),
            Effect::Reauth { .. } => by_server.then_some(there.server),
            Effect::Store { .. } => None,
        };
        if let Effect::Reauth { reason, .. } = effect {
            let rule = (reason, &*there.policy, there.way.unwrap_or(0));
            self.watch.logins.started(self.now, subject, rule, there.using, bound)?;
        }
        let life = there.life;
        self.watch.limits.started(self.now, (subject, life), flight, server)?;
        let in_a_minute = u64::try_from(self.watch.limits.in_a_minute(subject)).unwrap_or(0);
        let most = if life < MINUTE {
            &mut self.tally.most_in_a_minute
        } else {
            &mut self.tally.most_on_longer_lives
        };
        *most = in_a_minute.max(*most);
        let Some(server) = server else {
            let server = self.subjects[subject].server;
            self.watch.order.left(server, subject);
            return Ok(());
        };
        let rate = u64::from(self.plan.servers[server].limits.rate_limit.get());
        self.watch.order.started(self.now, (server, rate), subject, bound)?;
        if self.watch.limits.is_full(server) {
            self.watch.order.held_back(server);
        }
        Ok(())
    }

    /// The flight is over for the daemon; tells the server that it was at, if it was.
    pub(crate) fn watch_end(&mut self, subject: usize, flight: usize, at_server: bool) {
        let server = at_server.then_some(self.subjects[subject].server);
        self.watch.limits.ended(subject, flight, server);
    }

    /// A server has renewed a session because of one of our requests.
    pub(crate) fn watch_renewed(&mut self, session: SessionId, end_before: Ms) {
        let end = self.end_of(session);
        self.watch.survival.renewed(session, self.now, end < end_before);
    }

    /// The next check of a token is due at another time than its last reading has told: its
    /// rules have changed, or the renewing call that was to follow at once has been refused.
    pub(crate) fn due_anew(&mut self, subject: usize) {
        let there = &self.subjects[subject];
        let token = there.id.and_then(|id| self.keeper.as_ref()?.token(id));
        let due = token.and_then(|token| token.due_for(Need::Server));
        if let (Some(due), Some(session)) = (due, there.using) {
            self.watch.survival.due_again(session, due.as_millis());
        }
    }

    /// A server has asked for quiet.
    pub(crate) fn watch_quiet(&mut self, subject: usize, wish: Ms) {
        let server = self.subjects[subject].server;
        self.watch.limits.quiet(server, self.now, self.now + wish);
        self.watch.order.held_back(server);
    }

    /// An answer about a value that the daemon still holds is about to be told.
    pub(crate) fn watch_answer(
        &mut self,
        subject: usize,
        session: SessionId,
        replaced: Option<SessionId>,
        outcome: &Outcome,
    ) {
        if let Some(new) = replaced {
            self.watch.claims.replaced(session, new);
            self.watch.logins.replaced(subject, session, new);
        }
        let current = self.subjects[subject].using == Some(session);
        let answered = match outcome {
            Outcome::Alive { .. } if current => Answered::Alive,
            _ if !current => Answered::Candidate,
            Outcome::Expired(_) => {
                self.watch.logins.expired(subject);
                Answered::Dead
            }
            Outcome::Rejected(_) if self.watch.logins.rejected(subject) => Answered::Dead,
            Outcome::Alive { .. }
            | Outcome::Rejected(_)
            | Outcome::Throttled { .. }
            | Outcome::Misconfigured(_)
            | Outcome::Unavailable(_) => Answered::Open,
        };
        self.watch.reports.answered(subject, answered);
    }

    /// Something is said of a token; `reading` is what has just been heard of it.
    pub(crate) fn said(
        &mut self,
        subject: usize,
        notice: &Notice,
        reading: Option<Heard>,
    ) -> Result<(), Violation> {
        let now = self.now;
        self.watch.reports.said(now, subject, notice)?;
        let way = self.subjects[subject].way;
        match (notice, reading) {
            (Notice::Checked { next_check_ms, renewed, .. }, Some(reading)) => {
                self.checked(subject, reading, now + next_check_ms, *renewed)
            }
            (Notice::ReauthSucceeded { .. }, Some(reading)) => {
                let Heard { session, sent, remaining, .. } = reading;
                self.watch.logins.succeeded(subject, session, sent, remaining);
                Ok(())
            }
            (Notice::ReauthFailed { .. }, _) => {
                if let Some(way) = way {
                    self.watch.logins.failed(now, way);
                }
                Ok(())
            }
            (
                Notice::Expired { candidate: false, .. }
                | Notice::Rejected { candidate: false, .. }
                | Notice::Missing { in_use: false, .. },
                _,
            ) if way.is_none() => {
                let wait = self.chance.spread(SECOND, self.subjects[subject].life);
                self.at(now + wait, Happening::Mend(subject));
                Ok(())
            }
            (Notice::RenewalNotObserved { .. }, _) => self.said_that_nothing_renews(subject),
            _ => Ok(()),
        }
    }

    fn checked(
        &mut self,
        subject: usize,
        reading: Heard,
        due: Ms,
        renewed: Option<bool>,
    ) -> Result<(), Violation> {
        let Heard { session, sent, remaining, end } = reading;
        let bound = sent + remaining;
        if due > self.now.max(sent + remaining * 9 / 10).max(self.now + SECOND)
            && remaining >= SECOND
        {
            return Err(self.violation(
                Invariant::NothingDiesThatCouldHaveLived,
                format!(
                    "token {subject} has {remaining} ms to live, and its check is due in {} ms",
                    due - self.now
                ),
            ));
        }
        let true_end = self.end_of(session);
        let server = self.subjects[subject].server;
        let since = self.watch.survival.first_due(session);
        let spoilt = self.servers[server].climate.bad_times(since, self.now).next().is_some();
        if spoilt && self.watch.survival.bound(session).is_some_and(|bound| sent < bound) {
            self.tally.narrow_escapes += 1;
        }
        let ends = (end, true_end);
        self.watch.survival.checked(self.now, session, (bound, due), ends, spoilt);
        self.watch.schedule.checked(self.now, subject, bound);
        self.watch.logins.alive(subject, session, sent);
        if self.watch.claims.judged(session, end, renewed) {
            return Err(self.violation(
                Invariant::RenewalIsProven,
                format!("token {subject} is said to be renewed, and nothing has renewed it"),
            ));
        }
        Ok(())
    }

    pub(crate) fn said_of_server(
        &mut self,
        id: ServerId,
        notice: ServerNotice,
        asked_since: &[usize],
    ) -> Result<(), Violation> {
        let server = id.index();
        self.watch.reports.said_of_server(self.now, server, notice)?;
        match notice {
            ServerNotice::Unavailable { .. } => {
                self.tally.outages += 1;
                self.watch.order.forget(server);
            }
            ServerNotice::Recovered { .. } => self.recovered(server, asked_since),
            ServerNotice::RenewalLearned(method) => return self.learned(server, method),
        }
        Ok(())
    }

    /// A server has recovered: who waits for it, those included that are asked about in this
    /// very step. While the daemon winds down, only new values are asked about.
    fn recovered(&mut self, server: usize, asked_since: &[usize]) {
        let Some(keeper) = self.keeper.as_ref().filter(|_| self.stopping.is_none()) else { return };
        let now = Moment::from_millis(self.now);
        let waits = |number: usize| {
            let there = &self.subjects[number];
            let token = keeper.token(there.id?).filter(|_| there.server == server)?;
            let due = token.due_for(Need::Server).is_some_and(|due| due <= now);
            let waits = due || asked_since.contains(&number);
            Some((token.bound().filter(|_| waits)?.as_millis(), number))
        };
        let waiting: Vec<_> = (0..self.subjects.len()).filter_map(waits).collect();
        self.watch.order.recovered(self.now, server, waiting.into_iter());
        if self.watch.limits.is_full(server) || self.watch.limits.quiet_until(server) > self.now {
            self.watch.order.held_back(server);
        }
    }

    fn learned(&self, server: usize, method: Method) -> Result<(), Violation> {
        let since = self.now.saturating_sub(self.plan.longest_life() * 3);
        let true_of_it = match self.servers[server].traits.extends {
            Extends::Any => true,
            Extends::Renew => method == Method::Renew,
            Extends::Nothing => false,
        };
        if true_of_it || self.watch.claims.others_since(server, since) {
            return Ok(());
        }
        let what = format!("server {server} is said to renew by {method:?}, and does not");
        Err(self.violation(Invariant::RenewalIsProven, what))
    }

    fn said_that_nothing_renews(&self, subject: usize) -> Result<(), Violation> {
        let there = &self.subjects[subject];
        let server = &self.servers[there.server];
        let from = self.now.saturating_sub(there.life * 2);
        let disturbed = !server.climate.is_always_fair()
            && server.climate.bad_times(from, self.now + 1).next().is_some()
            || there.poisoned.last().is_some_and(|poisoned| poisoned.until > from)
            || self.watch.claims.others_since(there.server, from)
            || self.watch.idle_times(there.server, from, self.now + 1).next().is_some()
            || self.cut_since + 3 * self.plan.longest_life() > self.now;
        if disturbed || !self.can_be_renewed(subject) {
            return Ok(());
        }
        let what = format!("nothing is said to renew token {subject}, in fair weather");
        Err(self.violation(Invariant::RenewalIsProven, what))
    }

    /// After every step.
    pub(crate) fn watch_step(&mut self, about: Option<usize>) -> Result<(), Violation> {
        self.watch.reports.settle(self.now)?;
        if let Some(subject) = about {
            self.check_bound(subject)?;
        }
        match (&self.keeper, self.stopping) {
            (Some(keeper), None) => self.watch.schedule.check(self.now, keeper, &self.subjects),
            _ => Ok(()),
        }
    }
}
