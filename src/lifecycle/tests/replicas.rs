//! Several replicas share the tokens: a token that another one asks about, and one that comes back.

use super::compact::rests;
use super::server::{Renews, Reports, Server};
use super::world::{
    Life, START, alive, asks, attempt_counts, expired, hook_failed, ms, reauthenticated, rejected,
    secs, timed_out,
};
use crate::lifecycle::{
    Action, Event, Method, Notice, OperatorRequest, PersistedLife, ReauthOutcome, ReauthReason,
    ReplacedBy, RequestError, Resource, Slot, SourceChange, State, Token, Validity,
};
use crate::time::Moment;

fn leave(life: &mut Life) {
    life.step(Event::Asked { here: false, spot_check: false });
}

fn come_back(life: &mut Life) {
    life.step(Event::Asked { here: true, spot_check: false });
}

/// A live token with 100 s left that another replica asks about.
fn elsewhere() -> Life {
    let mut life = Life::with_reauth().alive();
    leave(&mut life);
    life
}

/// The same, whose value was found dead before.
fn dead_elsewhere() -> Life {
    let mut life = Life::with_reauth().alive();
    life.check(expired());
    leave(&mut life);
    life.notices.clear();
    life
}

fn window_end() -> Moment {
    START + secs(3_600)
}

#[test]
fn nothing_is_planned_for_a_token_that_another_replica_asks_about() {
    let mut failing = Life::with_reauth().alive();
    failing.check(timed_out());
    let mut expiring = Life::with_reauth().alive();
    expiring.policy.reauth_before = Some(secs(90));
    expiring.step(Event::PolicyChanged);
    let unchecked = Life::with_reauth();
    let mut dead = Life::with_reauth().alive();
    dead.check(expired());
    let mut missing = Life::with_reauth();
    missing.token = Token::without_value(START);
    for mut life in [Life::with_reauth().alive(), failing, expiring, unchecked, dead, missing] {
        life.notices.clear();
        leave(&mut life);
        assert_eq!(life.token.state(), State::Elsewhere);
        assert_eq!(life.wakes_at(), None, "{:?}", life.token);
        for event in [Event::RetryNow, Event::ServerRecovered, Event::PolicyChanged] {
            life.step(event);
        }
        life.step(Event::Throttled(life.now + secs(900)));
        life.advance(secs(3_600));
        assert_eq!((life.wakes_at(), life.admit()), (None, None), "{:?}", life.token);
        assert_eq!(life.said(), [""; 0]);
    }
}

#[test]
fn token_that_another_replica_asks_about_is_compacted() {
    let mut failing = Life::with_reauth().alive();
    failing.check(timed_out());
    let mut proving = Life::new().alive();
    proving.advance(secs(60));
    proving.check(alive(40_000));
    let mut frequent = Life::new();
    frequent.policy.schedule.max_interval = secs(300);
    frequent.renews_by = Some(Method::Query);
    let mut server = Server::new(Renews::Query, Reports::After, secs(86_400));
    frequent.run(&mut server, START + secs(3_000));
    let missing = Life::with_reauth().without_value();
    let mut rejected_twice = Life::with_reauth().alive();
    rejected_twice.check(rejected());
    rejected_twice.check(rejected());
    let all = [failing, proving, frequent, missing, rejected_twice, dead_elsewhere(), Life::new()];
    for mut life in all {
        for here in [false, true] {
            life.step(Event::Asked { here, spot_check: false });
            assert_eq!(life.token.is_asked(), here);
            assert!(rests(&life.token), "{here}: {:?}", life.token);
        }
    }
}

