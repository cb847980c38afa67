//! Renewals that are held after a lost response, and logins in place of a renewal.

use super::rotation::{
    NEW, due, living, logs_in, lost, nothing_to_send, query_instead, renew, rotating, without_value,
};
use super::world::{
    START, alive, hook_failed, not_allowed, reauth_policy, rejected, secs, throttled, timed_out,
};
use crate::lifecycle::{
    Action, Event, OperatorRequest, ReauthReason, ReplacedBy, Resource, Slot, SourceChange, State,
    Validity,
};
use crate::outcome::{CallError, ENDLESS, Outcome};
use crate::time::Moment;

#[test]
fn lost_response_is_repeated_once_in_the_last_room_and_then_after_the_expiry() {
    let mut life = living();
    let expiry = life.token.expiry().unwrap();
    life.check(lost());
    let room = secs(10);
    assert_eq!(due(&life).map(|due| due + room), Some(expiry));
    assert!(matches!(life.token.state(), State::Retrying));
    life.check(lost());
    assert_eq!(due(&life), Some(expiry));
    life.check(lost());
    assert!(due(&life).unwrap().since(expiry) <= life.policy.schedule.retry_max);
    assert!(due(&life) > Some(expiry));
}

#[test]
fn first_renewal_that_is_lost_is_held_for_the_time_out_and_replaced_by_a_login() {
    let mut life = rotating();
    life.check(lost());
    assert_eq!(due(&life), Some(life.now + secs(10)));
    life.step(Event::RetryNow);
    assert_eq!(due(&life), Some(life.now + secs(10)));

    let mut life = rotating();
    life.policy.reauth = Some(reauth_policy());
    life.check(lost());
    let failed = life.reauth(hook_failed());
    assert_eq!(failed, Action::Reauth { reason: ReauthReason::Expiring, attempt: 1 });
    life.reauth(NEW);
    assert_eq!((life.token.validity(), life.token.active_slot()), (Validity::Unknown, Slot::A));
    renew(&mut life, alive(100_000));
    assert_eq!((life.token.state(), life.token.active_slot()), (State::Alive, Slot::B));
    assert_eq!(life.count("reauth succeeded"), 1);
}

#[test]
fn login_in_place_of_a_first_renewal_is_the_one_that_an_operator_requests() {
    let mut life = rotating();
    life.policy.reauth = Some(reauth_policy());
    life.check(lost());
    life.step(Event::OperatorRequested(OperatorRequest::Reauth));
    let action = life.reauth(NEW);
    assert_eq!(action, Action::Reauth { reason: ReauthReason::Requested, attempt: 1 });
    renew(&mut life, alive(100_000));
    assert_eq!(life.token.state(), State::Alive);
    assert!(!logs_in(&life));
}

#[test]
fn login_in_place_of_a_first_renewal_follows_the_configuration() {
    let mut life = rotating();
    life.check(lost());
    assert!(!logs_in(&life));
    life.policy.reauth = Some(reauth_policy());
    life.step(Event::PolicyChanged);
    assert!(logs_in(&life));
    life.policy.reauth = None;
    life.step(Event::PolicyChanged);
    assert!(!logs_in(&life));
    life.policy.reauth = Some(reauth_policy());
    life.step(Event::PolicyChanged);
    life.policy.rotates = false;
    life.step(Event::PolicyChanged);
    assert!(!logs_in(&life), "nothing is held any more");
}

#[test]
fn login_in_place_of_a_first_renewal_that_could_not_start_is_due_again() {
    let mut life = rotating();
    life.policy.reauth = Some(reauth_policy());
    life.check(lost());
    assert!(matches!(life.step(Event::Admitted(Resource::Reauth)), Some(Action::Reauth { .. })));
    life.step(Event::Cancelled);
    assert!(!logs_in(&life));
    life.advance(secs(2));
    assert!(logs_in(&life));
}

#[test]
fn last_room_is_a_tenth_of_a_short_life() {
    let mut life = rotating();
    renew(&mut life, alive(20_000));
    life.check(lost());
    assert_eq!(due(&life), Some(START + secs(18)));
}

