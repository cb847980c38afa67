//! Spendings: logins, and renewals that spend a refresh token, from the grant to the result.

use std::time::Duration;

use tokenkeep::cluster::replica::{Count, SpendId, Spent};
use tokenkeep::lifecycle::{
    Action, CheckResult, ReauthError, ReauthOutcome, ReauthResult, Slot, Validity,
};
use tokenkeep::outcome::{CallError, Outcome};
use tokenkeep::scheduler::{ReauthRoute, Ticket};
use tokenkeep::time::Moment;

use crate::api::{Spending, Value};
use crate::chance::SECOND;
use crate::flights::{Flight, Job, Spend, SpendResult, What, outcome_of};
use crate::host::Origin;
use crate::invariants::{Begun, Violation};
use crate::world::{Happening, World};

impl World {
    /// A spending was granted: after its locks, and its durable count, it looks at the clock.
    pub(crate) fn start_spending(
        &mut self,
        host: usize,
        id: SpendId,
        ticket: Ticket,
        action: Action,
    ) {
        let there = &self.hosts[host];
        let Some(daemon) = &there.daemon else { return };
        let token = daemon.token_of(ticket.token);
        let (what, timeout) = match action {
            Action::Reauth { .. } => (What::LogIn, self.plan.login_timeout),
            Action::Check { slot, timeout, .. } => (What::Rotate(slot), timeout),
            Action::Revoke { slot, timeout } => (What::Revoke(slot), timeout),
            Action::Persist { .. } => return,
        };
        let (incarnation, sent) = (there.incarnation, there.moment(self.now));
        let spend = Spend {
            id,
            what,
            timeout,
            result: SpendResult::Nothing,
            refresh: None,
            from: None,
            is_lost: false,
        };
        let job = Job::Spend(spend);
        let number = self.fly(Flight { host, incarnation, ticket, token, sent, job });
        let wait = match self.chance.between(0, 19) {
            0 => self.chance.spread(1, 20 * SECOND),
            _ => self.chance.between(0, 100),
        };
        self.at(self.now + wait, Happening::Looks(number));
    }

    /// A spending looks at the clock, and is sent in the same instant.
    pub(crate) fn looks(&mut self, number: u64) -> Result<(), Violation> {
        let Some(Flight { host, token, ticket, job: Job::Spend(spend), .. }) =
            self.flights.get(&number).cloned()
        else {
            return Ok(());
        };
        let moment = self.hosts[host].moment(self.now);
        let Some(daemon) = &self.hosts[host].daemon else { return Ok(()) };
        if !daemon.replica.may_begin(spend.id, moment) {
            self.tally.too_late += 1;
            self.flights.remove(&number);
            let id = spend.id;
            let count = self.deferred_count(host, ticket, spend.what, moment);
            self.turn(host, |daemon, now| {
                daemon.replica.spent(id, Spent { value: None, count }, now);
            })?;
            self.take_up(host, token);
            return Ok(());
        }
        let is_expected = daemon.scheduler.expects(ticket);
        let current = match spend.what {
            What::LogIn => daemon.current(token),
            What::Rotate(slot) | What::Revoke(slot) => daemon.slot(token, slot),
        };
        let current = current.map(|(value, _)| value);
        let companion = self.hosts[host].disk.companions[token];
        let is_unknown = daemon
            .scheduler
            .token(ticket.token)
            .is_some_and(|token| token.validity() == Validity::Unknown);
        if let Some(Flight { job: Job::Spend(spend), .. }) = self.flights.get_mut(&number) {
            spend.from = current.map(|value| value.session);
        }
        if let What::Rotate(_) = spend.what {
            return self.begin_rotation(number, is_expected, (current, companion), is_unknown);
        }
        self.begin(number, current)
    }

    /// The attempt that was not begun does not count.
    fn deferred_count(
        &mut self,
        host: usize,
        ticket: Ticket,
        what: What,
        now: Moment,
    ) -> Option<Count> {
        let daemon = self.hosts[host].daemon.as_mut()?;
        daemon.scheduler.defer(ticket, now + Duration::from_secs(1), now);
        if what == What::LogIn { self.count(host, ticket) } else { None }
    }

