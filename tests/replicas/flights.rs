//! Actions that are being executed: requests to the API, spendings, writes.

use std::time::Duration;

use tokenkeep::cluster::replica::{SpendId, Spent};
use tokenkeep::lifecycle::{CheckResult, Method, Slot};
use tokenkeep::outcome::{CallError, Outcome};
use tokenkeep::scheduler::Ticket;
use tokenkeep::time::Moment;

use crate::api::{Answer, Refresh, Renews, SessionId, Value};
use crate::chance::{Ms, whole};
use crate::invariants::{Invariant, Violation};
use crate::world::{Happening, World};

/// The longest that a response of the API takes.
const SLOWEST_ANSWER: Ms = 400;

/// What a daemon has started and not heard of again.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    pub(crate) host: usize,
    pub(crate) incarnation: u64,
    pub(crate) ticket: Ticket,
    pub(crate) token: usize,
    pub(crate) sent: Moment,
    pub(crate) job: Job,
}

#[derive(Debug, Clone)]
pub(crate) enum Job {
    Ask { method: Method, slot: Slot, value: Value, answer: Option<Answer>, is_lost: bool },
    Spend(Spend),
    Persist { value: Value },
}

#[derive(Debug, Clone)]
pub(crate) struct Spend {
    pub(crate) id: SpendId,
    pub(crate) what: What,
    pub(crate) timeout: Duration,
    pub(crate) result: SpendResult,
    /// What a rotation sends.
    pub(crate) refresh: Option<Refresh>,
    /// The value that was in its slot at the beginning.
    pub(crate) from: Option<SessionId>,
    /// The response never arrives.
    pub(crate) is_lost: bool,
}

/// What a spending does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    LogIn,
    /// Renews the value in a slot by the refresh token.
    Rotate(Slot),
    Revoke(Slot),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpendResult {
    /// The API has not acted.
    Nothing,
    New(Value),
    Refused,
    /// The query in place of a renewal.
    Queried(Answer),
    Revoked,
}

impl World {
    pub(crate) fn fly(&mut self, flight: Flight) -> u64 {
        self.last_flight += 1;
        self.flights.insert(self.last_flight, flight);
        self.last_flight
    }

    /// Whether no request of this host arrives at the API.
    pub(crate) fn is_api_cut(&self, host: usize) -> bool {
        self.now < self.api.down_until.max(self.hosts[host].api_cut_until)
    }

    /// Asks about a value.
    pub(crate) fn ask(
        &mut self,
        host: usize,
        ticket: Ticket,
        (method, slot, timeout): (Method, Slot, Duration),
    ) -> Result<(), Violation> {
        let there = &self.hosts[host];
        let token = there.daemon.as_ref().map_or(0, |daemon| daemon.token_of(ticket.token));
        let value = there.daemon.as_ref().and_then(|daemon| daemon.slot(token, slot));
        let Some((value, _)) = value else {
            let what = format!("host {host} asks about token {token} without a value");
            return Err(self.violation(Invariant::EachTokenIsAsked, what));
        };
        self.tally.checks += 1;
        let (incarnation, sent) = (there.incarnation, there.moment(self.now));
        let timeout = there.true_time(timeout, self.now);
        let is_cut = self.is_api_cut(host);
        let is_lost = self.chance.odds(0.005) || is_cut;
        if is_lost {
            self.watch.survival.lost(self.now, token);
        }
        let answers = self.chance.between(2, SLOWEST_ANSWER);
        let acts = self.now + answers / 2;
        let job = Job::Ask { method, slot, value, answer: None, is_lost };
        let number = self.fly(Flight { host, incarnation, ticket, token, sent, job });
        if !is_cut {
            self.at(acts, Happening::Acts(number));
        }
        let takes = if is_lost { timeout } else { answers.min(timeout) };
        self.at(self.now + takes.max(1), Happening::Ends(number));
        Ok(())
    }

    /// Writes a value to its source.
    pub(crate) fn persist(&mut self, host: usize, ticket: Ticket, slot: Slot) {
        let there = &self.hosts[host];
        let Some(daemon) = &there.daemon else { return };
        let token = daemon.token_of(ticket.token);
        let Some((value, _)) = daemon.slot(token, slot) else { return };
        let (incarnation, sent) = (there.incarnation, there.moment(self.now));
        let job = Job::Persist { value };
        let number = self.fly(Flight { host, incarnation, ticket, token, sent, job });
        let takes = self.chance.between(1, 50);
        self.at(self.now + takes, Happening::Ends(number));
    }

