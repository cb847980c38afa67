//! Proof of renewal despite errors: no wrong conclusion, and no token dies that could have lived.

use super::server::{Renews, Reports, Server};
use super::world::{Life, START, alive, asks, expired, ms, not_allowed, rejected, secs, timed_out};
use crate::lifecycle::{Action, Event, Method, Renewal, Resource, Slot, Validity};

/// A token of 100 s on a server where only the renewing call renews, which is known.
fn renewing() -> (Life, Server) {
    let mut life = Life::new();
    life.renews_by = Some(Method::Renew);
    (life, Server::new(Renews::Renew, Reports::After, secs(100)))
}

/// After two readings without growth; the renewing call is due.
fn about_to_renew() -> Life {
    let mut life = Life::new().alive();
    life.check(alive(33_000));
    life.check(alive(33_000));
    life.notices.clear();
    life
}

#[test]
fn another_client_that_stops_renewing_is_noticed_in_time() {
    for reports in [Reports::After, Reports::Before] {
        let mut server = Server::new(Renews::Renew, reports, secs(100));
        server.other_client_until = START + secs(500);
        let mut life = Life::new();
        life.run(&mut server, START + secs(2_000));
        assert!(matches!(life.token.validity(), Validity::Alive(_)), "{reports:?}");
        assert!(life.count("renews by renew") > 0, "{reports:?}");
    }
}

#[test]
fn another_client_that_stops_where_nothing_else_renews_is_reported() {
    let mut server = Server::new(Renews::Neither, Reports::After, secs(100));
    server.other_client_until = START + secs(500);
    let mut life = Life::new();
    life.run(&mut server, START + secs(2_000));
    assert_eq!(life.count("renewal not observed"), 1);
    assert_eq!(life.count("expired"), 1);
}

#[test]
fn renewal_method_learned_from_other_tokens_is_still_verified() {
    let mut server = Server::new(Renews::Renew, Reports::After, secs(100));
    let mut life = Life::new();
    life.renews_by = Some(Method::Query);
    life.run(&mut server, START + secs(1_000));
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    let mut server = Server::new(Renews::Query, Reports::After, secs(100));
    let mut life = Life::new();
    life.renews_by = Some(Method::Renew);
    life.run(&mut server, START + secs(1_000));
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
}

#[test]
fn slow_first_connection_fakes_no_growth() {
    for (there, back) in [(0, 8_000), (8_000, 0), (4_000, 4_000)] {
        let mut server = Server::new(Renews::Neither, Reports::After, secs(60));
        server.latency = (ms(there), ms(back));
        let mut life = Life::new();
        life.run(&mut server, START + secs(20));
        server.latency = (ms(5), ms(5));
        life.run(&mut server, START + secs(100));
        assert_eq!(life.count("renews by query") + life.count("renews by renew"), 0);
        assert_eq!(life.count("expired"), 1);
    }
}

#[test]
fn lost_response_to_a_call_that_renewed_teaches_nothing_wrong() {
    for renews in [Renews::Query, Renews::Renew] {
        for reports in [Reports::After, Reports::Before] {
            for from in 0..40 {
                let from = START + secs(60) + ms(from * 500);
                let mut server = Server::new(renews, reports, secs(100));
                server.loses_answers = Some((from, from + ms(400)));
                let mut life = Life::new();
                life.run(&mut server, START + secs(1_000));
                assert!(matches!(life.token.validity(), Validity::Alive(_)));
                assert_eq!(life.count("renewal not observed"), 0, "{renews:?} {reports:?}");
            }
        }
    }
}

#[test]
fn lost_response_to_the_first_renewing_call_still_shows_that_it_renewed() {
    let mut life = about_to_renew();
    assert_eq!(asks(Some(life.check(timed_out())), Slot::A), Some(Method::Renew));
    life.check(alive(99_000));
    assert_eq!(life.count("renews by renew"), 1);
    assert_eq!(life.count("renews by query"), 0);
}

