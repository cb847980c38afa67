//! Watches token files and directories for changes.
//!
//! Directories on local file systems are watched by inotify. Files are usually replaced, and a
//! watch on the file itself would stay with the old one, so the directory is watched. In addition,
//! every directory and symbolic link on the way to it is watched for moves and removals, and the
//! mount table for changes. One inotify descriptor serves all watches.
//!
//! Everything that inotify does not report is polled: a file that is a mount point, and a directory
//! that is on a network or FUSE file system, does not exist or cannot be watched. Every
//! [`POLL_INTERVAL`], device, inode, times and size are compared. One pass on a separate thread
//! serves all files of a device.
//!
//! The content of files is not read. A file is watched by the caller's thread, so the caller adds it
//! once its disk has responded.

mod directory;
mod directory_watches;
mod inotify_error;
mod mount_events;
mod polling;
mod route;
mod timer;
mod watched_file;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use inotify::{EventMask, EventOwned, EventStream, Inotify};
use tokio::task::JoinSet;

pub use self::directory::ChangedNames;
use self::directory::WatchedDirectory;
use self::directory_watches::DirectoryWatches;
pub use self::inotify_error::InotifyError;
use self::mount_events::MountEvents;
use self::polling::PollResult;
use self::timer::Timer;
use self::watched_file::{WatchedFile, links};
use super::TEMPORARY_PREFIX;
use super::mount_table::MountTable;
use super::symlinks::parent;
use crate::file::FileStamp;

/// Delay between the first event and the comparison of files: a replacement is a burst of events,
/// and ten thousand replacements are one batch.
const SETTLE_DELAY: Duration = Duration::from_millis(100);

/// Interval between two polling passes.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Size of the read buffer: about two hundred events.
const BUFFER_BYTES: usize = 16 * 1024;

/// Events that mean that the content was written, even if the stamp is unchanged: two writes within
/// one tick of the file system's clock have the same stamp.
const WRITTEN: EventMask = EventMask::CLOSE_WRITE.union(EventMask::MOVED_TO);

/// Events that mean that a watch has ended or no longer belongs to its path.
const WATCH_ENDED: EventMask =
    EventMask::IGNORED.union(EventMask::MOVE_SELF).union(EventMask::UNMOUNT);

/// Watches files, and directories with all files in them. The caller identifies each by a key.
#[derive(Debug)]
pub struct Watcher {
    /// `None` if inotify is not available; everything is polled then.
    events: Option<EventStream<Vec<u8>>>,
    /// Why inotify is not available.
    inotify_error: Option<InotifyError>,
    /// `None` if the mount table cannot be polled; changes of it are not noticed then.
    mount_events: Option<MountEvents>,
    watches: DirectoryWatches,
    files: HashMap<u32, WatchedFile>,
    directories: HashMap<u32, WatchedDirectory>,
    /// Files that may have changed, and whether the change is certain.
    suspects: BTreeMap<u32, bool>,
    settling: Timer,
    /// Files to compare once on another thread, and whether their change is certain.
    checks: BTreeMap<u32, bool>,
    checking: Timer,
    polling: Timer,
    pause: Duration,
    /// Directories whose paths may lead elsewhere since a change of the mount table.
    moved: Vec<PathBuf>,
    mounting: Timer,
    /// Running passes, at most one for each device.
    passes: JoinSet<PollResult>,
    busy: BTreeSet<u64>,
}

