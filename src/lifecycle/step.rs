//! The transition: a state, an event and the time give a state, and at most one effect.

use std::time::Duration;

use super::cadence::{
    Draw, LONGEST_PAUSE_IN_DOUBT, PAUSE_AFTER_CANCELLATION, backoff, effective_timeout,
};
use super::errand::{Errand, Need};
use super::event::{Effect, Event, Notice, Reason, Slot, Stage};
use super::policy::{Policy, Renewal};
use super::reading::Method;
use super::request::Wish;
use super::token::{Flight, Standing, Task, Token};
use crate::outcome::Connection;
use crate::time::{Moment, whole_millis};

/// What a transition depends on besides the state, the event and the time.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The token's policy.
    pub policy: &'a Policy,
    /// The call that is known to extend lives on the token's server.
    pub renews_by: Option<Method>,
    /// One random draw.
    pub draw: Draw,
    /// The server may be unavailable: it has answered no token since this one's calls fail.
    pub in_doubt: bool,
}

/// One transition. What people should hear of is added to `notices`.
///
/// An event that the state does not wait for (an answer that comes too late, a wake-up
/// that comes twice) changes nothing.
///
/// ```
/// use tokenkeep::lifecycle::{Context, Draw, Effect, Event, Need, Policy, Schedule, Token, step};
/// # use tokenkeep::time::Moment;
/// # let policy = Policy {
/// #     schedule: Schedule::default(),
/// #     timeout: std::time::Duration::from_secs(10),
/// #     renewal: Default::default(),
/// #     reauth: None,
/// #     reauth_before: None,
/// # };
/// let context =
///     Context { policy: &policy, renews_by: None, draw: Draw::new(0.5), in_doubt: false };
/// let now = Moment::from_millis(1_000);
/// let token = Token::with_value(now);
/// let mut notices = Vec::new();
/// let (token, effect) =
///     step(token, Event::Admitted(Need::Server), now, &context, &mut notices);
/// assert!(matches!(effect, Some(Effect::Ask { .. })) && token.is_busy());
/// ```
pub fn step(
    token: Token,
    event: Event,
    now: Moment,
    context: &Context<'_>,
    notices: &mut Vec<Notice>,
) -> (Token, Option<Effect>) {
    let mut turn = Turn { token, now, context, notices };
    let effect = match event {
        Event::Woke => {
            turn.raise_alarms();
            None
        }
        Event::Admitted(need) => turn.start(need),
        Event::Answered(answer) => {
            turn.answered(answer);
            None
        }
        Event::Reauthenticated(end) => {
            turn.reauthenticated(end);
            None
        }
        Event::Stored(result) => {
            turn.stored(result);
            None
        }
        Event::SourceChanged(change) => {
            turn.source_changed(change);
            None
        }
        Event::Resumed { resumed, spot_check } => {
            turn.resumed(resumed, spot_check);
            None
        }
        Event::Doubted => {
            turn.token.doubt_resumed(now);
            None
        }
        Event::PolicyChanged => {
            turn.policy_changed();
            None
        }
        Event::ServerChanged => {
            turn.server_changed();
            None
        }
        Event::Quieted(until) => {
            turn.quieted(until);
            None
        }
        Event::Summoned => {
            turn.token.hurry(now);
            None
        }
        Event::Requested(request) => {
            turn.requested(request);
            None
        }
        Event::Revoked(result) => {
            turn.revoked(result);
            None
        }
        Event::ServerRecovered => {
            turn.token.hurry(now);
            turn.hurry_reauth();
            None
        }
        Event::Cancelled => {
            turn.cancelled();
            None
        }
        Event::Ending => {
            turn.token.hurry_store(now);
            None
        }
    };
    (turn.token, effect)
}

/// A transition under way.
pub(super) struct Turn<'a> {
    pub(super) token: Token,
    pub(super) now: Moment,
    pub(super) context: &'a Context<'a>,
    pub(super) notices: &'a mut Vec<Notice>,
}