#[test]
fn renewal_that_never_reached_the_server_is_repeated_at_once_in_the_last_room() {
    let mut life = living();
    life.check(lost());
    life.check(timed_out());
    assert!(due(&life) < life.token.expiry());
    renew(&mut life, alive(100_000));
    assert_eq!(life.token.state(), State::Alive);
}

#[test]
fn renewal_that_never_reached_the_server_is_retried_as_always() {
    let mut life = living();
    life.check(timed_out());
    assert_eq!(due(&life), Some(life.now + secs(1)));
}

#[test]
fn held_renewal_is_not_brought_forward() {
    let mut life = living();
    life.policy.reauth = Some(reauth_policy());
    life.check(lost());
    let held = due(&life);
    let events = [
        Event::RetryNow,
        Event::ServerRecovered,
        Event::PolicyChanged,
        Event::SourceChanged(SourceChange::Reappeared),
        Event::OperatorRequested(OperatorRequest::Pause),
        Event::OperatorRequested(OperatorRequest::Resume),
    ];
    for event in events {
        life.advance(secs(1));
        life.step(event.clone());
        assert_eq!(due(&life).or(held), held, "{event:?}");
    }
    assert_eq!(due(&life), held);
}

#[test]
fn operator_and_new_refresh_token_bring_a_held_renewal_forward() {
    let check = Event::OperatorRequested(OperatorRequest::Check);
    for event in [check, Event::SourceChanged(SourceChange::NewRefreshToken)] {
        let mut life = living();
        life.check(lost());
        life.step(event);
        assert_eq!(due(&life), Some(life.now));
    }
}

#[test]
fn operator_who_hears_of_another_loss_changes_nothing_else() {
    let mut life = living();
    life.check(lost());
    let held = due(&life);
    life.step(Event::OperatorRequested(OperatorRequest::Check));
    for outcome in [lost(), timed_out(), throttled(1)] {
        life.step(Event::OperatorRequested(OperatorRequest::Check));
        life.check(outcome);
        assert_eq!(due(&life), held);
    }
}

#[test]
fn held_renewal_is_replaced_by_a_login_at_once() {
    let mut life = living();
    life.policy.reauth = Some(reauth_policy());
    life.check(lost());
    assert!(logs_in(&life));
    let login = life.reauth(NEW);
    assert_eq!(login, Action::Reauth { reason: ReauthReason::Expiring, attempt: 1 });
    renew(&mut life, alive(100_000));
    assert_eq!((life.token.state(), life.token.active_slot()), (State::Alive, Slot::B));
    assert!(!logs_in(&life));
    let expiry = life.token.expiry().unwrap();
    assert!(due(&life).unwrap() + secs(33) <= expiry, "the new value is renewed as always");
}

#[test]
fn new_value_of_a_login_is_not_held() {
    let mut life = living();
    life.policy.reauth = Some(reauth_policy());
    life.check(lost());
    life.reauth(NEW);
    life.check(rejected());
    assert!(due(&life) <= Some(life.now + secs(1)));
    life.check(rejected());
    assert_eq!(life.reauth(NEW), Action::Reauth { reason: ReauthReason::Expiring, attempt: 2 });
}

#[test]
fn login_instead_of_a_held_renewal_is_repeated_within_its_budget() {
    let mut life = living();
    life.policy.reauth = Some(reauth_policy());
    life.check(lost());
    for attempt in 1..=3 {
        let login = life.reauth(hook_failed());
        assert_eq!(login, Action::Reauth { reason: ReauthReason::Expiring, attempt });
    }
    assert!(life.token.due_for(Resource::Reauth) > Some(life.now + secs(1_000)));
}

#[test]
fn living_value_without_a_refresh_token_is_replaced_by_a_login() {
    let mut life = living();
    life.policy.reauth = Some(reauth_policy());
    life.check(nothing_to_send());
    assert_eq!(life.said(), ["misconfigured"]);
    assert!(logs_in(&life));
}

