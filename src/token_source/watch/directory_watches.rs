//! The inotify watches on the directories of token files, and the files in each directory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use inotify::{WatchDescriptor, WatchMask, Watches};

use super::inotify_error::InotifyError;
use super::route::{DirectoryState, Identity, Route};
use crate::token_source::mount_table::MountTable;
use crate::token_source::symlinks::parent;

/// Events that can change the content or the accessibility of a file in a directory, and the end of
/// the directory itself.
const DIRECTORY_EVENTS: WatchMask = WatchMask::CREATE
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::MODIFY)
    .union(WatchMask::ATTRIB)
    .union(WatchMask::MOVE)
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR)
    .union(WatchMask::MASK_ADD);

/// Moves and removals of a directory or symbolic link on the way to a directory. Events inside it
/// are not reported, however busy it is.
const ROUTE_EVENTS: WatchMask = WatchMask::MOVE_SELF
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::DONT_FOLLOW)
    .union(WatchMask::MASK_ADD);

/// The directories by path.
#[derive(Debug)]
pub(super) struct DirectoryWatches {
    /// `None` if inotify is not available.
    watches: Option<Watches>,
    mounts: MountTable,
    by_path: BTreeMap<PathBuf, Directory>,
    by_descriptor: HashMap<i32, WatchUse>,
    /// Directories in which inotify does not report every change.
    polled: BTreeSet<PathBuf>,
    /// The last attempt to add a watch failed because of the limit.
    pub(super) lacks_watches: bool,
    /// Directories to watch again, because their paths may lead elsewhere.
    lost: BTreeSet<PathBuf>,
}

#[derive(Debug, Default)]
struct Directory {
    watch: Option<Watch>,
    /// Keys of the files by name.
    files: HashMap<OsString, Vec<u32>>,
    /// Keys of files that are reached through symbolic links.
    linked: BTreeSet<u32>,
    /// Keys for which all files in the directory are watched.
    whole_keys: BTreeSet<u32>,
    /// The route of its path when it was last seen.
    route: Route,
    /// Names of files in it that are mount points.
    mounted: BTreeSet<OsString>,
    /// Device when it was last seen; 0 before.
    device: u64,
}

#[derive(Debug)]
struct Watch {
    descriptor: WatchDescriptor,
    /// Watches on the route of its path.
    route: Vec<WatchDescriptor>,
    /// Identity of the directory just before the watch began.
    identity: Identity,
}

/// The uses of one inotify watch. Two paths to the same directory share a watch.
#[derive(Debug, Default)]
struct WatchUse {
    /// Paths of the watched directory.
    directories: BTreeSet<PathBuf>,
    /// Directories whose route includes it.
    through: BTreeSet<PathBuf>,
}

/// The files of a directory to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PolledNames {
    /// All files.
    All,
    /// Only these mount points.
    Names(BTreeSet<OsString>),
}

impl DirectoryWatches {
    pub(super) fn new(watches: Option<Watches>) -> Self {
        Self {
            watches,
            mounts: MountTable::read().unwrap_or_default(),
            by_path: BTreeMap::new(),
            by_descriptor: HashMap::new(),
            polled: BTreeSet::new(),
            lacks_watches: false,
            lost: BTreeSet::new(),
        }
    }

    /// The number of watched directories.
    pub(super) fn watched(&self) -> usize {
        self.by_descriptor.values().filter(|watched| !watched.directories.is_empty()).count()
    }

    /// The number of directories without a watch.
    pub(super) fn unwatched(&self) -> usize {
        let directories = self.polled.iter().filter_map(|path| self.by_path.get(path));
        directories.filter(|directory| directory.watch.is_none()).count()
    }

    /// Watches the directories of all `steps` for the file `key`.
    pub(super) fn attach(&mut self, key: u32, steps: &[&Path]) {
        let linked = steps.len() > 1;
        for step in steps {
            let Some(name) = step.file_name() else { continue };
            if let Some(directory) = self.directory(parent(step)) {
                directory.files.entry(name.to_owned()).or_default().push(key);
                if linked {
                    directory.linked.insert(key);
                }
            }
        }
    }

