use super::*;

fn second(_: u16) -> Duration {
    Duration::from_secs(1)
}

fn at(millis: u64) -> Moment {
    Moment::from_millis(millis)
}

/// A failure of a request that was started after every response so far.
fn fail(breaker: &mut CircuitBreaker, token: u32, asked: usize) -> BreakerChange {
    let serial = breaker.responded_at + 1;
    let failure = CheckFailure {
        token,
        serial,
        is_probe: breaker.is_open(),
        is_proven: true,
        is_asked: true,
        asked,
    };
    breaker.on_failure(failure, at(0), second)
}

fn respond(breaker: &mut CircuitBreaker, token: u32) -> BreakerChange {
    let serial = breaker.responded_at + 1;
    breaker.on_response(token, serial)
}

fn opened() -> CircuitBreaker {
    let mut breaker = CircuitBreaker::default();
    (0..3).for_each(|token| drop(fail(&mut breaker, token, 10)));
    assert!(breaker.is_open());
    breaker
}

#[test]
fn three_distinct_tokens_open_it() {
    let mut breaker = CircuitBreaker::default();
    let changes = [7, 7, 8, 8, 9].map(|token| fail(&mut breaker, token, 10));
    assert_eq!(
        changes.map(|change| change == BreakerChange::Opened),
        [false, false, false, false, true]
    );
}

#[test]
fn server_with_fewer_checked_tokens_opens_when_all_fail() {
    assert_eq!(fail(&mut CircuitBreaker::default(), 7, 1), BreakerChange::Opened);
    assert_eq!(fail(&mut CircuitBreaker::default(), 7, 0), BreakerChange::Opened, "a login");
    assert_eq!(fail(&mut CircuitBreaker::default(), 7, 2), BreakerChange::None);
}

#[test]
fn response_in_between_restarts_the_count() {
    let mut breaker = CircuitBreaker::default();
    fail(&mut breaker, 1, 10);
    fail(&mut breaker, 2, 10);
    assert_eq!(respond(&mut breaker, 5), BreakerChange::RetryFailed(vec![1, 2]));
    assert_eq!(fail(&mut breaker, 3, 10), BreakerChange::None);
}

#[test]
fn requests_started_before_the_last_response_do_not_open_it() {
    let mut breaker = CircuitBreaker::default();
    breaker.on_response(9, 20);
    for token in 0..5 {
        let failure = CheckFailure {
            token,
            serial: 20,
            is_probe: false,
            is_proven: true,
            is_asked: true,
            asked: 10,
        };
        assert_eq!(breaker.on_failure(failure, at(0), second), BreakerChange::None);
    }
    assert!(!breaker.has_own_failures(0), "there was no response since it failed");
    assert_eq!([0, 1, 2].map(|token| fail(&mut breaker, token, 10))[2], BreakerChange::Opened);
}

#[test]
fn token_that_fails_again_after_a_response_to_another_has_failures_of_its_own() {
    let mut breaker = CircuitBreaker::default();
    for _ in 0..5 {
        for token in 0..5 {
            fail(&mut breaker, token, 10);
        }
        respond(&mut breaker, 9);
    }
    assert!((0..5).all(|token| breaker.has_own_failures(token)));
    assert!((0..5).all(|token| fail(&mut breaker, token, 10) == BreakerChange::None));
    respond(&mut breaker, 0);
    assert!(!breaker.has_own_failures(0) && breaker.has_own_failures(1));
}

#[test]
fn failure_of_the_last_token_without_own_failures_opens_it() {
    let mut breaker = CircuitBreaker::default();
    for _ in 0..2 {
        fail(&mut breaker, 1, 2);
        respond(&mut breaker, 2);
    }
    assert!(fail(&mut breaker, 1, 2) == BreakerChange::None && breaker.has_own_failures(1));
    assert_eq!(fail(&mut breaker, 2, 2), BreakerChange::Opened);
}

#[test]
fn tokens_without_any_response_do_not_open_it_if_others_had_one() {
    let mut breaker = CircuitBreaker::default();
    respond(&mut breaker, 0);
    let mut fail = |token| {
        let (serial, asked) = (breaker.responded_at + 1, 1_000);
        let failure = CheckFailure {
            token,
            serial,
            is_probe: false,
            is_proven: false,
            is_asked: true,
            asked,
        };
        breaker.on_failure(failure, at(0), second)
    };
    assert!((1..64).all(|token| fail(token) == BreakerChange::None));
    assert_eq!(fail(64), BreakerChange::Opened);
}

