//! What happens in a world, a line for each thing, for one seed that somebody wants to read.

use tokenkeep::lifecycle::{Action, Method, Notice, ReauthOutcome, Slot, SourceChange};
use tokenkeep::outcome::Outcome;
use tokenkeep::scheduler::SchedulerOutput;

use crate::chance::{Ms, SECOND};
use crate::faults::Incident;
use crate::plan::Plan;

/// Prints, or does not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace {
    on: bool,
    /// The only token that is told of; `None` for all.
    only: Option<usize>,
}

impl Trace {
    pub(crate) const OFF: Self = Self { on: false, only: None };

    pub(crate) const fn on(only: Option<usize>) -> Self {
        Self { on: true, only }
    }

    fn token(&self, now: Ms, subject: usize, what: impl FnOnce() -> String) {
        if self.on && self.only.is_none_or(|only| only == subject) {
            line(now, &format!("token {subject:<4} {}", what()));
        }
    }

    /// What the world is made of.
    pub(crate) fn world(&self, plan: &Plan) {
        if !self.on {
            return;
        }
        println!("{} tokens, lives of about {} s", plan.tokens.len(), plan.life / SECOND);
        for (number, server) in plan.servers.iter().enumerate() {
            println!("server {number}: {:?}, {:?}", server.traits, server.limits);
        }
        for (number, way) in plan.ways.iter().enumerate() {
            println!("way {number}: {way:?}");
        }
        if let Some(token) = self.only.and_then(|only| plan.tokens.get(only)) {
            println!("the token: {token:?}");
        }
    }

    /// What the scheduler wants done or told; `whose` finds the token.
    pub(crate) fn output(
        &self,
        now: Ms,
        output: &SchedulerOutput,
        whose: impl FnOnce(usize) -> Option<usize>,
    ) {
        if !self.on {
            return;
        }
        match output {
            SchedulerOutput::Action(ticket, action) => {
                let Some(subject) = whose(ticket.token.index()) else { return };
                self.token(now, subject, || match action {
                    Action::Check { method, slot, timeout, connection } => {
                        format!("-> {} {slot:?}, within {timeout:?}, {connection:?}", word(*method))
                    }
                    Action::Reauth { reason, attempt } => {
                        format!("-> log in ({}), attempt {attempt}", reason.as_str())
                    }
                    Action::Revoke { slot, .. } => format!("-> revoke {slot:?}"),
                    Action::Persist { slot } => format!("-> store {slot:?}"),
                });
            }
            SchedulerOutput::TokenNotice(id, notice) => {
                if let (Some(subject), false) =
                    (whose(id.index()), matches!(notice, Notice::CheckFailed { .. }))
                {
                    self.token(now, subject, || format!("   {notice:?}"));
                }
            }
            SchedulerOutput::ServerNotice(id, notice) => {
                line(now, &format!("server {} {notice:?}", id.index()));
            }
            SchedulerOutput::ReauthExhausted { reauth, failures, .. } => {
                line(now, &format!("way {} closed after {failures}", reauth.index()));
            }
        }
    }

    /// A reload concerns a token, a server or a `[reauth]`.
    pub(crate) fn reload(&self, now: Ms, what: &str, number: usize) {
        if self.on {
            line(now, &format!("reload: {what} {number}"));
        }
    }

    pub(crate) fn answer(
        &self,
        now: Ms,
        subject: usize,
        (method, slot): (Method, Slot),
        outcome: &Outcome,
    ) {
        self.token(now, subject, || format!("<- {} {slot:?}: {}", word(method), short(outcome)));
    }

    pub(crate) fn login(&self, now: Ms, subject: usize, result: &ReauthOutcome) {
        self.token(now, subject, || format!("<- login: {result:?}"));
    }

    pub(crate) fn source(&self, now: Ms, subject: usize, change: &SourceChange) {
        self.token(now, subject, || format!("<- source: {change:?}"));
    }

    pub(crate) fn incident(&self, now: Ms, incident: Incident, subject: usize) {
        if self.on {
            line(now, &format!("{incident:?} ({subject})"));
        }
    }
}

fn line(now: Ms, what: &str) {
    println!("{:>9}.{:03} {what}", now / SECOND, now % SECOND);
}

fn word(method: Method) -> &'static str {
    match method {
        Method::Query => "query",
        Method::Renew => "renew",
    }
}

fn short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Alive { remaining } => format!("alive for {remaining:?}"),
        Outcome::Throttled { retry_after, .. } => format!("quiet for {retry_after:?}"),
        Outcome::Expired(fault)
        | Outcome::Rejected(fault)
        | Outcome::Misconfigured(fault)
        | Outcome::Unavailable(fault) => format!("{:?} {}", fault.status, fault.error),
    }
}
