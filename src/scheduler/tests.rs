//! Specification of the scheduler: what starts when, and what is reported.
//!
//! The state machine of one token is specified in `lifecycle`. Days of thousands of tokens are
//! simulated in `tests/simulation`.

mod changes;
mod memory;
mod reauth;
mod replicas;
mod rotation;
mod server_health;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::lifecycle::{
    Action, CheckResult, Policy, ReauthError, ReauthOutcome, ReauthPolicy, ReauthResult, Renewal,
    Schedule, SourceChange, Validity,
};
use crate::outcome::{CallError, Outcome};

const MINUTE: Duration = Duration::from_secs(60);

fn at(millis: u64) -> Moment {
    Moment::from_millis(millis)
}

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

/// A scheduler and its outputs since the last query.
struct Fixture {
    scheduler: Scheduler,
    server: ServerId,
    now: Moment,
}

impl Fixture {
    fn new(rate_limit: u32, max_in_flight: u32) -> Self {
        let mut scheduler = Scheduler::new(number(4), 7);
        let limits =
            ServerLimits { rate_limit: number(rate_limit), max_in_flight: number(max_in_flight) };
        let server = scheduler.add_server(limits);
        Self { scheduler, server, now: at(1_000) }
    }

    fn policy() -> Policy {
        Policy {
            schedule: Schedule::default(),
            timeout: Duration::from_secs(10),
            renewal: Renewal::Query,
            reauth: None,
            reauth_before: None,
            assumed: false,
            rotates: false,
        }
    }

    fn spec(&self, reauth: Option<ReauthId>) -> TokenSpec {
        let policy = Policy {
            reauth: reauth.map(|_| ReauthPolicy {
                delay: Duration::from_secs(1),
                delay_max: MINUTE,
                max_attempts: number(5),
                window: 60 * MINUTE,
            }),
            ..Self::policy()
        };
        TokenSpec { server: self.server, policy: Arc::new(policy), reauth }
    }

    fn tokens(&mut self, count: usize, reauth: Option<ReauthId>) -> Vec<TokenId> {
        let spec = self.spec(reauth);
        (0..count).map(|_| self.scheduler.add_token(spec.clone(), true, self.now)).collect()
    }

    fn wake(&mut self) {
        self.scheduler.wake(self.now);
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        self.wake();
    }

    /// The actions since the last call.
    fn actions(&mut self) -> Vec<(Ticket, Action)> {
        let actions = self.scheduler.outputs.iter().filter_map(|output| match output {
            SchedulerOutput::Action(ticket, action) => Some((*ticket, *action)),
            SchedulerOutput::TokenNotice(..)
            | SchedulerOutput::ServerNotice(..)
            | SchedulerOutput::ReauthExhausted { .. } => None,
        });
        let actions = actions.collect();
        self.scheduler.outputs.retain(|output| !matches!(output, SchedulerOutput::Action(..)));
        actions
    }

    /// Advances from wake-up to wake-up until an action starts.
    fn next_actions(&mut self) -> Vec<(Ticket, Action)> {
        for _ in 0..100 {
            self.now = self.scheduler.next_wake().expect("somebody waits");
            self.wake();
            let actions = self.actions();
            if !actions.is_empty() {
                return actions;
            }
        }
        panic!("a hundred wake-ups, and nothing was done");
    }

    fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        let answer = CheckResult {
            sent: self.now,
            received: self.now,
            outcome,
            replaced: false,
            cannot_renew: false,
        };
        self.scheduler.check_finished(ticket, answer, self.now);
    }

    fn server_notices(&self) -> Vec<ServerNotice> {
        let notices = self.scheduler.outputs.iter().filter_map(|output| match output {
            SchedulerOutput::ServerNotice(_, notice) => Some(notice.clone()),
            SchedulerOutput::Action(..)
            | SchedulerOutput::TokenNotice(..)
            | SchedulerOutput::ReauthExhausted { .. } => None,
        });
        notices.collect()
    }
}

fn alive(remaining: Duration) -> Outcome {
    Outcome::Alive { remaining }
}

fn unavailable() -> Outcome {
    Outcome::Unavailable(CallError::new("connection refused"))
}

