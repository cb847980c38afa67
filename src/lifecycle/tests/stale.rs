//! Stale events: in any state, an event that the state does not wait for changes nothing, reports
//! nothing and starts nothing.

use super::world::{
    Life, alive, answer, expired, hook_failed, not_allowed, reauthenticated, rejected, secs,
    throttled, timed_out,
};
use crate::lifecycle::{Event, ReauthOutcome, Resource, SourceChange, Validity};
use crate::outcome::{CallError, Outcome};

/// A token in each validity, with no action in flight or due.
fn idle() -> Vec<(&'static str, Life)> {
    let mut retrying = Life::new();
    retrying.check(timed_out());
    let mut overdue = Life::new().alive();
    overdue.advance(secs(101));
    let mut suspected = Life::new().alive();
    suspected.check(rejected());
    let mut dead = Life::new().alive();
    dead.check(expired());
    let mut pausing = Life::with_reauth().alive();
    pausing.check(expired());
    pausing.reauth(hook_failed());
    let mut unknown = Life::new().alive();
    unknown.check(rejected());
    unknown.check(rejected());
    let mut doubted = Life::new().alive();
    doubted.source(SourceChange::NewValue);
    doubted.check(timed_out());
    vec![
        ("missing", Life::new().without_value()),
        ("unknown, before a retry", retrying),
        ("alive", Life::new().alive()),
        ("alive, after a first 401", suspected),
        ("alive, with a candidate before a retry", doubted),
        ("expired, watching", dead),
        ("expired, before an attempt", pausing),
        ("rejected, watching", unknown),
        // The scheduler would fire its timer; here only what is not due is idle.
        ("unverified", {
            overdue.check(timed_out());
            overdue
        }),
    ]
}

/// A token for each action in flight.
fn busy() -> Vec<(&'static str, Life)> {
    let mut check = Life::new().alive();
    check.advance(secs(67));
    check.admit();
    let mut candidate = Life::new().alive();
    candidate.source(SourceChange::NewValue);
    candidate.admit();
    let mut attempt = Life::with_reauth().without_value();
    attempt.admit();
    let mut store = Life::with_reauth().without_value();
    store.reauth(ReauthOutcome::NewValue { stored: false });
    store.admit();
    let all = vec![
        ("a check", check),
        ("a candidate's check", candidate),
        ("an attempt", attempt),
        ("a store", store),
    ];
    assert!(all.iter().all(|(_, life)| life.token.is_busy()));
    all
}

fn outcomes() -> [Outcome; 6] {
    [alive(50_000), expired(), rejected(), throttled(5), not_allowed(), timed_out()]
}

fn ends_of_attempts() -> [Event; 4] {
    [
        reauthenticated(ReauthOutcome::NewValue { stored: true }),
        reauthenticated(ReauthOutcome::NewValue { stored: false }),
        reauthenticated(ReauthOutcome::SameValue),
        reauthenticated(hook_failed()),
    ]
}

fn ends_of_stores() -> [Event; 2] {
    [Event::PersistFinished(Ok(())), Event::PersistFinished(Err("no space left on device".into()))]
}

#[track_caller]
fn nothing_happens(name: &str, life: &Life, event: Event) {
    let mut after = life.clone();
    after.notices.clear();
    let said = format!("{name}: {event:?}");
    let action = after.step(event);
    assert_eq!(after.token, life.token, "{said}");
    assert_eq!((action, after.notices), (None, Vec::new()), "{said}");
}

#[test]
fn unexpected_check_result_changes_nothing() {
    for (name, life) in idle() {
        for outcome in outcomes() {
            nothing_happens(name, &life, answer(life.now, life.now, outcome));
        }
    }
}

#[test]
fn unexpected_reauth_result_changes_nothing() {
    for (name, life) in idle() {
        for end in ends_of_attempts() {
            nothing_happens(name, &life, end);
        }
    }
}

#[test]
fn unexpected_write_result_changes_nothing() {
    for (name, life) in idle() {
        for end in ends_of_stores() {
            nothing_happens(name, &life, end);
        }
    }
}

