//! Limits of the process and the clock.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, getrlimit};

use super::diagnosis::Diagnosis;
use crate::clock;
use crate::settings::Settings;

/// Descriptors beside those of requests: standard streams, log, database, watches, listeners and
/// clients of the control socket.
const BASE: u64 = 128;
/// Descriptors of a running command: two ends of a pipe and a process.
const PER_HOOK: u64 = 4;
/// Less may be the granularity of a file system's times, or another machine's clock.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// Descriptors against the requests that may be in flight.
pub(super) fn limits(settings: &Settings, diagnosis: &Diagnosis) {
    let in_flight: u64 =
        settings.servers.iter().map(|server| u64::from(server.max_in_flight.get())).sum();
    let needed = BASE + in_flight + PER_HOOK * u64::from(settings.max_hooks.get());
    // `None`: no limit. The daemon raises its soft limit to the hard one.
    let Some(limit) = getrlimit(Resource::Nofile).maximum else { return };
    if limit < needed {
        diagnosis.warning(format!(
            "the limit of {limit} open files is too low for `max_in_flight` of all servers \
             together ({in_flight}): up to {needed} may be needed; set LimitNOFILE={needed} in the \
             unit, or lower `max_in_flight` (this is the limit of this shell; the unit's may differ)"
        ));
    }
}

/// The clock against the times of files that exist.
pub(super) fn clock(files: &[PathBuf], diagnosis: &Diagnosis) {
    let now = SystemTime::from(clock::wall_clock());
    let own = std::env::current_exe().ok();
    let newest = files.iter().chain(own.as_ref()).filter_map(|file| {
        let modified = std::fs::metadata(file).ok()?.modified().ok()?;
        modified.duration_since(now).ok().filter(|ahead| *ahead > CLOCK_TOLERANCE)?;
        Some((modified, file))
    });
    let Some((_, file)) = newest.max() else { return };
    diagnosis.error(format!(
        "the clock of this machine is wrong: it is {}, but {} is from the future; certificates \
         may be refused as not yet valid: set the clock (`timedatectl set-ntp true`)",
        clock::wall_clock().strftime("%Y-%m-%dT%H:%M:%SZ"),
        file.display()
    ));
}