/// The notice about a server that refuses connections.
fn down(tokens: usize) -> ServerNotice {
    ServerNotice::Unavailable { tokens, fault: CallError::new("connection refused") }
}

fn expired() -> Outcome {
    Outcome::Expired(CallError::new("expired").with_status(410))
}

/// A scheduler with `count` expired tokens that have a `reauth` method.
fn fixture_with_dead_tokens(
    count: usize,
    route: ReauthRoute,
    max_failures: u32,
) -> (Fixture, ReauthId) {
    let mut fixture = Fixture::new(1_000_000, 1_000);
    let spec = ReauthSpec { route, max_failures: number(max_failures), window: 60 * MINUTE };
    let reauth = fixture.scheduler.add_reauth(spec);
    fixture.tokens(count, Some(reauth));
    fixture.wake();
    for (ticket, _) in fixture.actions() {
        fixture.answer(ticket, expired());
    }
    (fixture, reauth)
}

/// The re-auth attempts that started since the last query.
fn attempts(fixture: &mut Fixture) -> Vec<Ticket> {
    let actions = fixture.actions().into_iter();
    actions
        .filter(|(_, action)| matches!(action, Action::Reauth { .. }))
        .map(|(ticket, _)| ticket)
        .collect()
}

fn end(fixture: &mut Fixture, ticket: Ticket, result: ReauthOutcome) {
    let end = ReauthResult { result, duration: Duration::from_millis(5) };
    fixture.scheduler.reauth_finished(ticket, end, fixture.now);
}

/// Finishes all attempts with this result, including those that start meanwhile. Returns their
/// number.
fn end_all(fixture: &mut Fixture, result: &ReauthOutcome) -> usize {
    let mut ended = 0;
    loop {
        let running = attempts(fixture);
        if running.is_empty() {
            return ended;
        }
        ended += running.len();
        for ticket in running {
            end(fixture, ticket, result.clone());
        }
    }
}

fn failed() -> ReauthOutcome {
    ReauthOutcome::Failed(ReauthError::default())
}

/// Moves a token to another server.
fn move_token(fixture: &mut Fixture, id: TokenId) {
    let limits = ServerLimits { rate_limit: number(1_000), max_in_flight: number(5) };
    let server = fixture.scheduler.add_server(limits);
    let spec = TokenSpec { server, ..fixture.spec(None) };
    fixture.scheduler.change_token(id, spec, fixture.now);
    fixture.wake();
}

#[test]
fn first_checks_start_at_once_within_the_in_flight_limit() {
    let mut fixture = Fixture::new(1_000_000, 3);
    fixture.tokens(10, None);
    fixture.wake();
    assert_eq!(fixture.actions().len(), 3);
}

#[test]
fn finished_request_admits_the_next_one() {
    let mut fixture = Fixture::new(1_000_000, 1);
    fixture.tokens(2, None);
    fixture.wake();
    let (first, _) = fixture.actions()[0];
    fixture.answer(first, alive(MINUTE));
    let (second, _) = fixture.actions()[0];
    assert_ne!(first.token, second.token);
}

#[test]
fn duplicate_completion_is_ignored() {
    let mut fixture = Fixture::new(1_000_000, 4);
    fixture.tokens(1, None);
    fixture.wake();
    let (ticket, _) = fixture.actions()[0];
    fixture.answer(ticket, alive(MINUTE));
    fixture.scheduler.outputs.clear();
    fixture.answer(ticket, expired());
    assert!(fixture.scheduler.outputs.is_empty());
}

#[test]
fn learned_renewal_method_is_reported_once() {
    let mut fixture = Fixture::new(1_000_000, 10);
    let spec = TokenSpec {
        policy: Arc::new(Policy { renewal: Renewal::Auto, ..Fixture::policy() }),
        ..fixture.spec(None)
    };
    for _ in 0..3 {
        fixture.scheduler.add_token(spec.clone(), true, fixture.now);
    }
    for _ in 0..3 {
        fixture.wake();
        for (ticket, _) in fixture.actions() {
            fixture.answer(ticket, alive(MINUTE));
        }
        fixture.now = fixture.now + Duration::from_secs(41);
    }
    assert_eq!(fixture.server_notices(), [ServerNotice::RenewalLearned(Method::Query)]);
    assert_eq!(fixture.scheduler.renews_by(fixture.server), Some(Method::Query));
}

