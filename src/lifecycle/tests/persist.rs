//! Persisting new values: in which order, and what follows a failure.

use super::world::{Life, alive, asks, expired, secs, timed_out};
use crate::lifecycle::{
    Action, CheckResult, Event, Notice, ReauthOutcome, Renewal, Resource, Slot, SourceChange,
    Validity,
};

const UNSTORED: ReauthOutcome = ReauthOutcome::NewValue { stored: false };

/// A new value from re-auth that is not persisted.
fn unstored() -> Life {
    let mut life = Life::with_reauth().alive();
    life.check(expired());
    life.reauth(UNSTORED);
    life.notices.clear();
    life
}

#[test]
fn new_value_for_a_dead_token_is_persisted_first_and_verified_then() {
    let mut life = unstored();
    assert_eq!(life.step(Event::Admitted(Resource::Server)), None);
    assert_eq!(life.admit(), Some(Action::Persist { slot: Slot::B }));
    life.step(Event::PersistFinished(Ok(())));
    assert!(asks(life.admit(), Slot::B).is_some());
}

#[test]
fn persisted_value_is_not_written_again() {
    let mut life = unstored();
    life.store(Ok(()));
    assert_eq!(life.token.due_for(Resource::None), None);
}

#[test]
fn value_that_its_hook_has_persisted_is_not_written_again() {
    let mut life = Life::with_reauth().alive();
    life.check(expired());
    life.reauth(ReauthOutcome::NewValue { stored: true });
    assert_eq!(life.token.due_for(Resource::None), None);
}

#[test]
fn value_that_cannot_be_persisted_is_used_from_memory() {
    let mut life = unstored();
    life.store(Err("no space left on device"));
    assert_eq!(life.said(), ["store failed"]);
    life.check(alive(60_000));
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    assert_eq!(life.said(), ["reauth succeeded", "recovered", "checked"]);
}

#[test]
fn failed_write_is_retried_with_growing_pauses_until_it_succeeds() {
    let mut life = unstored();
    let pauses: Vec<_> = (0..4)
        .map(|_| {
            life.now = life.now.max(life.token.due_for(Resource::None).unwrap());
            life.store(Err("no space left on device"));
            life.token.due_for(Resource::None).unwrap().since(life.now).as_secs()
        })
        .collect();
    assert_eq!(pauses, [1, 2, 4, 8]);
    assert!(matches!(life.notices[0], Notice::StoreFailed { retry_in_ms: 1_000, .. }));
    life.now = life.token.due_for(Resource::None).unwrap();
    life.store(Ok(()));
    assert_eq!(life.token.due_for(Resource::None), None);
}

#[test]
fn dead_value_is_not_written() {
    let mut life = unstored();
    life.store(Err("no space left on device"));
    life.check(expired());
    assert_eq!(life.token.due_for(Resource::None), None);
}

#[test]
fn value_that_could_not_be_written_does_not_overwrite_a_changed_source() {
    let mut life = unstored();
    life.store(Err("no space left on device"));
    life.source(SourceChange::NewValue);
    life.advance(secs(600));
    assert_eq!(life.step(Event::Admitted(Resource::None)), None);
}

#[test]
fn waiting_write_and_a_candidate_out_of_reach_do_not_block_the_current_value() {
    let mut life = unstored();
    life.source(SourceChange::NewValue);
    let mut asked = Vec::new();
    for _ in 0..10 {
        let Action::Check { slot, .. } = life.check(timed_out()) else { panic!("not a call") };
        asked.push(slot);
    }
    assert!(asked.contains(&Slot::A) && asked.contains(&Slot::B), "{asked:?}");
}

#[test]
fn write_that_a_dropped_candidate_held_back_is_made_up_for() {
    let mut life = unstored();
    life.source(SourceChange::NewValue);
    while life.token.due_for(Resource::None).is_none() {
        life.sleep();
        match life.admit() {
            Some(Action::Check { slot: Slot::A, .. }) => life.answer(expired()),
            Some(_) => life.answer(alive(60_000)),
            None => {}
        }
    }
    assert_eq!(life.admit(), Some(Action::Persist { slot: Slot::B }));
}

/// The response to a renewing check that names a new value.
fn renamed() -> Life {
    let mut life = Life::with_renewal(Renewal::Renew).alive();
    life.sleep();
    life.admit();
    let (sent, received, outcome) = (life.now, life.now, alive(100_000));
    life.step(Event::CheckFinished(CheckResult {
        sent,
        received,
        outcome,
        replaced: true,
        cannot_renew: false,
    }));
    life
}

#[test]
fn value_that_a_renewing_call_named_is_current_and_persisted() {
    let mut life = renamed();
    assert_eq!(life.token.expiry(), Some(life.now + secs(100)));
    assert_eq!(life.last_renewed(), Some(true));
    let active = life.token.active_slot();
    assert_eq!(life.admit(), Some(Action::Persist { slot: active }));
    life.step(Event::PersistFinished(Ok(())));
    assert!(asks(Some(life.check(alive(100_000))), active).is_some());
}

#[test]
fn value_that_a_renewing_call_named_leaves_a_candidate_its_place() {
    let mut life = Life::with_renewal(Renewal::Renew).alive();
    life.sleep();
    life.admit();
    life.source(SourceChange::NewValue);
    let (sent, received, outcome) = (life.now, life.now, alive(100_000));
    life.step(Event::CheckFinished(CheckResult {
        sent,
        received,
        outcome,
        replaced: true,
        cannot_renew: false,
    }));
    let candidate = life.token.active_slot().other();
    assert!(asks(life.admit(), candidate).is_some());
}

#[test]
fn failed_write_is_retried_at_shutdown() {
    let mut life = unstored();
    life.store(Err("disk full"));
    assert!(life.token.due_for(Resource::None).is_some_and(|due| due > life.now));
    life.step(Event::ShuttingDown);
    assert_eq!(life.admit(), Some(Action::Persist { slot: Slot::B }));
}

#[test]
fn shutdown_starts_nothing_if_everything_is_persisted() {
    let mut life = unstored();
    life.store(Ok(()));
    life.check(alive(60_000));
    life.step(Event::ShuttingDown);
    assert_eq!(life.admit(), None);
}
