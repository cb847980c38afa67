//! Renewals that spend a refresh token: without a value, and after a new refresh token.

use super::world::{
    Life, alive, expired, hook_failed, not_allowed, reauth_policy, reauthenticated, rejected, secs,
    throttled, timed_out,
};
use crate::lifecycle::{
    Action, CheckResult, Event, Method, OperatorRequest, PersistedLife, ReauthOutcome,
    ReauthPolicy, ReauthReason, Renewal, ReplacedBy, RequestError, Resource, Slot, SourceChange,
    State, Token, Validity,
};
use crate::outcome::{CallError, Connection, ENDLESS, Outcome};
use crate::time::Moment;

pub(super) const NEW: ReauthOutcome = ReauthOutcome::NewValue { stored: false };

/// Unchecked, with a refresh token.
pub(super) fn rotating() -> Life {
    let mut life = Life::with_renewal(Renewal::Renew);
    life.policy.rotates = true;
    life
}

/// Alive for 100 s from now on.
pub(super) fn living() -> Life {
    let mut life = rotating();
    renew(&mut life, alive(100_000));
    life.notices.clear();
    life.replaced.clear();
    life
}

/// Without a value, as after the first start. A renewal is due.
pub(super) fn without_value() -> Life {
    let mut life = rotating();
    life.token = Token::without_value(life.now);
    life.source(SourceChange::Lost("no such file".into()));
    life
}

/// The source has neither a value nor a refresh token.
fn without_any() -> Life {
    let mut life = without_value();
    life.check(nothing_to_send());
    life
}

pub(super) fn lost() -> Outcome {
    let fault = CallError { may_have_acted: true, ..CallError::new("no response in time") };
    Outcome::Unavailable(fault)
}

/// The task found no refresh token and sent nothing.
pub(super) fn nothing_to_send() -> Outcome {
    Outcome::Misconfigured(CallError {
        no_refresh_token: true,
        ..CallError::new("no refresh token")
    })
}

/// Finishes the renewal in flight with a new value.
fn finish(life: &mut Life, outcome: Outcome) {
    let (sent, _) = life.flight.expect("a renewal in flight");
    let received = life.now;
    life.step(Event::CheckFinished(CheckResult {
        sent,
        received,
        outcome,
        replaced: true,
        cannot_renew: false,
    }));
}

/// Advances until a renewal is due. The value is queried instead.
pub(super) fn query_instead(life: &mut Life, outcome: Outcome) {
    let due = life.token.due_for(Resource::Server).expect("a renewal to come");
    life.advance(due.since(life.now));
    life.step(Event::Admitted(Resource::Server)).expect("a renewal that is due");
    let (sent, received) = (life.now, life.now);
    let result = CheckResult { sent, received, outcome, replaced: false, cannot_renew: true };
    life.step(Event::CheckFinished(result));
}

/// Advances until a renewal is due, and finishes it with a new value.
pub(super) fn renew(life: &mut Life, outcome: Outcome) -> Action {
    let due = life.token.due_for(Resource::Server).expect("a renewal to come");
    life.advance(due.since(life.now));
    let action = life.step(Event::Admitted(Resource::Server)).expect("a renewal that is due");
    finish(life, outcome);
    action
}

pub(super) fn due(life: &Life) -> Option<Moment> {
    life.token.due_for(Resource::Server)
}

pub(super) fn logs_in(life: &Life) -> bool {
    life.token.due_for(Resource::Reauth).is_some_and(|due| due <= life.now)
}

#[test]
fn missing_value_is_obtained_by_a_renewal_and_written() {
    let mut life = without_value();
    assert!(life.said().is_empty(), "it is not known yet that nothing can be obtained");
    let action = renew(&mut life, alive(100_000));
    assert!(matches!(action, Action::Check { method: Method::Renew, slot: Slot::A, .. }));
    assert_eq!(life.token.state(), State::Alive);
    assert_eq!(life.replaced, [ReplacedBy::Renewal]);
    assert_eq!(life.said(), ["checked"]);
    assert_eq!(life.admit(), Some(Action::Persist { slot: Slot::A }));
}

#[test]
fn missing_value_and_missing_refresh_token_are_reported_once_and_watched() {
    let mut life = without_any();
    assert_eq!(life.said(), ["missing"]);
    assert_eq!(life.wakes_at(), None);
    life.source(SourceChange::Lost("no such file".into()));
    assert_eq!(life.wakes_at(), None);
    assert!(life.said().is_empty());
}

