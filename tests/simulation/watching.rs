//! What the watchers are told of the world's steps.

use tokenkeep::keeper::{ServerId, ServerNotice};
use tokenkeep::lifecycle::{
    Draw, Effect, Method, Need, Notice, Policy, Reading, Renewal, Standing, backoff,
};
use tokenkeep::outcome::Outcome;
use tokenkeep::time::Moment;

use crate::api::{Extends, Poison, SessionId};
use crate::chance::{Ms, SECOND, whole};
use crate::daemon::LOGIN_TIMEOUT;
use crate::invariants::{Answered, Invariant, Violation, Window, longest_good_time};
use crate::world::{Happening, World};

/// The shortest gap between two of a breaker's probes.
const PROBE_GAP: Ms = SECOND / 5;

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
            Effect::Ask { .. } => Some(there.server),
            Effect::Reauth { .. } => by_server.then_some(there.server),
            Effect::Store { .. } => None,
        };
        if let Effect::Reauth { reason, .. } = effect {
            let rule = (reason, &*there.policy, there.way.unwrap_or(0));
            self.watch.logins.started(self.now, subject, rule, there.using, bound)?;
        }
        self.watch.limits.started(self.now, subject, flight, server)?;
        let in_a_minute = u64::try_from(self.watch.limits.in_a_minute(subject)).unwrap_or(0);
        self.tally.most_in_a_minute = self.tally.most_in_a_minute.max(in_a_minute);
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
            Outcome::Alive { .. } => Answered::Alive,
            _ if !current => Answered::Elsewhere,
            Outcome::Expired(_) => {
                self.watch.logins.expired(subject);
                Answered::Dead
            }
            Outcome::Rejected(_) if self.watch.logins.rejected(subject) => Answered::Dead,
            Outcome::Rejected(_)
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
            (Notice::Expired { candidate: false, .. }
            | Notice::Rejected { candidate: false, .. }
            | Notice::Missing { in_use: false, .. }, _)
                if way.is_none() =>
            {
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
        if due > self.now.max(sent + remaining * 9 / 10).max(self.now + SECOND) && remaining >= SECOND
        {
            return Err(self.violation(
                Invariant::NothingDiesThatCouldHaveLived,
                format!("token {subject} has {remaining} ms to live, and its check is due in {} ms", due - self.now),
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
    /// very step.
    fn recovered(&mut self, server: usize, asked_since: &[usize]) {
        let Some(keeper) = &self.keeper else { return };
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
            || there.poisoned.last().is_some_and(|(_, until)| *until > from)
            || self.watch.claims.others_since(there.server, from)
            || self.watch.idle_times(there.server, from, self.now + 1).next().is_some()
            || self.cut_since + 3 * self.plan.longest_life() > self.now;
        if disturbed || !self.can_be_renewed(subject) {
            return Ok(());
        }
        let what = format!("nothing is said to renew token {subject}, in fair weather");
        Err(self.violation(Invariant::RenewalIsProven, what))
    }

    /// Whether a call that the token's configuration permits renews it.
    fn can_be_renewed(&self, subject: usize) -> bool {
        let there = &self.subjects[subject];
        let traits = &self.servers[there.server].traits;
        match (traits.extends, there.policy.renewal) {
            (Extends::Nothing, _) | (Extends::Renew, Renewal::Query) => false,
            (_, Renewal::Renew) => !traits.refuses_renewing,
            (Extends::Any, _) | (Extends::Renew, Renewal::Auto) => true,
        }
    }

    /// After a step about a token: is another value in use, and is its bound a true one?
    pub(crate) fn look_at_value_in_use(
        &mut self,
        subject: usize,
        reading: Option<Heard>,
    ) -> Result<(), Violation> {
        let there = &self.subjects[subject];
        let Some(token) = there.id.and_then(|id| self.keeper.as_ref()?.token(id)) else {
            return Ok(());
        };
        let using = match token.standing() {
            Standing::Missing => None,
            _ => there.slots[token.active_slot() as usize],
        };
        let before = there.using;
        if using != before {
            if let Some(old) = before {
                let lived = self.lives(old) && !self.watch.logins.is_dead(subject);
                if lived && using.is_some() && using != reading.map(|r| r.session) {
                    let what = format!("token {subject} lived, and gave way to an unverified value");
                    return Err(self.violation(Invariant::NothingDiesThatCouldHaveLived, what));
                }
                self.check_death_of(subject)?;
            }
            self.subjects[subject].using = using;
            self.watch.logins.switched(subject);
            if let Some(new) = using {
                self.watch.survival.put_in_use(new, self.now);
            }
        }
        Ok(())
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

    /// A token's bound, if it has one, is a true one.
    fn check_bound(&mut self, subject: usize) -> Result<(), Violation> {
        let (Some(bound), Some(session)) = (self.bound_of(subject), self.subjects[subject].using)
        else {
            return Ok(());
        };
        let end = self.end_of(session);
        if bound > end && !self.sessions[session].revoked && !self.watch.survival.is_cut(session) {
            let late = bound - end;
            let what = format!("the bound of token {subject} is {late} ms later than its end");
            return Err(self.violation(Invariant::BoundIsTrue, what));
        }
        Ok(())
    }

    pub(crate) fn check_deaths(&mut self) -> Result<(), Violation> {
        (0..self.subjects.len()).try_for_each(|subject| self.check_death_of(subject))
    }

    /// If the value in use is at its end: could it have lived?
    pub(crate) fn check_death_of(&mut self, subject: usize) -> Result<(), Violation> {
        let Some(session) = self.subjects[subject].using else { return Ok(()) };
        let (end, life) = (self.end_of(session), self.sessions[session].life);
        if end > self.now || self.sessions[session].revoked {
            return Ok(());
        }
        let server = self.subjects[subject].server;
        let served = self.subjects.iter().filter(|there| there.server == server);
        let retry_max = served.map(|there| longest_retry(&there.policy)).max().unwrap_or(0);
        let Some(window) = self.watch.survival.ended(session, end, life, retry_max) else {
            return Ok(());
        };
        self.tally.deaths += 1;
        if !self.can_be_renewed(subject) {
            return Ok(());
        }
        self.tally.deaths_for_want_of_a_window += 1;
        let longest = longest_good_time(window, self.bad_times(subject, window));
        let needed = (life / 10).max(window.pause + self.service_time(subject, window));
        if longest < needed {
            return Ok(());
        }
        let Window { from, until, .. } = window;
        Err(self.violation(
            Invariant::NothingDiesThatCouldHaveLived,
            format!(
                "token {subject} died at {end} ms: of the time from {from} to {until} ms, \
                 {longest} ms in a row were good, and {needed} ms would have done"
            ),
        ))
    }

    /// When this token could not have been renewed within a window, whatever the keeper did.
    fn bad_times(&self, subject: usize, window: Window) -> Vec<(Ms, Ms)> {
        let Window { from, until, .. } = window;
        let there = &self.subjects[subject];
        let climate = &self.servers[there.server].climate;
        let mut bad: Vec<_> = climate.bad_times(from, until).collect();
        bad.extend(self.watch.idle_times(there.server, from, until));
        bad.extend(there.poisoned.iter().filter(|(start, end)| *start < until && *end > from));
        bad
    }

    /// How long it may take until a token's turn has come, once its server answers.
    fn service_time(&self, subject: usize, window: Window) -> Ms {
        let Window { from, until, pause } = window;
        let server = self.subjects[subject].server;
        let traits = &self.servers[server].traits;
        let latency = traits.longest_latency();
        let limits = self.plan.servers[server].limits;
        let (mut tokens, mut poisoned) = (0, 0);
        for there in self.subjects.iter().filter(|there| there.server == server) {
            tokens += 1;
            // Its last request may outlast the poison.
            let felt = |end: Ms| end + LOGIN_TIMEOUT;
            if there.poisoned.iter().any(|(start, end)| *start < until && felt(*end) > from) {
                let logs_in = there.way.is_some_and(|way| self.watch.logins.is_by_server(way));
                let timeout = if logs_in { LOGIN_TIMEOUT } else { whole(there.policy.timeout) };
                let spoilt = if there.poison == Poison::Hanging { timeout } else { latency };
                poisoned += spoilt + PROBE_GAP + pause;
            }
        }
        let by_rate = SECOND.div_ceil(u64::from(limits.rate_limit.get()));
        let by_places = latency.div_ceil(u64::from(limits.max_in_flight.get()));
        let everybody = tokens * 2 * by_rate.max(by_places);
        // A probe and the check itself may be slow; the calls of a proof are only as usual.
        PROBE_GAP + 2 * latency + 4 * traits.latency.1 + everybody + poisoned + 2 * self.plan.tick
    }

    pub(crate) fn lives(&self, session: SessionId) -> bool {
        let session = &self.sessions[session];
        session.lives_at(&self.servers[session.server], self.now)
    }

    fn end_of(&self, session: SessionId) -> Ms {
        let session = &self.sessions[session];
        session.end(&self.servers[session.server])
    }

    fn bound_of(&self, subject: usize) -> Option<Ms> {
        let id = self.subjects[subject].id?;
        self.keeper.as_ref()?.token(id)?.bound().map(Moment::as_millis)
    }
}

/// The pause that a token takes when no bound is ahead.
fn longest_retry(policy: &Policy) -> Ms {
    let origin = Moment::from_millis(0);
    let past = Reading { sent: origin, received: origin, remaining_ms: 0, by: Method::Query };
    whole(backoff(1, &policy.schedule, Some(&past), origin, Draw::new(0.0)))
}
