//! Early re-authentication: a new value before the expiry of a token that cannot be renewed
//! (`reauth_before`).

use super::server::{Renews, Reports, Server};
use super::world::{
    Life, START, alive, asks, expired, hook_failed, not_allowed, reauth_policy, reauthenticated,
    secs, timed_out,
};
use crate::lifecycle::{
    Action, Event, Notice, ReauthOutcome, ReauthReason, Renewal, Resource, Slot, SourceChange,
    Validity,
};

const NEW: ReauthOutcome = ReauthOutcome::NewValue { stored: false };

/// A token of 300 s that cannot be renewed, to be replaced `before` seconds before its expiry.
fn mortal(before: u64) -> (Life, Server) {
    let mut life = Life::with_reauth();
    life.policy.reauth_before = Some(secs(before));
    (life, Server::new(Renews::Neither, Reports::After, secs(300)))
}

/// Alive and not renewable, with an attempt due in its last 30 s; notices are cleared.
fn about_to_be_replaced() -> Life {
    let mut life = Life::with_reauth();
    life.policy.renewal = Renewal::Query;
    life.policy.reauth_before = Some(secs(30));
    for remaining in [300_000, 99_000, 99_000, 32_000, 32_000] {
        life.check(alive(remaining));
    }
    life.notices.clear();
    let due = life.token.due_for(Resource::Reauth).expect("an attempt to come");
    life.advance(due.since(life.now));
    life
}

/// With an attempt in flight.
fn replacing() -> Life {
    let mut life = about_to_be_replaced();
    assert!(matches!(life.step(Event::Admitted(Resource::Reauth)), Some(Action::Reauth { .. })));
    life
}

/// With a new value from an attempt that was not checked yet.
fn replaced() -> Life {
    let mut life = replacing();
    life.step(reauthenticated(NEW));
    life
}

#[test]
fn early_attempt_starts_reauth_before_ahead_of_the_expiry() {
    for before in [10, 30, 45, 75] {
        let (mut life, mut server) = mortal(before);
        life.run(&mut server, START + secs(300 - before - 1));
        assert_eq!(life.count("reauth started"), 0, "{before} s before");
        life.run(&mut server, START + secs(300 - before + 1));
        assert_eq!(life.count("reauth started"), 1, "{before} s before");
    }
}

#[test]
fn value_is_replaced_before_the_limit_of_its_renewals() {
    for limit in 30..60 {
        for before in [4, 6, 8] {
            let (mut life, _) = mortal(before);
            let mut server =
                Server::new(Renews::Renew, Reports::After, secs(12)).in_whole_seconds();
            server.limit = Some(START + secs(limit));
            // The last full life is renewed at its two thirds, so it may end after the limit.
            life.run(&mut server, START + secs(limit - 13));
            assert_eq!(life.count("reauth started"), 0, "limit {limit} s, {before} s before");
            life.run(&mut server, START + secs(limit - 2));
            assert!(life.count("reauth started") > 0, "limit {limit} s, {before} s before");
        }
    }
}

#[test]
fn server_that_refuses_to_renew_does_not_delay_it() {
    for before in [10, 30, 45] {
        let (mut life, mut server) = mortal(before);
        server.refuses_renewal = Some(not_allowed);
        life.run(&mut server, START + secs(300 - before + 1));
        assert_eq!(life.count("reauth started"), 1, "{before} s before");
    }
}

#[test]
fn reason_of_an_early_attempt_is_expiring() {
    let mut life = about_to_be_replaced();
    let started = life.step(Event::Admitted(Resource::Reauth));
    assert_eq!(started, Some(Action::Reauth { reason: ReauthReason::Expiring, attempt: 1 }));
}

#[test]
fn renewable_token_is_never_replaced_early() {
    for renews in [Renews::Query, Renews::Renew] {
        for reports in [Reports::After, Reports::Before] {
            let (mut life, _) = mortal(250);
            let mut server = Server::new(renews, reports, secs(300));
            life.run(&mut server, START + secs(10_000));
            assert_eq!(life.count("reauth started"), 0, "{renews:?}, {reports:?}");
        }
    }
}