#[test]
fn missing_refresh_token_leads_to_a_login() {
    let mut life = without_value();
    life.policy.reauth = Some(reauth_policy());
    life.check(nothing_to_send());
    let login = life.reauth(NEW);
    assert_eq!(login, Action::Reauth { reason: ReauthReason::Missing, attempt: 1 });
    assert_eq!(life.token.validity(), Validity::Unknown);
}

#[test]
fn new_refresh_token_without_a_value_is_used_at_once() {
    for dead in [Validity::Missing, Validity::Rejected, Validity::Expired] {
        let mut life = if dead == Validity::Missing { without_any() } else { living() };
        match dead {
            Validity::Rejected => {
                life.check(rejected());
                life.check(rejected());
            }
            Validity::Expired => {
                life.check(expired());
            }
            _ => {}
        }
        assert_eq!((life.token.validity(), life.wakes_at()), (dead, None));
        life.advance(secs(3_600));
        life.source(SourceChange::NewRefreshToken);
        assert_eq!(due(&life), Some(life.now), "{dead:?}");
        renew(&mut life, alive(50_000));
        assert_eq!(life.token.state(), State::Alive, "{dead:?}");
        assert_eq!(life.count("recovered"), 1, "{dead:?}");
    }
}

#[test]
fn rejected_refresh_token_is_sent_twice_before_a_login() {
    let mut life = without_value();
    life.policy.reauth = Some(reauth_policy());
    life.check(rejected());
    assert!(!logs_in(&life));
    let second = life.check(rejected());
    assert!(matches!(second, Action::Check { connection: Connection::Fresh, .. }));
    assert_eq!(life.said(), ["check failed", "rejected"]);
    assert!(logs_in(&life));
}

#[test]
fn rejected_refresh_token_of_a_living_value_is_sent_twice_before_its_death() {
    let mut life = living();
    life.check(rejected());
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    let second = life.check(rejected());
    assert!(matches!(second, Action::Check { method: Method::Renew, .. }));
    assert_eq!(life.token.validity(), Validity::Rejected);
}

#[test]
fn renewal_without_a_value_that_never_reached_the_server_is_repeated_without_a_login() {
    for outcome in [timed_out(), throttled(7)] {
        let mut life = without_value();
        life.policy.reauth = Some(reauth_policy());
        life.check(outcome);
        assert!(!logs_in(&life));
        renew(&mut life, alive(100_000));
        assert_eq!(life.said(), ["check failed", "recovered", "checked"]);
    }
}

#[test]
fn renewal_without_a_value_that_is_lost_or_refused_leads_to_a_login() {
    for outcome in [lost(), not_allowed()] {
        let mut life = without_value();
        life.policy.reauth = Some(reauth_policy());
        life.check(outcome);
        assert_eq!(life.count("reauth failed") + life.count("missing"), 0);
        assert!(logs_in(&life));
        assert_eq!(due(&life), None);
    }
}

#[test]
fn without_a_login_every_renewal_without_a_value_is_repeated() {
    for outcome in [lost(), not_allowed(), timed_out()] {
        let mut life = without_value();
        for _ in 0..20 {
            life.check(outcome.clone());
        }
        let wait = due(&life).expect("a retry").since(life.now);
        assert!(wait <= life.policy.schedule.retry_max, "{wait:?}");
    }
}

#[test]
fn renewal_without_a_value_must_name_one() {
    let mut life = without_value();
    life.check(alive(100_000));
    assert_eq!(life.token.state(), State::Missing);
    assert_eq!(life.said(), ["misconfigured"]);
}

#[test]
fn renewal_keeps_its_time_out_near_the_expiry() {
    let mut life = living();
    life.now = life.token.expiry().unwrap();
    let action = life.step(Event::Admitted(Resource::Server));
    assert!(matches!(action, Some(Action::Check { timeout, .. }) if timeout == secs(10)));
}

#[test]
fn source_value_that_comes_during_a_renewal_does_not_lose_the_renewed_one() {
    let mut life = living();
    let due = due(&life).unwrap();
    life.advance(due.since(life.now));
    life.step(Event::Admitted(Resource::Server));
    life.source(SourceChange::NewValue);
    finish(&mut life, alive(100_000));
    assert_eq!((life.token.state(), life.token.active_slot()), (State::Alive, Slot::A));
    assert!(life.token.has_candidate());
    life.check(rejected());
    life.check(rejected());
    assert_eq!(life.token.state(), State::Alive);
    assert_eq!(life.admit(), Some(Action::Persist { slot: Slot::A }));
}

#[test]
fn source_value_that_comes_during_a_renewal_without_a_value_is_checked_instead() {
    let mut life = without_value();
    life.admit();
    life.source(SourceChange::NewValue);
    finish(&mut life, alive(100_000));
    assert_eq!((life.token.validity(), life.token.active_slot()), (Validity::Unknown, Slot::B));
    assert_eq!(due(&life), Some(life.now));
}

