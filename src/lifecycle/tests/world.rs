//! A token with its clock, its policy and its notices; one method for each thing that can happen.

use std::num::NonZeroU32;
use std::time::Duration;

use super::server::Server;
use crate::lifecycle::{
    Action, CheckResult, Context, DeadlineStage, Event, Method, Notice, Policy, RandomFraction,
    ReauthAttempts, ReauthError, ReauthOutcome, ReauthPolicy, ReauthResult, Renewal, ReplacedBy,
    Resource, Schedule, Slot, SourceChange, Token, transition,
};
use crate::outcome::{CallError, Outcome};
use crate::time::Moment;

/// When every test starts.
pub(super) const START: Moment = Moment::from_millis(1_000_000);

/// More transitions at one instant are a busy loop: a check, its proof and a write make six.
const MOST_STEPS_AT_ONCE: u32 = 8;

pub(super) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Three attempts per hour, with a first pause of one second.
pub(super) fn reauth_policy() -> ReauthPolicy {
    ReauthPolicy {
        delay: secs(1),
        delay_max: secs(300),
        max_attempts: NonZeroU32::new(3).unwrap(),
        window: secs(3600),
    }
}

/// The test world.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) token: Token,
    pub(super) policy: Policy,
    pub(super) renews_by: Option<Method>,
    /// No token of the server has had a response since this one's checks fail.
    pub(super) server_in_doubt: bool,
    pub(super) now: Moment,
    /// Every random draw; at 0 jitter is zero and pauses have their full length.
    pub(super) draw: f64,
    pub(super) notices: Vec<Notice>,
    /// What replaced the current value, each time.
    pub(super) replaced: Vec<ReplacedBy>,
    /// The action in flight, and when it started.
    pub(super) flight: Option<(Moment, Action)>,
}

impl Life {
    /// A token with a value and the default schedule, not checked yet.
    pub(super) fn new() -> Self {
        Self {
            token: Token::with_value(START),
            policy: Policy {
                schedule: Schedule::default(),
                timeout: secs(10),
                renewal: Renewal::Auto,
                reauth: None,
                reauth_before: None,
                assumed: false,
                rotates: false,
            },
            renews_by: None,
            server_in_doubt: false,
            now: START,
            draw: 0.0,
            notices: Vec::new(),
            replaced: Vec::new(),
            flight: None,
        }
    }

    pub(super) fn with_renewal(renewal: Renewal) -> Self {
        let mut life = Self::new();
        life.policy.renewal = renewal;
        life
    }

    pub(super) fn with_reauth() -> Self {
        let mut life = Self::new();
        life.policy.reauth = Some(reauth_policy());
        life
    }

    /// Without a value; the reason was reported.
    pub(super) fn without_value(mut self) -> Self {
        self.token = Token::without_value(self.now);
        self.source(SourceChange::Lost("no such file".into()));
        self
    }

    /// Found alive at once with 100 s left; notices are cleared.
    pub(super) fn alive(mut self) -> Self {
        self.check(alive(100_000));
        self.notices.clear();
        self
    }

    pub(super) fn step(&mut self, event: Event) -> Option<Action> {
        let context = Context {
            policy: &self.policy,
            renews_by: self.renews_by,
            draw: RandomFraction::new(self.draw),
            server_in_doubt: self.server_in_doubt,
        };
        let was_busy = self.token.is_busy();
        let mut notices = Vec::new();
        let (token, action) = transition(self.token, event, self.now, &context, &mut notices);
        for notice in notices {
            match notice {
                Notice::Replaced(by) => self.replaced.push(by),
                notice => self.notices.push(notice),
            }
        }
        self.token = token;
        if let Some(action) = action {
            assert!(!was_busy, "a second effect in flight: {action:?}");
            self.flight = Some((self.now, action));
        }
        if !self.token.is_busy() {
            self.flight = None;
        }
        action
    }

    /// Starts what is due: a write first, then a check, then re-auth.
    pub(super) fn admit(&mut self) -> Option<Action> {
        [Resource::None, Resource::Server, Resource::Reauth]
            .into_iter()
            .find_map(|resource| self.step(Event::Admitted(resource)))
    }