impl Watcher {
    /// Creates a watcher without files. Must be called within a tokio runtime.
    ///
    /// Without inotify, the watcher polls; see [`Watcher::inotify_error`].
    pub fn new() -> Self {
        let events =
            Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0; BUFFER_BYTES]));
        let (events, inotify_error) = match events {
            Ok(events) => (Some(events), None),
            Err(error) => (None, Some(InotifyError::from_instance_error(&error))),
        };
        // Opened before the table is read, so that a change in between is seen twice and not
        // missed.
        let mount_events = MountEvents::open().ok();
        Self {
            watches: DirectoryWatches::new(events.as_ref().map(EventStream::watches)),
            events,
            inotify_error,
            mount_events,
            files: HashMap::new(),
            directories: HashMap::new(),
            suspects: BTreeMap::new(),
            settling: Timer::default(),
            checks: BTreeMap::new(),
            checking: Timer::default(),
            polling: Timer::default(),
            pause: POLL_INTERVAL,
            moved: Vec::new(),
            mounting: Timer::default(),
            passes: JoinSet::new(),
            busy: BTreeSet::new(),
        }
    }

    /// Why some files are polled although inotify could watch them; `None` if all are watched.
    pub fn inotify_error(&self) -> Option<InotifyError> {
        self.inotify_error
            .or_else(|| self.watches.lacks_watches.then_some(InotifyError::WatchLimit))
    }

    /// The number of watched directories.
    pub fn watched_directories(&self) -> usize {
        self.watches.watched()
    }

    /// The number of polled directories: missing, on a network or FUSE file system, or beyond a
    /// limit such as `fs.inotify.max_user_watches`.
    pub fn unwatched_directories(&self) -> usize {
        self.watches.unwatched()
    }

    /// Watches exactly the files in `paths` from now on. A file that was watched under the same key
    /// is not disturbed.
    ///
    /// Must be called before the files are read: only later changes are reported.
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

    /// Whether exactly this file is watched under this key.
    pub(crate) fn is_watched(&self, key: u32, path: Option<&Path>) -> bool {
        self.files.get(&key).map(|file| &*file.path) == path
    }

    /// Watches the file at `path` under this key instead of another file. Like
    /// [`Watcher::set_paths`] for one file. Returns the file's stamp. Blocks as long as the disk
    /// does.
    pub fn set_path(&mut self, key: u32, path: PathBuf) -> Option<FileStamp> {
        if let Some(file) = self.files.get(&key).filter(|file| file.path == path) {
            return file.stamp;
        }
        self.remove_path(key);
        let mut file = WatchedFile { links: links(&path), path, stamp: None };
        self.watches.attach(key, &file.steps());
        // Taken after the watch began, so that a change in between is seen twice and not missed.
        let stamp = FileStamp::of(&file.path);
        file.stamp = stamp;
        self.files.insert(key, file);
        stamp
    }

    /// Stops watching the file of this key.
    pub fn remove_path(&mut self, key: u32) {
        self.suspects.remove(&key);
        self.checks.remove(&key);
        if let Some(file) = self.files.remove(&key) {
            self.watches.detach(key, &file.steps());
        }
    }

    /// Watches exactly the directories in `paths` from now on, with all present and future files in
    /// them. The keys must differ from those of files. Otherwise like [`Watcher::set_paths`].
    pub fn set_directories(&mut self, paths: impl IntoIterator<Item = (u32, PathBuf)>) {
        self.read_mounts();
        let wanted: HashMap<u32, PathBuf> = paths.into_iter().collect();
        let watches = &mut self.watches;
        self.directories.retain(|key, directory| {
            let stays = directory.is_at(wanted.get(key));
            if !stays {
                watches.detach_directory(*key, &directory.path);
            }
            stays
        });
        for (key, path) in wanted {
            self.directories.entry(key).or_insert_with(|| {
                watches.attach_directory(key, &path);
                WatchedDirectory::new(path)
            });
        }
    }

    /// The changed names in the directory of this key since the last call.
    pub fn take_changed_names(&mut self, key: u32) -> ChangedNames {
        self.directories.get_mut(&key).map_or(ChangedNames::All, WatchedDirectory::take)
    }

    /// Compares the file of this key on another thread, in case inotify has missed a change.
    pub fn check(&mut self, key: u32) {
        if self.files.contains_key(&key) {
            self.compare_soon(key, false);
        }
    }

    /// Waits until files may have changed and returns their keys, or those of their directories, in
    /// order; at least one.
    ///
    /// Cancel-safe: changes that were not returned are returned by the next call. A file that was
    /// rewritten with the same content, or removed, is included.
    pub async fn changed(&mut self) -> Vec<u32> {
        loop {
            if self.watches.has_polled() || !self.moved.is_empty() {
                self.polling.start(self.pause);
            }
            let is_idle = self.files.is_empty() && self.directories.is_empty();
            let events = OptionFuture::from(self.events.as_mut().map(EventStream::next));
            let mounts = OptionFuture::from(self.mount_events.as_ref().map(MountEvents::changed));
            tokio::select! {
                biased;
                () = self.settling.expired() => {
                    let changed = self.compare();
                    if !changed.is_empty() {
                        return changed;
                    }
                }
                () = self.checking.expired() => self.start_comparisons(),
                () = self.polling.expired() => self.start_poll(),
                Some(seen) = self.passes.join_next() => {
                    let changed = seen.map(|seen| self.on_poll_result(seen)).unwrap_or_default();
                    if !changed.is_empty() {
                        return changed;
                    }
                }
                Some(event) = events => match event {
                    Some(Ok(event)) => self.on_event(&event),
                    Some(Err(error)) => self.stop_using_inotify(&error),
                    None => self.stop_using_inotify(&io::ErrorKind::UnexpectedEof.into()),
                },
                Some(changed) = mounts, if !is_idle => {
                    if changed.is_err() {
                        self.mount_events = None;
                    }
                    self.mounting.start(SETTLE_DELAY);
                }
                () = self.mounting.expired() => self.read_mounts(),
            }
        }
    }

    /// Determines the files that an event concerns.
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
                for key in self.watches.whole_keys(descriptor) {
                    if let Some(directory) = self.directories.get_mut(&key) {
                        directory.add_name(name);
                        self.suspect([key], true);
                    }
                }
                let named = self.watches.named(descriptor, name);
                if named.is_empty() {
                    // The name may be a part of the target of a link, such as Kubernetes' `..data`.
                    let linked = self.watches.linked(descriptor);
                    self.suspect(linked, false);
                } else {
                    self.suspect(named, written);
                }
            }
            None if event.mask.intersects(WATCH_ENDED) => {
                let inside = self.watches.on_watch_lost(descriptor);
                self.suspect(inside, false);
            }
            None => {}
        }
    }

    /// Reads the mount table: files may have become mount points, and paths may lead elsewhere.
    /// Must be called before [`Watcher::set_path`] at a reload.
    pub fn read_mounts(&mut self) {
        let Ok(mounts) = MountTable::read() else { return };
        let (files, moved) = self.watches.apply_mount_table(mounts);
        for key in files {
            self.compare_soon(key, false);
        }
        if !moved.is_empty() {
            self.moved.extend(moved);
            self.polling = Timer::default();
            self.polling.start(SETTLE_DELAY);
        }
    }

    fn stop_using_inotify(&mut self, error: &io::Error) {
        self.events = None;
        self.inotify_error = Some(InotifyError::from_instance_error(error));
        self.watches.stop_using_inotify();
    }

    fn suspect(&mut self, keys: impl IntoIterator<Item = u32>, certain: bool) {
        for key in keys {
            *self.suspects.entry(key).or_default() |= certain;
        }
        if !self.suspects.is_empty() {
            self.settling.start(SETTLE_DELAY);
        }
    }

    /// Schedules the comparison of a file on another thread.
    fn compare_soon(&mut self, key: u32, certain: bool) {
        *self.checks.entry(key).or_default() |= certain;
        self.checking.start(SETTLE_DELAY);
    }

    /// Compares the files that may have changed and returns those that have. Polled files are
    /// compared on another thread instead.
    fn compare(&mut self) -> Vec<u32> {
        self.watches.rewatch_lost();
        let mut suspects = std::mem::take(&mut self.suspects);
        let directories = self.refresh_symlinks(suspects.keys().copied());
        for key in directories.iter().flat_map(|directory| self.watches.ensure_watched(directory)) {
            suspects.entry(key).or_default();
        }
        let mut changed = Vec::new();
        for (key, certain) in suspects {
            if self.directories.get_mut(&key).is_some_and(WatchedDirectory::compare) {
                changed.push(key);
            }
            let Some(file) = self.files.get_mut(&key) else { continue };
            let mut steps = file.steps().into_iter();
            if steps.any(|step| self.watches.is_polled(step)) {
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

    /// Follows the symbolic links of `keys` again and returns the directories on the way.
    fn refresh_symlinks(&mut self, keys: impl Iterator<Item = u32>) -> HashSet<PathBuf> {
        let mut directories = HashSet::new();
        for key in keys {
            let Some(file) = self.files.get_mut(&key) else { continue };
            let links = links(&file.path);
            if links != file.links {
                self.watches.detach(key, &file.steps());
                file.links = links;
                self.watches.attach(key, &file.steps());
            }
            directories.extend(file.steps().into_iter().map(parent).map(Path::to_owned));
        }
        directories
    }
}

impl Default for Watcher {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
