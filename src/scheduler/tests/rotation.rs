//! Tokens whose renewal spends a refresh token.

use super::*;
use crate::lifecycle::{Method, PersistedLife};

fn rotating(fixture: &Fixture) -> TokenSpec {
    let policy = Policy { renewal: Renewal::Renew, rotates: true, ..Fixture::policy() };
    TokenSpec { server: fixture.server, policy: Arc::new(policy), reauth: None }
}

fn lost() -> Outcome {
    Outcome::Unavailable(CallError { may_have_acted: true, ..CallError::new("no response") })
}

#[test]
fn renewal_that_had_nothing_to_send_says_nothing_about_the_server() {
    let mut fixture = Fixture::new(1_000_000, 10);
    fixture.tokens(3, None);
    fixture.wake();
    for (ticket, _) in fixture.actions() {
        fixture.answer(ticket, unavailable());
    }
    assert!(!fixture.scheduler.is_available(fixture.server));
    let id = fixture.scheduler.add_token(rotating(&fixture), false, fixture.now);
    fixture.scheduler.source_changed(id, SourceChange::Lost("no file".into()), fixture.now);
    let renewal = loop {
        let actions = fixture.next_actions();
        match actions.iter().find(|(ticket, _)| ticket.token == id) {
            Some((ticket, _)) => break *ticket,
            None => {
                for (ticket, _) in actions {
                    fixture.answer(ticket, unavailable());
                }
            }
        }
    };
    let fault =
        CallError { local: true, no_refresh_token: true, ..CallError::new("no refresh token") };
    fixture.answer(renewal, Outcome::Misconfigured(fault));
    assert!(!fixture.scheduler.is_available(fixture.server));
    assert!(!fixture.scheduler.is_probing(fixture.server));
}

#[test]
fn recovery_of_the_server_does_not_bring_a_held_renewal_forward() {
    let mut fixture = Fixture::new(1_000_000, 10);
    let other = fixture.tokens(1, None)[0];
    let id = fixture.scheduler.add_token(rotating(&fixture), true, fixture.now);
    fixture.wake();
    for (ticket, _) in fixture.actions() {
        fixture.answer(ticket, alive(60 * MINUTE));
    }
    let expiry = fixture.scheduler.token(id).unwrap().expiry().unwrap();
    let mut failed = BTreeSet::new();
    while failed.len() < 2 {
        for (ticket, _) in fixture.next_actions() {
            failed.insert(ticket.token);
            fixture.answer(ticket, lost());
        }
    }
    assert!(!fixture.scheduler.is_available(fixture.server));
    while !fixture.scheduler.is_available(fixture.server) {
        for (ticket, _) in fixture.next_actions() {
            assert_eq!(ticket.token, other);
            fixture.answer(ticket, alive(60 * MINUTE));
        }
    }
    let room = Duration::from_secs(10);
    assert_eq!(fixture.scheduler.next_check(id).map(|at| at + room), Some(expiry));
}

#[test]
fn refresh_token_is_not_spent_for_a_spot_check() {
    let mut fixture = Fixture::new(1_000_000, 10);
    let id = fixture.scheduler.add_token(rotating(&fixture), false, fixture.now);
    let persisted = PersistedLife {
        expiry: fixture.now + 50 * MINUTE,
        remaining_ms: 3_600_000,
        life_ms: 3_600_000,
        by: Method::Renew,
        proven: true,
        unrenewable: false,
        this_boot: true,
    };
    fixture.scheduler.restore(id, persisted, fixture.now);
    assert!(fixture.actions().is_empty());
}