#[test]
fn failed_logins_do_not_open_it_while_other_tokens_are_checked() {
    for (asked, change) in [(1, BreakerChange::None), (0, BreakerChange::Opened)] {
        let mut breaker = CircuitBreaker::default();
        let failure = CheckFailure {
            token: 7,
            serial: 1,
            is_probe: false,
            is_proven: true,
            is_asked: false,
            asked,
        };
        assert_eq!(breaker.on_failure(failure, at(0), second), change, "{asked}");
    }
}

#[test]
fn failures_open_it_if_only_tokens_with_own_failures_are_left() {
    let mut breaker = CircuitBreaker::default();
    for _ in 0..2 {
        (1..3).for_each(|token| drop(fail(&mut breaker, token, 9)));
        respond(&mut breaker, 3);
    }
    assert_eq!(fail(&mut breaker, 1, 9), BreakerChange::None);
    assert_eq!(fail(&mut breaker, 1, 2), BreakerChange::Opened, "the others are gone");
    assert!(!breaker.has_own_failures(2));
}

#[test]
fn cancelled_probe_keeps_the_gap_to_the_next_one() {
    let mut breaker = opened();
    breaker.on_request(4, at(1_000));
    breaker.on_probe_cancelled();
    assert_eq!(breaker.opens_at(), Some(at(1_200)));
}

#[test]
fn open_breaker_admits_one_probe_at_a_time() {
    let mut breaker = opened();
    assert_eq!(breaker.opens_at(), Some(at(1_000)));
    assert!(breaker.on_request(4, at(0)));
    assert_eq!(breaker.opens_at(), None);
    fail(&mut breaker, 4, 10);
    assert_eq!(breaker.opens_at(), Some(at(1_000)));
    assert!(breaker.has_failed(4) && !breaker.has_failed(5));
}

#[test]
fn gap_between_probes_is_200_ms_to_5_s() {
    for (gap, next) in [(0, 200), (3_600_000, 5_000)] {
        let mut breaker = opened();
        breaker.on_request(0, at(0));
        let failure = CheckFailure {
            token: 0,
            serial: 9,
            is_probe: true,
            is_proven: true,
            is_asked: true,
            asked: 10,
        };
        breaker.on_failure(failure, at(0), |_| Duration::from_millis(gap));
        assert_eq!(breaker.opens_at(), Some(at(next)));
    }
}

#[test]
fn near_expiry_expedites_the_next_probe() {
    let mut breaker = opened();
    breaker.expedite(0, at(100), Duration::from_millis(400));
    assert_eq!(breaker.opens_at(), Some(at(500)));
    breaker.expedite(0, at(100), Duration::from_millis(10));
    assert_eq!(breaker.opens_at(), Some(at(200)));
}

#[test]
fn token_without_a_failure_in_this_outage_is_probed_at_the_shortest_gap() {
    let mut breaker = opened();
    breaker.expedite(7, at(0), Duration::from_secs(60));
    assert_eq!(breaker.opens_at(), Some(at(200)));
}

#[test]
fn quick_probes_per_outage_are_limited() {
    let mut breaker = opened();
    for token in 10..9 + u32::from(QUICK_PROBES) {
        assert!(breaker.is_quick());
        breaker.on_request(token, at(0));
        fail(&mut breaker, token, 1_000);
    }
    breaker.expedite(7, at(0), Duration::from_secs(60));
    assert_eq!(breaker.opens_at(), Some(at(1_000)));
}

#[test]
fn results_of_requests_before_the_outage_are_no_probes() {
    let mut breaker = opened();
    breaker.on_request(4, at(0));
    let failure = CheckFailure {
        token: 5,
        serial: 9,
        is_probe: false,
        is_proven: true,
        is_asked: true,
        asked: 10,
    };
    breaker.on_failure(failure, at(1_200), second);
    assert_eq!(breaker.opens_at(), None);
}

#[test]
fn any_response_closes_it() {
    assert_eq!(respond(&mut opened(), 9), BreakerChange::Closed);
}
