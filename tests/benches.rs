//! Rules of the benchmarks that can be tested without measuring.

#[path = "../benches/speed/repeats.rs"]
mod repeats;

use repeats::Repeats;

fn repeats(values: [f64; 5]) -> Repeats {
    let mut repeats = Repeats::default();
    assert!(repeats.is_empty());
    for value in values {
        repeats.add(value);
    }
    repeats
}

#[test]
fn ratio_is_that_of_the_medians_in_any_order_of_the_repeats() {
    let ratio =
        repeats([20.2, 19.0, 20.0, 21.0, 19.5]).ratio_to(&repeats([9.9, 10.3, 10.0, 9.8, 10.1]));
    assert_eq!(ratio, Ok(2.0));
}

#[test]
fn one_disturbed_repeat_on_either_end_does_not_prevent_a_ratio() {
    let steady = repeats([10.0; 5]);
    for disturbed in [[10.0, 10.0, 10.0, 10.0, 90.0], [10.0, 10.0, 10.0, 10.0, 0.1]] {
        assert_eq!(repeats(disturbed).ratio_to(&steady), Ok(1.0));
        assert_eq!(steady.ratio_to(&repeats(disturbed)), Ok(1.0));
    }
}

#[test]
fn repeats_that_vary_by_more_than_fifteen_percent_on_either_side_prevent_a_ratio() {
    let steady = repeats([10.0; 5]);
    assert_eq!(repeats([10.0, 10.0, 10.0, 11.5, 20.0]).ratio_to(&steady), Ok(1.0));
    let varied = repeats([10.0, 10.0, 10.0, 11.6, 20.0]);
    let spread = varied.spread();
    assert!((spread - 0.16).abs() < 1e-9, "{spread}");
    assert_eq!(varied.ratio_to(&steady), Err([spread, 0.0]));
    assert_eq!(steady.ratio_to(&varied), Err([0.0, spread]));
}

#[test]
fn two_disturbed_repeats_on_different_ends_count() {
    let varied = repeats([4.0, 10.0, 10.0, 10.0, 17.0]);
    assert!((varied.spread() - 0.6).abs() < 1e-9);
}
