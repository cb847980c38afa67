//! Proof of renewal when lives change their length, and when checks are frequent.

use super::server::{Renews, Reports, Server};
use super::world::{Life, START, secs};
use crate::lifecycle::Validity;

#[test]
fn life_that_the_server_shortens_is_no_sign_of_a_renewal_that_failed() {
    // 34 s is what the old life has left when the next check is due.
    for shortened in [60, 40, 34, 33, 32, 20, 5] {
        let mut server = Server::new(Renews::Query, Reports::After, secs(100));
        let mut life = Life::new();
        life.run(&mut server, START + secs(300));
        server.life = secs(shortened);
        life.run(&mut server, START + secs(900));
        assert!(matches!(life.token.validity(), Validity::Alive(_)), "{shortened}");
        assert_eq!(life.count("renewal not observed"), 0, "{shortened}");
        assert_eq!(life.count("renews by renew"), 0, "{shortened}");
    }
}

#[test]
fn life_that_the_server_lengthens_is_kept() {
    let mut server = Server::new(Renews::Renew, Reports::After, secs(100));
    let mut life = Life::new();
    life.run(&mut server, START + secs(300));
    server.life = secs(1_000);
    life.run(&mut server, START + secs(9_000));
    assert!(matches!(life.token.validity(), Validity::Alive(_)));
    assert_eq!(life.count("renewal not observed"), 0);
}

/// Checks at least every hundred seconds.
fn often(life: &mut Life) {
    let mut schedule = life.policy.schedule;
    schedule.max_interval = secs(100);
    life.policy.schedule = schedule;
}

#[test]
fn checks_that_come_often_are_evaluated_together() {
    for renews in [Renews::Query, Renews::Renew] {
        for reports in [Reports::After, Reports::Before] {
            let mut server = Server::new(renews, reports, secs(3_000));
            let mut life = Life::new();
            often(&mut life);
            life.run(&mut server, START + secs(30_000));
            assert!(matches!(life.token.validity(), Validity::Alive(_)), "{renews:?} {reports:?}");
            assert_eq!(life.count("renewal not observed"), 0, "{renews:?} {reports:?}");
            assert!(server.calls.len() < 450, "{renews:?} {reports:?}: {}", server.calls.len());
        }
    }
}

#[test]
fn life_cut_short_between_two_such_checks_is_kept() {
    for renews in [Renews::Query, Renews::Renew] {
        let mut server = Server::new(renews, Reports::After, secs(3_000));
        let mut life = Life::new();
        often(&mut life);
        life.run(&mut server, START + secs(950));
        server.life = secs(50);
        server.dies_at[0] = Some(life.now + secs(95));
        life.run(&mut server, START + secs(9_000));
        assert!(matches!(life.token.validity(), Validity::Alive(_)), "{renews:?}");
        assert_eq!(life.count("renewal not observed"), 0, "{renews:?}");
    }
}

#[test]
fn life_that_runs_down_is_never_called_renewed_however_often_it_is_checked() {
    let mut server = Server::new(Renews::Neither, Reports::After, secs(3_000));
    let mut life = Life::new();
    often(&mut life);
    life.run(&mut server, START + secs(3_100));
    assert_eq!(life.count("renews by query") + life.count("renews by renew"), 0);
    assert_eq!(life.count("renewal not observed"), 1);
}
