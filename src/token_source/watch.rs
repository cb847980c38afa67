//! Noticing that a token's file has changed, without being told.
//!
//! Watched: folders on local file systems, by inotify. A file is usually replaced, and a watch on
//! the file itself would stay with the old one. Besides each folder, every directory and link
//! that its path leads through is watched for being moved or removed, and the mount table for
//! changes, so nothing is polled there. There is one inotify descriptor for all.
//!
//! Polled: what inotify does not report. A file that is a mount point of its own, a folder on a
//! network or FUSE file system, one that does not exist, or one that no watch can be had for, is
//! compared every [`POLL_INTERVAL`] by device, inode, times and size. One pass beside the loop serves
//! all of them.
//!
//! What a file holds is not looked at here.

mod directory;
mod directory_watches;
mod inotify_error;
mod mount_events;
mod polling;
mod route;
mod watched_file;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use inotify::{EventMask, EventOwned, EventStream, Inotify};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};

pub use self::directory::ChangedNames;
use self::directory::WatchedDirectory;
use self::directory_watches::DirectoryWatches;
pub use self::inotify_error::InotifyError;
use self::mount_events::MountEvents;
use self::polling::{PollPasses, PollResult, PolledFile};
use self::watched_file::{WatchedFile, links};
use super::TEMPORARY_PREFIX;
use super::mount_table::MountTable;
use super::symlinks::parent;
use crate::file::FileStamp;

/// From the first sign of a change until files are looked at: a replacement is a burst of
/// events, and ten thousand replacements are one batch.
const SETTLE_DELAY: Duration = Duration::from_millis(100);

/// Between two passes over what inotify does not report.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// A pause is at least so many times as long as the pass before it: comparing a million files
/// takes seconds, and a twentieth of a core at the most.
const MIN_PAUSE_PER_PASS: u32 = 20;

/// Stands for the device of a folder that was not seen yet, or may be on another one now.
const UNKNOWN_DEVICE: u64 = 0;

/// Room for some two hundred events a read.
const BUFFER_BYTES: usize = 16 * 1024;

/// Signs that a file's content was written, whatever its stamp says: two writes within one tick
/// of the file system's clock leave the same stamp.
const WRITTEN: EventMask = EventMask::CLOSE_WRITE.union(EventMask::MOVED_TO);

/// Signs that a watch has ended or no longer belongs to its path.
const WATCH_ENDED: EventMask =
    EventMask::IGNORED.union(EventMask::MOVE_SELF).union(EventMask::UNMOUNT);

/// Watches files, and folders as a whole, each known by a key of the caller's.
#[derive(Debug)]
pub struct Watcher {
    /// `None` where inotify is not to be had: then everything is polled.
    events: Option<EventStream<Vec<u8>>>,
    /// Why there is none.
    inotify_error: Option<InotifyError>,
    /// `None` where the mount table cannot be read: then a change of it is not noticed.
    mount_events: Option<MountEvents>,
    folders: DirectoryWatches,
    files: HashMap<u32, WatchedFile>,
    directories: HashMap<u32, WatchedDirectory>,
    /// Files that may have changed, and whether that is certain.
    suspects: BTreeMap<u32, bool>,
    settling: Option<Pin<Box<Sleep>>>,
    /// Files that are compared once, beside the loop, and whether they have certainly changed.
    checks: BTreeMap<u32, bool>,
    checking: Option<Pin<Box<Sleep>>>,
    polling: Option<Pin<Box<Sleep>>>,
    pause: Duration,
    /// Folders that the mount table says may be others now.
    moved: Vec<PathBuf>,
    mounting: Option<Pin<Box<Sleep>>>,
    /// Passes on threads of their own, at most one for each device.
    passes: JoinSet<PollResult>,
    busy: BTreeSet<u64>,
}