#[test]
fn refresh_token_that_comes_during_a_renewal_without_a_value_is_not_missed() {
    for outcome in [nothing_to_send(), rejected(), lost()] {
        let mut life = without_value();
        life.admit();
        life.source(SourceChange::NewRefreshToken);
        life.answer(outcome);
        assert_eq!(due(&life), Some(life.now));
    }
}

#[test]
fn result_that_a_new_refresh_token_made_outdated_still_counts_if_it_is_a_value() {
    let mut life = without_value();
    life.admit();
    life.source(SourceChange::NewRefreshToken);
    finish(&mut life, alive(100_000));
    assert_eq!(life.token.validity(), Validity::Unknown);
    assert_eq!(life.admit(), Some(Action::Persist { slot: Slot::A }));
}

#[test]
fn refresh_token_that_comes_during_a_login_is_used_if_the_login_fails() {
    let mut life = without_any();
    life.policy.reauth = Some(reauth_policy());
    life.step(Event::PolicyChanged);
    life.advance(secs(1));
    assert!(matches!(life.admit(), Some(Action::Reauth { .. })));
    life.source(SourceChange::NewRefreshToken);
    life.step(reauthenticated(hook_failed()));
    assert_eq!(due(&life), Some(life.now));
    assert!(!logs_in(&life));
}

#[test]
fn source_value_that_comes_while_a_renewal_is_held_waits_unless_a_refresh_token_comes_with_it() {
    let mut life = living();
    life.check(lost());
    let held = due(&life);
    life.advance(secs(1));
    life.source(SourceChange::NewValue);
    assert_eq!(due(&life), held);
    life.source(SourceChange::NewRefreshToken);
    assert_eq!(due(&life), Some(life.now));
}

#[test]
fn new_refresh_token_that_the_lost_renewal_may_have_sent_is_held() {
    let mut life = living();
    let at = due(&life).unwrap();
    life.advance(at.since(life.now));
    life.step(Event::Admitted(Resource::Server));
    life.source(SourceChange::NewRefreshToken);
    life.answer(lost());
    assert_eq!(due(&life).map(|due| due + secs(10)), life.token.expiry());
    life.source(SourceChange::NewRefreshToken);
    assert_eq!(due(&life), Some(life.now));
}

#[test]
fn new_refresh_token_is_tried_soon_if_the_renewal_before_found_none() {
    let mut life = living();
    let at = due(&life).unwrap();
    life.advance(at.since(life.now));
    life.step(Event::Admitted(Resource::Server));
    life.source(SourceChange::NewRefreshToken);
    life.answer(nothing_to_send());
    assert_eq!(due(&life), Some(life.now + secs(1)));
}

#[test]
fn rejection_of_the_refresh_token_before_the_new_one_does_not_count() {
    let mut life = living();
    life.check(rejected());
    life.source(SourceChange::NewRefreshToken);
    life.check(rejected());
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    life.check(rejected());
    assert_eq!(life.token.validity(), Validity::Rejected);
}

#[test]
fn lost_response_about_a_candidate_that_is_gone_holds_the_renewal_as_well() {
    let mut life = living();
    life.advance(secs(10));
    life.source(SourceChange::NewValue);
    life.step(Event::Admitted(Resource::Server));
    life.source(SourceChange::NewValue);
    life.answer(lost());
    assert_eq!(due(&life).map(|due| due + secs(10)), life.token.expiry());
}

#[test]
fn restored_renewal_that_is_held_is_not_tested_again() {
    let mut life = restored();
    life.check(lost());
    let held = due(&life);
    life.step(Event::RecheckRestored);
    assert_eq!(due(&life), held);
}

#[test]
fn paused_token_without_a_value_sends_nothing_until_it_is_resumed() {
    let mut life = without_any();
    life.step(Event::OperatorRequested(OperatorRequest::Pause));
    life.source(SourceChange::NewRefreshToken);
    assert_eq!(due(&life), None);
    life.step(Event::OperatorRequested(OperatorRequest::Resume));
    assert_eq!(due(&life), Some(life.now));
}

#[test]
fn operator_may_check_a_token_without_a_value_while_a_renewal_is_planned() {
    let check =
        |life: &Life| life.token.validate_request(OperatorRequest::Check, &life.policy, life.now);
    let mut life = without_value();
    life.check(timed_out());
    assert_eq!(check(&life), Ok(()));
    life.step(Event::OperatorRequested(OperatorRequest::Check));
    assert_eq!(due(&life), Some(life.now));
    assert_eq!(check(&without_any()), Err(RequestError::NoValue));
}

