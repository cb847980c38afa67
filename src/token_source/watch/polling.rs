//! Compares files and directories on a separate thread, where inotify is not reliable and at each
//! check of a token. One pass serves all files of a device, so that a disk that hangs delays only
//! its own files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::directory_watches::{DirectoryState, PolledNames};
use super::watched_file::links;
use crate::clock::Stopwatch;
use crate::file::FileStamp;

/// The paths that one pass examines.
#[derive(Debug, Default)]
pub(super) struct PollPass {
    pub(super) directories: Vec<PathBuf>,
    pub(super) files: Vec<(u32, PathBuf)>,
    pub(super) listings: Vec<(u32, PathBuf, PolledNames)>,
}

/// Stamps of files by name.
pub(super) type Stamps = HashMap<OsString, FileStamp>;

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

/// Names with different stamps.
pub(super) fn differences(old: &Stamps, new: &Stamps) -> BTreeSet<OsString> {
    let changed = new.iter().filter(|(name, stamp)| old.get(*name) != Some(*stamp));
    let gone = old.iter().filter(|(name, _)| !new.contains_key(*name));
    changed.chain(gone).map(|(name, _)| name.clone()).collect()
}

/// The passes by device.
#[derive(Debug, Default)]
pub(super) struct PollPasses(BTreeMap<u64, PollPass>);

impl PollPasses {
    /// The pass for a device.
    pub(super) fn on(&mut self, device: u64) -> &mut PollPass {
        self.0.entry(device).or_default()
    }

    /// All passes with their devices.
    pub(super) fn into_iter(self) -> impl Iterator<Item = (u64, PollPass)> {
        self.0.into_iter()
    }
}
