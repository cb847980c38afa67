//! Re-authentication: when it starts, what counts as success, and how often it is tried.

use super::world::{
    Life, START, alive, asks, expired, hook_failed, ms, not_allowed, reauth_policy,
    reauthenticated, rejected, secs, throttled, timed_out,
};
use crate::lifecycle::{
    Action, Event, Notice, ReauthAttempts, ReauthError, ReauthOutcome, ReauthReason, Resource,
    Slot, SourceChange, Validity,
};

const NEW: ReauthOutcome = ReauthOutcome::NewValue { stored: true };

/// A token that has just expired, with a `reauth` method.
fn dead() -> Life {
    let mut life = Life::with_reauth().alive();
    life.check(expired());
    life.notices.clear();
    life
}

fn attempt(reason: ReauthReason, attempt: u32) -> Action {
    Action::Reauth { reason, attempt }
}

#[test]
fn expired_token_is_reauthenticated_at_once() {
    let mut life = dead();
    assert_eq!(life.admit(), Some(attempt(ReauthReason::Expired, 1)));
    assert_eq!(life.said(), ["reauth started"]);
}

#[test]
fn rejected_token_is_reauthenticated_after_the_second_401() {
    let mut life = Life::with_reauth().alive();
    life.check(rejected());
    assert_eq!(life.token.due_for(Resource::Reauth), None);
    life.check(rejected());
    assert_eq!(life.admit(), Some(attempt(ReauthReason::Rejected, 1)));
}

#[test]
fn missing_value_is_obtained() {
    let mut life = Life::with_reauth().without_value();
    assert_eq!(life.admit(), Some(attempt(ReauthReason::Missing, 1)));
}

#[test]
fn no_failure_ever_starts_reauth() {
    for outcome in [timed_out(), throttled(5), not_allowed()] {
        let mut life = Life::with_reauth().alive();
        for _ in 0..100 {
            life.check(outcome.clone());
            assert_eq!(life.token.due_for(Resource::Reauth), None, "{outcome:?}");
        }
    }
}

#[test]
fn live_new_value_is_a_success() {
    let mut life = dead();
    life.reauth(NEW);
    assert!(asks(Some(life.check(alive(60_000))), Slot::B).is_some());
    assert_eq!(life.said(), ["reauth started", "reauth succeeded", "recovered", "checked"]);
    assert_eq!(life.token.active_slot(), Slot::B);
}

#[test]
fn new_value_that_cannot_be_verified_yet_is_neither_success_nor_failure() {
    let mut life = dead();
    life.reauth(NEW);
    life.check(timed_out());
    life.check(rejected());
    assert_eq!(life.said(), ["reauth started", "check failed", "check failed"]);
    assert_eq!(life.token.due_for(Resource::Reauth), None);
    life.check(alive(60_000));
    assert_eq!(life.said(), ["reauth succeeded", "recovered", "checked"]);
}

#[test]
fn dead_new_value_is_a_failure_and_retried_after_the_delay() {
    let mut life = dead();
    life.reauth(NEW);
    life.check(expired());
    assert_eq!(life.said(), ["reauth started", "reauth failed"]);
    assert_eq!(life.token.validity(), Validity::Expired);
    assert_eq!(life.token.due_for(Resource::Reauth), Some(life.now + secs(1)));
}

#[test]
fn old_value_once_more_is_a_failure() {
    let mut life = dead();
    life.reauth(ReauthOutcome::SameValue);
    assert_eq!(life.said(), ["reauth started", "reauth failed"]);
    assert_eq!(life.token.active_slot(), Slot::A);
    assert_eq!(life.token.due_for(Resource::Reauth), Some(life.now + secs(1)));
}

#[test]
fn pause_doubles_with_each_failure() {
    let mut life = dead();
    life.reauth(hook_failed());
    assert_eq!(life.token.due_for(Resource::Reauth), Some(life.now + secs(1)));
    life.reauth(hook_failed());
    assert_eq!(life.token.due_for(Resource::Reauth), Some(life.now + secs(2)));
}

#[test]
fn login_waits_for_the_pause_that_the_server_asked_for() {
    let mut life = dead();
    let fault =
        ReauthError { retry_after: Some(secs(90)), status: Some(429), ..ReauthError::default() };
    life.reauth(ReauthOutcome::Failed(fault));
    assert_eq!(life.token.due_for(Resource::Reauth), Some(life.now + secs(90)));
    assert!(matches!(life.notices[..], [_, Notice::ReauthFailed { retry_in_ms: 90_000, .. }]));
}

