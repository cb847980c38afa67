//! Memory use of tokens under load.

use super::*;

const COUNT: usize = 20_000;
const DAY: Duration = Duration::from_secs(86_400);

/// Many tokens that live for a day and are checked at `max_interval`, or as often as their server
/// permits.
fn fixture(max_interval: Duration, max_in_flight: u32) -> Fixture {
    let mut fixture = Fixture::new(1_000_000, max_in_flight);
    let mut spec = fixture.spec(None);
    let policy = Arc::make_mut(&mut spec.policy);
    policy.schedule.max_interval = max_interval;
    fixture.scheduler.reserve(COUNT);
    for _ in 0..COUNT {
        fixture.scheduler.add_token(spec.clone(), true, fixture.now);
    }
    fixture
}

/// Responds to `calls` checks, many at a time, each a second after it started.
fn answer(fixture: &mut Fixture, calls: usize) {
    let mut answered = 0;
    while answered < calls {
        let actions = fixture.actions();
        fixture.now = if actions.is_empty() {
            fixture.scheduler.next_wake().unwrap().max(fixture.now)
        } else {
            fixture.now + Duration::from_secs(1)
        };
        for (ticket, _) in actions {
            fixture.answer(ticket, alive(DAY));
            answered += 1;
        }
        fixture.wake();
    }
}

fn bytes_a_token(fixture: &Fixture) -> usize {
    fixture.scheduler.footprint() / COUNT
}

#[test]
fn frequent_checks_in_a_long_life_take_eight_more_bytes_per_token() {
    let mut fixture = fixture(5 * MINUTE, 64);
    answer(&mut fixture, COUNT);
    let before = bytes_a_token(&fixture);
    assert!(before < 46, "{before}");
    answer(&mut fixture, COUNT * 5);
    let after = bytes_a_token(&fixture);
    assert!(after <= before + 12, "{before}, then {after}");
}

#[test]
fn memory_of_a_long_wait_queue_is_released_afterwards() {
    let mut fixture = fixture(Duration::from_secs(1), 64);
    answer(&mut fixture, COUNT * 3);
    let in_the_crowd = bytes_a_token(&fixture);
    assert!(in_the_crowd < 80, "{in_the_crowd}");
    let mut spec = fixture.spec(None);
    Arc::make_mut(&mut spec.policy).schedule.max_interval = 60 * MINUTE;
    let ids: Vec<_> =
        (0..fixture.scheduler.key_limit()).filter_map(|key| fixture.scheduler.id_of(key)).collect();
    for id in ids {
        fixture.scheduler.change_token(id, spec.clone(), fixture.now);
    }
    answer(&mut fixture, COUNT);
    let after = bytes_a_token(&fixture);
    assert!(after < 54, "{in_the_crowd}, then {after}");
}