    /// Reverts [`DirectoryWatches::attach`] for the same key and steps.
    pub(super) fn detach(&mut self, key: u32, steps: &[&Path]) {
        for step in steps {
            let path = parent(step);
            let (Some(name), Some(directory)) = (step.file_name(), self.by_path.get_mut(path))
            else {
                continue;
            };
            directory.linked.remove(&key);
            if let Some(keys) = directory.files.get_mut(name) {
                keys.retain(|other| *other != key);
                if keys.is_empty() {
                    directory.files.remove(name);
                }
            }
            self.leave(path);
        }
    }

    /// Watches the directory at `path` with all files in it.
    pub(super) fn attach_directory(&mut self, key: u32, path: &Path) {
        if let Some(directory) = self.directory(path) {
            directory.whole_keys.insert(key);
        }
    }

    /// Reverts [`DirectoryWatches::attach_directory`].
    pub(super) fn detach_directory(&mut self, key: u32, path: &Path) {
        if let Some(directory) = self.by_path.get_mut(path) {
            directory.whole_keys.remove(&key);
        }
        self.leave(path);
    }

    /// The directory at `path`. Starts to watch it if possible.
    fn directory(&mut self, path: &Path) -> Option<&mut Directory> {
        if !self.by_path.contains_key(path) {
            self.by_path.insert(path.to_owned(), Directory::default());
            self.polled.insert(path.to_owned());
            self.watch(path);
        }
        self.by_path.get_mut(path)
    }

    /// Stops watching the directory at `path` if no key needs it.
    fn leave(&mut self, path: &Path) {
        let unused =
            |directory: &Directory| directory.files.is_empty() && directory.whole_keys.is_empty();
        if self.by_path.get(path).is_some_and(unused) {
            self.unwatch(path);
            self.polled.remove(path);
            self.lost.remove(path);
            self.by_path.remove(path);
        }
    }

    /// Keys for which all files in the directory of a watch are watched.
    pub(super) fn whole_keys(&self, descriptor: i32) -> Vec<u32> {
        self.of(descriptor).flat_map(|directory| &directory.whole_keys).copied().collect()
    }

    /// Keys of the files called `name` in the directory of a watch.
    pub(super) fn named(&self, descriptor: i32, name: &OsStr) -> Vec<u32> {
        self.of(descriptor)
            .filter_map(|directory| directory.files.get(name))
            .flatten()
            .copied()
            .collect()
    }

    /// Keys of the files that are reached through symbolic links in the directory of a watch.
    pub(super) fn linked(&self, descriptor: i32) -> Vec<u32> {
        self.of(descriptor).flat_map(|directory| &directory.linked).copied().collect()
    }

    /// Handles the end of a watch or a move of its directory. Returns the keys of the affected
    /// files. [`DirectoryWatches::rewatch_lost`] watches the directories again.
    pub(super) fn on_watch_lost(&mut self, descriptor: i32) -> Vec<u32> {
        let Some(WatchUse { directories, through }) = self.by_descriptor.get(&descriptor) else {
            return Vec::new();
        };
        let paths: BTreeSet<PathBuf> = directories.union(through).cloned().collect();
        for path in &paths {
            self.unwatch(path);
        }
        let inside = paths.iter().flat_map(|path| self.inside(path)).collect();
        self.lost.extend(paths);
        inside
    }

    /// Watches the directories again whose watch was [lost](Self::on_watch_lost), if they exist.
    pub(super) fn rewatch_lost(&mut self) {
        for path in std::mem::take(&mut self.lost) {
            self.ensure_watched(&path);
        }
    }

    /// Ensures that the directory at the end of `path` is the watched one. Returns the keys of its
    /// files if it was not.
    pub(super) fn ensure_watched(&mut self, path: &Path) -> Vec<u32> {
        if self.by_path.contains_key(path) {
            self.on_path_target(path, DirectoryState::of(path))
        } else {
            Vec::new()
        }
    }