#[test]
fn completion_of_another_kind_changes_nothing() {
    for (name, life) in busy() {
        if name != "an attempt" {
            for end in ends_of_attempts() {
                nothing_happens(name, &life, end);
            }
        }
        if name != "a store" {
            for end in ends_of_stores() {
                nothing_happens(name, &life, end);
            }
        }
        if !name.contains("check") {
            for outcome in outcomes() {
                nothing_happens(name, &life, answer(life.now, life.now, outcome));
            }
        }
    }
}

#[test]
fn unexpected_revocation_result_changes_nothing() {
    for (name, life) in idle().into_iter().chain(busy()) {
        nothing_happens(name, &life, Event::RevokeFinished(Ok(())));
        nothing_happens(name, &life, Event::RevokeFinished(Err(CallError::new("no answer"))));
    }
}

#[test]
fn nothing_starts_before_it_is_due() {
    for (name, life) in idle() {
        for resource in [Resource::Server, Resource::Reauth, Resource::None] {
            nothing_happens(name, &life, Event::Admitted(resource));
        }
    }
}

#[test]
fn nothing_starts_while_something_is_in_flight() {
    for (name, mut life) in busy() {
        life.advance(secs(86_400));
        for resource in [Resource::Server, Resource::Reauth, Resource::None] {
            nothing_happens(name, &life, Event::Admitted(resource));
        }
    }
}

#[test]
fn duplicate_timer_changes_nothing() {
    for (name, mut life) in idle().into_iter().chain(busy()) {
        for seconds in [0, 33, 20, 14, 86_400] {
            life.advance(secs(seconds));
            nothing_happens(name, &life, Event::TimerFired);
        }
    }
}

#[test]
fn unchanged_source_changes_nothing() {
    for (name, life) in idle().into_iter().chain(busy()) {
        let mut after = life.clone();
        after.notices.clear();
        assert_eq!(after.step(Event::SourceChanged(SourceChange::Reappeared)), None, "{name}");
        assert_eq!(after.wakes_at(), life.wakes_at(), "{name}");
        assert_eq!(after.said(), [""; 0], "{name}");
    }
}

#[test]
fn identical_policy_changes_nothing() {
    for (name, life) in idle().into_iter().chain(busy()) {
        nothing_happens(name, &life, Event::PolicyChanged);
    }
}

#[test]
fn retry_now_expedites_retries_only() {
    for (name, life) in idle().into_iter().chain(busy()) {
        if !life.token.is_failing() {
            nothing_happens(name, &life, Event::RetryNow);
        }
    }
}

#[test]
fn retry_now_makes_a_retry_due_at_once() {
    for (name, mut life) in idle().into_iter().filter(|(_, life)| life.token.is_failing()) {
        life.step(Event::RetryNow);
        assert_eq!(life.token.due_for(Resource::Server), Some(life.now), "{name}");
    }
}

#[test]
fn every_token_with_a_value_or_a_method_has_a_next_action() {
    for (name, life) in idle() {
        let watches = life.policy.reauth.is_none()
            && matches!(
                life.token.validity(),
                Validity::Missing | Validity::Expired | Validity::Rejected
            );
        assert_eq!(life.wakes_at().is_none(), watches, "{name}");
    }
}

#[test]
fn value_that_the_previous_server_named_instead_is_kept_although_its_response_does_not_count() {
    let mut life = Life::new().alive();
    life.advance(secs(67));
    life.admit();
    life.step(Event::ServerChanged);
    let Event::CheckFinished(answer) = answer(life.now, life.now, alive(100_000)) else { return };
    life.step(Event::CheckFinished(crate::lifecycle::CheckResult { replaced: true, ..answer }));
    assert_eq!(life.token.validity(), Validity::Unknown);
    assert!(life.token.due_for(Resource::None).is_some(), "it is to be stored");
}

#[test]
fn attempt_in_flight_outlasts_a_change_of_its_server() {
    let mut life = Life::with_reauth().alive();
    life.check(expired());
    life.admit();
    life.step(Event::ServerChanged);
    life.step(reauthenticated(ReauthOutcome::NewValue { stored: true }));
    life.check(alive(100_000));
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    assert_eq!(life.count("reauth succeeded"), 1);
}
