//! How much of the CPU's time goes to those who only look: a share of it in the long run, however
//! many they are and however often they ask.

use std::time::Duration;

use crate::time::Moment;

/// Looking takes one part of the time in so many.
const PARTS: u32 = 4;

/// What may be looked in advance, after a while without: enough for somebody who searches a
/// million tokens by name now and then never to wait.
const ADVANCE: Duration = Duration::from_millis(100);

/// The account of the time that looking has taken.
#[derive(Debug, Default)]
pub(crate) struct Leisure {
    /// Until then, by the daemon's clock, what was taken so far is more than the share.
    even: Duration,
}

impl Leisure {
    /// Somebody has looked until `now`, for so much of the CPU's time.
    pub(crate) fn spend(&mut self, now: Moment, time: Duration) {
        self.even = self.even.max(since_origin(now)) + time * PARTS;
    }

    /// How long there is to be no looking from `now` on.
    pub(crate) fn pause(&self, now: Moment) -> Duration {
        self.even.saturating_sub(since_origin(now) + ADVANCE * PARTS)
    }
}

fn since_origin(moment: Moment) -> Duration {
    Duration::from_millis(moment.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: Duration = Duration::from_micros(300);

    /// Looks whenever it may for so long from `from` on; the time that was spent.
    fn look(leisure: &mut Leisure, from: Moment, time: Duration) -> Duration {
        let (mut spent, mut now) = (Duration::ZERO, since_origin(from));
        let until = now + time;
        while now < until {
            let moment = Moment::from_millis(now.as_millis().try_into().unwrap());
            let pause = leisure.pause(moment);
            if pause.is_zero() {
                leisure.spend(moment, SLICE);
                spent += SLICE;
            }
            now += pause.max(SLICE);
        }
        spent
    }

    #[test]
    fn who_looks_now_and_then_never_waits() {
        let mut leisure = Leisure::default();
        for second in 100..200 {
            for _ in 0..100 {
                let now = Moment::from_millis(second * 1_000);
                assert_eq!(leisure.pause(now), Duration::ZERO);
                leisure.spend(now, SLICE);
            }
        }
    }

    #[test]
    fn who_looks_all_the_time_gets_a_quarter_of_it() {
        let mut leisure = Leisure::default();
        let (from, minute) = (Moment::from_millis(7_000_000), Duration::from_secs(60));
        let spent = look(&mut leisure, from, minute);
        assert!(spent >= minute / PARTS && spent <= minute / PARTS + ADVANCE * 2, "{spent:?}");
    }

    #[test]
    fn a_long_time_without_a_look_is_not_saved_up() {
        let mut leisure = Leisure::default();
        look(&mut leisure, Moment::from_millis(1_000), Duration::from_secs(10));
        let second = Duration::from_secs(1);
        let spent = look(&mut leisure, Moment::from_millis(90_000_000), second);
        assert!(spent <= second / PARTS + ADVANCE * 2, "{spent:?}");
    }
}