    /// Like [`Self::ensure_watched`], with the directory at the end of `path` known.
    fn on_path_target(&mut self, path: &Path, to: Option<DirectoryState>) -> Vec<u32> {
        let Some(directory) = self.by_path.get_mut(path) else { return Vec::new() };
        let had_watch = directory.watch.is_some();
        match (to, &directory.watch) {
            (None, None) => return Vec::new(),
            (Some(now), Some(watch)) if watch.identity == now.identity => return Vec::new(),
            (Some(now), None) if !now.is_local => {
                directory.device = now.identity.0;
                return Vec::new();
            }
            (_, Some(_)) => self.unwatch(path),
            (Some(_), None) => {}
        }
        self.watch(path);
        let has_watch = self.by_path.get(path).is_some_and(|directory| directory.watch.is_some());
        if had_watch || has_watch { self.inside(path) } else { Vec::new() }
    }

    /// Whether there is a directory in which inotify does not report every change.
    pub(super) fn has_polled(&self) -> bool {
        !self.polled.is_empty()
    }

    /// The directories in which inotify does not report every change.
    pub(super) fn polled(&self) -> impl Iterator<Item = &PathBuf> {
        self.polled.iter()
    }

    /// Device of the directory when it was last seen.
    pub(super) fn device(&self, path: &Path) -> u64 {
        self.by_path.get(path).map_or(0, |directory| directory.device)
    }

    /// Keys of the files in polled directories whose changes inotify may not report.
    pub(super) fn polled_files(&self) -> BTreeSet<u32> {
        let directories = self.polled.iter().filter_map(|path| self.by_path.get(path));
        let files = directories.flat_map(|directory| {
            let names = directory.files.iter();
            names.filter(|(name, _)| directory.is_unreliable(name)).flat_map(|(_, keys)| keys)
        });
        files.copied().collect()
    }

    /// Polled directories that are watched with all their files.
    pub(super) fn polled_directories(&self) -> Vec<(u32, PolledNames)> {
        let directories = self.polled.iter().filter_map(|path| self.by_path.get(path));
        let parts = directories.flat_map(|directory| {
            let part = match directory.watch {
                None => PolledNames::All,
                Some(_) => PolledNames::Names(directory.mounted.clone()),
            };
            directory.whole_keys.iter().map(move |key| (*key, part.clone()))
        });
        parts.collect()
    }

    /// Whether inotify may not report every change of the file at `path`.
    pub(super) fn is_polled(&self, path: &Path) -> bool {
        let directory = self.by_path.get(parent(path));
        directory
            .is_some_and(|directory| path.file_name().is_some_and(|it| directory.is_unreliable(it)))
    }

    /// Applies the result of a pass over directories. Returns the keys of the files in directories
    /// that were, or are now, not watched.
    pub(super) fn on_directories_polled(
        &mut self,
        seen: Vec<(PathBuf, Option<DirectoryState>)>,
    ) -> Vec<u32> {
        seen.into_iter().flat_map(|(path, to)| self.on_path_target(&path, to)).collect()
    }

    /// Applies a new mount table. Returns the keys of files that became, or no longer are, mount
    /// points, and the directories whose paths may lead elsewhere.
    pub(super) fn apply_mount_table(&mut self, now: MountTable) -> (Vec<u32>, Vec<PathBuf>) {
        let (mut files, mut moved) = (Vec::new(), Vec::new());
        let changes = self.mounts.changes(&now);
        self.mounts = now;
        if changes.is_empty() {
            return (files, moved);
        }
        let Self { by_path, polled, mounts, .. } = self;
        for (path, directory) in
            by_path.iter_mut().filter(|(_, directory)| directory.watch.is_some())
        {
            let Route { steps, end } = &directory.route;
            if steps.iter().chain([end]).any(|step| changes.contains(step)) {
                moved.push(path.clone());
            }
            if !changes.iter().any(|point| point.parent() == Some(end)) {
                continue;
            }
            let mounted = mounts.inside(end).map(OsStr::to_owned).collect::<BTreeSet<_>>();
            let changed = mounted.symmetric_difference(&directory.mounted);
            files.extend(changed.filter_map(|name| directory.files.get(name)).flatten());
            directory.mounted = mounted;
            if directory.is_reliable() {
                polled.remove(path);
            } else {
                polled.insert(path.clone());
            }
        }
        (files, moved)
    }