    /// When the token next needs an action or a warning.
    pub(super) fn wakes_at(&self) -> Option<Moment> {
        let due = [Resource::None, Resource::Server, Resource::Reauth]
            .map(|resource| self.token.due_for(resource));
        due.into_iter().chain([self.token.next_deadline_warning()]).flatten().min()
    }

    /// Advances to the next wake-up.
    pub(super) fn sleep(&mut self) {
        self.wake_at(self.wakes_at().expect("a token that waits for something"));
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.wake_at(self.now + by);
    }

    pub(super) fn wake_at(&mut self, at: Moment) {
        self.now = self.now.max(at);
        self.step(Event::TimerFired);
    }

    /// Finishes the check in flight now.
    pub(super) fn answer(&mut self, outcome: Outcome) {
        let (sent, _) = self.flight.expect("a call under way");
        self.step(answer(sent, self.now, outcome));
    }

    /// Advances until a check is due, starts it, and finishes it at the same instant.
    pub(super) fn check(&mut self, outcome: Outcome) -> Action {
        let due = self.token.due_for(Resource::Server).expect("a check to come");
        self.wake_at(due);
        let action = self.step(Event::Admitted(Resource::Server)).expect("a check that is due");
        self.answer(outcome);
        action
    }

    pub(super) fn source(&mut self, change: SourceChange) {
        self.step(Event::SourceChanged(change));
    }

    /// Advances until an attempt is due, starts it, and finishes it two seconds later.
    pub(super) fn reauth(&mut self, result: ReauthOutcome) -> Action {
        let due = self.token.due_for(Resource::Reauth).expect("an attempt to come");
        self.wake_at(due);
        let action = self.step(Event::Admitted(Resource::Reauth)).expect("an attempt that is due");
        self.now = self.now + secs(2);
        self.step(reauthenticated(result));
        action
    }

    /// Starts the write that is due now, and finishes it.
    pub(super) fn store(&mut self, result: Result<(), &str>) {
        self.step(Event::Admitted(Resource::None)).expect("a write that is due");
        self.step(Event::PersistFinished(result.map_err(Into::into)));
    }

    /// Runs until `until` with a responding server, working hooks and working stores.
    pub(super) fn run(&mut self, server: &mut Server, until: Moment) {
        let mut steps_at_once = (self.now, 0);
        while let Some(at) = self.wakes_at().filter(|at| *at <= until) {
            self.wake_at(at);
            steps_at_once = if steps_at_once.0 == self.now {
                (self.now, steps_at_once.1 + 1)
            } else {
                (self.now, 0)
            };
            assert!(steps_at_once.1 <= MOST_STEPS_AT_ONCE, "a busy loop: {:?}", self.token);
            match self.admit() {
                None => {}
                Some(Action::Check { method, slot, timeout, .. }) => {
                    let sent = self.now;
                    let (received, outcome) = server.ask(method, slot, sent, timeout);
                    while let Some(alarm) =
                        self.token.next_deadline_warning().filter(|at| *at <= received)
                    {
                        self.wake_at(alarm);
                    }
                    self.now = received;
                    self.step(answer(sent, received, outcome));
                }
                Some(Action::Reauth { .. }) => {
                    server.log_in(self.token.active_slot().other(), self.now);
                    self.step(reauthenticated(ReauthOutcome::NewValue { stored: false }));
                }
                Some(Action::Revoke { .. }) => {
                    self.step(Event::RevokeFinished(Ok(())));
                }
                Some(Action::Persist { .. }) => {
                    self.step(Event::PersistFinished(Ok(())));
                }
            }
        }
        self.wake_at(until);
    }

