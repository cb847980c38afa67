//! Operator requests: when they are executed, and that they count like any other action.

use super::world::{
    Life, alive, asks, expired, hook_failed, reauthenticated, rejected, secs, timed_out,
};
use crate::lifecycle::{
    Action, Event, Method, OperatorRequest, ReauthOutcome, ReauthReason, RequestError, Resource,
    Slot, SourceChange, State, Validity,
};
use crate::outcome::CallError;

fn ask_for(life: &mut Life, request: OperatorRequest) {
    life.step(Event::OperatorRequested(request));
}

fn validate_request(life: &Life, request: OperatorRequest) -> Result<(), RequestError> {
    life.token.validate_request(request, &life.policy, life.now)
}

/// A token in each validity except missing, whose next action is not due yet.
fn dead() -> [Life; 3] {
    let mut expired_one = Life::with_reauth().alive();
    expired_one.check(expired());
    expired_one.reauth(hook_failed());
    let mut rejected_one = Life::with_reauth().alive();
    rejected_one.check(rejected());
    rejected_one.check(rejected());
    rejected_one.reauth(hook_failed());
    let mut missing = Life::with_reauth().without_value();
    missing.reauth(hook_failed());
    [expired_one, rejected_one, missing]
}

#[test]
fn check_on_request_is_due_at_once_and_evaluated_like_any_other() {
    let mut life = Life::new().alive();
    life.advance(secs(50));
    ask_for(&mut life, OperatorRequest::Check);
    assert_eq!(asks(life.admit(), Slot::A), Some(Method::Query));
    life.answer(alive(100_000));
    assert_eq!(life.last_renewed(), Some(true));
}

#[test]
fn retry_does_not_wait_out_its_pause_if_a_check_is_requested() {
    let mut life = Life::new().alive();
    life.check(timed_out());
    ask_for(&mut life, OperatorRequest::Check);
    assert_eq!(life.token.due_for(Resource::Server), Some(life.now));
}

#[test]
fn check_that_comes_too_early_to_evaluate_says_nothing_about_the_renewal() {
    let mut life = Life::new().alive();
    life.advance(secs(1));
    ask_for(&mut life, OperatorRequest::Check);
    life.check(alive(99_000));
    assert_eq!(life.last_renewed(), None);
}

#[test]
fn check_of_a_dead_or_missing_value_is_refused() {
    for mut life in dead() {
        for request in [OperatorRequest::Check, OperatorRequest::Revoke] {
            assert_eq!(validate_request(&life, request), Err(RequestError::NoValue));
            ask_for(&mut life, request);
            assert_eq!(life.token.due_for(Resource::Server), None);
        }
    }
}

#[test]
fn new_value_is_obtained_for_a_token_that_is_alive_and_replaces_it_once_it_is_alive() {
    let mut life = Life::with_reauth().alive();
    ask_for(&mut life, OperatorRequest::Reauth);
    let action = life.admit();
    assert_eq!(action, Some(Action::Reauth { reason: ReauthReason::Requested, attempt: 1 }));
    life.step(reauthenticated(ReauthOutcome::NewValue { stored: true }));
    assert!(matches!(life.token.validity(), Validity::Alive(_)), "the old one is in use");
    life.check(alive(100_000));
    assert_eq!(life.token.active_slot(), Slot::B);
    assert_eq!(life.count("reauth succeeded"), 1);
}

#[test]
fn attempt_on_request_does_not_wait_out_a_pause_but_counts() {
    for mut life in dead() {
        ask_for(&mut life, OperatorRequest::Reauth);
        let action = life.admit();
        assert_eq!(action, Some(Action::Reauth { reason: ReauthReason::Requested, attempt: 2 }));
        life.step(reauthenticated(hook_failed()));
        ask_for(&mut life, OperatorRequest::Reauth);
        life.admit();
        life.step(reauthenticated(hook_failed()));
        let refused = validate_request(&life, OperatorRequest::Reauth);
        assert!(matches!(refused, Err(RequestError::Exhausted { .. })), "{refused:?}");
    }
}

#[test]
fn second_completion_of_a_check_changes_nothing() {
    let mut life = Life::with_reauth().alive();
    ask_for(&mut life, OperatorRequest::Reauth);
    ask_for(&mut life, OperatorRequest::Reauth);
    life.admit();
    life.step(reauthenticated(hook_failed()));
    assert_eq!(life.token.due_for(Resource::Reauth), None);
}

#[test]
fn attempt_waits_until_something_is_known_of_the_current_value() {
    let mut life = Life::with_reauth();
    ask_for(&mut life, OperatorRequest::Reauth);
    assert_eq!(life.token.due_for(Resource::Reauth), None);
    life.check(alive(100_000));
    assert!(matches!(life.admit(), Some(Action::Reauth { .. })));
}

#[test]
fn without_a_reauth_method_none_is_obtained() {
    let mut life = Life::new().alive();
    assert_eq!(validate_request(&life, OperatorRequest::Reauth), Err(RequestError::NoReauth));
    ask_for(&mut life, OperatorRequest::Reauth);
    assert_eq!(life.token.due_for(Resource::Reauth), None);
}