    /// Removes all watches permanently.
    pub(super) fn stop_using_inotify(&mut self) {
        self.watches = None;
        self.by_descriptor.clear();
        for (path, directory) in &mut self.by_path {
            directory.watch = None;
            self.polled.insert(path.clone());
        }
    }

    fn of(&self, descriptor: i32) -> impl Iterator<Item = &Directory> {
        let watched = self.by_descriptor.get(&descriptor);
        let paths = watched.into_iter().flat_map(|watched| &watched.directories);
        paths.filter_map(|path| self.by_path.get(path))
    }

    fn inside(&self, path: &Path) -> Vec<u32> {
        let Some(directory) = self.by_path.get(path) else { return Vec::new() };
        directory.files.values().flatten().chain(&directory.whole_keys).copied().collect()
    }

    /// Starts to watch the directory at `path`, if inotify reports every change in it and on its
    /// route. Otherwise it is polled.
    fn watch(&mut self, path: &Path) {
        // Read before the watch begins and compared afterwards.
        let Some(DirectoryState { identity, is_local }) = DirectoryState::of(path) else { return };
        let Some(directory) = self.by_path.get_mut(path) else { return };
        directory.device = identity.0;
        if !is_local {
            return;
        }
        let (Some(watches), Some(route)) = (&mut self.watches, Route::of(path)) else { return };
        directory.mounted = self.mounts.inside(&route.end).map(OsStr::to_owned).collect();
        directory.route = route;
        let descriptor = match watches.add(path, DIRECTORY_EVENTS) {
            Ok(descriptor) => descriptor,
            Err(error) => {
                self.lacks_watches |= InotifyError::is_watch_limit(&error);
                return;
            }
        };
        let steps = directory.route.steps.iter();
        let added: Vec<_> = steps.map(|step| watches.add(step, ROUTE_EVENTS)).collect();
        let errors = added.iter().filter_map(|added| added.as_ref().err());
        self.lacks_watches = errors.into_iter().any(InotifyError::is_watch_limit);
        let is_complete = added.iter().all(Result::is_ok);
        let route: Vec<WatchDescriptor> = added.into_iter().flatten().collect();
        let id = descriptor.get_watch_descriptor_id();
        self.by_descriptor.entry(id).or_default().directories.insert(path.to_owned());
        for step in &route {
            let id = step.get_watch_descriptor_id();
            self.by_descriptor.entry(id).or_default().through.insert(path.to_owned());
        }
        directory.watch = Some(Watch { descriptor, route, identity });
        if directory.is_reliable() {
            self.polled.remove(path);
        }
        if !is_complete || DirectoryState::of(path).is_none_or(|now| now.identity != identity) {
            self.unwatch(path);
        }
    }

    /// Removes the watch on the directory at `path`, if any.
    fn unwatch(&mut self, path: &Path) {
        let Some(directory) = self.by_path.get_mut(path) else { return };
        let Some(Watch { descriptor, route, .. }) = directory.watch.take() else { return };
        self.polled.insert(path.to_owned());
        self.release(descriptor, path, |watched| &mut watched.directories);
        for step in route {
            self.release(step, path, |watched| &mut watched.through);
        }
    }

    /// Removes one use of a watch, and the watch if it was the last use.
    fn release(
        &mut self,
        descriptor: WatchDescriptor,
        path: &Path,
        users: impl Fn(&mut WatchUse) -> &mut BTreeSet<PathBuf>,
    ) {
        let id = descriptor.get_watch_descriptor_id();
        let Some(watched) = self.by_descriptor.get_mut(&id) else { return };
        users(watched).remove(path);
        if watched.directories.is_empty() && watched.through.is_empty() {
            self.by_descriptor.remove(&id);
            if let Some(watches) = &mut self.watches {
                // Fails if the kernel has ended the watch already.
                let _ = watches.remove(descriptor);
            }
        }
    }
}

impl Directory {
    /// Whether inotify reports every change in it.
    fn is_reliable(&self) -> bool {
        self.watch.is_some() && self.mounted.is_empty()
    }

    /// Whether inotify may not report a change of the file called `name`.
    fn is_unreliable(&self, name: &OsStr) -> bool {
        self.watch.is_none() || self.mounted.contains(name)
    }
}
