//! Summary of one minute of checks: counters and histograms of constant size.
//!
//! Pure. The rate limiter decides whether a summary is written.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::time::whole_millis;

/// Upper bound of the histograms: one day. Longer times count as one day.
const MAX_MS: u64 = 86_400_000;

/// Significant digits of a percentile: an error of 1%, at 10 KB for each histogram.
const DIGITS: u8 = 2;

/// One completed check.
#[derive(Debug, Clone, Copy)]
pub struct CompletedCheck {
    /// Time from its due time until the request was started.
    pub lateness: Duration,
    /// The token's remaining life at that time; `None` if unknown.
    pub life_left: Option<Duration>,
    /// Whether the check failed.
    pub failed: bool,
}

/// The fields of a summary line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SummaryFields {
    pub(super) checks: u64,
    pub(super) failures: u64,
    pub(super) lateness_p50_ms: u64,
    pub(super) lateness_p99_ms: u64,
    pub(super) lateness_max_ms: u64,
    /// First percentile of the remaining life.
    pub(super) life_left_p1_ms: Option<u64>,
}

/// Counts the checks since the last summary.
#[derive(Debug)]
pub(super) struct CheckSummary {
    failures: u64,
    lateness: Histogram<u32>,
    lateness_max_ms: u64,
    life_left: Histogram<u32>,
}

impl CheckSummary {
    pub(super) fn new() -> Self {
        Self { failures: 0, lateness: histogram(), lateness_max_ms: 0, life_left: histogram() }
    }

    pub(super) fn add(&mut self, end: &CompletedCheck) {
        let lateness_ms = whole_millis(end.lateness);
        self.failures += u64::from(end.failed);
        self.lateness.saturating_record(lateness_ms);
        self.lateness_max_ms = self.lateness_max_ms.max(lateness_ms);
        if let Some(left) = end.life_left {
            self.life_left.saturating_record(whole_millis(left));
        }
    }

    /// Returns the fields, and resets the counters.
    pub(super) fn take(&mut self) -> SummaryFields {
        let checks = self.lateness.len();
        // A percentile is the upper bound of its histogram bucket.
        let late = |quantile| self.lateness.value_at_quantile(quantile).min(self.lateness_max_ms);
        let fields = SummaryFields {
            checks,
            failures: self.failures,
            lateness_p50_ms: late(0.50),
            lateness_p99_ms: late(0.99),
            lateness_max_ms: self.lateness_max_ms,
            life_left_p1_ms: (!self.life_left.is_empty())
                .then(|| self.life_left.value_at_quantile(0.01)),
        };
        self.failures = 0;
        self.lateness_max_ms = 0;
        self.lateness.reset();
        self.life_left.reset();
        fields
    }
}

fn histogram() -> Histogram<u32> {
    Histogram::new_with_max(MAX_MS, DIGITS).expect("the bounds are fixed and in order")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(lateness_ms: u64, left_ms: Option<u64>, failed: bool) -> CompletedCheck {
        let life_left = left_ms.map(Duration::from_millis);
        CompletedCheck { lateness: Duration::from_millis(lateness_ms), life_left, failed }
    }

    #[test]
    fn percentiles_are_accurate_to_one_percent_and_the_maximum_is_exact() {
        let mut summary = CheckSummary::new();
        for n in 1..=300_000 {
            summary.add(&end(n, Some(2 * n), n % 1_000 == 0));
        }
        let fields = summary.take();
        let near = |value: u64, wanted: u64| value.abs_diff(wanted) * 100 <= wanted;
        assert_eq!((fields.checks, fields.failures), (300_000, 300));
        assert!(near(fields.lateness_p50_ms, 150_000), "{fields:?}");
        assert!(near(fields.lateness_p99_ms, 297_000), "{fields:?}");
        assert_eq!(fields.lateness_max_ms, 300_000);
        assert!(near(fields.life_left_p1_ms.unwrap(), 6_000), "{fields:?}");
    }

    #[test]
    fn no_percentile_is_above_the_maximum() {
        let mut summary = CheckSummary::new();
        summary.add(&end(1_001, None, false));
        let fields = summary.take();
        assert_eq!([fields.lateness_p50_ms, fields.lateness_p99_ms], [1_001, 1_001]);
    }

    #[test]
    fn the_remaining_life_is_omitted_if_it_is_unknown() {
        let mut summary = CheckSummary::new();
        summary.add(&end(0, None, false));
        assert_eq!(summary.take().life_left_p1_ms, None);
    }

    #[test]
    fn taking_a_summary_resets_the_counters() {
        let mut summary = CheckSummary::new();
        summary.add(&end(50, Some(10), true));
        summary.take();
        summary.add(&end(2, Some(70), false));
        let fields = summary.take();
        assert_eq!((fields.checks, fields.failures, fields.lateness_max_ms), (1, 0, 2));
        assert_eq!(fields.life_left_p1_ms, Some(70));
    }

    #[test]
    fn times_beyond_a_day_count_as_one_day() {
        let mut summary = CheckSummary::new();
        summary.add(&end(u64::MAX, Some(u64::MAX), false));
        assert_eq!(summary.take().checks, 1);
    }
}
