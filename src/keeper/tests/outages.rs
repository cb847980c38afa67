//! Servers that are down or want quiet: what their tokens are spared, and what they are not.

use super::*;
use crate::outcome::Connection;

#[test]
fn a_failing_server_does_not_delay_another_servers_tokens() {
    let mut desk = Desk::new(1_000_000, 1);
    desk.tokens(5, None);
    let other =
        desk.keeper.add_server(Limits { rate_limit: number(1_000), max_in_flight: number(1) });
    let spec = TokenSpec { server: other, ..desk.spec(None) };
    let id = desk.keeper.add_token(spec, true, desk.now);
    desk.wake();
    assert!(desk.effects().iter().any(|(ticket, _)| ticket.token == id));
}

#[test]
fn a_wish_for_quiet_holds_for_every_token_of_the_server() {
    let mut desk = Desk::new(1_000_000, 1);
    desk.tokens(3, None);
    desk.wake();
    let (ticket, _) = desk.effects()[0];
    let retry_after = Duration::from_secs(3);
    desk.answer(ticket, Outcome::Throttled { retry_after, fault: Fault::new("429") });
    desk.advance(Duration::from_millis(2_999));
    assert_eq!(desk.effects().len(), 0);
    desk.advance(Duration::from_millis(1));
    assert_eq!(desk.effects().len(), 1);
}

#[test]
fn a_wish_for_quiet_past_a_bound_is_told_at_once_of_every_token_concerned() {
    let mut desk = Desk::new(1_000_000, 2);
    desk.tokens(2, None);
    desk.wake();
    for (ticket, _) in desk.effects() {
        desk.answer(ticket, alive(MINUTE));
    }
    desk.advance(Duration::from_secs(41));
    let (ticket, _) = desk.effects()[0];
    desk.out.clear();
    let fault = Fault::new("429");
    desk.answer(ticket, Outcome::Throttled { retry_after: MINUTE, fault });
    let warned = desk
        .out
        .iter()
        .filter(|output| matches!(output, Output::Token(_, Notice::Expiring { .. })));
    assert_eq!(warned.count(), 2);
}

#[test]
fn a_server_that_is_down_is_told_of_once_and_probed_one_at_a_time() {
    let mut desk = Desk::new(1_000_000, 10);
    desk.tokens(10, None);
    desk.wake();
    for (ticket, _) in desk.effects() {
        desk.answer(ticket, unavailable());
    }
    assert_eq!(desk.server_notices(), [down(10)]);
    assert_eq!(desk.effects().len(), 0);
    for _ in 0..20 {
        let probes = desk.next_effects();
        assert_eq!(probes.len(), 1);
        desk.answer(probes[0].0, unavailable());
    }
    assert_eq!(desk.server_notices().len(), 1);
}

#[test]
fn when_a_server_is_back_everybody_who_waited_follows() {
    let mut desk = Desk::new(1_000_000, 10);
    desk.tokens(10, None);
    desk.wake();
    for (ticket, _) in desk.effects() {
        desk.answer(ticket, unavailable());
    }
    let probes = desk.next_effects();
    assert_eq!(probes.len(), 1);
    desk.answer(probes[0].0, alive(MINUTE));
    assert_eq!(desk.effects().len(), 9);
    assert_eq!(desk.server_notices()[1..], [ServerNotice::Recovered { tokens: 10 }]);
}

#[test]
fn a_server_that_is_down_does_not_hurry_a_write_that_fails() {
    let (mut desk, _) = desk_of_the_dead(1, ReauthRoute::Hook, 20);
    let ticket = attempts(&mut desk)[0];
    end(&mut desk, ticket, Reauthenticated::NewValue { stored: false });
    let mut writes = 0;
    for _ in 0..20 {
        for (ticket, effect) in desk.effects() {
            match effect {
                Effect::Store { .. } => {
                    writes += 1;
                    let full = Err("disk full".into());
                    desk.keeper.stored(ticket, full, desk.now, &mut desk.out);
                }
                Effect::Ask { .. } | Effect::Reauth { .. } | Effect::Revoke { .. } => {
                    desk.answer(ticket, unavailable());
                }
            }
        }
    }
    assert_eq!(desk.server_notices(), [down(1)]);
    assert_eq!(writes, 1, "at one instant");
}

#[test]
fn probes_come_often_enough_for_the_shortest_life_that_waits() {
    let mut desk = Desk::new(1_000_000, 4);
    let start = desk.now;
    desk.tokens(4, None);
    desk.wake();
    let mut effects = desk.effects();
    let (short, _) = effects.remove(0);
    for (ticket, _) in effects {
        desk.answer(ticket, alive(Duration::from_secs(100)));
    }
    // Its check is due after 81 to 86 s, its bound comes after 105 s: the others' come first.
    desk.now = start + Duration::from_secs(45);
    desk.answer(short, alive(MINUTE));
    let mut probes = Vec::new();
    while desk.now < start + Duration::from_secs(97) {
        for (ticket, _) in desk.next_effects() {
            probes.push(desk.now);
            desk.answer(ticket, unavailable());
        }
    }
    probes.retain(|probe| *probe > start + Duration::from_secs(87));
    assert!(probes.len() >= 2, "{probes:?}");
    for pair in probes.windows(2) {
        assert!(pair[1].since(pair[0]) <= MINUTE / 20, "{probes:?}");
    }
}