#[test]
fn after_max_attempts_it_is_abandoned_until_the_window_ends() {
    let mut life = dead();
    let began = life.now;
    for number in 1..=3 {
        assert_eq!(life.reauth(hook_failed()), attempt(ReauthReason::Expired, number));
    }
    assert_eq!(life.count("reauth failed"), 3);
    assert_eq!(life.count("reauth exhausted"), 1);
    assert_eq!(life.token.due_for(Resource::Reauth), Some(began + secs(3_600)));
    life.notices.clear();
    life.advance(secs(3_590));
    assert_eq!((life.admit(), life.said()), (None, vec![]));
}

#[test]
fn next_window_begins_with_a_full_budget() {
    let mut life = dead();
    for _ in 0..3 {
        life.reauth(hook_failed());
    }
    life.notices.clear();
    for number in 1..=3 {
        assert_eq!(life.reauth(hook_failed()), attempt(ReauthReason::Expired, number));
    }
    assert_eq!(life.count("reauth exhausted"), 1);
}

#[test]
fn exhausted_budget_is_reported_once_for_each_window() {
    let mut life = dead();
    for _ in 0..3 {
        life.reauth(hook_failed());
    }
    life.source(SourceChange::NewValue);
    life.check(expired());
    life.source(SourceChange::NewValue);
    life.check(expired());
    assert_eq!(life.count("reauth exhausted"), 1);
}

#[test]
fn value_from_the_source_ends_the_exhaustion() {
    let mut life = dead();
    for _ in 0..3 {
        life.reauth(hook_failed());
    }
    life.source(SourceChange::NewValue);
    life.check(alive(60_000));
    assert_eq!(life.count("recovered"), 1);
    assert_eq!(life.token.due_for(Resource::Reauth), None);
}

#[test]
fn values_that_die_early_use_the_budget_up() {
    let mut life = dead();
    for _ in 0..3 {
        life.reauth(NEW);
        life.check(alive(100_000));
        life.check(expired());
    }
    assert_eq!(life.count("reauth exhausted"), 1);
    assert_eq!(life.count("reauth succeeded"), 3);
}

#[test]
fn value_that_lived_half_of_its_life_gives_its_attempt_back() {
    let mut life = dead();
    for _ in 0..20 {
        let action = life.reauth(NEW);
        assert_eq!(action, attempt(ReauthReason::Expired, 1));
        life.check(alive(100_000));
        life.check(alive(100_000));
        life.check(expired());
        assert_eq!(
            life.token.due_for(Resource::Reauth),
            Some(life.now),
            "no pause after a success"
        );
    }
}

#[test]
fn value_from_the_source_does_not_give_the_hooks_attempt_back() {
    let mut life = dead();
    life.reauth(NEW);
    life.check(alive(100_000));
    life.check(expired());
    life.source(SourceChange::NewValue);
    life.check(alive(100_000));
    life.check(alive(100_000));
    life.check(expired());
    assert_eq!(life.reauth(hook_failed()), attempt(ReauthReason::Expired, 2));
}

#[test]
fn value_that_the_source_offers_during_an_attempt_counts_even_when_that_fails() {
    let mut life = dead();
    life.admit();
    life.source(SourceChange::NewValue);
    life.step(reauthenticated(hook_failed()));
    assert_eq!(life.said(), ["reauth started", "reauth failed"]);
    assert_eq!(life.token.due_for(Resource::Reauth), None);
    assert!(asks(Some(life.check(alive(60_000))), Slot::B).is_some());
}

#[test]
fn changed_source_has_priority_over_an_attempt_in_flight() {
    let stored = ReauthOutcome::NewValue { stored: false };
    for result in [stored, NEW, ReauthOutcome::SameValue] {
        let mut life = dead();
        life.admit();
        life.source(SourceChange::NewValue);
        life.step(reauthenticated(result.clone()));
        assert_eq!(life.token.due_for(Resource::None), None, "nothing overwrites the source");
        assert!(asks(Some(life.check(alive(60_000))), Slot::B).is_some(), "{result:?}");
        assert_eq!(
            life.said(),
            ["reauth started", "reauth succeeded", "recovered", "checked"],
            "a command that writes the file itself is seen there first"
        );
    }
}

#[test]
fn without_a_reauth_method_the_source_is_watched() {
    let mut life = Life::new().alive();
    life.check(expired());
    assert_eq!(life.wakes_at(), None);
}

