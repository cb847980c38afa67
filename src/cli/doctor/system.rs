//! Limits of the process and the clock.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, getrlimit};

use super::diagnosis::Diagnosis;
use crate::clock;
use crate::daemon::needed_descriptors;
use crate::settings::Settings;

/// Less may be the granularity of a file system's times, or another machine's clock.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// Descriptors against the requests that may be in flight.
pub(super) fn limits(settings: &Settings, diagnosis: &Diagnosis) {
    let needed = needed_descriptors(settings);
    // `None`: no limit. The daemon raises its soft limit to the hard one.
    let Some(limit) = getrlimit(Resource::Nofile).maximum else { return };
    if limit < needed {
        diagnosis.warning(format!(
            "the limit of {limit} open files is too low for the `max_in_flight` of all \
             servers and `max_hooks`: up to {needed} may be needed; set LimitNOFILE={needed} in the \
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
