//! Proof of renewal on correct servers: what is learned, and at what cost.

use std::time::Duration;

use super::server::{Renews, Reports, Server};
use super::world::{Life, START, ms, secs};
use crate::lifecycle::{Method, Notice, Renewal, Slot, Validity};

/// Every kind of server that renews, with the call that renews there.
const RENEWING: [(Renews, Reports, Method); 4] = [
    (Renews::Query, Reports::After, Method::Query),
    (Renews::Query, Reports::Before, Method::Query),
    (Renews::Renew, Reports::After, Method::Renew),
    (Renews::Renew, Reports::Before, Method::Renew),
];

const LIVES: [Duration; 4] = [secs(3), secs(10), secs(1_800), secs(86_400)];

/// Keeps the token alive for `lives` lives, and passes on what was learned, as a scheduler does.
fn keep(life: &mut Life, server: &mut Server, lives: u32) {
    let until = life.now + server.life * lives;
    while life.now < until && life.wakes_at().is_some_and(|at| at <= until) {
        life.run(server, life.wakes_at().unwrap());
        let learned = life.notices.iter().rev().find_map(|notice| match notice {
            Notice::RenewsBy(method) => Some(*method),
            _ => None,
        });
        life.renews_by = learned.or(life.renews_by);
    }
}

fn lives_on(life: &Life) -> bool {
    matches!(life.token.validity(), Validity::Alive(_)) && life.count("expired") == 0
}

#[test]
fn token_stays_alive_on_every_server_that_renews() {
    for (renews, reports, method) in RENEWING {
        for span in LIVES {
            let mut server = Server::new(renews, reports, span);
            let mut life = Life::new();
            keep(&mut life, &mut server, 60);
            assert!(lives_on(&life), "{renews:?} {reports:?} {span:?}");
            assert_eq!(life.renews_by, Some(method), "{renews:?} {reports:?} {span:?}");
            assert_eq!(life.count("renewal not observed"), 0, "{renews:?} {reports:?} {span:?}");
            assert_eq!(life.count("unverified"), 0, "{renews:?} {reports:?} {span:?}");
        }
    }
}

#[test]
fn nothing_else_is_learned_on_a_server_that_reports_the_previous_life() {
    for (renews, reports, method) in RENEWING {
        let mut server = Server::new(renews, reports, secs(10));
        let mut life = Life::new();
        keep(&mut life, &mut server, 60);
        let other = match method {
            Method::Query => "renews by renew",
            Method::Renew => "renews by query",
        };
        assert_eq!(life.count(other), 0, "{renews:?} {reports:?}");
    }
}

#[test]
fn steady_state_costs_one_call_a_check_on_every_renewing_kind() {
    for (renews, reports, method) in RENEWING {
        for draw in [0.0, 0.5, 0.99] {
            let mut server = Server::new(renews, reports, secs(1_800));
            let mut life = Life::new();
            life.draw = draw;
            keep(&mut life, &mut server, 5);
            server.calls.clear();
            keep(&mut life, &mut server, 50);
            let calls = &server.calls[..50];
            let gaps: Vec<_> =
                calls.windows(2).map(|two| two[1].0.since(two[0].0).as_secs()).collect();
            let least = gaps.iter().min().copied().unwrap();
            assert!(least > 600, "{renews:?} {reports:?} {draw}: {gaps:?}");
            assert!(calls.iter().all(|(_, by)| *by == method), "{renews:?} {reports:?}");
        }
    }
}

#[test]
fn on_a_server_that_reports_the_previous_life_the_interval_settles_near_four_tenths() {
    for renews in [Renews::Query, Renews::Renew] {
        let mut server = Server::new(renews, Reports::Before, secs(1_000));
        let mut life = Life::new();
        keep(&mut life, &mut server, 30);
        let last = &server.calls[server.calls.len() - 2..];
        let gap = last[1].0.since(last[0].0).as_secs();
        assert!((390..=412).contains(&gap), "{renews:?}: {gap}");
    }
}

#[test]
fn query_that_renews_is_learned_with_the_second_call() {
    let mut server = Server::new(Renews::Query, Reports::After, secs(100));
    let mut life = Life::new();
    life.run(&mut server, START + secs(70));
    assert_eq!(life.said(), ["checked", "renews by query", "checked"]);
    assert_eq!(server.calls.len(), 2);
}

#[test]
fn query_without_renewal_starts_the_whole_proof_at_once() {
    let mut server = Server::new(Renews::Renew, Reports::After, secs(100));
    let mut life = Life::new();
    life.run(&mut server, START + secs(70));
    let methods: Vec<_> = server.calls.iter().map(|(_, method)| *method).collect();
    assert_eq!(methods, [Method::Query, Method::Query, Method::Query, Method::Renew]);
    assert_eq!(life.count("renews by renew"), 1);
    assert!(server.calls[3].0.since(server.calls[1].0) < ms(100));
}

#[test]
fn check_reports_whether_it_was_seen_to_renew() {
    let mut server = Server::new(Renews::Neither, Reports::After, secs(100));
    let mut life = Life::new();
    life.run(&mut server, START + secs(60));
    assert_eq!(life.last_renewed(), None, "one reading alone proves nothing");
    life.run(&mut server, START + secs(70));
    assert_eq!(life.last_renewed(), Some(false));
    let mut server = Server::new(Renews::Query, Reports::After, secs(100));
    let mut life = Life::new();
    life.run(&mut server, START + secs(70));
    assert_eq!(life.last_renewed(), Some(true));
}

