//! What is told when answers stay away, and when they come back.

use super::world::{
    Life, START, alive, expired, ms, not_allowed, rejected, secs, throttled, timed_out,
};
use crate::lifecycle::{DeadlineStage, Event, Notice, Resource, Validity};

/// The check is due at 67 s of 100; half of the room is gone at 83.5 s, nine tenths at 96.7 s.
fn unanswered() -> Life {
    Life::new().alive()
}

#[test]
fn half_of_the_retry_room_without_an_answer_is_told() {
    let mut life = unanswered();
    life.advance(secs(83));
    assert_eq!(life.said(), [""; 0]);
    life.advance(ms(500));
    let half = Notice::Expiring { stage: DeadlineStage::Half, dies_in_ms: 16_500 };
    assert_eq!(life.notices, [half]);
}

#[test]
fn nine_tenths_of_the_retry_room_are_told_too() {
    let mut life = unanswered();
    life.advance(secs(84));
    life.advance(secs(12));
    assert_eq!(life.said(), ["expiring: half"]);
    life.advance(secs(1));
    assert_eq!(life.said(), ["expiring: nine tenths"]);
}

#[test]
fn who_wakes_late_hears_of_the_later_stage_only() {
    let mut life = unanswered();
    life.advance(secs(97));
    assert_eq!(life.said(), ["expiring: nine tenths"]);
}

#[test]
fn a_bound_that_passes_without_an_answer_makes_a_token_unverified_once() {
    let mut life = unanswered();
    life.advance(secs(100));
    assert!(matches!(life.token.validity(), Validity::Unverified(_)));
    assert_eq!(life.said(), ["unverified"]);
    life.advance(secs(1_000));
    assert_eq!(life.said(), [""; 0]);
}

#[test]
fn each_stage_is_told_once_through_a_whole_outage() {
    let mut life = unanswered();
    while life.now < START + secs(2_000) {
        life.sleep();
        if life.admit().is_some() {
            life.answer(timed_out());
        }
    }
    let told: Vec<_> = life.said().into_iter().filter(|word| *word != "check failed").collect();
    assert_eq!(told, ["expiring: half", "expiring: nine tenths", "unverified"]);
}

#[test]
fn past_the_expiry_the_pause_of_a_token_with_trouble_of_its_own_grows_to_retry_max() {
    let mut life = unanswered();
    life.advance(secs(100));
    let pauses: Vec<_> = (0..12)
        .map(|_| {
            life.check(timed_out());
            life.token.due_for(Resource::Server).unwrap().since(life.now).as_secs()
        })
        .collect();
    assert!(pauses.is_sorted() && pauses[0] <= 4, "{pauses:?}");
    assert_eq!(pauses[11], 300);
}

#[test]
fn past_the_expiry_a_token_is_retried_within_5_s_while_its_server_may_be_down() {
    let mut life = unanswered();
    life.server_in_doubt = true;
    life.advance(secs(100));
    for _ in 0..20 {
        life.check(timed_out());
        let due = life.token.due_for(Resource::Server).unwrap();
        assert!(due.since(life.now) <= secs(5), "{due:?} at {:?}", life.now);
    }
}

#[test]
fn retries_that_only_fill_the_time_before_the_expiry_do_not_raise_the_backoff() {
    let mut life = unanswered();
    let mut retries = 0;
    while matches!(life.token.validity(), Validity::Alive(_)) {
        life.sleep();
        if life.admit().is_some() {
            retries += 1;
            life.answer(timed_out());
        }
    }
    assert!(retries > 10, "{retries}");
    life.check(timed_out());
    let pause = life.token.due_for(Resource::Server).unwrap().since(life.now);
    assert!(pause <= secs(16), "{pause:?} after {retries} retries");
}

#[test]
fn an_unverified_token_that_answers_lives() {
    let mut life = unanswered();
    life.advance(secs(100));
    life.check(alive(100_000));
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    assert_eq!(life.count("recovered"), 1);
}

#[test]
fn an_unverified_token_that_the_server_calls_expired_is_dead() {
    let mut life = unanswered();
    life.advance(secs(100));
    life.check(expired());
    assert_eq!(life.token.validity(), Validity::Expired);
    assert_eq!(life.said(), ["unverified", "expired"]);
}

#[test]
fn recovery_is_told_exactly_once_after_any_trouble() {
    for trouble in [timed_out(), not_allowed(), throttled(2), rejected()] {
        let mut life = unanswered();
        life.check(trouble.clone());
        life.check(alive(100_000));
        life.check(alive(100_000));
        assert_eq!(life.count("recovered"), 1, "{trouble:?}");
    }
}

#[test]
fn recovery_is_told_exactly_once_after_a_warning() {
    let mut life = unanswered();
    life.advance(secs(90));
    life.check(alive(100_000));
    life.check(alive(100_000));
    assert_eq!(life.count("recovered"), 1);
}

#[test]
fn a_token_without_trouble_never_recovers() {
    let mut life = unanswered();
    for _ in 0..5 {
        life.check(alive(100_000));
    }
    assert_eq!(life.count("recovered"), 0);
}

#[test]
fn the_stages_begin_anew_after_an_answer() {
    let mut life = unanswered();
    life.advance(secs(90));
    life.check(alive(100_000));
    life.notices.clear();
    life.advance(secs(90));
    assert_eq!(life.said(), ["expiring: half"]);
}

#[test]
fn a_warning_is_not_repeated_because_the_configuration_was_read_again() {
    let mut life = unanswered();
    life.advance(secs(90));
    life.step(Event::PolicyChanged);
    life.advance(secs(6));
    assert_eq!(life.said(), ["expiring: half"]);
}

/// A server wants quiet until `after` this moment.
fn quieted(life: &mut Life, after: u64) {
    life.step(Event::Throttled(life.now + secs(after)));
}

#[test]
fn a_wish_for_quiet_past_the_bound_is_told_at_once_and_as_an_error() {
    let mut life = unanswered();
    quieted(&mut life, 100);
    let told = Notice::Expiring { stage: DeadlineStage::NineTenths, dies_in_ms: 100_000 };
    assert_eq!(life.notices, [told]);
}

#[test]
fn a_wish_for_quiet_that_the_life_outlasts_is_not_worth_a_word() {
    let mut life = unanswered();
    quieted(&mut life, 99);
    assert_eq!(life.said(), [""; 0]);
}

#[test]
fn a_wish_for_quiet_past_the_bound_is_told_once_however_often_it_comes() {
    let mut life = unanswered();
    quieted(&mut life, 100);
    quieted(&mut life, 200);
    life.advance(secs(99));
    assert_eq!(life.said(), ["expiring: nine tenths"]);
    life.advance(secs(1));
    assert_eq!(life.said(), ["unverified"]);
}

#[test]
fn who_was_given_up_to_a_wish_for_quiet_and_lives_has_recovered() {
    let mut life = unanswered();
    quieted(&mut life, 100);
    life.check(alive(33_000));
    assert_eq!(life.said(), ["expiring: nine tenths", "recovered", "checked"]);
}

#[test]
fn a_wish_for_quiet_tells_nothing_of_what_is_dead_or_past_its_bound() {
    let mut dead = unanswered();
    dead.check(expired());
    let mut overdue = unanswered();
    overdue.advance(secs(101));
    for mut life in [dead, overdue, Life::new(), Life::new().without_value()] {
        life.notices.clear();
        quieted(&mut life, 1_000);
        assert_eq!(life.said(), [""; 0], "{:?}", life.token.validity());
    }
}