#[test]
fn without_reauth_before_the_token_expires() {
    let (mut life, mut server) = mortal(30);
    life.policy.reauth_before = None;
    life.run(&mut server, START + secs(299));
    assert_eq!(life.count("reauth started"), 0);
    life.run(&mut server, START + secs(301));
    assert_eq!(life.said().iter().filter(|word| **word == "reauth started").count(), 1);
}

#[test]
fn old_value_stays_current_until_the_new_one_is_alive() {
    let mut life = replaced();
    assert_eq!(life.token.active_slot(), Slot::A);
    assert!(asks(life.admit(), Slot::B).is_some());
    assert_eq!(life.token.active_slot(), Slot::A);
    life.answer(alive(300_000));
    assert_eq!(life.token.active_slot(), Slot::B);
    assert_eq!(life.said(), ["reauth started", "reauth succeeded", "checked"]);
}

#[test]
fn new_value_is_verified_first_and_then_persisted() {
    let mut life = replaced();
    assert_eq!(life.token.due_for(Resource::None), None);
    life.check(alive(300_000));
    assert_eq!(life.admit(), Some(Action::Persist { slot: Slot::B }));
}

#[test]
fn dead_new_value_leaves_the_current_one_in_place() {
    let mut life = replaced();
    life.check(expired());
    assert_eq!(life.said(), ["reauth started", "reauth failed"]);
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    assert_eq!(life.token.active_slot(), Slot::A);
    assert_eq!(life.token.due_for(Resource::None), None, "a dead value is not stored");
    assert_eq!(life.token.due_for(Resource::Reauth), Some(life.now + secs(1)));
}

#[test]
fn when_the_old_value_dies_meanwhile_the_new_one_is_persisted_and_then_verified() {
    let mut life = replaced();
    while life.count("expired") == 0 {
        life.sleep();
        let asked = life.admit();
        if asks(asked, Slot::A).is_some() {
            life.answer(expired());
        } else if asked.is_some() {
            life.answer(timed_out());
        }
    }
    life.notices.clear();
    assert_eq!(life.admit(), Some(Action::Persist { slot: Slot::B }));
    life.step(Event::PersistFinished(Ok(())));
    life.check(alive(300_000));
    assert_eq!(life.said(), ["reauth succeeded", "recovered", "checked"]);
}

#[test]
fn expiry_that_passes_during_an_attempt_changes_nothing_for_the_new_value() {
    let mut life = replacing();
    life.advance(secs(60));
    assert!(matches!(life.token.validity(), Validity::Unverified(_)));
    life.step(reauthenticated(NEW));
    assert!(asks(Some(life.check(timed_out())), Slot::A).is_some(), "that was due before");
    assert!(asks(Some(life.check(alive(300_000))), Slot::B).is_some());
    life.notices.retain(|notice| !matches!(notice, Notice::Expiring { .. }));
    assert_eq!(
        life.said(),
        [
            "reauth started",
            "unverified",
            "check failed",
            "reauth succeeded",
            "recovered",
            "checked"
        ]
    );
}

#[test]
fn attempts_that_fail_are_repeated_within_the_budget() {
    let mut life = about_to_be_replaced();
    let first = life.now;
    for (attempt, pause) in [(1, 1), (2, 2)] {
        let action = life.reauth(hook_failed());
        assert_eq!(action, Action::Reauth { reason: ReauthReason::Expiring, attempt });
        assert_eq!(life.token.due_for(Resource::Reauth), Some(life.now + secs(pause)));
    }
    life.reauth(hook_failed());
    assert_eq!(life.token.due_for(Resource::Reauth), Some(first + secs(3_600)), "the window's end");
}