impl Watcher {
    /// A watcher of nothing. To be called within a tokio runtime.
    ///
    /// Without inotify it works all the same, by polling; see [`Watcher::inotify_error`].
    pub fn new() -> Self {
        let events =
            Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0; BUFFER_BYTES]));
        let (events, inotify_error) = match events {
            Ok(events) => (Some(events), None),
            Err(error) => (None, Some(InotifyError::from_instance_error(&error))),
        };
        // Before the table is read: a change in between is seen twice rather than never.
        let mount_events = MountEvents::open().ok();
        Self {
            folders: DirectoryWatches::new(events.as_ref().map(EventStream::watches)),
            events,
            inotify_error,
            mount_events,
            files: HashMap::new(),
            directories: HashMap::new(),
            suspects: BTreeMap::new(),
            settling: None,
            checks: BTreeMap::new(),
            checking: None,
            polling: None,
            pause: POLL_INTERVAL,
            moved: Vec::new(),
            mounting: None,
            passes: JoinSet::new(),
            busy: BTreeSet::new(),
        }
    }

    /// What is lacking to have every file watched that inotify could watch. Files that are not
    /// watched are compared instead.
    pub fn inotify_error(&self) -> Option<InotifyError> {
        self.inotify_error
            .or_else(|| self.folders.lacks_watches().then_some(InotifyError::WatchLimit))
    }

    /// How many folders are watched.
    pub fn watched_directories(&self) -> usize {
        self.folders.watched()
    }

    /// How many folders are polled as a whole, as they do not exist, are on a network or FUSE file
    /// system, or a limit (`fs.inotify.max_user_watches`) is used up.
    pub fn unwatched_directories(&self) -> usize {
        self.folders.unwatched()
    }

    /// Watches the files in `paths`, and no others from now on. Files that were watched before
    /// under the same key are not disturbed.
    ///
    /// To be called before the files are read: a change after this is reported, one before is not.
    pub fn set_paths(&mut self, paths: impl IntoIterator<Item = (u32, PathBuf)>) {
        self.read_mounts();
        let wanted: HashMap<u32, PathBuf> = paths.into_iter().collect();
        let gone: Vec<u32> = self
            .files
            .iter()
            .filter(|(key, file)| wanted.get(key) != Some(&file.path))
            .map(|(key, _)| *key)
            .collect();
        for key in gone {
            self.remove_path(key);
        }
        for (key, path) in wanted {
            self.set_path(key, path);
        }
    }

    /// Watches the file at `path` under this key, in place of another one. As
    /// [`Watcher::set_paths`], for one file.
    pub fn set_path(&mut self, key: u32, path: PathBuf) {
        if self.files.get(&key).is_some_and(|file| file.path == path) {
            return;
        }
        self.remove_path(key);
        let mut file = WatchedFile { links: links(&path), path, stamp: None };
        self.folders.attach(key, &file.steps());
        // After the watch began: a change in between is seen twice rather than never.
        file.stamp = FileStamp::of(&file.path);
        self.files.insert(key, file);
    }

    /// Does not watch the file of this key any more.
    pub fn remove_path(&mut self, key: u32) {
        self.suspects.remove(&key);
        self.checks.remove(&key);
        if let Some(file) = self.files.remove(&key) {
            self.folders.detach(key, &file.steps());
        }
    }

    /// Watches the folders in `paths` as a whole, and no others from now on: every file in
    /// them, the ones to come as well. Their keys must not be those of files. Otherwise as
    /// [`Watcher::set_paths`].
    pub fn set_directories(&mut self, paths: impl IntoIterator<Item = (u32, PathBuf)>) {
        self.read_mounts();
        let wanted: HashMap<u32, PathBuf> = paths.into_iter().collect();
        let folders = &mut self.folders;
        self.directories.retain(|key, directory| {
            let stays = directory.is_at(wanted.get(key));
            if !stays {
                folders.detach_directory(*key, &directory.path);
            }
            stays
        });
        for (key, path) in wanted {
            self.directories.entry(key).or_insert_with(|| {
                folders.attach_directory(key, &path);
                WatchedDirectory::new(path)
            });
        }
    }

    /// What may have changed in the folder of this key, since this was last called.
    pub fn take_changed_names(&mut self, key: u32) -> ChangedNames {
        self.directories.get_mut(&key).map_or(ChangedNames::All, WatchedDirectory::take)
    }

    /// Has the file of this key compared beside the loop, for the case that inotify has missed a
    /// change.
    pub fn check(&mut self, key: u32) {
        if self.files.contains_key(&key) {
            self.compare_soon(key, false);
        }
    }

    /// Waits until files may have changed, and returns their keys, or those of the folders that
    /// are watched as a whole, in order: at least one.
    ///
    /// Cancel-safe: what was noticed and not returned is returned the next time. A file that
    /// was written with the same content is among them, and so is one that was removed.
    pub async fn changed(&mut self) -> Vec<u32> {
        loop {
            if self.polling.is_none() && self.needs_polling() {
                self.polling = Some(Box::pin(sleep(self.pause)));
            }
            tokio::select! {
                biased;
                () = elapsed(&mut self.settling) => {
                    self.settling = None;
                    let changed = self.compare();
                    if !changed.is_empty() {
                        return changed;
                    }
                }
                () = elapsed(&mut self.checking) => {
                    self.checking = None;
                    self.start_comparisons();
                }
                () = elapsed(&mut self.polling) => {
                    self.polling = None;
                    self.start_poll();
                }
                Some(seen) = self.passes.join_next() => {
                    let changed = seen.map(|seen| self.on_poll_result(seen)).unwrap_or_default();
                    if !changed.is_empty() {
                        return changed;
                    }
                }
                event = next(&mut self.events) => match event {
                    Ok(event) => self.on_event(&event),
                    Err(error) => self.stop_using_inotify(&error),
                },
                changed = mounts_changed(self.mount_events.as_ref()), if !self.is_idle() => {
                    if changed.is_err() {
                        self.mount_events = None;
                    }
                    self.mounting.get_or_insert_with(|| Box::pin(sleep(SETTLE_DELAY)));
                }
                () = elapsed(&mut self.mounting) => {
                    self.mounting = None;
                    self.read_mounts();
                }
            }
        }
    }

    fn needs_polling(&self) -> bool {
        self.folders.has_polled() || !self.moved.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.files.is_empty() && self.directories.is_empty()
    }

    /// Concludes from an event which files to look at.
    fn on_event(&mut self, event: &EventOwned) {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            self.directories.values_mut().for_each(WatchedDirectory::set_all);
            let all: Vec<u32> = self.files.keys().chain(self.directories.keys()).copied().collect();
            return self.suspect(all, false);
        }
        let descriptor = event.wd.get_watch_descriptor_id();
        match &event.name {
            Some(name) if name.as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()) => {}
            Some(name) => {
                let written = event.mask.intersects(WRITTEN);
                for key in self.folders.directories(descriptor) {
                    if let Some(directory) = self.directories.get_mut(&key) {
                        directory.add_name(name);
                        self.suspect([key], true);
                    }
                }
                let named = self.folders.named(descriptor, name);
                if named.is_empty() {
                    // Something that a link may lead through, such as Kubernetes' `..data`.
                    let linked = self.folders.linked(descriptor);
                    self.suspect(linked, false);
                } else {
                    self.suspect(named, written);
                }
            }
            None if event.mask.intersects(WATCH_ENDED) => {
                let inside = self.folders.on_watch_lost(descriptor);
                self.suspect(inside, false);
            }
            None => {}
        }
    }

    /// Reads the mount table: files may be mount points now, and paths may lead elsewhere.
    /// To be called before [`Watcher::set_path`] at a change of the configuration.
    pub fn read_mounts(&mut self) {
        let Ok(mounts) = MountTable::read() else { return };
        let (files, moved) = self.folders.apply_mount_table(mounts);
        for key in files {
            self.compare_soon(key, false);
        }
        if !moved.is_empty() {
            self.moved.extend(moved);
            self.polling = Some(Box::pin(sleep(SETTLE_DELAY)));
        }
    }

    fn stop_using_inotify(&mut self, error: &io::Error) {
        self.events = None;
        self.inotify_error = Some(InotifyError::from_instance_error(error));
        self.folders.stop_using_inotify();
    }

    fn suspect(&mut self, keys: impl IntoIterator<Item = u32>, certain: bool) {
        for key in keys {
            *self.suspects.entry(key).or_default() |= certain;
        }
        if self.settling.is_none() && !self.suspects.is_empty() {
            self.settling = Some(Box::pin(sleep(SETTLE_DELAY)));
        }
    }

    /// Has a file compared beside the loop.
    fn compare_soon(&mut self, key: u32, certain: bool) {
        *self.checks.entry(key).or_default() |= certain;
        if self.checking.is_none() {
            self.checking = Some(Box::pin(sleep(SETTLE_DELAY)));
        }
    }

    /// Starts to compare the files that are to be compared once.
    fn start_comparisons(&mut self) {
        let mut passes = PollPasses::default();
        for key in self.checks.keys() {
            self.add_file(&mut passes, *key);
        }
        self.start_passes(passes);
    }

    /// Starts a pass over what inotify does not report.
    fn start_poll(&mut self) {
        let mut passes = PollPasses::default();
        for path in self.folders.polled() {
            passes.on(self.folders.device(path)).folders.push(path.clone());
        }
        if !self.moved.is_empty() && !self.busy.contains(&UNKNOWN_DEVICE) {
            passes.on(UNKNOWN_DEVICE).folders.append(&mut self.moved);
        }
        for key in self.folders.polled_files() {
            self.add_file(&mut passes, key);
        }
        for (key, part) in self.folders.polled_directories() {
            let Some(directory) = self.directories.get(&key) else { continue };
            let device = self.folders.device(&directory.path);
            passes.on(device).directories.push((key, directory.path.clone(), part));
        }
        self.start_passes(passes);
    }

    fn add_file(&self, passes: &mut PollPasses, key: u32) {
        let Some(file) = self.files.get(&key) else { return };
        let end = file.links.last().unwrap_or(&file.path);
        let device = self.folders.device(parent(end));
        passes.on(device).files.push((key, file.path.clone()));
    }

    fn start_passes(&mut self, passes: PollPasses) {
        for (device, pass) in passes.into_iter() {
            // One that hangs, or still runs, is not begun twice: the next pass makes up for it.
            if self.busy.insert(device) {
                self.passes.spawn_blocking(move || pass.run(device));
            }
        }
    }

    /// What a pass has found; returns the keys of what has changed.
    fn on_poll_result(&mut self, seen: PollResult) -> Vec<u32> {
        self.busy.remove(&seen.device);
        self.pause = POLL_INTERVAL.max(seen.took * MIN_PAUSE_PER_PASS);
        let suspects = self.folders.on_directories_polled(seen.folders);
        for key in &suspects {
            if let Some(directory) = self.directories.get_mut(key) {
                // It is another folder, or watched again: files may have come since this pass.
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
            // Added meanwhile, or of a device that was busy.
            self.compare_soon(key, certain);
        }
        for (key, path, stamps) in seen.directories {
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

    /// Looks at the files that are suspected; returns those that have changed. What is polled is
    /// compared beside the loop instead.
    fn compare(&mut self) -> Vec<u32> {
        self.folders.rewatch_lost();
        let mut suspects = std::mem::take(&mut self.suspects);
        let folders = self.refresh_symlinks(suspects.keys().copied());
        for key in folders.iter().flat_map(|folder| self.folders.ensure_watched(folder)) {
            suspects.entry(key).or_default();
        }
        let mut changed = Vec::new();
        for (key, certain) in suspects {
            if self.directories.get_mut(&key).is_some_and(WatchedDirectory::compare) {
                changed.push(key);
            }
            let Some(file) = self.files.get_mut(&key) else { continue };
            let mut steps = file.steps().into_iter();
            if steps.any(|step| self.folders.is_polled(step)) {
                self.compare_soon(key, certain);
                continue;
            }
            let stamp = FileStamp::of(&file.path);
            if certain || stamp != file.stamp {
                file.stamp = stamp;
                changed.push(key);
            }
        }
        changed
    }

    /// Follows the links of `keys` anew, and returns the folders that they lead through.
    fn refresh_symlinks(&mut self, keys: impl Iterator<Item = u32>) -> HashSet<PathBuf> {
        let mut folders = HashSet::new();
        for key in keys {
            let Some(file) = self.files.get_mut(&key) else { continue };
            let links = links(&file.path);
            if links != file.links {
                self.folders.detach(key, &file.steps());
                file.links = links;
                self.folders.attach(key, &file.steps());
            }
            folders.extend(file.steps().into_iter().map(parent).map(Path::to_owned));
        }
        folders
    }
}

impl Default for Watcher {
    fn default() -> Self {
        Self::new()
    }
}

/// The end of a timer that may not be running.
async fn elapsed(timer: &mut Option<Pin<Box<Sleep>>>) {
    match timer {
        Some(timer) => timer.as_mut().await,
        None => std::future::pending().await,
    }
}

/// A change of the mount table, if that can be watched.
async fn mounts_changed(table: Option<&MountEvents>) -> io::Result<()> {
    match table {
        Some(table) => table.changed().await,
        None => std::future::pending().await,
    }
}

/// The next event, from a stream that may not exist.
async fn next(events: &mut Option<EventStream<Vec<u8>>>) -> io::Result<EventOwned> {
    match events {
        Some(events) => {
            events.next().await.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
