//! What the watchers are told of the world's steps.

use std::collections::BTreeSet;

use tokenkeep::lifecycle::{Action, Method, Notice, Resource, SHORTEST_TIMEOUT, State, Validity};
use tokenkeep::outcome::{Connection, Outcome};
use tokenkeep::scheduler::{ReauthFailures, ServerNotice, StateCounts};
use tokenkeep::time::Moment;

use crate::api::{Extends, Server, SessionId};
use crate::chance::{MINUTE, Ms, SECOND, whole};
use crate::invariants::{Answered, Invariant, Left, Violation, Watch};
use crate::world::{Happening, World};

/// What is known of one answer before the scheduler hears it.
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
        action: Action,
    ) -> Result<(), Violation> {
        let there = &self.subjects[subject];
        let expiry = self.expiry_of(subject);
        let by_server = there.way.is_some_and(|way| self.watch.logins.is_by_server(way));
        let server = match action {
            Action::Check { .. } | Action::Revoke { .. } => Some(there.server),
            Action::Reauth { .. } => by_server.then_some(there.server),
            Action::Persist { .. } => None,
        };
        if let Action::Reauth { reason, attempt } = action {
            if self.ending {
                let what = format!("token {subject} logs in while the daemon stops");
                return Err(self.violation(Invariant::LoginsHaveAReason, what));
            }
            let way = there.way.unwrap_or(0);
            let rule = (reason, &*there.policy, way, self.watch.spent.is_lost(subject));
            self.watch.logins.started(self.now, (subject, attempt), rule, there.using, expiry)?;
            if !by_server {
                self.watch.slots.started(way);
            }
        }
        if !matches!(action, Action::Persist { .. }) {
            let at = there.server;
            self.watch.outages.started(self.now, at, subject, server.is_some())?;
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
        self.watch.order.started(self.now, (server, rate), subject, expiry)?;
        if self.watch.limits.is_full(server) {
            self.watch.order.held_back(server);
            self.watch.outages.full(server);
        }
        Ok(())
    }

    /// A request about a value starts; where its server is down, it is a probe.
    pub(crate) fn watch_connection(
        &mut self,
        (server, subject): (usize, usize),
        session: SessionId,
        connection: Connection,
    ) -> Result<(), Violation> {
        let probing = self.watch.outages.is_down(server);
        self.watch.fresh.asked(self.now, (subject, session), connection, probing)?;
        if probing
            && self.stopping.is_none()
            && self.watch.outages.has_failed(server, subject)
            && !self.in_batch
            && self.looks_closely()
        {
            let others = 0..self.subjects.len();
            if let Some(other) = others
                .filter(|other| self.subjects[*other].server == server)
                .filter(|other| !self.watch.outages.may_have_failed(server, *other))
                .filter(|other| !self.watch.outages.has_own_trouble(server, *other))
                .find(|other| self.waits_for_server(*other))
            {
                let what = format!(
                    "token {subject}, which has failed in this outage, is the probe of server \
                     {server}, while token {other} waits, which has not"
                );
                return Err(self.violation(Invariant::OutagesAreReal, what));
            }
        }
        Ok(())
    }

    /// Looking at all tokens is dear: in a large world only now and then.
    fn looks_closely(&mut self) -> bool {
        self.looks += 1;
        let every = u64::try_from(self.subjects.len()).unwrap_or(1) / 100;
        self.looks.is_multiple_of(every.max(1))
    }

    /// Whether a token is due at its server, and not being asked about.
    fn waits_for_server(&self, subject: usize) -> bool {
        let token = self.subjects[subject].id.and_then(|id| self.scheduler.as_ref()?.token(id));
        let due = token.and_then(|token| token.due_for(Resource::Server));
        due.is_some_and(|due| due <= Moment::from_millis(self.now))
    }

    /// Whether a token's next request is due, or waits out a pause after one that failed.
    fn is_owed(&self, subject: usize) -> bool {
        let there = &self.subjects[subject];
        let token = there.id.and_then(|id| self.scheduler.as_ref()?.token(id));
        let Some(token) = token.filter(|_| there.poisoned_until() <= self.now) else {
            return false;
        };
        let held_until =
            self.watch.spent.held_until(subject, there.refresh, self.left(subject), &there.policy);
        !self.has_no_living_value(subject)
            && !token.is_busy()
            && self.now >= held_until
            && (self.waits_for_server(subject) || token.is_failing())
    }

    /// Whether the value in use is known to be dead, or there is none.
    pub(crate) fn has_no_living_value(&self, subject: usize) -> bool {
        let token = self.subjects[subject].id.and_then(|id| self.scheduler.as_ref()?.token(id));
        token.is_some_and(|token| {
            matches!(token.validity(), Validity::Missing | Validity::Expired | Validity::Rejected)
        })
    }

    /// What is known of the life of a token's value: what the last reading reported, and its expiry.
    /// An earlier run's reading tells nothing once the expiry has passed.
    pub(crate) fn left(&self, subject: usize) -> Left {
        let token = self.subjects[subject].id.and_then(|id| self.scheduler.as_ref()?.token(id));
        if token.is_some_and(|token| {
            token.is_restored() && matches!(token.validity(), Validity::Unverified(_))
        }) {
            return None;
        }
        let session =
            self.subjects[subject].using.filter(|_| !self.watch.logins.is_dead(subject))?;
        Some((self.watch.survival.reported(session), self.watch.survival.expiry(session)?))
    }

    /// A request has ended, before the scheduler hears of it.
    pub(crate) fn contact(&mut self, since: Ms, server: usize, subject: usize, made: bool) {
        self.watch.outages.contact((since, self.now), server, subject, made);
    }

    /// A request has ended, and the scheduler has heard of it: a server of which all tokens fail
    /// that are being asked about is down.
    pub(crate) fn watch_outage(&mut self, server: usize) -> Result<(), Violation> {
        let Some(scheduler) = &self.scheduler else { return Ok(()) };
        let asked = asked(scheduler.state_counts_of(self.server_ids[server]));
        let failed = self.watch.outages.failed(server);
        if failed == 0
            || failed < asked
            || self.watch.outages.is_down(server)
            || self.stopping.is_some()
        {
            return Ok(());
        }
        let all = (0..self.subjects.len())
            .filter(|subject| self.subjects[*subject].server == server)
            .filter(|subject| self.is_asked(*subject))
            .all(|subject| self.watch.outages.fails_for_certain(server, subject));
        if asked == 0 || !all {
            return Ok(());
        }
        let what = format!("all {asked} tokens of server {server} fail, and that is not said");
        Err(self.violation(Invariant::OutagesAreReal, what))
    }

    /// Whether a token has a value that may live.
    fn is_asked(&self, subject: usize) -> bool {
        let there = &self.subjects[subject];
        let token = there.id.and_then(|id| self.scheduler.as_ref()?.token(id));
        token.is_some_and(|token| {
            !matches!(token.validity(), Validity::Missing | Validity::Expired | Validity::Rejected)
        })
    }

    pub(crate) fn failures_of(&self, subject: usize) -> Option<ReauthFailures> {
        let way = self.subjects[subject].way?;
        self.scheduler.as_ref()?.reauth_failures(self.way_ids[way])
    }

    /// An attempt without a conclusion has ended: the budgets are as they were before it.
    pub(crate) fn check_that_it_was_free(
        &self,
        subject: usize,
        failures: Option<ReauthFailures>,
    ) -> Result<(), Violation> {
        if self.failures_of(subject) != failures {
            let what = format!("an inconclusive attempt of token {subject} counts for all");
            return Err(self.violation(Invariant::InconclusiveIsFree, what));
        }
        let token = self.subjects[subject].id.and_then(|id| self.scheduler.as_ref()?.token(id));
        let counted = token.and_then(|token| token.attempts()).map_or(0, |all| all.counted);
        let attempt = self.watch.logins.attempt(subject);
        if counted >= attempt {
            let what = format!(
                "attempt {attempt} of token {subject} was inconclusive, and {counted} count"
            );
            return Err(self.violation(Invariant::InconclusiveIsFree, what));
        }
        Ok(())
    }

    /// The flight is over for the daemon; `server` is the one that it was at.
    pub(crate) fn watch_end(&mut self, subject: usize, flight: usize, server: Option<usize>) {
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
        let token = there.id.and_then(|id| self.scheduler.as_ref()?.token(id));
        let due = token.and_then(|token| token.due_for(Resource::Server));
        if let (Some(due), Some(session)) = (due, there.using) {
            self.watch.survival.due_again(session, due.as_millis());
        }
    }

    /// A server has asked for quiet.
    pub(crate) fn watch_quiet(&mut self, server: usize, wish: Ms) {
        self.watch.outages.excused_until(server, self.now + wish);
        self.watch.outages.disturbed(server);
        self.watch.limits.quiet(server, self.now, self.now + wish);
        self.watch.order.held_back(server);
    }

    /// An answer about a value that the daemon still holds is about to be told.
    pub(crate) fn watch_answer(
        &mut self,
        (subject, sent): (usize, Ms),
        session: SessionId,
        replaced: Option<SessionId>,
        outcome: &Outcome,
    ) {
        if let Some(new) = replaced {
            self.watch.claims.replaced(session, new);
            self.watch.logins.replaced(subject, session, new);
        }
        let there = &mut self.subjects[subject];
        let current =
            there.using == Some(session) || there.using.is_none() && there.nothing == Some(session);
        // A new value from an outdated renewal is adopted, and asked about next.
        let is_outdated = there.renewal_outdated_at.take().is_some_and(|at| sent <= at);
        let answered = match outcome {
            _ if current && is_outdated => Answered::Candidate,
            Outcome::Alive { remaining } if current && remaining.is_zero() => Answered::Spent,
            Outcome::Alive { remaining } if remaining.is_zero() => Answered::Elsewhere,
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
            (Notice::ReauthFailed { fault, .. }, _) => {
                if let Some(way) = way.filter(|_| !fault.inconclusive) {
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
        let expiry = sent + remaining;
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
        if spoilt && self.watch.survival.expiry(session).is_some_and(|expiry| sent < expiry) {
            self.tally.narrow_escapes += 1;
        }
        let ends = (end, true_end);
        self.watch.survival.checked(self.now, session, (expiry, due), ends, spoilt);
        self.watch.survival.reports(session, remaining);
        self.watch.schedule.checked(self.now, subject, expiry);
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
        server: usize,
        notice: &ServerNotice,
        asked_since: &[usize],
    ) -> Result<(), Violation> {
        self.watch.reports.said_of_server(self.now, server, notice)?;
        match notice {
            ServerNotice::Unavailable { .. } => {
                self.tally.outages += 1;
                self.watch.order.forget(server);
                return self.opened(server);
            }
            ServerNotice::Recovered { .. } => {
                self.recovered(server, asked_since);
                self.closed(server);
            }
            ServerNotice::RenewalLearned(method) => return self.learned(server, *method),
            // There is no other replica.
            ServerNotice::Untried => {
                let what = format!("server {server} is given up");
                return Err(self.violation(Invariant::SaidOnce, what));
            }
        }
        Ok(())
    }

    /// A server has recovered: who waits for it, those included that are asked about in this
    /// very step. While the daemon winds down, only new values are asked about.
    fn recovered(&mut self, server: usize, asked_since: &[usize]) {
        let Some(scheduler) = self.scheduler.as_ref().filter(|_| self.stopping.is_none()) else {
            return;
        };
        let now = Moment::from_millis(self.now);
        let waits = |number: usize| {
            let there = &self.subjects[number];
            let token = scheduler.token(there.id?).filter(|_| there.server == server)?;
            let due = token.due_for(Resource::Server).is_some_and(|due| due <= now);
            let waits = due || asked_since.contains(&number);
            Some((token.expiry().filter(|_| waits)?.as_millis(), number))
        };
        let waiting: Vec<_> = (0..self.subjects.len()).filter_map(waits).collect();
        self.watch.order.recovered(self.now, server, waiting.into_iter());
        if self.watch.limits.is_full(server) || self.watch.limits.throttled_until(server) > self.now
        {
            self.watch.order.held_back(server);
        }
    }

    fn opened(&mut self, server: usize) -> Result<(), Violation> {
        let Some(scheduler) = &self.scheduler else { return Ok(()) };
        let asked = asked(scheduler.state_counts_of(self.server_ids[server]));
        let now = self.now;
        let Server { climate, traits, .. } = &self.servers[server];
        // Just before an expiry, a request has less time than such a server may take.
        let is_quick = traits.longest_latency() < whole(SHORTEST_TIMEOUT);
        let fair = |since| is_quick && climate.bad_times(since, now + 1).next().is_none();
        self.watch.outages.opened(now, server, asked, fair)
    }

    /// A server has recovered: who is to be asked about soon?
    fn closed(&mut self, server: usize) {
        let waiting: BTreeSet<_> = (0..self.subjects.len())
            .filter(|subject| self.subjects[*subject].server == server)
            .filter(|subject| self.is_owed(*subject))
            .filter(|subject| !self.watch.outages.has_own_trouble(server, *subject))
            .collect();
        let tokens = u64::try_from(waiting.len()).unwrap_or(u64::MAX);
        let service_time = self.time_for_all(server, tokens);
        self.watch.outages.closed(self.now, server, waiting, service_time);
    }

    /// What must have happened by now at a server that is down or has recovered.
    fn watch_servers(&mut self) -> Result<(), Violation> {
        for server in 0..self.servers.len() {
            let limits = self.plan.servers[server].limits;
            let slack = 2 * self.plan.tick + SECOND.div_ceil(u64::from(limits.rate_limit.get()));
            // An action that is about to be cancelled may be the probe, and another one follows.
            if !self.cancelled.is_empty() {
                self.watch.outages.excused_until(server, self.now);
            }
            if self.watch.limits.in_flight(server) == 0
                && self.watch.outages.is_probed_too_seldom(self.now, server, slack)
            {
                let owed = (0..self.subjects.len())
                    .filter(|subject| self.subjects[*subject].server == server)
                    .filter(|subject| !self.watch.outages.has_own_trouble(server, *subject))
                    .filter(|subject| self.watch.outages.has_waited(server, *subject, slack))
                    .find(|subject| self.is_owed(*subject));
                if let Some(owed) = owed {
                    let what = format!(
                        "server {server} is down, token {owed} waits, and nothing probes it"
                    );
                    return Err(self.violation(Invariant::OutagesAreReal, what));
                }
                // All renewals may be held.
                self.watch.outages.excused_until(server, self.now);
            }
            let rate = u64::from(limits.rate_limit.get());
            let Some((since, waiting)) = self.watch.outages.overdue(self.now, server, rate) else {
                continue;
            };
            let fair = self.servers[server].climate.bad_times(since, self.now + 1).next().is_none();
            let awake = self.watch.idle_times(server, since, self.now + 1).next().is_none();
            if let (true, Some(owed)) =
                (fair && awake, waiting.iter().find(|subject| self.is_owed(**subject)))
            {
                let what = format!(
                    "server {server} answers since {since} ms, and token {owed} has not been \
                     asked about"
                );
                return Err(self.violation(Invariant::RecoveryIsPrompt, what));
            }
        }
        Ok(())
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

    /// After every step; `about` are the tokens that it was about.
    pub(crate) fn watch_step(&mut self, about: &[usize]) -> Result<(), Violation> {
        self.watch.reports.settle(self.now)?;
        self.watch.outages.at(self.now);
        for subject in about {
            self.check_bound(*subject)?;
        }
        let (Some(scheduler), None) = (&self.scheduler, self.stopping) else { return Ok(()) };
        let now = self.now;
        self.watch.schedule.check(now, scheduler, &self.subjects)?;
        if self.cancelled.is_empty() {
            self.watch.permits.check(now, scheduler, &self.server_ids, &self.way_ids)?;
            for subject in about {
                self.check_that_it_is_free(*subject)?;
            }
        }
        if !self.ending {
            let Watch { slots, logins, outages, .. } = &mut self.watch;
            slots.check(now, scheduler, &self.subjects, (logins, outages))?;
        }
        self.watch_servers()
    }

    /// A token that counts as busy has something in flight.
    fn check_that_it_is_free(&self, subject: usize) -> Result<(), Violation> {
        let token = self.subjects[subject].id.and_then(|id| self.scheduler.as_ref()?.token(id));
        if token.is_some_and(|token| token.is_busy()) && !self.watch.limits.is_busy(subject) {
            let what = format!("token {subject} waits for an action that is not in flight");
            return Err(self.violation(Invariant::NothingIsLost, what));
        }
        Ok(())
    }
}

/// How many tokens have a value that may live.
fn asked(counts: StateCounts) -> usize {
    [State::Alive, State::Retrying, State::Unverified].map(|state| counts.of(state)).iter().sum()
}