impl Turn<'_> {
    pub(super) fn say(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    /// Whole milliseconds from now until `moment`.
    pub(super) fn ms_until(&self, moment: Moment) -> u64 {
        whole_millis(moment.since(self.now))
    }

    /// The pause after one more failure at this level of the backoff, and the next level. A
    /// pause that the expiry cuts short only fills the time before it, and raises nothing.
    pub(super) fn pause(&self, level: u16) -> (Duration, u16) {
        let (schedule, draw) = (&self.context.policy.schedule, self.context.draw);
        let raised = level.saturating_add(1);
        let full = backoff(raised, schedule, None, self.now, draw);
        let reading = self.token.reading().filter(|_| !self.token.is_only_remembered());
        if reading.is_some_and(|reading| reading.bound() > self.now) {
            let cut = backoff(raised, schedule, reading.as_ref(), self.now, draw);
            return (cut, if cut < full { level } else { raised });
        }
        let limit = if self.context.in_doubt { LONGEST_PAUSE_IN_DOUBT } else { Duration::MAX };
        (full.min(limit), raised)
    }

    /// Reports what the passing of time has made true.
    fn raise_alarms(&mut self) {
        if self.token.paused {
            return;
        }
        let Standing::Alive(reading) = self.token.standing else { return };
        if self.now >= self.token.verdict_at(&reading) {
            self.token.standing = Standing::Unverified(reading);
            self.token.troubled = true;
            return self.say(Notice::Unverified);
        }
        let stage = self.token.stage_at(&reading, self.now);
        if stage > self.token.stage {
            self.token.stage = stage;
            self.token.troubled = true;
            self.say(Notice::Expiring { stage, dies_in_ms: self.ms_until(reading.bound()) });
        }
    }

    /// The server is left alone until `until`: a life that ends before is as good as lost,
    /// and that is said at once.
    fn quieted(&mut self, until: Moment) {
        let Standing::Alive(reading) = self.token.standing else { return };
        if self.token.paused {
            return;
        }
        let bound = reading.bound();
        if bound > self.now && bound <= until && self.token.stage < Stage::NineTenths {
            self.token.stage = Stage::NineTenths;
            self.token.troubled = true;
            let dies_in_ms = self.ms_until(bound);
            self.say(Notice::Expiring { stage: Stage::NineTenths, dies_in_ms });
        }
    }

    /// Starts the errand with this need, if one is due.
    fn start(&mut self, need: Need) -> Option<Effect> {
        let (due, errand) = self.token.errand(need)?;
        if due > self.now {
            return None;
        }
        match errand {
            Errand::Store => {
                self.token.flight = Some(Flight::Store);
                Some(Effect::Store { slot: self.token.active })
            }
            Errand::Reauth => self.start_reauth(),
            Errand::Revoke => {
                self.token.wish = None;
                self.token.flight = Some(Flight::Revoke);
                let timeout = self.context.policy.timeout;
                Some(Effect::Revoke { slot: self.token.active, timeout })
            }
            Errand::AskCurrent => {
                let method = self.method();
                self.token.flight = Some(Flight::Current(method));
                Some(self.ask(method, self.token.active, self.token.current_connection(self.now)))
            }
            Errand::AskCandidate => {
                let method = self.querying();
                self.token.flight = Some(Flight::Candidate(method));
                let connection = self.token.candidate_connection();
                Some(self.ask(method, self.token.active.other(), connection))
            }
        }
    }

    fn start_reauth(&mut self) -> Option<Effect> {
        let reauth = self.context.policy.reauth?;
        let wish = self.token.wish.take();
        let reason = match self.token.standing {
            _ if wish == Some(Wish::Reauth) => Reason::Requested,
            Standing::Rejected => Reason::Rejected,
            Standing::Missing => Reason::Missing,
            Standing::Alive(_) | Standing::Unverified(_) => Reason::Expiring,
            Standing::Expired | Standing::Unknown => Reason::Expired,
        };
        let attempt = self.token.budget.start(&reauth, self.now);
        self.token.flight = Some(Flight::Reauth(attempt));
        self.token.given_up = false;
        self.token.early = None;
        self.say(Notice::ReauthStarted { reason, attempt });
        Some(Effect::Reauth { reason, attempt })
    }

    fn ask(&self, method: Method, slot: Slot, connection: Connection) -> Effect {
        let configured = self.context.policy.timeout;
        // An expiry from an earlier boot of the machine says nothing of this one's clock.
        let bound = self.token.bound().filter(|_| !self.token.is_only_remembered());
        let timeout = effective_timeout(configured, bound, self.now);
        Effect::Ask { method, slot, timeout, connection }
    }

    /// The action under way was not begun, or will never complete: it is due again shortly.
    fn cancelled(&mut self) {
        let retry = self.now + PAUSE_AFTER_CANCELLATION;
        match self.token.flight.take() {
            Some(Flight::Current(_)) => self.token.due = self.token.due.max(retry),
            Some(Flight::Candidate(_)) => {
                if let Some(candidate) = &mut self.token.candidate {
                    candidate.due = candidate.due.max(retry);
                }
            }
            Some(Flight::Store) => {
                if let Some(unstored) = &mut self.token.unstored {
                    unstored.due = unstored.due.max(retry);
                }
            }
            Some(Flight::Reauth(_)) => {
                self.token.budget.take_back();
                match self.token.standing {
                    Standing::Alive(reading) | Standing::Unverified(reading) => {
                        self.plan_early_reauth(&reading);
                        self.token.early = self.token.early.map(|early| early.max(retry));
                    }
                    Standing::Unknown => {}
                    Standing::Missing | Standing::Expired | Standing::Rejected => {
                        self.seek_new_value();
                        self.token.due = self.token.due.max(retry);
                    }
                }
            }
            Some(Flight::Outdated(_) | Flight::Revoke) | None => {}
        }
    }

    /// The call that the task needs, as far as the server's configuration permits it.
    fn method(&self) -> Method {
        match self.token.task {
            Task::Check if self.renewing_is_the_check() => Method::Renew,
            Task::TryRenew | Task::RetryRenew => Method::Renew,
            Task::Watch
            | Task::Check
            | Task::ConfirmRejection { .. }
            | Task::ConfirmRefusal
            | Task::ConfirmGrowth
            | Task::ConfirmRenewal
            | Task::Reauth => self.querying(),
        }
    }

    /// Past the bound every second call is a query: where only the renewing call fails, that
    /// still tells whether the token lives.
    fn renewing_is_the_check(&self) -> bool {
        let past_bound = matches!(self.token.standing, Standing::Unverified(_));
        self.context.renews_by == Some(Method::Renew)
            && self.context.policy.renewal == Renewal::Auto
            && !self.token.renew_refused
            && !(past_bound && self.token.failures % 2 == 1)
    }

    /// The call that only reads the life; where queries are not permitted, the renewing one.
    fn querying(&self) -> Method {
        match self.context.policy.renewal {
            Renewal::Auto | Renewal::Query => Method::Query,
            Renewal::Renew => Method::Renew,
        }
    }
}