#[test]
fn operator_is_referred_to_the_replica_that_asks() {
    let mut life = elsewhere();
    for request in [OperatorRequest::Check, OperatorRequest::Reauth, OperatorRequest::Revoke] {
        let verdict = life.token.validate_request(request, &life.policy, life.now);
        assert_eq!(verdict, Err(RequestError::Elsewhere), "{request:?}");
        life.step(Event::OperatorRequested(request));
        assert_eq!(life.wakes_at(), None);
    }
    life.step(Event::OperatorRequested(OperatorRequest::Pause));
    assert_eq!(life.token.state(), State::Paused);
    life.step(Event::OperatorRequested(OperatorRequest::Resume));
    assert_eq!((life.token.state(), life.wakes_at()), (State::Elsewhere, None));
}

#[test]
fn request_that_has_not_started_is_dropped_with_the_token() {
    let mut life = Life::with_reauth().alive();
    life.step(Event::OperatorRequested(OperatorRequest::Revoke));
    leave(&mut life);
    come_back(&mut life);
    assert!(matches!(life.admit(), Some(Action::Check { .. })));
}

#[test]
fn result_of_a_check_from_before_is_ignored() {
    for outcome in [alive(900_000), expired(), timed_out()] {
        let mut life = Life::with_reauth().alive();
        let expiry = life.token.expiry();
        life.sleep();
        life.admit();
        leave(&mut life);
        life.answer(outcome);
        assert_eq!((life.token.expiry(), life.said()), (expiry, vec![]));
        assert!(rests(&life.token), "{:?}", life.token);
    }
}

#[test]
fn value_in_its_own_source_is_verified_all_the_same() {
    let mut lost = Life::with_reauth().without_value();
    leave(&mut lost);
    for mut life in [elsewhere(), dead_elsewhere(), lost] {
        let (slot, validity) = (life.token.active_slot(), life.token.validity());
        life.source(SourceChange::NewValue);
        assert_eq!((life.token.active_slot(), life.token.validity()), (slot, validity));
        life.check(alive(60_000));
        assert_eq!(life.token.active_slot(), slot.other());
        assert!(matches!(life.token.validity(), Validity::Alive(_)), "{validity:?}");
        assert_eq!((life.wakes_at(), life.token.state()), (None, State::Elsewhere));
    }
}

#[test]
fn dead_value_in_its_own_source_changes_nothing() {
    let mut life = dead_elsewhere();
    life.source(SourceChange::NewValue);
    life.check(expired());
    assert_eq!(life.said(), ["candidate expired"]);
    assert_eq!((life.token.validity(), life.wakes_at()), (Validity::Expired, None));
    come_back(&mut life);
    assert_eq!(life.token.due_for(Resource::Reauth), Some(life.now));
}

#[test]
fn first_value_of_a_token_is_not_checked_by_a_replica_that_does_not_ask() {
    let mut life = Life::new();
    life.token = Token::without_value(START);
    leave(&mut life);
    life.source(SourceChange::NewValue);
    assert_eq!((life.token.validity(), life.wakes_at()), (Validity::Unknown, None));
    come_back(&mut life);
    assert_eq!(asks(life.admit(), Slot::B), Some(Method::Query));
}

#[test]
fn source_without_a_value_is_reported_by_the_replica_that_asks() {
    let mut life = Life::with_reauth();
    life.token = Token::without_value(START);
    leave(&mut life);
    life.source(SourceChange::Lost("no such file".into()));
    assert_eq!((life.said(), life.wakes_at()), (vec![], None));
    come_back(&mut life);
    assert_eq!(life.said(), ["missing"]);
    assert_eq!(life.token.due_for(Resource::Reauth), Some(life.now));
    for _ in 0..2 {
        leave(&mut life);
        come_back(&mut life);
    }
    assert_eq!(life.said(), [""; 0], "once");
}

#[test]
fn token_that_comes_back_is_checked_at_once() {
    let mut life = elsewhere();
    life.advance(secs(50));
    come_back(&mut life);
    assert_eq!(life.token.state(), State::Alive);
    assert_eq!(asks(life.admit(), Slot::A), Some(Method::Query));
    assert_eq!(life.token.reading().map(|reading| reading.remaining_ms), Some(100_000));
}