#[test]
fn a_server_that_answers_one_token_well_is_no_outage_for_those_that_fail() {
    let mut desk = Desk::new(1_000, 100);
    let tokens = desk.tokens(4, None);
    let (healthy, poisoned) = (tokens[0], &tokens[1..]);
    desk.wake();
    let mut asked = 0;
    let mut recoveries = 0;
    let end = desk.now + MINUTE;
    while desk.now < end {
        for (ticket, _) in desk.effects() {
            if ticket.token == healthy {
                // So short a life that it shows again and again that the server is well.
                desk.answer(ticket, alive(Duration::from_millis(500)));
            } else {
                assert!(poisoned.contains(&ticket.token));
                asked += 1;
                desk.answer(ticket, unavailable());
            }
        }
        recoveries += desk.server_notices().len();
        desk.out.retain(|output| matches!(output, Output::Effect(..)));
        let next = desk.keeper.next_wake().expect("somebody waits").max(desk.now);
        desk.now = next.max(desk.now + Duration::from_millis(1));
        desk.wake();
    }
    assert!(recoveries <= 2, "one pair of notices at the most: {recoveries}");
    assert!(asked < 40, "{asked} requests in a minute for three tokens");
}

#[test]
fn dead_tokens_do_not_keep_an_outage_from_being_seen() {
    let mut desk = Desk::new(1_000_000, 10);
    desk.tokens(3, None);
    desk.wake();
    let calls = desk.effects();
    desk.answer(calls[0].0, alive(MINUTE));
    desk.answer(calls[1].0, alive(MINUTE));
    desk.answer(calls[2].0, expired());
    for _ in 0..20 {
        for (ticket, _) in desk.next_effects() {
            desk.answer(ticket, unavailable());
        }
    }
    assert_eq!(desk.server_notices(), [down(3)]);
}

#[test]
fn every_probe_uses_a_fresh_connection() {
    let mut desk = Desk::new(1_000_000, 10);
    desk.tokens(10, None);
    desk.wake();
    for (ticket, _) in desk.effects().into_iter().take(3) {
        desk.answer(ticket, unavailable());
    }
    desk.tokens(1, None);
    desk.wake();
    for _ in 0..20 {
        for (ticket, effect) in desk.next_effects() {
            let fresh = matches!(effect, Effect::Ask { connection: Connection::Fresh, .. });
            assert!(fresh, "{effect:?}");
            desk.answer(ticket, unavailable());
        }
    }
}

#[test]
fn a_server_that_is_down_is_probed_at_least_every_5_s_and_at_most_5_times_a_second() {
    for count in [1, 3, 40] {
        let mut desk = Desk::new(1_000_000, 100);
        desk.tokens(count, None);
        desk.wake();
        for (ticket, _) in desk.effects() {
            desk.answer(ticket, unavailable());
        }
        let mut last = desk.now;
        for _ in 0..200 {
            let probes = desk.next_effects();
            let gap = desk.now.since(last);
            assert!(gap >= Duration::from_millis(200), "{gap:?}");
            assert!(gap <= Duration::from_secs(5), "{gap:?}");
            assert_eq!(probes.len(), 1);
            desk.answer(probes[0].0, unavailable());
            last = desk.now;
        }
    }
}

/// A server that answers some tokens well and fails for `poisoned` others, from a cold start for
/// a minute. Returns how many of the healthy tokens, which live for 30 s, died, and how many
/// notices there were of the server.
fn partial_outage(
    poisoned: usize,
    healthy: usize,
    poisoned_first: bool,
    limits: (u32, u32),
) -> (usize, usize) {
    let mut desk = Desk::new(limits.0, limits.1);
    let ids = desk.tokens(poisoned + healthy, None);
    let is_healthy = |id: TokenId| {
        let at = ids.iter().position(|known| *known == id).expect("a token of ours");
        if poisoned_first { at >= poisoned } else { at < healthy }
    };
    let life = Duration::from_secs(30);
    let mut ends: std::collections::HashMap<_, _> =
        ids.iter().filter(|id| is_healthy(**id)).map(|id| (*id, desk.now + life)).collect();
    let end = desk.now + MINUTE;
    desk.wake();
    while desk.now < end {
        for (ticket, _) in desk.effects() {
            match ends.get_mut(&ticket.token) {
                Some(ends) if *ends > desk.now => {
                    *ends = desk.now + life;
                    desk.answer(ticket, alive(life));
                }
                Some(_) => desk.answer(ticket, expired()),
                None => desk.answer(ticket, unavailable()),
            }
        }
        let next = desk.keeper.next_wake().expect("a retry to come").max(desk.now);
        desk.now = next.max(desk.now + Duration::from_millis(1));
        desk.wake();
    }
    let died = ends.values().filter(|ends| **ends <= end).count();
    (died, desk.server_notices().len())
}

#[test]
fn healthy_tokens_live_beside_many_that_fail_whatever_their_order() {
    for poisoned_first in [true, false] {
        for limits in [(500, 64), (20, 1), (1_000_000, 1_000)] {
            let (died, notices) = partial_outage(50, 10, poisoned_first, limits);
            assert_eq!(died, 0, "poisoned first: {poisoned_first}, limits: {limits:?}");
            assert!(notices <= 2, "{notices}, poisoned first: {poisoned_first}, {limits:?}");
        }
    }
}
