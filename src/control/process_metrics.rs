//! Metrics of the process itself, under the names that all Prometheus client libraries use.

use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use crate::clock;
use crate::time::Moment;

/// What the kernel says about this process.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ProcessStat {
    cpu_seconds: f64,
    /// From the boot of the machine to the start of the process.
    started: Duration,
    virtual_bytes: u64,
    resident_bytes: u64,
}

impl ProcessStat {
    /// Parses `/proc/self/stat`; see `proc_pid_stat(5)`.
    fn parse(stat: &str, ticks_per_second: u64, page_bytes: u64) -> Option<Self> {
        // The second field, a name in parentheses, may contain anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // Field 3 is the first one here.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let milliseconds = |ticks: u64| ticks.saturating_mul(1_000) / ticks_per_second.max(1);
        let cpu = Duration::from_millis(milliseconds(field(14)? + field(15)?));
        Some(Self {
            cpu_seconds: cpu.as_secs_f64(),
            started: Duration::from_millis(milliseconds(field(22)?)),
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page_bytes,
        })
    }
}

/// The metrics of this process, as far as the system tells them. Reads `/proc`.
pub(super) fn read() -> Registry {
    let mut registry = Registry::with_prefix("process");
    let stat = fs::read_to_string("/proc/self/stat").ok().and_then(|text| {
        ProcessStat::parse(&text, clock_ticks_per_second(), u64::try_from(page_size()).ok()?)
    });
    if let Some(stat) = stat {
        register_stat(&mut registry, &stat);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory that is being read.
        let open = u64::try_from(open.count().saturating_sub(1)).unwrap_or(u64::MAX);
        registry.register("open_fds", "Number of open file descriptors", ConstGauge::new(open));
    }
    if let Some(limit) = getrlimit(Resource::Nofile).current {
        let help = "Maximum number of open file descriptors";
        registry.register("max_fds", help, ConstGauge::new(limit));
    }
    registry
}

fn register_stat(registry: &mut Registry, stat: &ProcessStat) {
    registry.register_with_unit(
        "cpu",
        "Total user and system CPU time spent in seconds",
        Unit::Seconds,
        ConstCounter::new(stat.cpu_seconds),
    );
    registry.register_with_unit(
        "resident_memory",
        "Resident memory size in bytes",
        Unit::Bytes,
        ConstGauge::new(stat.resident_bytes),
    );
    registry.register_with_unit(
        "virtual_memory",
        "Virtual memory size in bytes",
        Unit::Bytes,
        ConstGauge::new(stat.virtual_bytes),
    );
    registry.register_with_unit(
        "start_time",
        "Start time of the process since the Unix epoch in seconds",
        Unit::Seconds,
        ConstGauge::new(start_time(stat.started)),
    );
}

/// The Unix time of the start. Computed once: scrapers take another value for a restart.
fn start_time(started: Duration) -> f64 {
    static START: OnceLock<f64> = OnceLock::new();
    *START.get_or_init(|| {
        let age = clock::now().since(Moment::default() + started);
        let wall =
            Duration::from_millis(clock::wall_clock().as_millisecond().max(0).unsigned_abs());
        wall.saturating_sub(age).as_secs_f64()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_parsed_whatever_the_program_is_called() {
        let stat = "812 (a) b (c) S 1 812 812 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 6 0 12345 \
                    1000000 256 18446744073709551615 1 1 0 0";
        let parsed = ProcessStat::parse(stat, 100, 4_096);
        let expected = ProcessStat {
            cpu_seconds: 2.0,
            started: Duration::from_millis(123_450),
            virtual_bytes: 1_000_000,
            resident_bytes: 1_048_576,
        };
        assert_eq!(parsed, Some(expected));
        assert_eq!(ProcessStat::parse("812 (a) S 1", 100, 4_096), None);
    }

    #[test]
    fn this_process_started_before_now_and_uses_memory() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let stat = ProcessStat::parse(&stat, clock_ticks_per_second(), 4_096).unwrap();
        assert!(stat.started <= Duration::from_millis(clock::now().as_millis()));
        assert!(stat.resident_bytes > 0 && stat.virtual_bytes > stat.resident_bytes);
    }
}
