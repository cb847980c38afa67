//! `[schedule]`, which may occur in three places. For each key, the nearest one counts.

use std::time::Duration;

use crate::lifecycle::{Fraction, Schedule, ScheduleError};

use super::super::finding::{ConfigErrorKind, WarningKind};
use super::super::key_positions::join;
use super::super::raw::{Raw, RawSchedule, RawServer};
use super::{ScheduleLevel, Validator, duration_or};
use crate::duration;

/// Above this fraction, less than a tenth of a token's life is left for retries.
const LATE: f64 = 0.9;

impl Validator<'_> {
    /// The schedule of a server's tokens that have none of their own.
    pub(super) fn server_schedule(
        &mut self,
        name: &str,
        server: &RawServer,
        raw: &Raw,
        general: Schedule,
    ) -> Schedule {
        let Some(own) = &server.schedule else { return general };
        let path = schedule_path("server", name);
        self.schedule(&[(&path, own), ("schedule", &raw.schedule)], general)
    }

    /// Combines `levels`, nearest first. Reports errors of the nearest level. Errors of other
    /// levels have been reported before; `fallback` is used instead.
    pub(super) fn schedule(
        &mut self,
        levels: &[ScheduleLevel<'_>],
        fallback: Schedule,
    ) -> Schedule {
        self.warn_late_check(levels[0]);
        let default = Schedule::default();
        let share = |of: fn(&RawSchedule) -> Option<f64>, default| {
            let number = levels.iter().find_map(|(_, level)| of(level));
            number.and_then(|number| Fraction::try_new(number).ok()).unwrap_or(default)
        };
        let time = |of: fn(&RawSchedule) -> Option<&str>, default| {
            duration_or(levels.iter().find_map(|(_, level)| of(level)), default)
        };
        let check_after = share(|level| level.check_after, default.check_after);
        let jitter = share(|level| level.jitter, default.jitter);
        let mut intervals = (
            time(|level| level.min_interval.as_deref(), default.min_interval),
            time(|level| level.max_interval.as_deref(), default.max_interval),
        );
        let mut retries = (
            time(|level| level.retry_initial.as_deref(), default.retry_initial),
            time(|level| level.retry_max.as_deref(), default.retry_max),
        );
        // Each iteration removes one error, so the loop ends.
        loop {
            match Schedule::try_new(check_after, jitter, intervals, retries) {
                Ok(schedule) => return schedule,
                Err(ScheduleError::MaxInterval) => {
                    self.report_inverted_range(
                        levels[0],
                        ("min_interval", "max_interval"),
                        intervals,
                    );
                    intervals.1 = intervals.0;
                }
                Err(ScheduleError::RetryMax) => {
                    self.report_inverted_range(levels[0], ("retry_initial", "retry_max"), retries);
                    retries.1 = retries.0;
                }
                Err(
                    error @ (ScheduleError::CheckAfter
                    | ScheduleError::MinInterval
                    | ScheduleError::RetryInitial),
                ) => {
                    let position = self.table_position(levels[0].0);
                    let remedy = "choose another value";
                    self.collector.error(
                        position,
                        ConfigErrorKind::BadValue,
                        error.to_string(),
                        remedy,
                    );
                    return fallback;
                }
            }
        }
    }

    /// Reports a maximum below its minimum, if the nearest level contains one of the two.
    fn report_inverted_range(
        &mut self,
        (table, _): ScheduleLevel<'_>,
        (min, max): (&str, &str),
        values: (Duration, Duration),
    ) {
        let Some(key) = [max, min].into_iter().find(|key| self.is_present(table, key)) else {
            return;
        };
        let origin = |key: &str| {
            if self.is_present(table, key) { "" } else { " from another file or by default" }
        };
        let message = format!(
            "in [{table}] `{max}` ({}{}) is less than `{min}` ({}{})",
            duration::show(values.1),
            origin(max),
            duration::show(values.0),
            origin(min),
        );
        let remedy = format!("raise `{max}` or lower `{min}`");
        self.error((table, key), ConfigErrorKind::Conflict, message, remedy);
    }

    fn warn_late_check(&mut self, (table, schedule): ScheduleLevel<'_>) {
        if schedule.check_after.is_some_and(|share| share > LATE) {
            self.warning(
                (table, "check_after"),
                WarningKind::LittleRetryRoom,
                format!(
                    "`{}` leaves little time for retries before a token expires",
                    join(table, "check_after")
                ),
                "choose 0.67, or at most 0.9",
            );
        }
    }
}

/// The path of the schedule of `[section.name]`.
pub(super) fn schedule_path(section: &str, name: &str) -> String {
    join(&join(section, name), "schedule")
}