#[test]
fn token_without_a_value_tries_its_refresh_token_on_another_server() {
    let mut life = without_value();
    life.check(rejected());
    life.check(rejected());
    assert_eq!(due(&life), None);
    life.step(Event::ServerChanged);
    life.step(Event::PolicyChanged);
    assert_eq!(due(&life), Some(life.now));
}

#[test]
fn reload_that_takes_the_refresh_token_away_ends_its_use() {
    let mut life = without_value();
    life.policy.rotates = false;
    life.policy.reauth = Some(reauth_policy());
    life.step(Event::PolicyChanged);
    assert!(logs_in(&life));

    let mut life = living();
    life.check(lost());
    life.policy.rotates = false;
    life.step(Event::PolicyChanged);
    life.step(Event::RetryNow);
    assert_eq!(due(&life), Some(life.now));
}

/// Restored with 80 s left of 100 s.
/// A renewal without a value is running, and a reload has taken the refresh token away.
fn renewing_in_vain(reauth: Option<ReauthPolicy>) -> Life {
    let mut life = without_value();
    life.policy.reauth = reauth;
    assert!(life.admit().is_some());
    life.policy.rotates = false;
    life.step(Event::PolicyChanged);
    life
}

#[test]
fn login_that_a_reload_forbids_during_a_renewal_is_not_due_afterwards() {
    let mut life = renewing_in_vain(Some(reauth_policy()));
    life.policy.reauth = None;
    life.step(Event::PolicyChanged);
    life.answer(lost());
    assert_eq!(life.token.due_for(Resource::Reauth), None);
}

#[test]
fn login_that_a_reload_permits_during_a_renewal_is_due_afterwards() {
    let mut life = renewing_in_vain(None);
    life.policy.reauth = Some(reauth_policy());
    life.step(Event::PolicyChanged);
    life.answer(lost());
    assert!(logs_in(&life));
}

fn restored() -> Life {
    let mut life = rotating();
    life.token = Token::without_value(life.now);
    let persisted = PersistedLife {
        expiry: life.now + secs(80),
        remaining_ms: 100_000,
        life_ms: 100_000,
        by: Method::Renew,
        proven: true,
        unrenewable: false,
        this_boot: true,
    };
    life.step(Event::Restored { persisted, spot_check: false });
    life
}

#[test]
fn restored_token_keeps_its_schedule() {
    let life = restored();
    assert_eq!(due(&life), Some(life.now + secs(47)));
}

#[test]
fn cancelled_renewal_without_a_value_starts_again_shortly() {
    let mut life = without_value();
    life.admit();
    life.step(Event::Cancelled);
    assert_eq!(due(&life), Some(life.now + secs(1)));
}

#[test]
fn held_token_is_never_compacted() {
    let mut life = living();
    life.check(lost());
    assert!(life.token.compact().is_none());
    assert!(without_any().token.compact().is_some());
}

#[test]
fn assumed_life_proves_nothing() {
    for renewal in [Renewal::Query, Renewal::Renew] {
        let mut life = Life::with_renewal(renewal);
        life.policy.assumed = true;
        life.policy.reauth = Some(reauth_policy());
        life.policy.reauth_before = Some(secs(30));
        for _ in 0..5 {
            let before = life.now;
            life.check(alive(100_000));
            assert!(life.now == before || life.now.since(before) > secs(50), "no second call");
            assert_eq!(life.last_renewed(), None);
        }
        assert_eq!(life.said(), ["checked"; 5]);
        assert_eq!(life.token.due_for(Resource::Reauth), None);
    }
}

#[test]
fn endless_life_is_checked_at_the_longest_interval_and_proves_nothing() {
    let mut life = Life::new();
    for _ in 0..3 {
        life.check(Outcome::Alive { remaining: ENDLESS });
        assert_eq!(due(&life), Some(life.now + life.policy.schedule.max_interval));
    }
    assert_eq!(life.said(), ["checked"; 3]);
    assert_eq!(life.last_renewed(), None);
    assert_eq!(
        life.token.next_deadline_warning().map(|at| at > life.now + secs(86_400)),
        Some(true)
    );
}

#[test]
fn endless_life_that_gets_an_end_is_measured_anew() {
    let mut life = Life::new();
    life.check(Outcome::Alive { remaining: ENDLESS });
    life.check(alive(100_000));
    assert_eq!(life.token.life_ms(), 100_000);
    life.check(alive(100_000));
    assert_eq!(life.last_renewed(), Some(true));
    life.check(Outcome::Alive { remaining: ENDLESS });
    assert_eq!(life.last_renewed(), None);
}