    /// A rotation queries a value of which nothing is known, and that may live.
    fn begin_rotation(
        &mut self,
        number: u64,
        is_expected: bool,
        (current, companion): (Option<Value>, Option<Value>),
        is_unknown: bool,
    ) -> Result<(), Violation> {
        let is_queried = self.plan.has_query && is_unknown && current.is_some();
        let refresh = companion.and_then(|value| value.refresh);
        let alive = current.filter(|value| self.api.is_alive(value.session, self.now));
        if is_expected && !(is_queried && alive.is_some()) && refresh.is_some() {
            return self.begin(number, companion);
        }
        // A query, or nothing is sent at all.
        let answer = current
            .filter(|_| self.plan.has_query && is_expected)
            .map(|value| self.api.ask(value.session, false, self.now));
        if let Some(Flight { job: Job::Spend(spend), .. }) = self.flights.get_mut(&number) {
            spend.result = answer.map_or(SpendResult::Nothing, SpendResult::Queried);
        }
        self.at(self.now + 50, Happening::Ends(number));
        Ok(())
    }

    /// The API begins a spending.
    fn begin(&mut self, number: u64, current: Option<Value>) -> Result<(), Violation> {
        let Some(Flight { host, token, job: Job::Spend(spend), .. }) =
            self.flights.get(&number).cloned()
        else {
            return Ok(());
        };
        let timeout = self.hosts[host].true_time(spend.timeout, self.now).max(2);
        let takes = match self.chance.between(0, 19) {
            0 => timeout + self.chance.between(0, timeout),
            1..=3 => self.chance.spread(10, timeout),
            _ => self.chance.spread(10, (2 * SECOND).min(timeout)),
        };
        let is_cut = self.is_api_cut(host);
        let is_lost = self.chance.odds(0.05) || is_cut;
        let ends = self.now + takes.min(timeout);
        let begun = Begun {
            host,
            token,
            current: current.map(|value| value.session),
            is_login: spend.what == What::LogIn,
        };
        self.trace.spends(self.now, host, token, ends - self.now);
        let other = self.api.begin(token, Spending { host, ends }, self.now);
        if let Some(other) = other {
            self.two_spendings(token, host, other.host)?;
        }
        self.spending_begins(begun)?;
        if spend.what == What::LogIn {
            self.tally.logins += 1;
        } else {
            self.tally.rotations += 1;
        }
        // The API acts at the beginning or at the end.
        let acts = self.now + if self.chance.odds(0.5) { 1 } else { takes.min(timeout) };
        if let Some(Flight { job: Job::Spend(spend), .. }) = self.flights.get_mut(&number) {
            spend.is_lost = is_lost || takes > timeout;
            spend.refresh = current.and_then(|value| value.refresh);
        }
        if !is_cut {
            self.at(acts.min(ends), Happening::Acts(number));
        }
        self.at(ends, Happening::IsOver { token, host });
        let hears = if is_lost || takes > timeout { self.now + timeout } else { ends };
        self.at(hears + 1, Happening::Ends(number));
        Ok(())
    }

    pub(crate) fn login_ended(
        &mut self,
        host: usize,
        ticket: Ticket,
        token: usize,
        sent: Moment,
        spend: &Spend,
    ) -> Result<(), Violation> {
        let nonce = self.chance.seed();
        let received = self.hosts[host].moment(self.now);
        let Some(daemon) = &mut self.hosts[host].daemon else { return Ok(()) };
        let (result, value) = match spend.result {
            SpendResult::New(value) if !spend.is_lost => {
                if daemon.scheduler.expects(ticket)
                    && let Some(spare) = daemon.spare(token)
                {
                    daemon.slots[token][spare as usize] = Some((value, Origin::Spent));
                }
                if value.refresh.is_some() {
                    self.hosts[host].disk.companions[token] = Some(value);
                }
                (ReauthOutcome::NewValue { stored: false }, Some(value))
            }
            SpendResult::Refused if !spend.is_lost => {
                (ReauthOutcome::Failed(refused("wrong password", Some(403))), None)
            }
            // A command that hangs is killed, and has failed.
            _ if self.plan.reauth.route == ReauthRoute::Hook => {
                let error = ReauthError { error: "timeout".into(), ..ReauthError::default() };
                (ReauthOutcome::Failed(error), None)
            }
            _ => (ReauthOutcome::Failed(refused("no answer in time", None)), None),
        };
        self.trace.login(self.now, host, token, value);
        let Some(daemon) = &mut self.hosts[host].daemon else { return Ok(()) };
        let result = ReauthResult { result, duration: received.since(sent) };
        daemon.scheduler.reauth_finished(ticket, result, received);
        daemon.update_listing(token, received);
        // A value that came from the cluster meanwhile is in the way of this one.
        daemon.publishing[token] = value.map(|value| (value, daemon.offer_again[token]));
        let count = self.count(host, ticket);
        let spent = Spent { value: value.map(|value| value.seal(nonce)), count };
        let id = spend.id;
        self.turn(host, |daemon, now| daemon.replica.spent(id, spent, now))?;
        self.take_up(host, token);
        self.turn(host, |_, _| {})
    }