#[test]
fn renewing_call_that_never_responds_does_not_keep_the_death_from_being_seen() {
    let mut life = about_to_renew();
    while life.now < START + secs(2_000) && life.token.validity() != Validity::Expired {
        life.sleep();
        match life.admit() {
            Some(Action::Check { method: Method::Renew, .. }) => life.answer(timed_out()),
            Some(_) if life.now >= START + secs(100) => life.answer(expired()),
            Some(_) => {
                let left = (START + secs(100)).since(life.now);
                life.answer(crate::outcome::Outcome::Alive { remaining: left });
            }
            None => {}
        }
    }
    assert_eq!(life.token.validity(), Validity::Expired);
    assert!(life.now < START + secs(105), "{:?}", life.now);
}

#[test]
fn renewing_check_that_never_responds_does_not_keep_the_death_from_being_seen() {
    let (mut life, _) = renewing();
    life.check(alive(100_000));
    for _ in 0..60 {
        life.sleep();
        match life.admit() {
            Some(Action::Check { method: Method::Renew, .. }) => life.answer(timed_out()),
            Some(_) => life.answer(expired()),
            None => {}
        }
        if life.token.validity() == Validity::Expired {
            return;
        }
    }
    panic!("the server was never asked whether the token lives");
}

#[test]
fn outage_in_the_middle_of_the_proof_costs_no_life() {
    for renews in [Renews::Query, Renews::Renew] {
        for began in 0..40 {
            let began = START + secs(66) + ms(began * 50);
            let mut server = Server::new(renews, Reports::After, secs(100));
            server.outage = Some((began, START + secs(85)));
            let mut life = Life::new();
            life.run(&mut server, START + secs(1_000));
            assert!(matches!(life.token.validity(), Validity::Alive(_)), "{renews:?} {began:?}");
            assert_eq!(life.count("expired") + life.count("unverified"), 0);
        }
    }
}

#[test]
fn response_lost_over_and_over_in_the_proof_is_retried_with_pauses() {
    let mut life = about_to_renew();
    let before = life.now;
    for _ in 0..20 {
        life.sleep();
        match life.admit() {
            Some(Action::Check { method: Method::Query, .. }) => {
                let left = (START + secs(100)).since(life.now);
                life.answer(crate::outcome::Outcome::Alive { remaining: left });
            }
            Some(_) => life.answer(timed_out()),
            None => {}
        }
    }
    assert!(life.now.since(before) > secs(10), "{:?}", life.now);
}

#[test]
fn refused_renewing_call_leaves_queries_to_go_on() {
    let mut server = Server::new(Renews::Neither, Reports::After, secs(100));
    server.refuses_renewal = Some(not_allowed);
    let mut life = Life::new();
    life.run(&mut server, START + secs(150));
    assert_eq!(life.count("renewal not observed"), 1);
    assert_eq!(life.count("expired"), 1);
    assert_eq!(life.count("unverified"), 0);
}

#[test]
fn refused_renewing_check_falls_back_to_queries() {
    let (mut life, mut server) = renewing();
    server.renews = Renews::Query;
    server.refuses_renewal = Some(not_allowed);
    life.run(&mut server, START + secs(1_000));
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    assert_eq!(life.count("expired"), 0);
}

#[test]
fn renewing_call_refused_past_the_expiry_does_not_keep_queries_away() {
    let mut life = about_to_renew();
    while life.count("unverified") == 0 {
        life.sleep();
        if life.admit().is_some() {
            life.answer(timed_out());
        }
    }
    for _ in 0..10 {
        if let Action::Check { method: Method::Query, .. } = life.check(not_allowed()) {
            return;
        }
    }
    panic!("the server was never asked whether the token lives");
}

#[test]
fn repaired_renewing_call_is_used_again_without_a_restart() {
    let (mut life, mut server) = renewing();
    server.refuses_renewal = Some(not_allowed);
    server.other_client_until = START + secs(500);
    life.run(&mut server, START + secs(400));
    server.refuses_renewal = None;
    life.run(&mut server, START + secs(1_500));
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    let (_, last) = server.calls.last().unwrap();
    assert_eq!(*last, Method::Renew);
}