#[test]
fn idle_scheduler_needs_no_wake_up() {
    let mut fixture = Fixture::new(1_000_000, 10);
    assert_eq!(fixture.scheduler.next_wake(), None);
    fixture.tokens(1, None);
    fixture.wake();
    let (ticket, _) = fixture.actions()[0];
    assert_eq!(fixture.scheduler.next_wake(), None);
    fixture.answer(ticket, expired());
    assert_eq!(fixture.scheduler.next_wake(), None);
}

#[test]
fn freed_capacity_goes_to_the_most_urgent_token_that_is_due_by_then() {
    let mut fixture = Fixture::new(1_000_000, 1);
    let tokens = fixture.tokens(3, None);
    fixture.wake();
    for life in [100, 160, 150] {
        let (ticket, _) = fixture.actions()[0];
        fixture.answer(ticket, alive(Duration::from_secs(life)));
    }
    // The first one is checked when it is due; the others become due meanwhile.
    let (first, _) = fixture.next_actions()[0];
    assert_eq!(first.token, tokens[0]);
    fixture.now = fixture.now + Duration::from_secs(60);
    fixture.answer(first, alive(Duration::from_secs(100)));
    assert_eq!(fixture.actions()[0].0.token, tokens[2]);
}

#[test]
fn stopped_scheduler_starts_no_action_and_reports_none() {
    let (mut fixture, _) = fixture_with_dead_tokens(8, ReauthRoute::Hook, 20);
    let under_way = attempts(&mut fixture);
    fixture.scheduler.stop_admitting();
    fixture.scheduler.outputs.clear();
    for ticket in under_way {
        end(&mut fixture, ticket, failed());
    }
    let begun = |output: &SchedulerOutput| {
        matches!(
            output,
            SchedulerOutput::Action(..)
                | SchedulerOutput::TokenNotice(_, Notice::ReauthStarted { .. })
        )
    };
    assert!(!fixture.scheduler.outputs.iter().any(begun), "{:?}", fixture.scheduler.outputs);
}

/// State counts, counted token by token.
fn counted(fixture: &Fixture) -> StateCounts {
    let mut counts = StateCounts::default();
    for token in (0..200).filter_map(|key| fixture.scheduler.token(fixture.scheduler.id_of(key)?)) {
        counts.add(&token);
    }
    counts
}

#[test]
fn state_counts_equal_a_full_count_after_any_event() {
    let mut fixture = Fixture::new(1_000_000, 50);
    let ids = fixture.tokens(100, None);
    fixture.scheduler.source_changed(ids[0], SourceChange::NewValue, fixture.now);
    let outcomes = [alive(MINUTE), expired(), alive(MINUTE), unavailable(), alive(MINUTE)];
    for round in 0..100 {
        fixture.now = fixture.now.max(fixture.scheduler.next_wake().unwrap_or(fixture.now));
        fixture.wake();
        for (nth, (ticket, _)) in fixture.actions().into_iter().enumerate() {
            fixture.answer(ticket, outcomes[(nth + round) % outcomes.len()].clone());
        }
        match round {
            2 => fixture.scheduler.remove_token(ids[7]),
            4 => move_token(&mut fixture, ids[8]),
            6 => drop(fixture.tokens(5, None)),
            _ => {}
        }
        assert_eq!(fixture.scheduler.state_counts(), counted(&fixture), "round {round}");
    }
    let sum = fixture.scheduler.state_counts_of(fixture.server).total();
    assert_eq!(fixture.scheduler.state_counts().total() - sum, 1, "the one that was moved");
}

#[test]
fn retries_leave_no_outdated_timers() {
    let mut fixture = Fixture::new(1_000_000, 2_000);
    fixture.tokens(1_000, None);
    fixture.wake();
    for (ticket, _) in fixture.actions() {
        fixture.answer(ticket, alive(60 * MINUTE));
    }
    for _ in 0..5_000 {
        for (ticket, _) in fixture.next_actions() {
            fixture.answer(
                ticket,
                Outcome::Misconfigured(CallError::new("not found").with_status(404)),
            );
        }
    }
    assert!(!fixture.scheduler.timers.needs_sweep(1_000));
}
