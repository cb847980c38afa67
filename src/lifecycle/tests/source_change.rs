//! Values that the source offers or withdraws: which one is current.

use super::world::{Life, alive, answer, asks, expired, not_allowed, rejected, secs, timed_out};
use crate::lifecycle::{Action, CheckResult};
use crate::lifecycle::{
    Event, Method, Notice, Renewal, ReplacedBy, Resource, Slot, SourceChange, Token, Validity,
};

/// A live token with another value in its source.
fn with_candidate() -> Life {
    let mut life = Life::new().alive();
    life.advance(secs(10));
    life.source(SourceChange::NewValue);
    life
}

#[test]
fn candidate_is_checked_at_once_while_the_old_value_stays_current() {
    let mut life = with_candidate();
    assert_eq!(asks(life.admit(), Slot::B), Some(Method::Query));
    assert_eq!(life.token.active_slot(), Slot::A);
}

#[test]
fn live_candidate_becomes_the_current_value() {
    let mut life = with_candidate();
    life.check(alive(60_000));
    assert_eq!(life.token.active_slot(), Slot::B);
    assert_eq!(life.token.expiry(), Some(life.now + secs(60)));
    assert_eq!(life.said(), ["checked"]);
    assert_eq!(asks(Some(life.check(alive(60_000))), Slot::B), Some(Method::Query));
}

#[test]
fn candidate_is_not_compared_with_the_value_before_it() {
    let mut life = with_candidate();
    life.advance(secs(40));
    life.check(alive(30_000));
    assert!(matches!(life.notices[..], [Notice::Checked { renewed: None, .. }]));
}

#[test]
fn expired_candidate_is_dropped_and_the_current_value_stays() {
    let mut life = with_candidate();
    life.check(expired());
    assert_eq!(life.said(), ["candidate expired"]);
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    assert_eq!(asks(Some(life.check(alive(90_000))), Slot::A), Some(Method::Query));
}

#[test]
fn candidate_is_rejected_by_the_second_401_only() {
    let mut life = with_candidate();
    life.check(rejected());
    assert_eq!(life.said(), ["check failed"]);
    assert_eq!(asks(Some(life.check(rejected())), Slot::B), Some(Method::Query));
    assert_eq!(life.said(), ["candidate rejected"]);
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
}

#[test]
fn undecided_candidate_is_retried_while_the_current_value_is_checked() {
    let mut life = with_candidate();
    let mut asked = Vec::new();
    while life.now < life.token.expiry().unwrap() {
        let Action::Check { slot, .. } = life.check(timed_out()) else { panic!("not a call") };
        asked.push(slot);
        if asked.len() > 200 {
            break;
        }
    }
    assert!(asked.contains(&Slot::A) && asked.contains(&Slot::B), "{asked:?}");
}

#[test]
fn candidate_that_only_its_own_calls_fail_for_does_not_starve_the_old_value() {
    let mut life = with_candidate();
    for _ in 0..100 {
        life.sleep();
        let Some(Action::Check { slot, .. }) = life.admit() else { continue };
        life.answer(if slot == Slot::A { alive(100_000) } else { not_allowed() });
    }
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    assert!(life.count("checked") > 3);
    assert_eq!(life.count("unverified"), 0);
}

#[test]
fn death_of_the_current_value_promotes_the_candidate() {
    let mut life = with_candidate();
    life.check(timed_out());
    life.advance(secs(57));
    while life.token.active_slot() == Slot::A {
        life.sleep();
        match life.admit() {
            Some(Action::Check { slot: Slot::A, .. }) => life.answer(expired()),
            Some(_) => life.answer(timed_out()),
            None => {}
        }
    }
    assert_eq!(life.count("expired"), 1);
    assert_eq!(asks(life.admit(), Slot::B), Some(Method::Query));
    life.answer(alive(60_000));
    assert_eq!(life.count("recovered"), 1);
}

#[test]
fn check_result_of_a_candidate_that_was_replaced_meanwhile_is_ignored() {
    let mut life = with_candidate();
    life.admit();
    life.source(SourceChange::NewValue);
    life.answer(expired());
    assert_eq!(life.said(), [""; 0]);
    assert_eq!(asks(life.admit(), Slot::B), Some(Method::Query));
    life.answer(alive(60_000));
    assert_eq!(life.token.active_slot(), Slot::B);
}

#[test]
fn status_401_for_a_replaced_candidate_does_not_count_against_its_successor() {
    let mut life = with_candidate();
    life.check(rejected());
    life.source(SourceChange::NewValue);
    life.check(rejected());
    assert_eq!(life.count("candidate rejected"), 0);
}

#[test]
fn value_that_comes_while_the_first_is_not_yet_evaluated_is_a_candidate() {
    let mut life = Life::new();
    life.check(timed_out());
    life.source(SourceChange::NewValue);
    assert_eq!(asks(Some(life.check(alive(60_000))), Slot::B), Some(Method::Query));
    assert_eq!(life.token.active_slot(), Slot::B);
}

