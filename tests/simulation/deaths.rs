//! Who is at the end of a life, and whether that had to be.

use tokenkeep::lifecycle::{Policy, RandomFraction, Renewal, Validity, backoff};
use tokenkeep::time::Moment;

use crate::actions::LOGIN_TIMEOUT;
use crate::api::{Extends, Poison, Poisoned, SessionId};
use crate::chance::{Ms, SECOND, whole};
use crate::invariants::{Invariant, Violation, Window, longest_good_time};
use crate::watching::Heard;
use crate::world::World;

/// The shortest gap between two of a breaker's probes.
const PROBE_GAP: Ms = SECOND / 5;

/// A check, and what follows it where the life has not grown: another, a renewing call, and a
/// query that tells. With another life for all, as a server may decide, everybody needs them.
const CALLS_OF_A_PROOF: Ms = 4;

impl World {
    /// Whether a call that the token's configuration permits renews it.
    pub(crate) fn can_be_renewed(&self, subject: usize) -> bool {
        let there = &self.subjects[subject];
        let traits = &self.servers[there.server].traits;
        if traits.rotates {
            return self.can_rotate(subject);
        }
        match (traits.extends, there.policy.renewal) {
            (Extends::Nothing, _) | (Extends::Renew, Renewal::Query) => false,
            (_, Renewal::Renew) => !traits.refuses_renewing,
            (Extends::Any, _) | (Extends::Renew, Renewal::Auto) => true,
        }
    }

    /// After a step about a token: is another value in use, and is its expiry a true one?
    pub(crate) fn look_at_value_in_use(
        &mut self,
        subject: usize,
        reading: Option<Heard>,
    ) -> Result<(), Violation> {
        let there = &self.subjects[subject];
        let Some(token) = there.id.and_then(|id| self.scheduler.as_ref()?.token(id)) else {
            return Ok(());
        };
        let using = match token.validity() {
            Validity::Missing => None,
            _ => there.slots[token.active_slot() as usize],
        };
        let before = there.using;
        if using != before {
            if let Some(old) = before {
                let lived = self.lives(old) && !self.watch.logins.is_dead(subject);
                if lived && using.is_some() && using != reading.map(|r| r.session) {
                    let what =
                        format!("token {subject} lived, and gave way to an unverified value");
                    return Err(self.violation(Invariant::NothingDiesThatCouldHaveLived, what));
                }
                self.check_death_of(subject)?;
            }
            self.subjects[subject].using = using;
            self.watch.logins.switched(subject, using);
            if let Some(new) = using {
                self.watch.survival.put_in_use(new, self.now);
            }
        }
        Ok(())
    }

    /// A token's expiry, if it has one, is a true one.
    pub(crate) fn check_bound(&mut self, subject: usize) -> Result<(), Violation> {
        let (Some(expiry), Some(session)) = (self.expiry_of(subject), self.subjects[subject].using)
        else {
            return Ok(());
        };
        let end = self.end_of(session);
        let is_true = self.subjects[subject].unconfirmed || self.sessions[session].revoked;
        if expiry > end && !is_true && !self.watch.survival.is_cut(session) {
            let late = expiry - end;
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
        let neighbours = self.subjects.iter().filter(|there| there.server == server);
        let retry_max = neighbours.map(|there| longest_retry(&there.policy)).max().unwrap_or(0);
        let Some(window) = self.watch.survival.ended(session, end, life, retry_max) else {
            return Ok(());
        };
        self.tally.deaths += 1;
        if !self.can_be_renewed(subject) || self.watch.spent.was_held(session) {
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

    /// When this token could not have been renewed within a window, whatever the scheduler did.
    fn bad_times(&self, subject: usize, window: Window) -> Vec<(Ms, Ms)> {
        let Window { from, until, .. } = window;
        let there = &self.subjects[subject];
        let climate = &self.servers[there.server].climate;
        let mut bad: Vec<_> = climate.bad_times(from, until).collect();
        bad.extend(self.watch.idle_times(there.server, from, until));
        let poisoned = there.poisoned.iter().filter(|p| p.from < until && p.until > from);
        bad.extend(poisoned.map(|p| (p.from, p.until)));
        let spoilt = there.spoilt.iter().filter(|(start, end)| *start < until && *end > from);
        bad.extend(spoilt);
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
            let by_server = there.way.is_some_and(|way| self.watch.logins.is_by_server(way));
            let timeout = if by_server { LOGIN_TIMEOUT } else { whole(there.policy.timeout) };
            // Its last request may outlast the poison.
            let is_felt = |p: &&Poisoned| p.from < until && p.until + timeout > from;
            if let Some(felt) = there.poisoned.iter().rev().find(is_felt) {
                let spoilt = if felt.kind == Poison::Hanging { timeout } else { latency };
                poisoned += spoilt + PROBE_GAP + pause;
            }
            // What spends a refresh token occupies its place until the whole timeout has passed.
            let hung = there.spoilt.iter().filter(|(start, end)| *start < until && *end > from);
            if traits.rotates {
                poisoned += hung.map(|(start, end)| end - start).sum::<Ms>();
            }
        }
        let by_rate = SECOND.div_ceil(u64::from(limits.rate_limit.get()));
        let by_places = latency.div_ceil(u64::from(limits.max_in_flight.get()));
        let everybody = tokens * CALLS_OF_A_PROOF * by_rate.max(by_places);
        // A probe and the check itself may be slow; the calls of a proof are only as usual.
        PROBE_GAP + 2 * latency + 4 * traits.latency.1 + everybody + poisoned + 2 * self.plan.tick
    }

    /// How long so many tokens take at most, all that a proof takes included.
    pub(crate) fn time_for_all(&self, server: usize, tokens: u64) -> Ms {
        let limits = self.plan.servers[server].limits;
        let latency = self.servers[server].traits.longest_latency();
        let by_rate = SECOND.div_ceil(u64::from(limits.rate_limit.get()));
        let by_places = latency.div_ceil(u64::from(limits.max_in_flight.get()));
        tokens * CALLS_OF_A_PROOF * by_rate.max(by_places) + 2 * latency + 2 * self.plan.tick
    }

    pub(crate) fn lives(&self, session: SessionId) -> bool {
        let session = &self.sessions[session];
        session.lives_at(&self.servers[session.server], self.now)
    }

    pub(crate) fn end_of(&self, session: SessionId) -> Ms {
        let session = &self.sessions[session];
        session.end(&self.servers[session.server])
    }

    pub(crate) fn expiry_of(&self, subject: usize) -> Option<Ms> {
        let id = self.subjects[subject].id?;
        self.scheduler.as_ref()?.token(id)?.expiry().map(Moment::as_millis)
    }
}

/// The pause that a token takes after many failures when no expiry is ahead.
fn longest_retry(policy: &Policy) -> Ms {
    whole(backoff(
        u16::MAX,
        &policy.schedule,
        None,
        Moment::from_millis(0),
        RandomFraction::new(0.0),
    ))
}