#[test]
fn refused_call_is_retried_where_it_is_the_only_permitted_one() {
    let mut life = Life::with_renewal(Renewal::Renew);
    for _ in 0..5 {
        assert_eq!(asks(Some(life.check(not_allowed())), Slot::A), Some(Method::Renew));
    }
    assert_eq!(life.said(), ["misconfigured"; 5]);
}

#[test]
fn status_401_in_the_middle_of_the_proof_needs_a_second_one_too() {
    let mut life = about_to_renew();
    life.check(rejected());
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    assert_eq!(asks(Some(life.check(rejected())), Slot::A), Some(Method::Query));
    assert_eq!(life.token.validity(), Validity::Rejected);
}

#[test]
fn reload_that_forbids_renewing_ends_the_proof() {
    let mut life = about_to_renew();
    life.policy.renewal = Renewal::Query;
    life.step(Event::PolicyChanged);
    for _ in 0..10 {
        assert_eq!(asks(Some(life.check(timed_out())), Slot::A), Some(Method::Query));
    }
}

#[test]
fn warning_before_the_expiry_is_given_again_once_a_doubted_value_was_proven() {
    let mut server = Server::new(Renews::Neither, Reports::After, secs(100));
    let mut life = Life::new();
    while life.count("renewal not observed") == 0 {
        life.run(&mut server, life.wakes_at().unwrap());
    }
    server.renews = Renews::Query;
    server.dies_at[0] = Some(life.now + secs(50));
    life.run(&mut server, START + secs(1_000));
    life.notices.clear();
    server.outage = Some((life.now, life.now + secs(1_000)));
    life.run(&mut server, life.now + secs(200));
    assert_eq!(life.count("expiring: half"), 1);
}

#[test]
fn expiry_is_never_later_than_reported() {
    let mut life = Life::new().alive();
    life.advance(secs(67));
    life.check(alive(33_000));
    assert_eq!(life.token.expiry(), Some(life.now + secs(33)));
    assert_eq!(life.token.due_for(Resource::Server), Some(life.now), "the proof goes on at once");
}

#[test]
fn renewing_call_that_is_always_rejected_is_reported_as_no_renewal() {
    let mut server = Server::new(Renews::Neither, Reports::After, secs(100));
    server.refuses_renewal = Some(rejected);
    let mut life = Life::new();
    life.run(&mut server, START + secs(99));
    assert_eq!(life.count("renewal not observed"), 1);
    assert_eq!(life.count("rejected"), 0, "the queries contradict it");
    life.run(&mut server, START + secs(200));
    assert_eq!((life.count("expired"), life.count("renewal not observed")), (1, 1));
}

#[test]
fn renewing_call_that_is_rejected_where_queries_renew_harms_nothing() {
    let mut server = Server::new(Renews::Query, Reports::Before, secs(100));
    server.refuses_renewal = Some(rejected);
    let mut life = Life::new();
    life.run(&mut server, START + secs(3_000));
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    assert_eq!(life.count("renewal not observed"), 0);
}

#[test]
fn renewing_call_that_is_known_to_renew_is_not_given_up_for_lost_responses() {
    let mut life = about_to_renew();
    life.renews_by = Some(Method::Renew);
    for _ in 0..6 {
        let left = (START + secs(100)).since(life.now);
        let outcome = crate::outcome::Outcome::Alive { remaining: left };
        life.sleep();
        match life.admit() {
            Some(Action::Check { method: Method::Query, .. }) => life.answer(outcome),
            Some(_) => life.answer(timed_out()),
            None => {}
        }
    }
    assert!(life.now < START + secs(85), "half of what was left is not waited for: {:?}", life.now);
    assert_eq!(life.count("renewal not observed"), 0);
}
