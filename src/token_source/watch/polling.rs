//! Compares files and directories on a separate thread, where inotify is not reliable and at each
//! check of a token. One pass serves all files of a device, so that a disk that hangs delays only
//! its own files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::directory::{Stamps, WatchedDirectory};
use super::directory_watches::PolledNames;
use super::route::DirectoryState;
use super::watched_file::links;
use super::{POLL_INTERVAL, Watcher};
use crate::clock::Stopwatch;
use crate::file::FileStamp;
use crate::token_source::symlinks::parent;

/// Minimum ratio of the pause to the duration of the pass before it. Comparing a million files
/// takes seconds; this limits polling to a twentieth of a core.
const MIN_PAUSE_PER_PASS: u32 = 20;

/// Device of a directory that was not seen yet, or may be on another device now.
const UNKNOWN_DEVICE: u64 = 0;

/// The paths that one pass examines.
#[derive(Debug, Default)]
pub(super) struct PollPass {
    pub(super) directories: Vec<PathBuf>,
    pub(super) files: Vec<(u32, PathBuf)>,
    pub(super) listings: Vec<(u32, PathBuf, PolledNames)>,
}

/// The passes by device.
type Passes = BTreeMap<u64, PollPass>;

/// The result of one pass.
#[derive(Debug, Default)]
pub(super) struct PollResult {
    pub(super) device: u64,
    pub(super) took: Duration,
    pub(super) directories: Vec<(PathBuf, Option<DirectoryState>)>,
    pub(super) files: Vec<PolledFile>,
    pub(super) listings: Vec<(u32, PathBuf, Stamps)>,
}

/// The result for one file.
#[derive(Debug)]
pub(super) struct PolledFile {
    pub(super) key: u32,
    pub(super) path: PathBuf,
    pub(super) links: Vec<PathBuf>,
    pub(super) stamp: Option<FileStamp>,
}

impl PollPass {
    /// Examines all paths. Blocks as long as the disk does.
    pub(super) fn run(self, device: u64) -> PollResult {
        let watch = Stopwatch::start();
        let directories = self.directories.into_iter().map(|path| {
            let location = DirectoryState::of(&path);
            (path, location)
        });
        let files = self.files.into_iter().map(|(key, path)| {
            let (links, stamp) = stat_file(&path);
            PolledFile { key, path, links, stamp }
        });
        let listings = self.listings.into_iter().map(|(key, path, part)| {
            let stamps = stamps(&path, &part);
            (key, path, stamps)
        });
        PollResult {
            device,
            directories: directories.collect(),
            files: files.collect(),
            listings: listings.collect(),
            took: watch.elapsed(),
        }
    }
}

/// Stamp of the file at `path`, and its symbolic links. One system call for a plain file.
fn stat_file(path: &Path) -> (Vec<PathBuf>, Option<FileStamp>) {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => (links(path), FileStamp::of(path)),
        Ok(metadata) => (Vec::new(), Some(FileStamp::from(&metadata))),
        Err(_) => (Vec::new(), None),
    }
}

/// Stamps of these files in the directory at `path`.
fn stamps(path: &Path, part: &PolledNames) -> Stamps {
    let names: Vec<OsString> = match part {
        PolledNames::Names(names) => names.iter().cloned().collect(),
        PolledNames::All => {
            let entries = fs::read_dir(path).into_iter().flatten();
            entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect()
        }
    };
    let stamped = names.into_iter().filter_map(|name| {
        let stamp = FileStamp::of(&path.join(&name))?;
        Some((name, stamp))
    });
    stamped.collect()
}

impl Watcher {
    /// Starts the scheduled comparisons.
    pub(super) fn start_comparisons(&mut self) {
        let mut passes = Passes::new();
        for key in self.checks.keys() {
            self.add_file(&mut passes, *key);
        }
        self.start_passes(passes);
    }

    /// Starts a pass over everything that inotify does not report.
    pub(super) fn start_poll(&mut self) {
        let mut passes = Passes::new();
        for path in self.watches.polled() {
            passes.entry(self.watches.device(path)).or_default().directories.push(path.clone());
        }
        if !self.moved.is_empty() && !self.busy.contains(&UNKNOWN_DEVICE) {
            passes.entry(UNKNOWN_DEVICE).or_default().directories.append(&mut self.moved);
        }
        for key in self.watches.polled_files() {
            self.add_file(&mut passes, key);
        }
        for (key, part) in self.watches.polled_directories() {
            let Some(directory) = self.directories.get(&key) else { continue };
            let device = self.watches.device(&directory.path);
            passes.entry(device).or_default().listings.push((key, directory.path.clone(), part));
        }
        self.start_passes(passes);
    }

    fn add_file(&self, passes: &mut Passes, key: u32) {
        let Some(file) = self.files.get(&key) else { return };
        let end = file.links.last().unwrap_or(&file.path);
        let device = self.watches.device(parent(end));
        passes.entry(device).or_default().files.push((key, file.path.clone()));
    }

    fn start_passes(&mut self, passes: Passes) {
        for (device, pass) in passes {
            // A pass that is still running, or hangs, is not started twice. The next pass covers
            // its files.
            if self.busy.insert(device) {
                self.passes.spawn_blocking(move || pass.run(device));
            }
        }
    }

    /// Applies the result of a pass and returns the keys of the changed files.
    pub(super) fn on_poll_result(&mut self, seen: PollResult) -> Vec<u32> {
        self.busy.remove(&seen.device);
        self.pause = POLL_INTERVAL.max(seen.took * MIN_PAUSE_PER_PASS);
        let suspects = self.watches.on_directories_polled(seen.directories);
        for key in &suspects {
            if let Some(directory) = self.directories.get_mut(key) {
                // The directory was replaced or is watched again, so files may have been added
                // since this pass.
                directory.set_all();
            }
        }
        self.suspect(suspects.iter().copied(), false);
        let mut changed = BTreeSet::new();
        for PolledFile { key, path, links, stamp } in seen.files {
            let Some(file) = self.files.get_mut(&key).filter(|file| file.path == path) else {
                continue;
            };
            let certain = self.checks.remove(&key) == Some(true);
            if links != file.links {
                self.suspect([key], true);
            } else if certain || stamp != file.stamp {
                file.stamp = stamp;
                changed.insert(key);
            }
        }
        if let Some((key, certain)) = self.checks.pop_first() {
            // The file was added during the pass, or its device was busy.
            self.compare_soon(key, certain);
        }
        for (key, path, stamps) in seen.listings {
            let is_same = |directory: &&mut WatchedDirectory| {
                directory.path == path && !suspects.contains(&key)
            };
            let directory = self.directories.get_mut(&key).filter(is_same);
            if directory.is_some_and(|directory| directory.take_stamps(stamps)) {
                changed.insert(key);
            }
        }
        changed.into_iter().collect()
    }
}