#[test]
fn value_of_unknown_life_without_a_refresh_token_is_replaced_by_logins_over_the_window() {
    let mut life = rotating();
    life.policy.reauth = Some(reauth_policy());
    life.check(nothing_to_send());
    assert!(logs_in(&life), "nothing is known of the first value");
    let mut starts = Vec::new();
    for _ in 0..4 {
        life.reauth(NEW);
        starts.push(life.now);
        while life.token.has_candidate() {
            life.check(nothing_to_send());
        }
        life.store(Ok(()));
        let planned = life.token.due_for(Resource::Reauth);
        for _ in 0..3 {
            life.check(nothing_to_send());
        }
        assert_eq!(life.token.due_for(Resource::Reauth), planned, "checks do not postpone it");
    }
    assert_eq!(life.count("reauth failed"), starts.len(), "each attempt is concluded");
    let pauses: Vec<_> = starts.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!(pauses.iter().all(|pause| (secs(1_200)..secs(1_300)).contains(pause)), "{pauses:?}");
}

#[test]
fn new_value_without_a_refresh_token_takes_the_place_of_one_that_cannot_be_renewed() {
    let mut life = living();
    life.policy.reauth = Some(reauth_policy());
    life.check(nothing_to_send());
    life.reauth(NEW);
    life.check(nothing_to_send());
    assert_eq!((life.token.validity(), life.token.active_slot()), (Validity::Unknown, Slot::B));
    assert_eq!(life.replaced, [ReplacedBy::Reauth]);
    assert_eq!(life.admit(), Some(Action::Persist { slot: Slot::B }));

    let mut life = living();
    life.source(SourceChange::NewValue);
    life.check(nothing_to_send());
    assert_eq!((life.token.validity(), life.token.active_slot()), (Validity::Unknown, Slot::B));
    life.source(SourceChange::NewRefreshToken);
    renew(&mut life, alive(100_000));
    assert_eq!(life.token.state(), State::Alive);
}

#[test]
fn candidate_that_the_server_refuses_to_renew_does_not_replace_the_living_value() {
    let mut life = living();
    life.source(SourceChange::NewValue);
    life.check(not_allowed());
    assert!(life.token.has_candidate());
    assert_eq!(life.token.state(), State::Retrying);
}

#[test]
fn living_value_that_could_only_be_queried_is_replaced_by_a_login() {
    let mut life = living();
    life.policy.reauth = Some(reauth_policy());
    query_instead(&mut life, alive(30_000));
    assert!(logs_in(&life));
    assert_eq!(life.said(), ["checked"]);
    life.reauth(hook_failed());
    life.step(Event::PolicyChanged);
    assert!(life.token.due_for(Resource::Reauth).is_some(), "it is repeated");
    life.source(SourceChange::NewRefreshToken);
    assert_eq!(life.token.due_for(Resource::Reauth), None);

    query_instead(&mut life, alive(30_000));
    life.reauth(NEW);
    renew(&mut life, alive(100_000));
    assert_eq!((life.token.state(), life.token.active_slot()), (State::Alive, Slot::B));
    assert!(!logs_in(&life));
    assert!(due(&life) > Some(life.now + secs(30)));
}

#[test]
fn value_that_does_not_expire_needs_no_login_without_a_refresh_token() {
    let mut life = living();
    life.policy.reauth = Some(reauth_policy());
    query_instead(&mut life, Outcome::Alive { remaining: ENDLESS });
    assert_eq!(life.token.due_for(Resource::Reauth), None);
}

#[test]
fn renewal_without_a_value_that_cannot_be_sent_is_reported_and_repeated() {
    let mut life = without_value();
    let fault = CallError { local: true, ..CallError::new("`with.key` has a line break") };
    life.check(Outcome::Misconfigured(fault));
    assert_eq!(life.said(), ["misconfigured"]);
    assert!(due(&life).is_some());
}

#[test]
fn response_ends_the_hold() {
    let mut life = living();
    life.check(lost());
    renew(&mut life, alive(100_000));
    life.check(timed_out());
    assert_eq!(due(&life), Some(life.now + secs(1)));
}

#[test]
fn candidate_with_a_lost_response_holds_both_values() {
    let mut life = living();
    life.advance(secs(10));
    life.source(SourceChange::NewValue);
    life.check(lost());
    let held = life.token.expiry().map(|expiry| expiry.as_millis() - 10_000);
    assert_eq!(due(&life), held.map(Moment::from_millis));
    life.step(Event::RetryNow);
    life.step(Event::PolicyChanged);
    assert_eq!(due(&life), held.map(Moment::from_millis));
}