#[test]
fn unrenewable_token_is_reported_once_with_its_expiry_and_used_up() {
    for span in LIVES {
        let mut server = Server::new(Renews::Neither, Reports::After, span);
        let mut life = Life::new();
        keep(&mut life, &mut server, 3);
        let told: Vec<_> = life
            .notices
            .iter()
            .filter_map(|notice| match notice {
                Notice::RenewalNotObserved { dies_in_ms } => Some(*dies_in_ms),
                _ => None,
            })
            .collect();
        assert_eq!(told.len(), 1, "{span:?}");
        assert!((1..=span.as_millis() / 2).contains(&told[0].into()), "{span:?}: {told:?}");
        assert_eq!(life.token.validity(), Validity::Expired, "{span:?}");
        assert!(
            !life.notices.iter().any(|n| matches!(n, Notice::Checked { renewed: Some(true), .. }))
        );
    }
}

#[test]
fn announced_death_is_the_real_one() {
    let mut server = Server::new(Renews::Neither, Reports::After, secs(1_800));
    let mut life = Life::new();
    let death = server.death(Slot::A).unwrap();
    while life.count("renewal not observed") == 0 {
        life.run(&mut server, life.wakes_at().unwrap());
    }
    let Some(Notice::RenewalNotObserved { dies_in_ms }) =
        life.notices.iter().find(|n| matches!(n, Notice::RenewalNotObserved { .. }))
    else {
        panic!("not told")
    };
    let announced = life.now + ms(*dies_in_ms);
    assert!(announced <= death && death.since(announced) <= ms(10), "{announced:?} {death:?}");
}

#[test]
fn unrenewable_token_expires_without_other_warnings_and_is_reauthenticated() {
    let mut server = Server::new(Renews::Neither, Reports::After, secs(1_800));
    let mut life = Life::with_reauth();
    let death = server.death(Slot::A).unwrap();
    life.run(&mut server, death + ms(500));
    assert_eq!(life.count("expired"), 1);
    assert_eq!(life.count("reauth succeeded"), 1);
    assert_eq!(life.count("unverified") + life.count("expiring: nine tenths"), 0);
}

#[test]
fn budget_lasts_for_ever_where_every_value_lives_its_whole_life() {
    let mut server = Server::new(Renews::Neither, Reports::After, secs(600));
    let mut life = Life::with_reauth();
    keep(&mut life, &mut server, 100);
    assert!(life.count("reauth succeeded") >= 98);
    assert_eq!(life.count("reauth exhausted") + life.count("reauth failed"), 0);
    // The last value has been reported, but is alive.
    let values = life.count("expired")..=life.count("expired") + 1;
    assert!(values.contains(&life.count("renewal not observed")), "once for each value");
}

#[test]
fn where_only_queries_are_permitted_nothing_is_renewed() {
    for renews in [Renews::Query, Renews::Renew, Renews::Neither] {
        let mut server = Server::new(renews, Reports::After, secs(100));
        let mut life = Life::with_renewal(Renewal::Query);
        life.renews_by = Some(Method::Renew);
        life.run(&mut server, START + secs(1_000));
        assert!(server.calls.iter().all(|(_, method)| *method == Method::Query));
        let warned = usize::from(renews != Renews::Query);
        assert_eq!(life.count("renewal not observed"), warned, "{renews:?}");
    }
}

#[test]
fn where_only_renewing_is_permitted_nothing_is_queried() {
    for renews in [Renews::Query, Renews::Renew, Renews::Neither] {
        let mut server = Server::new(renews, Reports::After, secs(100));
        let mut life = Life::with_renewal(Renewal::Renew);
        life.renews_by = Some(Method::Query);
        life.run(&mut server, START + secs(1_000));
        assert!(server.calls.iter().all(|(_, method)| *method == Method::Renew));
        let warned = usize::from(renews != Renews::Renew);
        assert_eq!(life.count("renewal not observed"), warned, "{renews:?}");
    }
}

#[test]
fn whole_seconds_hide_no_renewal_and_fake_none() {
    for span in [secs(3), secs(10), secs(1_800)] {
        for (renews, reports, method) in RENEWING {
            let mut server = Server::new(renews, reports, span).in_whole_seconds();
            let mut life = Life::new();
            keep(&mut life, &mut server, 60);
            assert!(lives_on(&life), "{renews:?} {reports:?} {span:?}");
            assert_eq!(life.renews_by, Some(method), "{renews:?} {reports:?} {span:?}");
            assert_eq!(life.count("renewal not observed"), 0, "{renews:?} {reports:?} {span:?}");
        }
        let mut server = Server::new(Renews::Neither, Reports::After, span).in_whole_seconds();
        let mut life = Life::new();
        keep(&mut life, &mut server, 3);
        assert_eq!(life.renews_by, None, "{span:?}");
        assert_eq!(life.token.validity(), Validity::Expired, "{span:?}");
    }
}

#[test]
fn whole_seconds_fake_no_renewal_late_in_a_life() {
    for left in (110..10_000).step_by(130) {
        let mut server = Server::new(Renews::Neither, Reports::After, secs(10)).in_whole_seconds();
        server.dies_at[0] = Some(START + ms(left));
        let mut life = Life::new();
        life.run(&mut server, START + secs(60));
        assert_eq!(life.count("renews by query") + life.count("renews by renew"), 0, "{left}");
    }
}

#[test]
fn token_that_is_found_late_in_its_life_is_kept_too() {
    for (renews, reports, _) in RENEWING {
        let mut server = Server::new(renews, reports, secs(1_800));
        server.dies_at[0] = Some(START + secs(90));
        let mut life = Life::new();
        keep(&mut life, &mut server, 20);
        assert!(lives_on(&life), "{renews:?} {reports:?}");
    }
}
