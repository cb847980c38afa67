//! Restoring a token after a restart.

use super::world::{Life, START, alive, asks, expired, ms, not_allowed, secs};
use crate::lifecycle::{
    Action, Event, Method, PersistedLife, ReauthAttempts, Resource, Slot, SourceChange, State,
    Token, Validity,
};
use crate::time::Moment;

/// A life of 100 s of which `passed` have passed at the start.
fn known(passed: u64) -> PersistedLife {
    PersistedLife {
        expiry: START + ms(100_000 - passed),
        remaining_ms: 100_000,
        life_ms: 100_000,
        by: Method::Query,
        proven: true,
        unrenewable: false,
        this_boot: true,
    }
}

fn restored_with(persisted: PersistedLife, spot_check: bool) -> Life {
    let mut life = Life::new();
    life.token = Token::without_value(life.now);
    life.step(Event::Restored { persisted, spot_check });
    life
}

fn restored(passed: u64) -> Life {
    restored_with(known(passed), false)
}

#[test]
fn restored_expiry_is_the_persisted_one_and_nothing_is_reported() {
    let life = restored(20_000);
    assert_eq!(life.token.expiry(), Some(START + secs(80)));
    assert!(matches!(life.token.validity(), Validity::Alive(_)) && life.notices.is_empty());
}

#[test]
fn restored_token_keeps_its_schedule() {
    assert_eq!(restored(20_000).token.due_for(Resource::Server), Some(START + secs(47)));
}

#[test]
fn check_that_was_missed_comes_at_once() {
    assert_eq!(restored(90_000).token.due_for(Resource::Server), Some(START));
}

#[test]
fn spot_check_is_due_at_once() {
    let mut life = restored_with(known(20_000), true);
    let action = life.step(Event::Admitted(Resource::Server));
    assert_eq!(asks(action, Slot::B), Some(Method::Query));
}

#[test]
fn restored_value_past_its_expiry_is_unknown() {
    assert_eq!(restored(100_000).token.validity(), Validity::Unknown);
}

#[test]
fn expiry_of_a_life_older_than_the_boot_is_kept() {
    let expiry = START + ms(1);
    let long = PersistedLife { expiry, remaining_ms: 90_000_000, ..known(0) };
    let life = restored_with(long, false);
    assert_eq!(life.token.expiry(), Some(expiry));
}

#[test]
fn first_reading_is_not_evaluated_but_the_next_is() {
    let mut life = restored(60_000);
    life.advance(secs(20));
    life.check(alive(100_000));
    assert_eq!(life.last_renewed(), None);
    life.sleep();
    life.check(alive(100_000));
    assert_eq!(life.last_renewed(), Some(true));
}

#[test]
fn restored_state_is_kept_until_the_first_response() {
    let mut life = restored(20_000);
    assert!(life.token.is_restored());
    life.advance(secs(47));
    life.check(alive(100_000));
    assert!(!life.token.is_restored());
}

#[test]
fn recheck_makes_a_restored_token_due_at_once() {
    let mut life = restored(20_000);
    life.step(Event::RecheckRestored);
    assert_eq!(life.token.due_for(Resource::Server), Some(START));
}

#[test]
fn recheck_of_restored_tokens_does_not_bypass_the_budget() {
    let mut life = Life::with_reauth();
    life.token = Token::without_value(START);
    let window_end = START + secs(3_600);
    life.step(Event::AttemptsCounted(ReauthAttempts { window_end, counted: 3, in_a_row: 3 }));
    life.step(Event::Restored { persisted: known(10), spot_check: true });
    life.check(expired());
    assert_eq!(life.count("reauth exhausted"), 1);
    life.step(Event::RecheckRestored);
    assert_eq!(life.token.due_for(Resource::Reauth), Some(START + secs(3_600)));
}

#[test]
fn recheck_of_restored_tokens_skips_tokens_found_alive_by_this_run() {
    let mut life = Life::new().alive();
    let due = life.token.due_for(Resource::Server);
    life.step(Event::RecheckRestored);
    assert_eq!(life.token.due_for(Resource::Server), due);
}

#[test]
fn unrenewable_token_is_reported_once() {
    let mut life = restored_with(PersistedLife { unrenewable: true, ..known(20_000) }, false);
    life.advance(secs(47));
    life.check(alive(33_000));
    assert_eq!(life.count("renewal_not_observed"), 0);
}

#[test]
fn restored_value_beside_a_current_one_is_a_candidate() {
    let mut life = Life::new().alive();
    let expiry = life.token.expiry();
    life.step(Event::Restored { persisted: known(0), spot_check: false });
    assert_eq!((life.token.expiry(), life.token.active_slot()), (expiry, Slot::A));
    assert_eq!(life.token.due_for(Resource::Server), Some(life.now));
}

#[test]
fn live_token_has_a_persisted_life_and_a_dead_one_has_none() {
    let mut life = Life::new().alive();
    let (slot, known) = life.token.persisted_life().unwrap();
    assert_eq!((slot, Some(known.expiry)), (Slot::A, life.token.expiry()));
    life.sleep();
    life.check(expired());
    assert_eq!(life.token.persisted_life(), None);
}

#[test]
fn missing_source_after_that_changes_nothing() {
    let mut life = restored(20_000);
    life.source(SourceChange::Lost("gone".into()));
    assert_eq!(life.token.expiry(), Some(Moment::from_millis(1_080_000)));
}

#[test]
fn refused_renewing_call_is_tried_again_after_a_query_that_cannot_be_judged() {
    let mut life = restored(85_000);
    life.renews_by = Some(Method::Renew);
    assert_eq!(asks(Some(life.check(not_allowed())), Slot::B), Some(Method::Renew));
    assert_eq!(asks(Some(life.check(alive(12_000))), Slot::B), Some(Method::Query));
    assert_eq!(asks(Some(life.check(alive(100_000))), Slot::B), Some(Method::Renew));
}

#[test]
fn life_from_an_earlier_boot_delays_no_check() {
    let life = restored_with(PersistedLife { this_boot: false, ..known(10_000) }, false);
    assert_eq!(life.token.state(), State::Unverified);
    assert_eq!(life.token.due_for(Resource::Server), Some(life.now));
    assert_eq!(life.token.expiry(), Some(known(10_000).expiry), "it orders the wait queue");
}

#[test]
fn life_from_an_earlier_boot_shortens_no_time_out_and_proves_nothing() {
    let soon = START + ms(400);
    let known = PersistedLife { this_boot: false, expiry: soon, ..known(10_000) };
    let mut life = restored_with(known, false);
    let action = life.check(alive(100_000));
    assert!(matches!(action, Action::Check { timeout, .. } if timeout == secs(10)), "{action:?}");
    assert_eq!(life.last_renewed(), None);
    assert_eq!(life.token.state(), State::Alive);
}
