//! How much memory tokens take up, whatever they do at the time.

use super::*;

const COUNT: usize = 20_000;
const DAY: Duration = Duration::from_secs(86_400);

/// A desk with many tokens that are asked about every so often, or as often as its server
/// takes, and each of which lives for a day.
fn desk(max_interval: Duration, max_in_flight: u32) -> Desk {
    let mut desk = Desk::new(1_000_000, max_in_flight);
    let mut spec = desk.spec(None);
    let policy = Arc::make_mut(&mut spec.policy);
    policy.schedule.max_interval = max_interval;
    desk.keeper.expect_tokens(COUNT);
    for _ in 0..COUNT {
        desk.keeper.add_token(spec.clone(), true, desk.now);
    }
    desk
}

/// Answers so many calls, a crowd at a time, each a second after it began.
fn answer(desk: &mut Desk, calls: usize) {
    let mut answered = 0;
    while answered < calls {
        let effects = desk.effects();
        desk.now = if effects.is_empty() {
            desk.keeper.next_wake().unwrap().max(desk.now)
        } else {
            desk.now + Duration::from_secs(1)
        };
        for (ticket, _) in effects {
            desk.answer(ticket, alive(DAY));
            answered += 1;
        }
        desk.wake();
    }
}

fn bytes_a_token(desk: &Desk) -> usize {
    desk.keeper.footprint() / COUNT
}

#[test]
fn checks_that_come_often_in_a_long_life_take_eight_bytes_more_for_each_token() {
    let mut desk = desk(5 * MINUTE, 64);
    answer(&mut desk, COUNT);
    let before = bytes_a_token(&desk);
    assert!(before < 46, "{before}");
    answer(&mut desk, COUNT * 5);
    let after = bytes_a_token(&desk);
    assert!(after <= before + 12, "{before}, then {after}");
}

#[test]
fn what_a_crowd_that_always_waits_took_is_given_back_when_it_has_passed() {
    let mut desk = desk(Duration::from_secs(1), 64);
    answer(&mut desk, COUNT * 3);
    let in_the_crowd = bytes_a_token(&desk);
    assert!(in_the_crowd < 80, "{in_the_crowd}");
    let mut spec = desk.spec(None);
    Arc::make_mut(&mut spec.policy).schedule.max_interval = 60 * MINUTE;
    let ids: Vec<_> = (0..desk.keeper.numbers()).filter_map(|key| desk.keeper.id_of(key)).collect();
    for id in ids {
        desk.keeper.change_token(id, spec.clone(), desk.now, &mut desk.out);
    }
    answer(&mut desk, COUNT);
    let after = bytes_a_token(&desk);
    assert!(after < 54, "{in_the_crowd}, then {after}");
}
