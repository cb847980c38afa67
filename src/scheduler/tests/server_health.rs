//! Servers that are down or ask for a pause.

use super::*;
use crate::outcome::Connection;

#[test]
fn failing_server_does_not_delay_tokens_of_another_server() {
    let mut fixture = Fixture::new(1_000_000, 1);
    fixture.tokens(5, None);
    let other = fixture
        .scheduler
        .add_server(ServerLimits { rate_limit: number(1_000), max_in_flight: number(1) });
    let spec = TokenSpec { server: other, ..fixture.spec(None) };
    let id = fixture.scheduler.add_token(spec, true, fixture.now);
    fixture.wake();
    assert!(fixture.actions().iter().any(|(ticket, _)| ticket.token == id));
}

#[test]
fn retry_after_applies_to_every_token_of_the_server() {
    let mut fixture = Fixture::new(1_000_000, 1);
    fixture.tokens(3, None);
    fixture.wake();
    let (ticket, _) = fixture.actions()[0];
    let retry_after = Duration::from_secs(3);
    fixture.answer(ticket, Outcome::Throttled { retry_after, fault: CallError::new("429") });
    fixture.advance(Duration::from_millis(2_999));
    assert_eq!(fixture.actions().len(), 0);
    fixture.advance(Duration::from_millis(1));
    assert_eq!(fixture.actions().len(), 1);
}

#[test]
fn pause_beyond_an_expiry_is_reported_at_once_for_each_affected_token() {
    let mut fixture = Fixture::new(1_000_000, 2);
    fixture.tokens(2, None);
    fixture.wake();
    for (ticket, _) in fixture.actions() {
        fixture.answer(ticket, alive(MINUTE));
    }
    fixture.advance(Duration::from_secs(41));
    let (ticket, _) = fixture.actions()[0];
    fixture.scheduler.outputs.clear();
    let fault = CallError::new("429");
    fixture.answer(ticket, Outcome::Throttled { retry_after: MINUTE, fault });
    let warned = fixture.scheduler.outputs.iter().filter(|output| {
        matches!(output, SchedulerOutput::TokenNotice(_, Notice::Expiring { .. }))
    });
    assert_eq!(warned.count(), 2);
}

#[test]
fn outage_is_reported_once_and_probed_with_single_requests() {
    let mut fixture = Fixture::new(1_000_000, 10);
    fixture.tokens(10, None);
    fixture.wake();
    for (ticket, _) in fixture.actions() {
        fixture.answer(ticket, unavailable());
    }
    assert_eq!(fixture.server_notices(), [down(10)]);
    assert_eq!(fixture.actions().len(), 0);
    for _ in 0..20 {
        let probes = fixture.next_actions();
        assert_eq!(probes.len(), 1);
        fixture.answer(probes[0].0, unavailable());
    }
    assert_eq!(fixture.server_notices().len(), 1);
}

#[test]
fn recovery_admits_all_waiting_tokens() {
    let mut fixture = Fixture::new(1_000_000, 10);
    fixture.tokens(10, None);
    fixture.wake();
    for (ticket, _) in fixture.actions() {
        fixture.answer(ticket, unavailable());
    }
    let probes = fixture.next_actions();
    assert_eq!(probes.len(), 1);
    fixture.answer(probes[0].0, alive(MINUTE));
    assert_eq!(fixture.actions().len(), 9);
    assert_eq!(fixture.server_notices()[1..], [ServerNotice::Recovered { tokens: 10 }]);
}

#[test]
fn outage_does_not_expedite_a_failing_write() {
    let (mut fixture, _) = fixture_with_dead_tokens(1, ReauthRoute::Hook, 20);
    let ticket = attempts(&mut fixture)[0];
    end(&mut fixture, ticket, ReauthOutcome::NewValue { stored: false });
    let mut writes = 0;
    for _ in 0..20 {
        for (ticket, action) in fixture.actions() {
            match action {
                Action::Persist { .. } => {
                    writes += 1;
                    let full = Err("disk full".into());
                    fixture.scheduler.persist_finished(ticket, full, fixture.now);
                }
                Action::Check { .. } | Action::Reauth { .. } | Action::Revoke { .. } => {
                    fixture.answer(ticket, unavailable());
                }
            }
        }
    }
    assert_eq!(fixture.server_notices(), [down(1)]);
    assert_eq!(writes, 1, "at one instant");
}

#[test]
fn probes_are_frequent_enough_for_the_shortest_waiting_life() {
    let mut fixture = Fixture::new(1_000_000, 4);
    let start = fixture.now;
    fixture.tokens(4, None);
    fixture.wake();
    let mut actions = fixture.actions();
    let (short, _) = actions.remove(0);
    for (ticket, _) in actions {
        fixture.answer(ticket, alive(Duration::from_secs(100)));
    }
    // Its check is due after 81 to 86 s and its expiry is after 105 s, later than the others'.
    fixture.now = start + Duration::from_secs(45);
    fixture.answer(short, alive(MINUTE));
    let mut probes = Vec::new();
    while fixture.now < start + Duration::from_secs(97) {
        for (ticket, _) in fixture.next_actions() {
            probes.push(fixture.now);
            fixture.answer(ticket, unavailable());
        }
    }
    probes.retain(|probe| *probe > start + Duration::from_secs(87));
    assert!(probes.len() >= 2, "{probes:?}");
    for pair in probes.windows(2) {
        assert!(pair[1].since(pair[0]) <= MINUTE / 20, "{probes:?}");
    }
}

