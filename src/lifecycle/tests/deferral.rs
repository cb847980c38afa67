//! Actions that are deferred, because another replica may be spending what they need.

use super::compact::rests;
use super::server::{Renews, Reports, Server};
use super::world::{Life, START, alive, asks, expired, secs, timed_out};
use crate::lifecycle::{
    Action, Event, Method, OperatorRequest, ReauthOutcome, ReauthReason, Renewal, Resource, Slot,
    SourceChange,
};
use crate::time::Moment;

/// A live token whose checks spend a refresh token.
fn rotating() -> Life {
    let mut life = Life::with_reauth();
    (life.policy.renewal, life.policy.rotates) = (Renewal::Renew, true);
    life.alive()
}

/// Starts what is due next, and defers it for half a minute.
fn defer(life: &mut Life) -> Moment {
    life.sleep();
    life.admit().expect("something that is due");
    let until = life.now + secs(30);
    life.step(Event::Deferred(until));
    until
}

/// When something is requested next.
fn next(life: &Life) -> Option<Moment> {
    let due = [Resource::Server, Resource::Reauth].map(|resource| life.token.due_for(resource));
    due.into_iter().flatten().min()
}

fn dead() -> Life {
    let mut life = Life::with_reauth().alive();
    life.check(expired());
    life.notices.clear();
    life
}

#[test]
fn deferred_check_of_a_current_value_or_a_candidate_is_due_again_at_that_moment() {
    let mut offered = rotating();
    offered.source(SourceChange::NewValue);
    for mut life in [rotating(), offered] {
        let until = defer(&mut life);
        assert_eq!(next(&life), Some(until), "{:?}", life.token);
        assert_eq!((life.token.is_failing(), life.said()), (false, vec![]));
        assert!(!rests(&life.token), "it would be forgotten");
        life.now = until;
        assert!(matches!(life.admit(), Some(Action::Check { .. })));
    }
}

#[test]
fn nothing_but_a_release_expedites_what_is_deferred() {
    for mut life in [rotating(), dead()] {
        let until = defer(&mut life);
        let events = [
            Event::RetryNow,
            Event::ServerRecovered,
            Event::RecheckRestored,
            Event::PolicyChanged,
            Event::OperatorRequested(OperatorRequest::Check),
            Event::OperatorRequested(OperatorRequest::Reauth),
        ];
        for event in events {
            life.step(event);
            assert_eq!(next(&life), Some(until), "{:?}", life.token);
        }
        life.step(Event::Released);
        assert!(next(&life).is_some_and(|due| due <= life.now));
        assert!(life.admit().is_some());
    }
}

#[test]
fn deferral_does_not_raise_the_backoff() {
    let mut life = rotating();
    life.check(timed_out());
    let failures = life.token.failures();
    let until = defer(&mut life);
    assert_eq!(life.token.failures(), failures);
    assert_eq!(next(&life), Some(until));
}

#[test]
fn deferred_attempt_does_not_count() {
    let mut life = dead();
    let before = life.token.attempts_left(&life.policy.reauth.unwrap(), life.now);
    for _ in 0..5 {
        let until = defer(&mut life);
        assert_eq!(life.token.due_for(Resource::Reauth), Some(until));
    }
    assert_eq!(life.token.attempts_left(&life.policy.reauth.unwrap(), life.now), before);
    life.sleep();
    assert_eq!(life.admit(), Some(Action::Reauth { reason: ReauthReason::Expired, attempt: 1 }));
}

#[test]
fn deferred_attempt_does_not_end_the_probation_of_the_value_before() {
    let mut life = dead();
    life.reauth(ReauthOutcome::NewValue { stored: true });
    life.check(alive(100_000));
    life.step(Event::OperatorRequested(OperatorRequest::Reauth));
    defer(&mut life);
    life.step(Event::OperatorRequested(OperatorRequest::Pause));
    life.step(Event::OperatorRequested(OperatorRequest::Resume));
    life.advance(secs(60));
    life.check(alive(100_000));
    assert_eq!(life.token.attempts(), None, "{:?}", life.token);
}