    /// Names of the notices so far, which are then cleared.
    pub(super) fn said(&mut self) -> Vec<&'static str> {
        self.notices.drain(..).map(|notice| word(&notice)).collect()
    }

    /// Number of notices with this name.
    pub(super) fn count(&self, name: &str) -> usize {
        self.notices.iter().filter(|notice| word(notice) == name).count()
    }

    /// Whether the last check found the token renewed.
    pub(super) fn last_renewed(&self) -> Option<bool> {
        self.notices.iter().rev().find_map(|notice| match notice {
            Notice::Checked { renewed, .. } => Some(*renewed),
            _ => None,
        })?
    }
}

pub(super) fn answer(sent: Moment, received: Moment, outcome: Outcome) -> Event {
    Event::CheckFinished(CheckResult {
        sent,
        received,
        outcome,
        replaced: false,
        cannot_renew: false,
    })
}

pub(super) fn reauthenticated(result: ReauthOutcome) -> Event {
    Event::ReauthFinished(ReauthResult { result, duration: secs(2) })
}

/// The attempts that count in this window, over all replicas.
pub(super) fn attempt_counts(window_end: Moment, counted: u32) -> Event {
    Event::AttemptsCounted(ReauthAttempts { window_end, counted, in_a_row: counted })
}

pub(super) fn alive(remaining_ms: u64) -> Outcome {
    Outcome::Alive { remaining: ms(remaining_ms) }
}

pub(super) fn expired() -> Outcome {
    Outcome::Expired(CallError::new("expired").with_status(410))
}

pub(super) fn rejected() -> Outcome {
    Outcome::Rejected(CallError::new("unknown token").with_status(401))
}

pub(super) fn timed_out() -> Outcome {
    Outcome::Unavailable(CallError::new("no answer in time"))
}

pub(super) fn not_allowed() -> Outcome {
    Outcome::Misconfigured(CallError::new("method not allowed").with_status(405))
}

pub(super) fn throttled(seconds: u64) -> Outcome {
    let fault = CallError::new("too many requests").with_status(429);
    Outcome::Throttled { retry_after: secs(seconds), fault }
}

pub(super) fn hook_failed() -> ReauthOutcome {
    let error = "it ended with exit status 1".into();
    ReauthOutcome::Failed(ReauthError { error, exit_status: Some(1), ..ReauthError::default() })
}

/// The method of a check of the value in `slot`, whatever its time-out.
pub(super) fn asks(action: Option<Action>, about: Slot) -> Option<Method> {
    match action {
        Some(Action::Check { method, slot, .. }) if slot == about => Some(method),
        Some(
            Action::Check { .. }
            | Action::Reauth { .. }
            | Action::Revoke { .. }
            | Action::Persist { .. },
        )
        | None => None,
    }
}

/// The name of the notice, with what distinguishes its variants.
pub(super) fn word(notice: &Notice) -> &'static str {
    match notice {
        Notice::Checked { .. } => "checked",
        Notice::CheckFailed { misconfigured: false, .. } => "check failed",
        Notice::CheckFailed { misconfigured: true, .. } => "misconfigured",
        Notice::Expiring { stage: DeadlineStage::NineTenths, .. } => "expiring: nine tenths",
        Notice::Expiring { .. } => "expiring: half",
        Notice::Expired { candidate: false, .. } => "expired",
        Notice::Expired { candidate: true, .. } => "candidate expired",
        Notice::Rejected { candidate: false, .. } => "rejected",
        Notice::Rejected { candidate: true, .. } => "candidate rejected",
        Notice::Missing { .. } => "missing",
        Notice::Revoked => "revoked",
        Notice::RevokeFailed { .. } => "revoke failed",
        Notice::Unverified => "unverified",
        Notice::Recovered { .. } => "recovered",
        Notice::RenewalNotObserved { .. } => "renewal not observed",
        Notice::Replaced(by) => by.as_str(),
        Notice::RenewsBy(Method::Query) => "renews by query",
        Notice::RenewsBy(Method::Renew) => "renews by renew",
        Notice::ReauthStarted { .. } => "reauth started",
        Notice::ReauthSucceeded { .. } => "reauth succeeded",
        Notice::ReauthFailed { .. } => "reauth failed",
        Notice::ReauthExhausted { .. } => "reauth exhausted",
        Notice::StoreFailed { .. } => "store failed",
    }
}