    pub(crate) fn rotation_ended(
        &mut self,
        host: usize,
        ticket: Ticket,
        (token, slot): (usize, Slot),
        sent: Moment,
        spend: &Spend,
    ) -> Result<(), Violation> {
        let nonce = self.chance.seed();
        let received = self.hosts[host].moment(self.now);
        let now = self.now;
        let Some(daemon) = &mut self.hosts[host].daemon else { return Ok(()) };
        let no_refresh = || CallError {
            local: true,
            no_refresh_token: true,
            ..CallError::new("no refresh token")
        };
        let current = daemon.slot(token, slot);
        let (outcome, value) = match spend.result {
            _ if spend.is_lost => {
                let fault = CallError { may_have_acted: true, ..CallError::new("no answer") };
                (Outcome::Unavailable(fault), None)
            }
            SpendResult::New(value) => {
                let remaining = self.api.sessions[value.session].end.saturating_sub(now);
                (Outcome::Alive { remaining: Duration::from_millis(remaining) }, Some(value))
            }
            SpendResult::Refused => {
                let answer = current.filter(|_| self.plan.has_query);
                let alive = answer
                    .filter(|(value, _)| self.api.is_alive(value.session, now))
                    .map(|(value, _)| self.api.sessions[value.session].end - now);
                match alive {
                    Some(left) => (Outcome::Alive { remaining: Duration::from_millis(left) }, None),
                    None => (Outcome::Rejected(CallError::new("invalid_grant")), None),
                }
            }
            SpendResult::Queried(answer) => (outcome_of(Some(answer)), None),
            SpendResult::Nothing | SpendResult::Revoked => {
                (Outcome::Misconfigured(no_refresh()), None)
            }
        };
        let is_refused =
            spend.result == SpendResult::Refused && matches!(outcome, Outcome::Alive { .. });
        self.trace.answer(now, host, token, slot, &outcome);
        // What the slot has got meanwhile is newer: the result is for a value that is gone.
        let replaced = value.is_some() && current.map(|(value, _)| value.session) == spend.from;
        let answer = CheckResult { sent, received, outcome, replaced, cannot_renew: is_refused };
        if let Some(value) = value {
            if replaced && daemon.scheduler.expects(ticket) {
                daemon.slots[token][slot as usize] = Some((value, Origin::Spent));
            }
            daemon.publishing[token] = Some((value, daemon.offer_again[token]));
            // Durable before anything else, unless another one has come meanwhile.
            let companion = &mut self.hosts[host].disk.companions[token];
            if companion.and_then(|value| value.refresh) == spend.refresh {
                *companion = Some(value);
            }
        }
        let spent = Spent { value: value.map(|value| value.seal(nonce)), count: None };
        let id = spend.id;
        self.turn(host, |daemon, now| {
            daemon.scheduler.check_finished(ticket, answer, now);
            daemon.update_listing(token, now);
            daemon.replica.spent(id, spent, now);
        })?;
        self.publish_if_new(host, token);
        self.take_up(host, token);
        self.turn(host, |_, _| {})
    }
}

fn refused(error: &str, status: Option<u16>) -> ReauthError {
    let unavailable = status.is_none();
    ReauthError {
        error: error.into(),
        exit_status: None,
        status,
        unavailable,
        inconclusive: unavailable,
        retry_after: None,
    }
}