    /// The API does what a request asks for, whether or not its client still waits.
    pub(crate) fn acts(&mut self, number: u64) -> Result<(), Violation> {
        let now = self.now;
        let Some(flight) = self.flights.get(&number).cloned() else { return Ok(()) };
        let token = flight.token;
        match flight.job {
            Job::Ask { method, value, .. } => {
                let answered = self.api.ask(value.session, method == Method::Renew, now);
                if let Some(Flight { job: Job::Ask { answer, .. }, .. }) =
                    self.flights.get_mut(&number)
                {
                    *answer = Some(answered);
                }
            }
            Job::Spend(Spend { what, refresh, is_lost, .. }) => {
                let result = match what {
                    What::LogIn if now < self.api.refuses_until => {
                        // A login request without a response is inconclusive: it does not count.
                        if !is_lost {
                            self.login_refused(token)?;
                        }
                        SpendResult::Refused
                    }
                    What::LogIn => {
                        let value = self.api.log_in(token, now);
                        self.logged_in(token, value.session);
                        SpendResult::New(value)
                    }
                    What::Rotate(_) => match refresh {
                        Some(refresh) => match self.api.rotate(token, refresh, now) {
                            Some(value) => SpendResult::New(value),
                            None => SpendResult::Refused,
                        },
                        None => SpendResult::Nothing,
                    },
                    What::Revoke(_) => SpendResult::Revoked,
                };
                if let Some(Flight { job: Job::Spend(spend), .. }) = self.flights.get_mut(&number) {
                    spend.result = result;
                }
            }
            Job::Persist { .. } => {}
        }
        Ok(())
    }

    /// A daemon hears how its action has ended.
    pub(crate) fn ends(&mut self, number: u64) -> Result<(), Violation> {
        let Some(flight) = self.flights.remove(&number) else { return Ok(()) };
        let Flight { host, ticket, token, sent, job, .. } = flight;
        match job {
            Job::Ask { slot, answer, is_lost, .. } => {
                let outcome = outcome_of(answer.filter(|_| !is_lost));
                self.trace.answer(self.now, host, token, slot, &outcome);
                let received = self.hosts[host].moment(self.now);
                let answer =
                    CheckResult { sent, received, outcome, replaced: false, cannot_renew: false };
                self.turn(host, |daemon, now| {
                    daemon.scheduler.check_finished(ticket, answer, now);
                    daemon.update_listing(token, now);
                })?;
                self.publish_if_new(host, token);
                self.take_up(host, token);
                self.turn(host, |_, _| {})
            }
            Job::Persist { value } => {
                self.hosts[host].disk.values[token] = Some(value);
                self.turn(host, |daemon, now| {
                    daemon.in_source[token] = Some(value);
                    daemon.scheduler.persist_finished(ticket, Ok(()), now);
                })
            }
            Job::Spend(spend) => match spend.what {
                What::LogIn => self.login_ended(host, ticket, token, sent, &spend),
                What::Rotate(slot) => {
                    self.rotation_ended(host, ticket, (token, slot), sent, &spend)
                }
                What::Revoke(_) => {
                    let id = spend.id;
                    self.turn(host, |daemon, now| {
                        daemon.scheduler.revoke_finished(ticket, Ok(()), now);
                        daemon.replica.spent(id, Spent { value: None, count: None }, now);
                    })
                }
            },
        }
    }

    /// Whether a flight still matters to a running daemon.
    pub(crate) fn is_flight_of_a_running_daemon(&self, number: u64) -> bool {
        self.flights.get(&number).is_some_and(|flight| {
            let there = &self.hosts[flight.host];
            there.daemon.is_some() && there.incarnation == flight.incarnation
        })
    }

    pub(crate) fn is_kept_alive_by_asking(&self) -> bool {
        matches!(self.api.renews, Renews::Query | Renews::Renew)
    }

    /// How long a spending may take in true time, by any clock of this world.
    pub(crate) fn longest_limit(&self) -> Ms {
        whole(self.plan.longest_limit()) * 11 / 10
    }
}

pub(crate) fn outcome_of(answer: Option<Answer>) -> Outcome {
    match answer {
        Some(Answer::Alive(left)) => Outcome::Alive { remaining: Duration::from_millis(left) },
        Some(Answer::Expired) => Outcome::Expired(CallError::new("expired").with_status(410)),
        Some(Answer::Rejected) => Outcome::Rejected(CallError::new("unknown").with_status(401)),
        None => Outcome::Unavailable(CallError::new("no answer in time")),
    }
}