#[test]
fn method_added_by_a_reload_is_used_at_once() {
    for mut life in [Life::new().without_value(), {
        let mut life = Life::new().alive();
        life.check(expired());
        life
    }] {
        life.policy.reauth = Some(reauth_policy());
        life.step(Event::PolicyChanged);
        assert!(matches!(life.admit(), Some(Action::Reauth { attempt: 1, .. })));
    }
}

#[test]
fn method_removed_by_a_reload_is_not_used() {
    let mut life = dead();
    life.policy.reauth = None;
    life.step(Event::PolicyChanged);
    assert_eq!(life.wakes_at(), None);
    let mut life = dead();
    life.admit();
    life.policy.reauth = None;
    life.step(Event::PolicyChanged);
    life.step(reauthenticated(hook_failed()));
    assert_eq!(life.wakes_at(), None);
}

#[test]
fn attempt_whose_value_the_source_overtakes_still_comes_to_its_end() {
    let mut life = dead();
    life.reauth(NEW);
    life.check(timed_out());
    life.source(SourceChange::NewValue);
    life.check(alive(60_000));
    assert_eq!(life.count("reauth succeeded") + life.count("reauth failed"), 1);
}

/// The value of a first attempt, verified with 100 s left and checked every 20 s.
fn on_probation() -> Life {
    let mut life = dead();
    life.policy.schedule.max_interval = secs(20);
    life.reauth(NEW);
    life.check(alive(100_000));
    life.notices.clear();
    life
}

#[test]
fn early_death_is_reported_as_a_failure_once() {
    let mut life = on_probation();
    life.check(expired());
    assert_eq!(life.said(), ["expired", "reauth failed"]);
    assert_eq!(life.token.due_for(Resource::Reauth), Some(life.now + secs(1)));
    life.reauth(hook_failed());
    assert_eq!(life.said(), ["reauth started", "reauth failed"]);
}

#[test]
fn early_death_after_the_last_attempt_exhausts_the_budget() {
    let mut life = on_probation();
    for _ in 0..2 {
        life.check(expired());
        life.reauth(NEW);
        life.check(alive(100_000));
    }
    life.notices.clear();
    life.check(expired());
    assert_eq!(life.said(), ["expired", "reauth failed", "reauth exhausted"]);
}

#[test]
fn value_that_dies_in_its_later_half_is_no_failure() {
    let mut life = on_probation();
    for remaining in [80_000, 60_000, 40_000] {
        life.check(alive(remaining));
        while life.token.due_for(Resource::Server) == Some(life.now) {
            life.check(alive(remaining));
        }
    }
    life.notices.clear();
    life.check(expired());
    assert_eq!(life.said(), ["expired"]);
    assert_eq!(life.token.due_for(Resource::Reauth), Some(life.now));
}

#[test]
fn value_that_lives_shorter_than_any_check_interval_is_a_failure() {
    let mut life = dead();
    life.reauth(NEW);
    life.check(alive(80));
    assert_eq!(life.said(), ["reauth started", "reauth failed", "recovered", "checked"]);
    life.check(expired());
    assert_eq!(life.said(), ["expired"]);
    assert_eq!(life.reauth(hook_failed()), attempt(ReauthReason::Expired, 2));
}

#[test]
fn short_lived_values_stay_within_the_budget() {
    let mut life = dead();
    for _ in 0..3 {
        life.reauth(NEW);
        life.check(alive(80));
        life.check(expired());
    }
    assert_eq!(life.count("reauth exhausted"), 1);
    assert_eq!(life.count("reauth failed"), 3);
}

#[test]
fn attempts_of_an_earlier_run_count() {
    let window_end = START + secs(500);
    let mut life = Life::with_reauth();
    life.step(Event::AttemptsCounted(ReauthAttempts { window_end, counted: 2, in_a_row: 2 }));
    life.check(expired());
    assert_eq!(life.token.due_for(Resource::Reauth), Some(life.now + secs(2)), "the second pause");
    assert_eq!(life.reauth(hook_failed()), attempt(ReauthReason::Expired, 3));
    assert_eq!(life.count("reauth exhausted"), 1);
    assert_eq!(life.token.due_for(Resource::Reauth), Some(window_end));
}