#[test]
fn growth_since_before_another_replica_asked_proves_nothing() {
    let mut life = elsewhere();
    life.advance(secs(80));
    come_back(&mut life);
    life.check(alive(100_000));
    assert_eq!((life.last_renewed(), life.said()), (None, vec!["checked"]));
    // The other one may still ask.
    life.check(alive(100_000));
    assert!(!life.said().contains(&"renews by query"));
    life.check(alive(100_000));
    assert!(life.said().contains(&"renews by query"));
}

#[test]
fn life_that_runs_down_after_another_replica_renewed_it_is_noticed() {
    let mut server = Server::new(Renews::Renew, Reports::After, secs(100));
    let mut life = Life::new();
    life.renews_by = Some(Method::Query);
    life.run(&mut server, START + secs(10));
    leave(&mut life);
    let until = life.now + secs(50);
    server.ask(Method::Renew, Slot::A, until, secs(10));
    life.wake_at(until);
    come_back(&mut life);
    life.run(&mut server, until + secs(1_000));
    assert!(matches!(life.token.validity(), Validity::Alive(_)), "{:?}", life.token);
    assert!(life.said().contains(&"renews by renew"));
}

#[test]
fn expiry_that_passed_meanwhile_is_no_warning_before_the_first_check() {
    let mut life = elsewhere();
    life.advance(secs(500));
    come_back(&mut life);
    life.advance(secs(60));
    assert_eq!((life.said(), life.token.state()), (vec![], State::Unverified));
    assert!(rests(&life.token), "{:?}", life.token);
    life.check(alive(100_000));
    assert_eq!(life.said(), ["checked"]);
}

#[test]
fn expiry_that_passed_meanwhile_is_reported_once_if_the_check_fails() {
    let mut life = elsewhere();
    life.advance(secs(500));
    come_back(&mut life);
    life.check(timed_out());
    life.check(timed_out());
    assert_eq!(life.said(), ["check failed", "unverified", "check failed"]);
    life.check(alive(100_000));
    assert_eq!(life.said(), ["recovered", "checked"]);
}

#[test]
fn first_401_for_a_token_that_came_back_is_not_called_unverified() {
    let mut life = elsewhere();
    life.advance(secs(500));
    come_back(&mut life);
    life.check(rejected());
    life.check(rejected());
    assert_eq!(life.said(), ["check failed", "rejected"]);
}

#[test]
fn failures_from_before_do_not_delay_a_token_that_comes_back() {
    let mut life = Life::with_reauth().alive();
    for _ in 0..9 {
        life.check(timed_out());
    }
    leave(&mut life);
    come_back(&mut life);
    assert_eq!(life.token.failures(), 0);
    assert_eq!(life.token.due_for(Resource::Server), Some(life.now));
}

#[test]
fn restored_schedule_continues_when_the_replica_begins_to_ask() {
    let mut life = Life::new();
    life.token = Token::without_value(START);
    leave(&mut life);
    let persisted = PersistedLife {
        expiry: START + secs(90),
        remaining_ms: 100_000,
        life_ms: 100_000,
        by: Method::Query,
        proven: true,
        unrenewable: false,
        this_boot: true,
    };
    life.step(Event::Restored { persisted, spot_check: false });
    assert!(rests(&life.token) && life.wakes_at().is_none(), "{:?}", life.token);
    life.advance(secs(2));
    let mut late = life.clone();
    come_back(&mut life);
    assert_eq!(life.token.due_for(Resource::Server), Some(START + secs(57)));
    assert!(life.token.is_restored() && !life.token.is_taken_over());
    late.advance(secs(60));
    come_back(&mut late);
    assert_eq!(late.token.due_for(Resource::Server), Some(late.now));
    assert!(late.token.is_taken_over(), "it says nothing about what was persisted");
}

