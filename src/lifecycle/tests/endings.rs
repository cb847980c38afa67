//! Deadline warnings without responses, and recoveries.

use super::world::{
    Life, START, alive, expired, ms, not_allowed, rejected, secs, throttled, timed_out,
};
use crate::lifecycle::{DeadlineStage, Event, Notice, Resource, Validity};

/// The check is due at 67 of 100 s; half of the retry room has passed at 83.5 s, nine tenths at
/// 96.7 s.
fn unanswered() -> Life {
    Life::new().alive()
}

#[test]
fn half_of_the_retry_room_without_a_response_is_reported() {
    let mut life = unanswered();
    life.advance(secs(83));
    assert_eq!(life.said(), [""; 0]);
    life.advance(ms(500));
    let half = Notice::Expiring { stage: DeadlineStage::Half, dies_in_ms: 16_500 };
    assert_eq!(life.notices, [half]);
}

#[test]
fn nine_tenths_of_the_retry_room_are_reported_too() {
    let mut life = unanswered();
    life.advance(secs(84));
    life.advance(secs(12));
    assert_eq!(life.said(), ["expiring: half"]);
    life.advance(secs(1));
    assert_eq!(life.said(), ["expiring: nine tenths"]);
}

#[test]
fn late_wake_up_reports_the_later_stage_only() {
    let mut life = unanswered();
    life.advance(secs(97));
    assert_eq!(life.said(), ["expiring: nine tenths"]);
}

#[test]
fn expiry_that_passes_without_a_response_makes_a_token_unverified_once() {
    let mut life = unanswered();
    life.advance(secs(100));
    assert!(matches!(life.token.validity(), Validity::Unverified(_)));
    assert_eq!(life.said(), ["unverified"]);
    life.advance(secs(1_000));
    assert_eq!(life.said(), [""; 0]);
}

#[test]
fn each_stage_is_reported_once_through_a_whole_outage() {
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
fn past_the_expiry_the_pause_of_a_token_with_failures_of_its_own_grows_to_retry_max() {
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
fn unverified_token_is_alive_after_a_response() {
    let mut life = unanswered();
    life.advance(secs(100));
    life.check(alive(100_000));
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    assert_eq!(life.count("recovered"), 1);
}

#[test]
fn unverified_token_that_the_server_calls_expired_is_dead() {
    let mut life = unanswered();
    life.advance(secs(100));
    life.check(expired());
    assert_eq!(life.token.validity(), Validity::Expired);
    assert_eq!(life.said(), ["unverified", "expired"]);
}

#[test]
fn recovery_is_reported_exactly_once_after_any_error() {
    for trouble in [timed_out(), not_allowed(), throttled(2), rejected()] {
        let mut life = unanswered();
        life.check(trouble.clone());
        life.check(alive(100_000));
        life.check(alive(100_000));
        assert_eq!(life.count("recovered"), 1, "{trouble:?}");
    }
}

#[test]
fn recovery_is_reported_exactly_once_after_a_warning() {
    let mut life = unanswered();
    life.advance(secs(90));
    life.check(alive(100_000));
    life.check(alive(100_000));
    assert_eq!(life.count("recovered"), 1);
}

#[test]
fn token_without_an_error_reports_no_recovery() {
    let mut life = unanswered();
    for _ in 0..5 {
        life.check(alive(100_000));
    }
    assert_eq!(life.count("recovered"), 0);
}

#[test]
fn stages_restart_after_a_response() {
    let mut life = unanswered();
    life.advance(secs(90));
    life.check(alive(100_000));
    life.notices.clear();
    life.advance(secs(90));
    assert_eq!(life.said(), ["expiring: half"]);
}

#[test]
fn warning_is_not_repeated_because_the_configuration_was_read_again() {
    let mut life = unanswered();
    life.advance(secs(90));
    life.step(Event::PolicyChanged);
    life.advance(secs(6));
    assert_eq!(life.said(), ["expiring: half"]);
}

/// The server asks for a pause of `after`.
fn quieted(life: &mut Life, after: u64) {
    life.step(Event::Throttled(life.now + secs(after)));
}

#[test]
fn pause_beyond_the_expiry_is_reported_at_once_as_an_error() {
    let mut life = unanswered();
    quieted(&mut life, 100);
    let told = Notice::Expiring { stage: DeadlineStage::NineTenths, dies_in_ms: 100_000 };
    assert_eq!(life.notices, [told]);
}

#[test]
fn pause_that_ends_before_the_expiry_is_not_reported() {
    let mut life = unanswered();
    quieted(&mut life, 99);
    assert_eq!(life.said(), [""; 0]);
}

#[test]
fn repeated_pause_beyond_the_expiry_is_reported_once() {
    let mut life = unanswered();
    quieted(&mut life, 100);
    quieted(&mut life, 200);
    life.advance(secs(99));
    assert_eq!(life.said(), ["expiring: nine tenths"]);
    life.advance(secs(1));
    assert_eq!(life.said(), ["unverified"]);
}

#[test]
fn token_reported_for_a_pause_recovers_when_alive() {
    let mut life = unanswered();
    quieted(&mut life, 100);
    life.check(alive(33_000));
    assert_eq!(life.said(), ["expiring: nine tenths", "recovered", "checked"]);
}

#[test]
fn pause_reports_nothing_for_dead_or_unverified_tokens() {
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
