//! Kills a process in the middle of a write.

use std::path::Path;
use std::time::Duration;

use inotify::{EventMask, Inotify, WatchMask};
use rustix::process::{Pid, Signal, kill_process};
use tokenkeep::clock::Stopwatch;

use crate::support::seconds;

/// Watches for changes in a folder, from now on.
pub(crate) fn watch(folder: &Path) -> Inotify {
    let changes = Inotify::init().expect("inotify");
    let mask = WatchMask::CREATE
        | WatchMask::MODIFY
        | WatchMask::CLOSE_WRITE
        | WatchMask::MOVED_FROM
        | WatchMask::MOVED_TO;
    changes.watches().add(folder, mask).expect("a watch");
    changes
}

/// Kills a process at the `nth` change in the folder, or after three seconds.
pub(crate) fn kill_at(pid: u32, mut changes: Inotify, nth: usize) {
    const AT_LATEST: Duration = seconds(3);
    let (began, mut seen, mut buffer) = (Stopwatch::start(), 0, [0; 4096]);
    while seen < nth && began.elapsed() < AT_LATEST {
        match changes.read_events(&mut buffer) {
            Ok(events) => seen += events.filter(|event| event.mask != EventMask::IGNORED).count(),
            // The next change may be the last before the end of what is to be interrupted.
            Err(_) => std::hint::spin_loop(),
        }
    }
    kill(pid);
}

pub(crate) fn kill(pid: u32) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process");
    kill_process(pid, Signal::KILL).expect("it runs");
}