#[test]
fn login_that_ends_after_the_token_was_left_is_verified_by_the_replica_that_made_it() {
    let mut life = Life::with_reauth().alive();
    life.check(expired());
    life.admit();
    leave(&mut life);
    life.step(reauthenticated(ReauthOutcome::NewValue { stored: true }));
    life.notices.clear();
    life.check(alive(60_000));
    assert_eq!(life.said(), ["reauth succeeded", "recovered", "checked"]);
    assert_eq!((life.replaced, life.token.state()), (vec![ReplacedBy::Reauth], State::Elsewhere));
}

#[test]
fn failed_login_of_a_token_that_was_left_is_not_repeated() {
    let mut life = Life::with_reauth().alive();
    life.check(expired());
    life.admit();
    leave(&mut life);
    life.step(reauthenticated(hook_failed()));
    assert_eq!(life.wakes_at(), None);
    come_back(&mut life);
    assert_eq!(life.token.due_for(Resource::Reauth), Some(life.now + secs(1)), "the pause");
}

#[test]
fn value_of_another_replica_counts_at_once_where_none_lives_or_none_is_asked_about() {
    let mut dead = Life::with_reauth().alive();
    dead.check(expired());
    let missing = Life::with_reauth().without_value();
    for mut life in [elsewhere(), dead_elsewhere(), dead, missing] {
        let slot = life.token.active_slot();
        life.source(SourceChange::Obtained(ReplacedBy::Replica));
        assert_eq!(life.replaced, [ReplacedBy::Replica]);
        assert_eq!(life.token.active_slot(), slot.other());
        assert_eq!(life.token.validity(), Validity::Unknown);
        assert_eq!(life.admit(), Some(Action::Persist { slot: slot.other() }), "written first");
        life.step(Event::PersistFinished(Ok(())));
        assert_eq!(life.token.due_for(Resource::Reauth), None);
        assert_eq!(life.token.due_for(Resource::Server).is_some(), life.token.is_asked());
    }
}

#[test]
fn value_of_another_replica_for_a_live_token_is_verified_first() {
    let mut life = Life::with_reauth().alive();
    life.source(SourceChange::Obtained(ReplacedBy::Replica));
    life.source(SourceChange::Reverted);
    assert_eq!(life.token.active_slot(), Slot::A);
    assert_eq!(asks(Some(life.check(alive(60_000))), Slot::B), Some(Method::Query));
    assert_eq!(
        (&life.replaced[..], life.token.active_slot()),
        (&[ReplacedBy::Replica][..], Slot::B)
    );
    assert_eq!(life.admit(), Some(Action::Persist { slot: Slot::B }));
}

#[test]
fn dead_value_of_another_replica_is_dropped() {
    let mut life = Life::with_reauth().alive();
    life.source(SourceChange::Obtained(ReplacedBy::Replica));
    life.check(expired());
    assert_eq!((life.said(), life.replaced.len()), (vec!["candidate expired"], 0));
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
}

#[test]
fn write_of_the_value_before_does_not_count_for_that_of_another_replica() {
    let mut life = Life::with_reauth().alive();
    life.check(expired());
    life.reauth(ReauthOutcome::NewValue { stored: false });
    assert_eq!(life.admit(), Some(Action::Persist { slot: Slot::B }));
    leave(&mut life);
    life.source(SourceChange::Obtained(ReplacedBy::Replica));
    life.step(Event::PersistFinished(Ok(())));
    assert_eq!(life.admit(), Some(Action::Persist { slot: Slot::A }));
}

#[test]
fn login_under_way_is_judged_by_the_value_of_another_replica() {
    let mut life = Life::with_reauth().alive();
    life.check(expired());
    life.admit();
    life.source(SourceChange::Obtained(ReplacedBy::Replica));
    life.step(reauthenticated(ReauthOutcome::NewValue { stored: false }));
    assert_eq!(life.replaced, [ReplacedBy::Replica]);
    life.store(Ok(()));
    life.notices.clear();
    life.check(alive(60_000));
    assert!(life.said().contains(&"reauth succeeded"));
}

