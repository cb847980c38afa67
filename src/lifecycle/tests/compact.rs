//! The compact form of a token: when it exists, and that it loses nothing.

use std::time::Duration;

use proptest::prelude::*;

use super::server::{Renews, Reports, Server};
use super::world::{Life, START, alive, expired, hook_failed, ms, rejected, secs, timed_out};
use crate::lifecycle::{
    CompactExtra, CompactToken, Event, Method, PersistedLife, ReauthOutcome, Renewal, Resource,
    SourceChange, Token,
};

/// Whether it can be compacted, has the same summary, and expands to the same state.
pub(super) fn rests(token: &Token) -> bool {
    token.compact().is_some_and(|(resting, extra)| {
        assert_eq!(resting.summary(), token.summary());
        assert_eq!(resting.expand(extra), *token);
        true
    })
}

/// Keeps a token alive for twenty lives on a server that renews by `renews`.
fn kept(renewal: Renewal, renews_by: Option<Method>, mut server: Server) -> Life {
    let mut life = Life::with_renewal(renewal);
    life.renews_by = renews_by;
    let until = START + server.life * 20;
    life.run(&mut server, until);
    life
}

#[test]
fn it_takes_22_bytes() {
    assert_eq!(size_of::<CompactToken>(), 22);
    assert_eq!(size_of::<Option<CompactToken>>(), 22);
}

#[test]
fn live_token_is_compacted_between_checks() {
    for span in [secs(3), secs(1_800), secs(86_400)] {
        for whole_seconds in [false, true] {
            for (renewal, renews_by, renews) in [
                (Renewal::Query, None, Renews::Query),
                (Renewal::Renew, None, Renews::Renew),
                (Renewal::Auto, Some(Method::Query), Renews::Query),
                (Renewal::Auto, Some(Method::Renew), Renews::Renew),
            ] {
                let mut server = Server::new(renews, Reports::After, span);
                server.whole_seconds = whole_seconds;
                let life = kept(renewal, renews_by, server);
                assert!(rests(&life.token), "{renewal:?} {span:?}: {:?}", life.token);
            }
        }
    }
}

#[test]
fn token_on_a_server_that_reports_the_previous_life_is_compacted() {
    for renews_by in [Method::Query, Method::Renew] {
        let renews = if renews_by == Method::Query { Renews::Query } else { Renews::Renew };
        let server = Server::new(renews, Reports::Before, secs(1_800));
        let life = kept(Renewal::Auto, Some(renews_by), server);
        assert!(rests(&life.token), "{:?}", life.token);
    }
}

#[test]
fn frequently_checked_token_with_a_long_life_is_compacted() {
    for (renews_by, renews) in [(Method::Query, Renews::Query), (Method::Renew, Renews::Renew)] {
        let mut life = Life::with_renewal(Renewal::Auto);
        life.renews_by = Some(renews_by);
        life.policy.schedule.max_interval = secs(300);
        let mut server = Server::new(renews, Reports::After, secs(86_400));
        for check in 1..400 {
            life.run(&mut server, START + secs(300) * check);
            assert!(rests(&life.token), "{:?}", life.token);
        }
        let asides = life.token.compact().map(|(_, extra)| extra);
        assert_ne!(asides, Some(CompactExtra::NOTHING), "a fifth of the life has not passed");
    }
}

#[test]
fn live_token_with_a_planned_early_reauth_is_compacted() {
    let mut life = Life::with_reauth();
    life.policy.reauth_before = Some(secs(30));
    let mut server = Server::new(Renews::Neither, Reports::After, secs(1_800));
    life.run(&mut server, START + secs(1_700));
    assert!(life.token.due_for(Resource::Reauth).is_some(), "{:?}", life.token);
    assert!(rests(&life.token), "{:?}", life.token);
}

#[test]
fn restored_token_is_compacted() {
    let mut life = Life::new();
    life.token = Token::without_value(START);
    let expiry = START + secs(600);
    let persisted = PersistedLife {
        expiry,
        remaining_ms: 86_400_000,
        life_ms: 86_400_000,
        by: Method::Renew,
        proven: true,
        unrenewable: false,
        this_boot: true,
    };
    life.now = START + secs(10);
    life.step(Event::Restored { persisted, spot_check: false });
    assert!(rests(&life.token) && life.token.is_restored());
    assert!(
        life.token.compact().is_some_and(|(resting, extra)| resting.expand(extra).is_restored())
    );
}

#[test]
fn token_before_its_first_check_is_compacted() {
    assert!(rests(&Token::with_value(START)));
    let mut life = Life::new();
    life.token = Token::without_value(START);
    life.source(SourceChange::NewValue);
    assert!(rests(&life.token));
}

#[test]
fn token_with_an_overdue_check_is_compacted_between_warnings() {
    let mut life = Life::new().alive();
    for _ in 0..3 {
        let alarm = life.token.next_deadline_warning().unwrap();
        life.advance(alarm.since(life.now));
        assert!(rests(&life.token), "{:?}", life.token);
    }
    assert_eq!(life.said(), ["expiring: half", "expiring: nine tenths", "unverified"]);
}

#[test]
fn dead_and_missing_tokens_without_attempts_are_compacted() {
    let mut dead = Life::new().alive();
    dead.check(expired());
    let mut unknown = Life::with_reauth().alive();
    unknown.check(rejected());
    unknown.check(rejected());
    let missing = Life::new().without_value();
    for life in [dead, missing] {
        assert!(rests(&life.token), "{:?}", life.token);
    }
    assert!(unknown.token.due_for(Resource::Reauth).is_some());
}

#[test]
fn value_that_survives_its_probation_resets_the_budget() {
    let mut life = Life::with_reauth().alive();
    life.check(expired());
    life.reauth(ReauthOutcome::NewValue { stored: true });
    life.check(alive(100_000));
    assert!(!rests(&life.token));
    life.check(alive(100_000));
    assert!(rests(&life.token), "{:?}", life.token);
}

#[test]
fn token_with_an_action_in_flight_or_an_error_is_not_compacted() {
    let mut asked = Life::new().alive();
    asked.advance(secs(80));
    asked.admit();
    let mut retried = Life::new().alive();
    retried.check(timed_out());
    let mut offered = Life::new().alive();
    offered.source(SourceChange::NewValue);
    let mut tried = Life::with_reauth().alive();
    tried.check(expired());
    tried.reauth(hook_failed());
    for life in [asked, retried, offered, tried] {
        assert!(!rests(&life.token), "{:?}", life.token);
    }
}

proptest! {
    #[test]
    fn compact_form_is_exact_to_the_millisecond(
        sent in 0_u64..1 << 40, latency in 0_u64..1 << 16, remaining in 0_u64..1 << 32,
    ) {
        let mut life = Life::new();
        life.now = life.now + ms(sent);
        life.token = Token::with_value(life.now);
        life.admit();
        life.now = life.now + ms(latency);
        life.answer(alive(remaining));
        let fits = remaining >= 100 && sent + 1_000_000 < 1 << 40;
        prop_assert_eq!(rests(&life.token), fits, "{:?}", life.token);
    }

    #[test]
    fn token_that_does_not_fit_is_not_compacted(more in 1_u64..1 << 40) {
        let mut life = Life::new();
        life.check(alive(u64::from(u32::MAX) + more));
        prop_assert!(!rests(&life.token));
        let mut late = Life::new();
        late.admit();
        late.now = late.now + Duration::from_millis(u64::from(u16::MAX) + more);
        late.answer(alive(100_000));
        prop_assert!(!rests(&late.token));
    }
}