#[test]
fn reload_that_removes_the_method_cancels_the_request() {
    let mut life = Life::with_reauth().alive();
    ask_for(&mut life, OperatorRequest::Reauth);
    life.policy.reauth = None;
    life.step(Event::PolicyChanged);
    assert_eq!(life.token.due_for(Resource::Reauth), None);
}

#[test]
fn paused_token_starts_and_reports_nothing_until_resumed() {
    let lives = [Life::new().alive(), Life::new(), Life::with_reauth().without_value()];
    for mut life in lives.into_iter().chain(dead()) {
        life.notices.clear();
        ask_for(&mut life, OperatorRequest::Pause);
        assert_eq!((life.token.state(), life.wakes_at()), (State::Paused, None));
        life.advance(secs(86_400));
        assert_eq!(life.said(), [""; 0]);
        for request in [OperatorRequest::Check, OperatorRequest::Reauth] {
            assert_eq!(validate_request(&life, request), Err(RequestError::Paused));
        }
        ask_for(&mut life, OperatorRequest::Resume);
        assert!(life.wakes_at().is_some_and(|at| at <= life.now));
    }
}

#[test]
fn expiry_that_passes_in_a_pause_is_reported_when_it_ends() {
    let mut life = Life::new().alive();
    ask_for(&mut life, OperatorRequest::Pause);
    life.advance(secs(101));
    ask_for(&mut life, OperatorRequest::Resume);
    life.sleep();
    assert_eq!(life.said(), ["unverified"]);
}

#[test]
fn unpersisted_candidate_is_verified_even_while_paused() {
    let mut life = Life::with_reauth().alive();
    ask_for(&mut life, OperatorRequest::Reauth);
    life.admit();
    ask_for(&mut life, OperatorRequest::Pause);
    life.step(reauthenticated(ReauthOutcome::NewValue { stored: false }));
    assert_eq!(asks(life.admit(), Slot::B), Some(Method::Query));
}

#[test]
fn pause_cancels_a_request_that_has_not_started() {
    let mut life = Life::with_reauth().alive();
    ask_for(&mut life, OperatorRequest::Revoke);
    ask_for(&mut life, OperatorRequest::Pause);
    ask_for(&mut life, OperatorRequest::Resume);
    assert!(asks(life.admit(), Slot::A).is_some());
}

#[test]
fn revoked_token_is_dead_and_reauthenticated_if_configured() {
    let mut life = Life::with_reauth().alive();
    ask_for(&mut life, OperatorRequest::Revoke);
    assert!(matches!(life.admit(), Some(Action::Revoke { slot: Slot::A, .. })));
    life.step(Event::RevokeFinished(Ok(())));
    assert_eq!(life.token.state(), State::Rejected);
    assert_eq!(life.said(), ["revoked"]);
    life.reauth(ReauthOutcome::NewValue { stored: true });
    life.check(alive(100_000));
    assert_eq!(life.token.state(), State::Alive);
}

#[test]
fn token_revoked_while_paused_stays_revoked() {
    let mut life = Life::with_reauth().alive();
    ask_for(&mut life, OperatorRequest::Pause);
    ask_for(&mut life, OperatorRequest::Revoke);
    life.admit();
    life.step(Event::RevokeFinished(Ok(())));
    assert_eq!(life.wakes_at(), None);
}

#[test]
fn token_that_could_not_be_revoked_stays_alive() {
    let mut life = Life::new().alive();
    let next = life.token.due_for(Resource::Server);
    ask_for(&mut life, OperatorRequest::Revoke);
    life.admit();
    life.step(Event::RevokeFinished(Err(CallError::new("no answer in time"))));
    assert_eq!(life.said(), ["revoke failed"]);
    assert_eq!(life.token.due_for(Resource::Server), next);
}

#[test]
fn revocation_at_the_previous_server_says_nothing_about_the_one_after() {
    let mut life = Life::new().alive();
    ask_for(&mut life, OperatorRequest::Revoke);
    life.admit();
    life.step(Event::ServerChanged);
    life.step(Event::RevokeFinished(Ok(())));
    assert_eq!(life.token.validity(), Validity::Unknown);
}

#[test]
fn new_value_that_waits_replaces_the_one_that_was_revoked() {
    let mut life = Life::new().alive();
    ask_for(&mut life, OperatorRequest::Revoke);
    life.admit();
    life.source(SourceChange::NewValue);
    life.step(Event::RevokeFinished(Ok(())));
    assert_eq!(life.token.active_slot(), Slot::B);
}

#[test]
fn failed_attempt_on_request_is_not_followed_by_an_unrequested_one() {
    let mut life = Life::with_reauth().alive();
    life.policy.reauth_before = Some(secs(30));
    life.step(Event::OperatorRequested(OperatorRequest::Reauth));
    life.reauth(hook_failed());
    assert_eq!(life.token.due_for(Resource::Reauth), None, "queries may extend this life");
}