#[test]
fn rotated_value_of_another_replica_is_not_spent_at_once() {
    let mut life = Life::with_reauth().alive();
    life.policy.rotates = true;
    life.source(SourceChange::Obtained(ReplacedBy::Replica));
    assert_eq!(
        (&life.replaced[..], life.token.active_slot()),
        (&[ReplacedBy::Replica][..], Slot::B)
    );
    life.store(Ok(()));
    assert_eq!(life.token.due_for(Resource::Server), Some(life.now + secs(60)));
    // Of what lives for a shorter time, the usual share.
    life.check(alive(30_000));
    life.source(SourceChange::Obtained(ReplacedBy::Replica));
    life.store(Ok(()));
    assert_eq!(life.token.due_for(Resource::Server), Some(life.now + ms(20_100)));
}

#[test]
fn attempts_of_other_replicas_count() {
    let mut life = Life::with_reauth().alive();
    life.check(expired());
    life.notices.clear();
    life.step(attempt_counts(window_end(), 2));
    assert_eq!(life.token.due_for(Resource::Reauth), Some(life.now + secs(2)));
    for _ in 0..2 {
        life.step(attempt_counts(window_end(), 3));
        assert_eq!(life.token.due_for(Resource::Reauth), Some(window_end()));
    }
    assert_eq!(life.said(), ["reauth exhausted"], "once");
    life.step(attempt_counts(window_end(), 1));
    assert!(life.token.due_for(Resource::Reauth).is_some_and(|due| due < window_end()));
}

#[test]
fn attempt_of_another_replica_is_refunded_once_its_value_has_lived_here_for_half_of_its_life() {
    for (is_seen_again, attempt) in [(true, 1), (false, 2)] {
        let mut life = elsewhere();
        life.step(attempt_counts(window_end(), 1));
        life.source(SourceChange::Obtained(ReplacedBy::Replica));
        life.store(Ok(()));
        come_back(&mut life);
        life.check(alive(100_000));
        if is_seen_again {
            life.check(alive(30_000));
        }
        life.check(expired());
        life.notices.clear();
        life.now = life.token.due_for(Resource::Reauth).unwrap();
        life.admit();
        let started = |notice: &Notice| matches!(notice, Notice::ReauthStarted { attempt: a, .. } if *a == attempt);
        assert!(life.notices.iter().any(started), "{:?}", life.notices);
    }
}

#[test]
fn attempts_of_other_replicas_count_during_an_attempt() {
    let mut life = Life::with_reauth().alive();
    life.check(expired());
    life.admit();
    life.step(attempt_counts(window_end(), 3));
    life.step(Event::Deferred(life.now + secs(5)));
    assert_eq!(life.token.due_for(Resource::Reauth), Some(window_end()));
}

#[test]
fn attempts_that_count_move_an_early_attempt() {
    let mut life = Life::with_reauth();
    life.policy.reauth_before = Some(secs(30));
    let mut server = Server::new(Renews::Neither, Reports::After, secs(1_800));
    life.run(&mut server, START + secs(1_700));
    let planned = life.token.due_for(Resource::Reauth).unwrap();
    life.step(attempt_counts(window_end(), 3));
    assert_eq!(life.token.due_for(Resource::Reauth), Some(planned.max(window_end())));
}

#[test]
fn reauth_reason_after_a_return_is_what_was_found() {
    let mut life = dead_elsewhere();
    life.advance(secs(600));
    come_back(&mut life);
    assert!(matches!(
        life.admit(),
        Some(Action::Reauth { reason: ReauthReason::Expired, attempt: 1 })
    ));
    assert!(matches!(life.notices[..], [Notice::ReauthStarted { .. }]));
}