#[test]
fn response_to_one_token_keeps_failures_of_others_from_being_an_outage() {
    let mut fixture = Fixture::new(1_000, 100);
    let tokens = fixture.tokens(4, None);
    let (healthy, poisoned) = (tokens[0], &tokens[1..]);
    fixture.wake();
    let mut asked = 0;
    let mut recoveries = 0;
    let end = fixture.now + MINUTE;
    while fixture.now < end {
        for (ticket, _) in fixture.actions() {
            if ticket.token == healthy {
                // A life so short that it proves again and again that the server is up.
                fixture.answer(ticket, alive(Duration::from_millis(500)));
            } else {
                assert!(poisoned.contains(&ticket.token));
                asked += 1;
                fixture.answer(ticket, unavailable());
            }
        }
        recoveries += fixture.server_notices().len();
        fixture.scheduler.outputs.retain(|output| matches!(output, SchedulerOutput::Action(..)));
        let next = fixture.scheduler.next_wake().expect("somebody waits").max(fixture.now);
        fixture.now = next.max(fixture.now + Duration::from_millis(1));
        fixture.wake();
    }
    assert!(recoveries <= 2, "one pair of notices at the most: {recoveries}");
    assert!(asked < 40, "{asked} requests in a minute for three tokens");
}

#[test]
fn dead_tokens_do_not_hide_an_outage() {
    let mut fixture = Fixture::new(1_000_000, 10);
    fixture.tokens(3, None);
    fixture.wake();
    let calls = fixture.actions();
    fixture.answer(calls[0].0, alive(MINUTE));
    fixture.answer(calls[1].0, alive(MINUTE));
    fixture.answer(calls[2].0, expired());
    for _ in 0..20 {
        for (ticket, _) in fixture.next_actions() {
            fixture.answer(ticket, unavailable());
        }
    }
    assert_eq!(fixture.server_notices(), [down(3)]);
}

#[test]
fn every_probe_uses_a_fresh_connection() {
    let mut fixture = Fixture::new(1_000_000, 10);
    fixture.tokens(10, None);
    fixture.wake();
    for (ticket, _) in fixture.actions().into_iter().take(3) {
        fixture.answer(ticket, unavailable());
    }
    fixture.tokens(1, None);
    fixture.wake();
    for _ in 0..20 {
        for (ticket, action) in fixture.next_actions() {
            let fresh = matches!(action, Action::Check { connection: Connection::Fresh, .. });
            assert!(fresh, "{action:?}");
            fixture.answer(ticket, unavailable());
        }
    }
}

#[test]
fn a_server_that_is_down_is_probed_at_least_every_5_s_and_at_most_5_times_a_second() {
    for count in [1, 3, 40] {
        let mut fixture = Fixture::new(1_000_000, 100);
        fixture.tokens(count, None);
        fixture.wake();
        for (ticket, _) in fixture.actions() {
            fixture.answer(ticket, unavailable());
        }
        let mut last = fixture.now;
        for _ in 0..200 {
            let probes = fixture.next_actions();
            let gap = fixture.now.since(last);
            assert!(gap >= Duration::from_millis(200), "{gap:?}");
            assert!(gap <= Duration::from_secs(5), "{gap:?}");
            assert_eq!(probes.len(), 1);
            fixture.answer(probes[0].0, unavailable());
            last = fixture.now;
        }
    }
}

/// A server that responds for some tokens and fails for `poisoned` others, for a minute from a cold
/// start. Returns how many of the healthy tokens, which live for 30 s, died, and the number of
/// notices about the server.
fn partial_outage(
    poisoned: usize,
    healthy: usize,
    poisoned_first: bool,
    limits: (u32, u32),
) -> (usize, usize) {
    let mut fixture = Fixture::new(limits.0, limits.1);
    let ids = fixture.tokens(poisoned + healthy, None);
    let is_healthy = |id: TokenId| {
        let at = ids.iter().position(|known| *known == id).expect("a token of ours");
        if poisoned_first { at >= poisoned } else { at < healthy }
    };
    let life = Duration::from_secs(30);
    let mut ends: std::collections::HashMap<_, _> =
        ids.iter().filter(|id| is_healthy(**id)).map(|id| (*id, fixture.now + life)).collect();
    let end = fixture.now + MINUTE;
    fixture.wake();
    while fixture.now < end {
        for (ticket, _) in fixture.actions() {
            match ends.get_mut(&ticket.token) {
                Some(ends) if *ends > fixture.now => {
                    *ends = fixture.now + life;
                    fixture.answer(ticket, alive(life));
                }
                Some(_) => fixture.answer(ticket, expired()),
                None => fixture.answer(ticket, unavailable()),
            }
        }
        let next = fixture.scheduler.next_wake().expect("a retry to come").max(fixture.now);
        fixture.now = next.max(fixture.now + Duration::from_millis(1));
        fixture.wake();
    }
    let died = ends.values().filter(|ends| **ends <= end).count();
    (died, fixture.server_notices().len())
}

#[test]
fn healthy_tokens_survive_among_many_failing_ones_in_any_order() {
    for poisoned_first in [true, false] {
        for limits in [(500, 64), (20, 1), (1_000_000, 1_000)] {
            let (died, notices) = partial_outage(50, 10, poisoned_first, limits);
            assert_eq!(died, 0, "poisoned first: {poisoned_first}, limits: {limits:?}");
            assert!(notices <= 2, "{notices}, poisoned first: {poisoned_first}, {limits:?}");
        }
    }
}