#[test]
fn dead_token_adopts_the_value_that_its_source_offers() {
    for death in [expired(), rejected()] {
        let mut life = Life::new().alive();
        life.check(death.clone());
        if life.token.due_for(Resource::Server).is_some() {
            life.check(death.clone());
        }
        life.source(SourceChange::NewValue);
        assert_eq!(asks(life.admit(), Slot::B), Some(Method::Query), "{death:?}");
        life.answer(alive(60_000));
        assert_eq!(life.count("recovered"), 1, "{death:?}");
    }
}

#[test]
fn each_dead_value_is_reported_once() {
    let mut life = Life::new().alive();
    life.check(expired());
    for _ in 0..3 {
        life.source(SourceChange::NewValue);
        life.check(expired());
    }
    assert_eq!(life.said(), ["expired"; 4]);
}

#[test]
fn missing_value_is_reported_once_until_there_is_one() {
    let mut life = Life::new().without_value();
    life.source(SourceChange::Lost("it is empty".into()));
    assert_eq!(life.said(), ["missing"]);
    life.source(SourceChange::NewValue);
    life.check(alive(60_000));
    assert_eq!(life.said(), ["recovered", "checked"]);
    life.source(SourceChange::Lost("no such file".into()));
    assert_eq!(life.said(), ["missing"]);
}

#[test]
fn source_without_a_value_keeps_the_current_one() {
    let mut life = Life::with_reauth().alive();
    let wakes = life.wakes_at();
    life.source(SourceChange::Lost("no such file".into()));
    assert!(matches!(life.notices[..], [Notice::Missing { in_use: true, .. }]));
    assert_eq!(life.wakes_at(), wakes);
    assert_eq!(life.token.due_for(Resource::Reauth), None);
}

#[test]
fn dead_value_is_not_reported_as_current() {
    let mut life = Life::new().alive();
    life.check(expired());
    life.notices.clear();
    life.source(SourceChange::Lost("no such file".into()));
    assert!(matches!(life.notices[..], [Notice::Missing { in_use: false, .. }]));
}

#[test]
fn candidate_that_a_renewing_call_renamed_is_persisted_under_its_new_name() {
    let mut life = Life::with_renewal(Renewal::Renew);
    life.check(alive(100_000));
    life.source(SourceChange::NewValue);
    life.admit();
    let (sent, received, outcome) = (life.now, life.now, alive(60_000));
    life.step(Event::CheckFinished(CheckResult {
        sent,
        received,
        outcome,
        replaced: true,
        cannot_renew: false,
    }));
    assert_eq!(life.token.active_slot(), Slot::B);
    assert_eq!(life.admit(), Some(Action::Persist { slot: Slot::B }));
}

#[test]
fn check_result_of_the_old_value_leaves_a_new_candidate_alone() {
    let mut life = Life::new().alive();
    life.advance(secs(67));
    life.admit();
    life.source(SourceChange::NewValue);
    let sent = life.now;
    life.step(answer(sent, sent, alive(100_000)));
    assert_eq!(life.token.active_slot(), Slot::A);
    assert_eq!(asks(life.admit(), Slot::B), Some(Method::Query));
}

#[test]
fn candidate_withdrawn_by_its_source_is_dropped() {
    let mut life = with_candidate();
    life.source(SourceChange::Reverted);
    assert_eq!(life.admit(), None);
    let mut life = with_candidate();
    life.admit();
    life.source(SourceChange::Reverted);
    life.answer(alive(60_000));
    assert_eq!((life.token.active_slot(), life.said()), (Slot::A, vec![]));
}

#[test]
fn candidate_still_offered_by_its_source_is_kept() {
    let mut life = with_candidate();
    life.source(SourceChange::Lost("no such file".into()));
    life.source(SourceChange::Reappeared);
    assert!(asks(life.admit(), Slot::B).is_some());
}

#[test]
fn each_replacement_of_the_current_value_is_reported_with_its_origin() {
    let mut life = with_candidate();
    assert_eq!(life.replaced, []);
    life.check(alive(60_000));
    assert_eq!(life.replaced, [ReplacedBy::Source]);
    life.check(expired());
    life.source(SourceChange::NewValue);
    assert_eq!(life.replaced, [ReplacedBy::Source; 2]);

    let mut life = Life::with_renewal(Renewal::Renew);
    life.admit();
    let (sent, received, outcome) = (life.now, life.now, alive(60_000));
    life.step(Event::CheckFinished(CheckResult {
        sent,
        received,
        outcome,
        replaced: true,
        cannot_renew: false,
    }));
    assert_eq!(life.replaced, [ReplacedBy::Renewal]);
}

#[test]
fn first_value_replaces_nothing_unless_it_was_reported_to_be_missing() {
    let mut life = Life::new();
    life.token = Token::without_value(life.now);
    life.source(SourceChange::NewValue);
    assert_eq!(life.replaced, []);
    let mut life = Life::new().without_value();
    life.source(SourceChange::NewValue);
    assert_eq!(life.replaced, [ReplacedBy::Source]);
}