#[test]
fn deferred_early_attempt_is_still_planned_and_checks_continue() {
    let mut life = Life::with_reauth();
    life.policy.reauth_before = Some(secs(300));
    let mut server = Server::new(Renews::Neither, Reports::After, secs(1_800));
    life.run(&mut server, START + secs(1_490));
    while life.token.due_for(Resource::Server).is_some_and(|due| due < START + secs(1_510)) {
        life.sleep();
        life.admit();
        if life.token.is_reauthenticating() {
            break;
        }
        let left = (START + secs(1_800)).since(life.now);
        life.answer(alive(u64::try_from(left.as_millis()).unwrap()));
    }
    if !life.token.is_reauthenticating() {
        life.now = life.now.max(life.token.due_for(Resource::Reauth).unwrap());
        assert!(matches!(
            life.step(Event::Admitted(Resource::Reauth)),
            Some(Action::Reauth { .. })
        ));
    }
    let until = life.now + secs(3_600);
    life.step(Event::Deferred(until));
    assert_eq!(life.token.due_for(Resource::Reauth), Some(until));
    assert!(life.token.due_for(Resource::Server).is_some_and(|due| due < until));
}

#[test]
fn deferred_request_of_an_operator_is_kept() {
    let mut life = Life::with_reauth().alive();
    life.step(Event::OperatorRequested(OperatorRequest::Reauth));
    let started = life.admit();
    let until = life.now + secs(30);
    life.step(Event::Deferred(until));
    assert_eq!(life.token.due_for(Resource::Reauth), Some(until));
    life.now = until;
    assert_eq!(life.admit(), started, "for the same reason, with the same number");
}

#[test]
fn deferred_revocation_is_kept_and_checks_continue() {
    let mut life = Life::with_reauth().alive();
    life.step(Event::OperatorRequested(OperatorRequest::Revoke));
    assert!(matches!(life.admit(), Some(Action::Revoke { .. })));
    let until = life.now + secs(80);
    life.step(Event::Deferred(until));
    assert_eq!(asks(Some(life.check(alive(100_000))), Slot::A), Some(Method::Query));
    life.now = until;
    assert!(matches!(life.admit(), Some(Action::Revoke { .. })));
}

#[test]
fn attempt_that_is_deferred_for_a_paused_token_is_not_kept() {
    let mut life = Life::with_reauth().alive();
    life.step(Event::OperatorRequested(OperatorRequest::Reauth));
    life.admit();
    life.step(Event::OperatorRequested(OperatorRequest::Pause));
    life.step(Event::Deferred(life.now + secs(30)));
    life.step(Event::OperatorRequested(OperatorRequest::Resume));
    assert_eq!(life.token.due_for(Resource::Reauth), None);
}

#[test]
fn request_that_is_deferred_after_a_reload_has_removed_reauth_is_not_kept() {
    let mut life = Life::with_reauth().alive();
    life.step(Event::OperatorRequested(OperatorRequest::Reauth));
    life.admit();
    life.policy.reauth = None;
    life.step(Event::PolicyChanged);
    life.step(Event::Deferred(life.now + secs(30)));
    assert_eq!(life.token.due_for(Resource::Reauth), None);
}

#[test]
fn deadline_warnings_come_while_the_renewal_is_deferred() {
    let mut life = rotating();
    while life.now < START + secs(110) {
        life.sleep();
        if life.admit().is_some() {
            life.step(Event::Deferred(life.now + secs(2)));
        }
    }
    assert_eq!(life.said(), ["expiring: half", "expiring: nine tenths", "unverified"]);
}

#[test]
fn new_value_ends_the_deferral() {
    let mut life = dead();
    defer(&mut life);
    life.source(SourceChange::NewValue);
    assert_eq!(next(&life), Some(life.now));
}

#[test]
fn deferral_into_the_past_is_no_busy_loop() {
    let mut life = dead();
    life.admit();
    life.step(Event::Deferred(START));
    assert!(next(&life).is_some_and(|due| due > life.now));
}

#[test]
fn deferral_that_is_over_does_not_keep_the_token_from_resting() {
    let mut life = rotating();
    let until = defer(&mut life);
    life.now = until;
    life.check(alive(100_000));
    assert!(rests(&life.token), "{:?}", life.token);
}
