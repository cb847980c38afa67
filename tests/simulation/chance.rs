//! Chance from a seed: one stream for each thing that draws, so that what one of them draws
//! never changes what another one gets.

use std::time::Duration;

/// Virtual time, and spans of it, in milliseconds.
pub(crate) type Ms = u64;

pub(crate) const SECOND: Ms = 1_000;
pub(crate) const MINUTE: Ms = 60 * SECOND;
pub(crate) const HOUR: Ms = 60 * MINUTE;
pub(crate) const DAY: Ms = 24 * HOUR;

/// One stream of draws.
#[derive(Debug)]
pub(crate) struct Chance(fastrand::Rng);

impl Chance {
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        // An odd factor keeps streams of neighbouring seeds apart.
        Self(fastrand::Rng::with_seed(seed ^ (stream + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }

    pub(crate) fn seed(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// True in this share of all draws.
    pub(crate) fn odds(&mut self, share: f64) -> bool {
        self.0.f64() < share
    }

    /// A number from 0 (included) to 1 (excluded).
    pub(crate) fn share(&mut self) -> f64 {
        self.0.f64()
    }

    /// Any value of the range, both ends included, each as likely as the others.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.u64(low..=high.max(low))
    }

    /// Any value of the range, each order of magnitude as likely as the others.
    pub(crate) fn spread(&mut self, low: u64, high: u64) -> u64 {
        let (low, high) = (low.max(1), high.max(low).max(1));
        let ratio = Duration::from_millis(high).div_duration_f64(Duration::from_millis(low));
        times(low, ratio.powf(self.0.f64()))
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.0.usize(..from.len())]
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.0.usize(..len)
    }
}

/// `factor` times so many milliseconds, rounded down.
pub(crate) fn times(ms: Ms, factor: f64) -> Ms {
    whole(Duration::from_millis(ms).mul_f64(factor))
}

/// A duration in whole milliseconds.
pub(crate) fn whole(duration: Duration) -> Ms {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