#[test]
fn reading_between_two_attempts_does_not_put_the_next_one_off() {
    let mut life = about_to_be_replaced();
    life.policy.reauth.as_mut().unwrap().delay = secs(25);
    life.reauth(hook_failed());
    let due = life.token.due_for(Resource::Reauth).expect("a second attempt");
    assert_eq!(due, life.now + secs(25));
    while life.token.due_for(Resource::Server).expect("a check") < due {
        let left =
            life.token.expiry().unwrap().since(life.token.due_for(Resource::Server).unwrap());
        life.check(alive(u64::try_from(left.as_millis()).unwrap()));
    }
    assert_eq!(life.token.due_for(Resource::Reauth), Some(due));
}

#[test]
fn pause_after_a_failure_does_not_restart_with_the_death() {
    let mut life = about_to_be_replaced();
    life.policy.reauth.as_mut().unwrap().delay = secs(60);
    life.reauth(hook_failed());
    let due = life.now + secs(60);
    while life.token.due_for(Resource::Server).is_some() {
        life.check(expired());
    }
    assert_eq!(life.token.due_for(Resource::Reauth), Some(due));
}

#[test]
fn value_from_the_source_has_precedence_over_an_attempt() {
    let mut life = about_to_be_replaced();
    life.source(SourceChange::NewValue);
    assert_eq!(life.token.due_for(Resource::Reauth), None);
    life.check(alive(300_000));
    assert_eq!(life.token.due_for(Resource::Reauth), None);
    assert_eq!(life.said(), ["checked"]);
}

#[test]
fn value_from_the_source_that_is_dead_lets_the_attempt_start() {
    let mut life = about_to_be_replaced();
    life.source(SourceChange::NewValue);
    life.check(expired());
    assert!(life.token.due_for(Resource::Reauth).is_some_and(|due| due <= life.now));
}

#[test]
fn attempt_whose_value_the_source_replaces_still_comes_to_its_end() {
    // A command may print the new value and write the file as well.
    let mut life = replaced();
    life.source(SourceChange::NewValue);
    life.check(alive(300_000));
    assert_eq!(life.said(), ["reauth started", "reauth succeeded", "checked"]);
    assert_eq!(life.token.due_for(Resource::None), None, "the source holds it already");
}

#[test]
fn values_replaced_in_time_never_die_and_never_use_the_budget_up() {
    let (mut life, mut server) = mortal(30);
    life.run(&mut server, START + secs(10_000));
    assert!(life.count("reauth succeeded") >= 10_000 / 300);
    for word in ["expired", "unverified", "reauth failed", "reauth exhausted"] {
        assert_eq!(life.count(word), 0, "{word}");
    }
}

#[test]
fn reload_that_removes_reauth_before_lets_the_token_expire() {
    let mut life = about_to_be_replaced();
    life.policy.reauth_before = None;
    life.step(Event::PolicyChanged);
    assert_eq!(life.token.due_for(Resource::Reauth), None);
}

#[test]
fn reload_that_adds_reauth_before_applies_at_once() {
    let mut life = about_to_be_replaced();
    life.policy.reauth_before = None;
    life.step(Event::PolicyChanged);
    life.policy.reauth_before = Some(secs(30));
    life.step(Event::PolicyChanged);
    assert_eq!(life.token.due_for(Resource::Reauth), Some(life.now));
}

#[test]
fn reload_that_takes_re_auth_away_past_the_expiry_leaves_nothing_due() {
    let mut life = about_to_be_replaced();
    life.advance(secs(60));
    life.policy.reauth = None;
    life.step(Event::PolicyChanged);
    assert_eq!(life.token.due_for(Resource::Reauth), None);
}

#[test]
fn reload_during_an_attempt_keeps_the_attempt() {
    let mut life = replacing();
    life.policy.reauth = Some(reauth_policy());
    life.policy.reauth_before = Some(secs(5));
    life.step(Event::PolicyChanged);
    life.step(reauthenticated(NEW));
    life.check(alive(300_000));
    assert!(matches!(
        life.notices[..],
        [Notice::ReauthStarted { .. }, Notice::ReauthSucceeded { .. }, Notice::Checked { .. }]
    ));
}