#[test]
fn budget_used_up_by_an_earlier_run_is_restored_and_reported() {
    let window_end = START + secs(500);
    let mut life = Life::with_reauth();
    life.step(Event::AttemptsCounted(ReauthAttempts { window_end, counted: 3, in_a_row: 3 }));
    life.check(expired());
    assert_eq!(life.said(), ["expired", "reauth exhausted"]);
    assert_eq!(life.token.due_for(Resource::Reauth), Some(window_end));
    assert_eq!(life.reauth(hook_failed()), attempt(ReauthReason::Expired, 1));
}

#[test]
fn restored_attempts_equal_the_persisted_ones() {
    let mut life = dead();
    life.reauth(hook_failed());
    life.reauth(hook_failed());
    let attempts = life.token.attempts().expect("two attempts");
    assert_eq!((attempts.counted, attempts.in_a_row), (2, 2));
    let mut restarted = Life::with_reauth();
    restarted.step(Event::AttemptsCounted(attempts));
    assert_eq!(restarted.token.attempts(), Some(attempts));
}

#[test]
fn reload_that_permits_more_attempts_ends_the_exhaustion() {
    let mut life = dead();
    for _ in 0..3 {
        life.reauth(hook_failed());
    }
    life.policy.reauth.as_mut().unwrap().max_attempts = std::num::NonZeroU32::new(9).unwrap();
    life.step(Event::PolicyChanged);
    assert_eq!(life.token.due_for(Resource::Reauth), Some(life.now + secs(4)));
}

#[test]
fn reload_does_not_shorten_the_pause_before_the_next_attempt() {
    let mut life = dead();
    life.reauth(hook_failed());
    let due = life.token.due_for(Resource::Reauth);
    life.advance(ms(400));
    life.step(Event::PolicyChanged);
    assert_eq!(life.token.due_for(Resource::Reauth), due);
}

fn inconclusive() -> ReauthOutcome {
    let fault = ReauthError { inconclusive: true, unavailable: true, ..ReauthError::default() };
    ReauthOutcome::Failed(fault)
}

#[test]
fn inconclusive_attempts_use_up_no_budget() {
    let mut life = dead();
    for _ in 0..50 {
        assert_eq!(life.reauth(inconclusive()), attempt(ReauthReason::Expired, 1));
    }
    assert_eq!(life.count("reauth exhausted"), 0);
    assert_eq!(life.token.attempts(), None);
}

#[test]
fn pause_after_inconclusive_attempts_doubles_from_delay_to_delay_max() {
    let mut life = dead();
    let pauses: Vec<_> = (0..11)
        .map(|_| {
            life.reauth(inconclusive());
            life.token.due_for(Resource::Reauth).unwrap().since(life.now).as_secs()
        })
        .collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
}

#[test]
fn inconclusive_attempt_takes_back_no_other() {
    let mut life = dead();
    life.reauth(hook_failed());
    life.reauth(inconclusive());
    life.reauth(hook_failed());
    life.reauth(hook_failed());
    assert_eq!(life.count("reauth exhausted"), 1, "three that count");
}

#[test]
fn when_the_server_is_back_an_inconclusive_attempt_is_repeated_at_once() {
    let mut life = dead();
    for _ in 0..6 {
        life.reauth(inconclusive());
    }
    assert!(life.token.is_reauth_inconclusive());
    life.step(Event::ServerRecovered);
    assert_eq!(life.token.due_for(Resource::Reauth), Some(life.now));
}

#[test]
fn when_the_server_is_back_an_exhausted_budget_stays_exhausted() {
    let mut life = dead();
    for _ in 0..3 {
        life.reauth(hook_failed());
    }
    let due = life.token.due_for(Resource::Reauth);
    life.step(Event::ServerRecovered);
    assert_eq!(life.token.due_for(Resource::Reauth), due);
}

#[test]
fn attempt_that_was_cancelled_does_not_count() {
    let mut life = dead();
    for _ in 0..10 {
        let due = life.token.due_for(Resource::Reauth).expect("an attempt to come");
        life.advance(due.since(life.now));
        assert_eq!(life.admit(), Some(attempt(ReauthReason::Expired, 1)));
        life.step(Event::Cancelled);
        assert_eq!(life.admit(), None, "not at once");
    }
}

#[test]
fn new_values_too_short_lived_to_be_checked_and_renewed_use_up_the_budget() {
    for life_ms in [0, 50, 100, 300, 499] {
        let mut life = dead();
        for _ in 0..3 {
            life.reauth(NEW);
            life.check(alive(life_ms));
            life.advance(ms(life_ms));
            life.check(expired());
        }
        assert_eq!(life.count("reauth exhausted"), 1, "{life_ms} ms");
    }
}
