//! The folders that token files are in: which of them inotify watches, and whose files they hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use inotify::{WatchDescriptor, WatchMask, Watches};

use super::inotify_error::InotifyError;
use super::route::{Route, is_local};
use crate::token_source::mount_table::MountTable;
use crate::token_source::symlinks::parent;

/// Everything that can change what a file in a folder holds, or whether it may be read, and
/// the end of the folder itself.
const DIRECTORY_EVENTS: WatchMask = WatchMask::CREATE
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::MODIFY)
    .union(WatchMask::ATTRIB)
    .union(WatchMask::MOVE)
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR)
    .union(WatchMask::MASK_ADD);

/// The end of a directory or a symbolic link that the path of a folder leads through. What
/// happens in the directory is not reported, however busy it is.
const ROUTE_EVENTS: WatchMask = WatchMask::MOVE_SELF
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::DONT_FOLLOW)
    .union(WatchMask::MASK_ADD);

/// The folders, by path.
#[derive(Debug)]
pub(super) struct DirectoryWatches {
    /// `None` where there is no inotify.
    watches: Option<Watches>,
    mounts: MountTable,
    by_path: BTreeMap<PathBuf, Folder>,
    by_descriptor: HashMap<i32, WatchUse>,
    unwatched: BTreeSet<PathBuf>,
    /// Folders of which inotify does not report every change.
    polled: BTreeSet<PathBuf>,
    /// No watch was left when one was last asked for.
    lacks_watches: bool,
    /// Folders that are to be watched again: where their paths lead may have changed.
    lost: BTreeSet<PathBuf>,
}

#[derive(Debug, Default)]
struct Folder {
    watch: Option<Watch>,
    /// The keys of the files, by name.
    files: HashMap<OsString, Vec<u32>>,
    /// Those of them that are reached through links.
    linked: BTreeSet<u32>,
    /// The keys under which every file in it is of interest.
    directories: BTreeSet<u32>,
    /// What its path led through when it was last seen.
    route: Route,
    /// The names of files in it that are mount points.
    mounted: BTreeSet<OsString>,
    /// Its device when it was last seen; 0 before.
    device: u64,
}

#[derive(Debug)]
struct Watch {
    descriptor: WatchDescriptor,
    /// What its path leads through.
    route: Vec<WatchDescriptor>,
    /// Which folder the path led to just before the watch began.
    identity: Identity,
}

/// What one inotify watch is for. Two paths to the same folder share it.
#[derive(Debug, Default)]
struct WatchUse {
    /// The paths of the folder that it watches.
    folders: BTreeSet<PathBuf>,
    /// The folders whose paths lead through it.
    through: BTreeSet<PathBuf>,
}

/// Which part of a folder is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PolledNames {
    /// All files.
    All,
    /// These mount points only.
    Names(BTreeSet<OsString>),
}

/// Device and inode.
type Identity = (u64, u64);

/// A folder that a path leads to.
#[derive(Debug, Clone, Copy)]
pub(super) struct DirectoryState {
    identity: Identity,
    is_local: bool,
}

impl DirectoryState {
    /// Where `path` leads now, if to anything. It takes as long as the disk, which may be gone.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let identity = (metadata.dev(), metadata.ino());
        Some(Self { identity, is_local: is_local(path) })
    }
}

impl DirectoryWatches {
    pub(super) fn new(watches: Option<Watches>) -> Self {
        Self {
            watches,
            mounts: MountTable::read().unwrap_or_default(),
            by_path: BTreeMap::new(),
            by_descriptor: HashMap::new(),
            unwatched: BTreeSet::new(),
            polled: BTreeSet::new(),
            lacks_watches: false,
            lost: BTreeSet::new(),
        }
    }

    /// How many folders are watched.
    pub(super) fn watched(&self) -> usize {
        self.by_descriptor.values().filter(|watched| !watched.folders.is_empty()).count()
    }

    /// How many folders have none.
    pub(super) fn unwatched(&self) -> usize {
        self.unwatched.len()
    }

    /// Whether no watch was left when one was last asked for.
    pub(super) const fn lacks_watches(&self) -> bool {
        self.lacks_watches
    }

    /// Watches the folders of all `steps` for the file `key`.
    pub(super) fn attach(&mut self, key: u32, steps: &[&Path]) {
        let linked = steps.len() > 1;
        for step in steps {
            let Some(name) = step.file_name() else { continue };
            if let Some(folder) = self.folder(parent(step)) {
                folder.files.entry(name.to_owned()).or_default().push(key);
                if linked {
                    folder.linked.insert(key);
                }
            }
        }
    }

    /// Takes back what [`DirectoryWatches::attach`] did for the same key and steps.
    pub(super) fn detach(&mut self, key: u32, steps: &[&Path]) {
        for step in steps {
            let path = parent(step);
            let (Some(name), Some(folder)) = (step.file_name(), self.by_path.get_mut(path)) else {
                continue;
            };
            folder.linked.remove(&key);
            if let Some(keys) = folder.files.get_mut(name) {
                keys.retain(|other| *other != key);
                if keys.is_empty() {
                    folder.files.remove(name);
                }
            }
            self.leave(path);
        }
    }

    /// Watches the folder at `path` for the key, whatever its files are called.
    pub(super) fn attach_directory(&mut self, key: u32, path: &Path) {
        if let Some(folder) = self.folder(path) {
            folder.directories.insert(key);
        }
    }

    /// Takes back what [`DirectoryWatches::attach_directory`] did.
    pub(super) fn detach_directory(&mut self, key: u32, path: &Path) {
        if let Some(folder) = self.by_path.get_mut(path) {
            folder.directories.remove(&key);
        }
        self.leave(path);
    }

    /// The folder at `path`, watched from now on if it can be.
    fn folder(&mut self, path: &Path) -> Option<&mut Folder> {
        if !self.by_path.contains_key(path) {
            self.by_path.insert(path.to_owned(), Folder::default());
            self.unwatched.insert(path.to_owned());
            self.polled.insert(path.to_owned());
            self.watch(path);
        }
        self.by_path.get_mut(path)
    }

    /// Lets go of the folder at `path` if nothing in it is of interest any more.
    fn leave(&mut self, path: &Path) {
        let unused = |folder: &Folder| folder.files.is_empty() && folder.directories.is_empty();
        if self.by_path.get(path).is_some_and(unused) {
            self.unwatch(path);
            self.unwatched.remove(path);
            self.polled.remove(path);
            self.lost.remove(path);
            self.by_path.remove(path);
        }
    }

    /// The keys for which every file in the folder of a watch is of interest.
    pub(super) fn directories(&self, descriptor: i32) -> Vec<u32> {
        self.of(descriptor).flat_map(|folder| &folder.directories).copied().collect()
    }

    /// The files called `name` in the folder of a watch.
    pub(super) fn named(&self, descriptor: i32, name: &OsStr) -> Vec<u32> {
        self.of(descriptor).filter_map(|folder| folder.files.get(name)).flatten().copied().collect()
    }

    /// The files that are reached by links through the folder of a watch.
    pub(super) fn linked(&self, descriptor: i32) -> Vec<u32> {
        self.of(descriptor).flat_map(|folder| &folder.linked).copied().collect()
    }

    /// Takes note that a watch has ended, or that what it watches was moved; returns the files
    /// concerned. Their folders are watched again by [`DirectoryWatches::rewatch_lost`].
    pub(super) fn on_watch_lost(&mut self, descriptor: i32) -> Vec<u32> {
        let Some(WatchUse { folders, through }) = self.by_descriptor.get(&descriptor) else {
            return Vec::new();
        };
        let paths: BTreeSet<PathBuf> = folders.union(through).cloned().collect();
        for path in &paths {
            self.unwatch(path);
        }
        let inside = paths.iter().flat_map(|path| self.inside(path)).collect();
        self.lost.extend(paths);
        inside
    }

    /// Watches the folders again that were [lost](Self::lose), as far as they are there.
    pub(super) fn rewatch_lost(&mut self) {
        for path in std::mem::take(&mut self.lost) {
            self.ensure_watched(&path);
        }
    }

    /// Makes sure that the folder that `path` leads to now is the one that is watched; returns
    /// the files in it if that was not so.
    pub(super) fn ensure_watched(&mut self, path: &Path) -> Vec<u32> {
        if self.by_path.contains_key(path) {
            self.on_path_target(path, DirectoryState::of(path))
        } else {
            Vec::new()
        }
    }

    /// The same for a path that led to this place a moment ago.
    fn on_path_target(&mut self, path: &Path, to: Option<DirectoryState>) -> Vec<u32> {
        let Some(folder) = self.by_path.get_mut(path) else { return Vec::new() };
        let had_watch = folder.watch.is_some();
        match (to, &folder.watch) {
            (None, None) => return Vec::new(),
            (Some(now), Some(watch)) if watch.identity == now.identity => return Vec::new(),
            (Some(now), None) if !now.is_local => {
                folder.device = now.identity.0;
                return Vec::new();
            }
            (_, Some(_)) => self.unwatch(path),
            (Some(_), None) => {}
        }
        self.watch(path);
        let has_watch = self.by_path.get(path).is_some_and(|folder| folder.watch.is_some());
        if had_watch || has_watch { self.inside(path) } else { Vec::new() }
    }

    /// Whether there is a folder of which inotify does not report every change.
    pub(super) fn has_polled(&self) -> bool {
        !self.polled.is_empty()
    }

    /// The folders of which inotify does not report every change.
    pub(super) fn polled(&self) -> impl Iterator<Item = &PathBuf> {
        self.polled.iter()
    }

    /// The device of the folder when it was last seen.
    pub(super) fn device(&self, path: &Path) -> u64 {
        self.by_path.get(path).map_or(0, |folder| folder.device)
    }

    /// The files in polled folders of which inotify does not report every change.
    pub(super) fn polled_files(&self) -> BTreeSet<u32> {
        let folders = self.polled.iter().filter_map(|path| self.by_path.get(path));
        let files = folders.flat_map(|folder| {
            let names = folder.files.iter();
            names.filter(|(name, _)| folder.is_unreliable(name)).flat_map(|(_, keys)| keys)
        });
        files.copied().collect()
    }

    /// The folders of interest as a whole of which inotify does not report every change.
    pub(super) fn polled_directories(&self) -> Vec<(u32, PolledNames)> {
        let folders = self.polled.iter().filter_map(|path| self.by_path.get(path));
        let parts = folders.flat_map(|folder| {
            let part = match folder.watch {
                None => PolledNames::All,
                Some(_) => PolledNames::Names(folder.mounted.clone()),
            };
            folder.directories.iter().map(move |key| (*key, part.clone()))
        });
        parts.collect()
    }

    /// Whether inotify does not report every change of the file at `path`.
    pub(super) fn is_polled(&self, path: &Path) -> bool {
        let folder = self.by_path.get(parent(path));
        folder.is_some_and(|folder| path.file_name().is_some_and(|it| folder.is_unreliable(it)))
    }

    /// What a look at some folders has found; returns the files of those that were not, or are
    /// not, watched.
    pub(super) fn on_directories_polled(
        &mut self,
        seen: Vec<(PathBuf, Option<DirectoryState>)>,
    ) -> Vec<u32> {
        seen.into_iter().flat_map(|(path, to)| self.on_path_target(&path, to)).collect()
    }

    /// Takes the mount table as it is now. Returns the files that became, or were, mount points,
    /// and the folders that paths may lead to now in place of the watched ones.
    pub(super) fn apply_mount_table(&mut self, now: MountTable) -> (Vec<u32>, Vec<PathBuf>) {
        let (mut files, mut moved) = (Vec::new(), Vec::new());
        let changes = self.mounts.changes(&now);
        self.mounts = now;
        if changes.is_empty() {
            return (files, moved);
        }
        let Self { by_path, polled, mounts, .. } = self;
        for (path, folder) in by_path.iter_mut().filter(|(_, folder)| folder.watch.is_some()) {
            let Route { steps, end } = &folder.route;
            if steps.iter().chain([end]).any(|step| changes.contains(step)) {
                moved.push(path.clone());
            }
            if !changes.iter().any(|point| point.parent() == Some(end)) {
                continue;
            }
            let mounted = mounts.inside(end).map(OsStr::to_owned).collect::<BTreeSet<_>>();
            let changed = mounted.symmetric_difference(&folder.mounted);
            files.extend(changed.filter_map(|name| folder.files.get(name)).flatten());
            folder.mounted = mounted;
            if folder.is_reliable() {
                polled.remove(path);
            } else {
                polled.insert(path.clone());
            }
        }
        (files, moved)
    }

    /// Lets go of all watches, for good.
    pub(super) fn stop_using_inotify(&mut self) {
        self.watches = None;
        self.by_descriptor.clear();
        for (path, folder) in &mut self.by_path {
            folder.watch = None;
            self.unwatched.insert(path.clone());
            self.polled.insert(path.clone());
        }
    }

    fn of(&self, descriptor: i32) -> impl Iterator<Item = &Folder> {
        let watched = self.by_descriptor.get(&descriptor);
        let paths = watched.into_iter().flat_map(|watched| &watched.folders);
        paths.filter_map(|path| self.by_path.get(path))
    }

    fn inside(&self, path: &Path) -> Vec<u32> {
        let Some(folder) = self.by_path.get(path) else { return Vec::new() };
        folder.files.values().flatten().chain(&folder.directories).copied().collect()
    }

    /// Begins to watch the folder at `path`, if inotify reports every change in it and of its
    /// path. Otherwise it is polled.
    fn watch(&mut self, path: &Path) {
        // Before the watch begins, and compared after it.
        let Some(DirectoryState { identity, is_local }) = DirectoryState::of(path) else { return };
        let Some(folder) = self.by_path.get_mut(path) else { return };
        folder.device = identity.0;
        if !is_local {
            return;
        }
        let (Some(watches), Some(route)) = (&mut self.watches, Route::of(path)) else { return };
        folder.mounted = self.mounts.inside(&route.end).map(OsStr::to_owned).collect();
        folder.route = route;
        let descriptor = match watches.add(path, DIRECTORY_EVENTS) {
            Ok(descriptor) => descriptor,
            Err(error) => {
                self.lacks_watches |= InotifyError::is_watch_limit(&error);
                return;
            }
        };
        let steps = folder.route.steps.iter();
        let added: Vec<_> = steps.map(|step| watches.add(step, ROUTE_EVENTS)).collect();
        let errors = added.iter().filter_map(|added| added.as_ref().err());
        self.lacks_watches = errors.into_iter().any(InotifyError::is_watch_limit);
        let is_complete = added.iter().all(Result::is_ok);
        let route: Vec<WatchDescriptor> = added.into_iter().flatten().collect();
        let id = descriptor.get_watch_descriptor_id();
        self.by_descriptor.entry(id).or_default().folders.insert(path.to_owned());
        for step in &route {
            let id = step.get_watch_descriptor_id();
            self.by_descriptor.entry(id).or_default().through.insert(path.to_owned());
        }
        folder.watch = Some(Watch { descriptor, route, identity });
        self.unwatched.remove(path);
        if folder.is_reliable() {
            self.polled.remove(path);
        }
        if !is_complete || DirectoryState::of(path).is_none_or(|now| now.identity != identity) {
            self.unwatch(path);
        }
    }

    /// Ends the watch on the folder at `path`, if there is one.
    fn unwatch(&mut self, path: &Path) {
        let Some(folder) = self.by_path.get_mut(path) else { return };
        let Some(Watch { descriptor, route, .. }) = folder.watch.take() else { return };
        self.unwatched.insert(path.to_owned());
        self.polled.insert(path.to_owned());
        self.release(descriptor, path, |watched| &mut watched.folders);
        for step in route {
            self.release(step, path, |watched| &mut watched.through);
        }
    }

    /// A watch is not needed for this path any more.
    fn release(
        &mut self,
        descriptor: WatchDescriptor,
        path: &Path,
        users: impl Fn(&mut WatchUse) -> &mut BTreeSet<PathBuf>,
    ) {
        let id = descriptor.get_watch_descriptor_id();
        let Some(watched) = self.by_descriptor.get_mut(&id) else { return };
        users(watched).remove(path);
        if watched.folders.is_empty() && watched.through.is_empty() {
            self.by_descriptor.remove(&id);
            if let Some(watches) = &mut self.watches {
                // It fails where the kernel has ended the watch already.
                let _ = watches.remove(descriptor);
            }
        }
    }
}

impl Folder {
    /// Whether inotify reports every change in it.
    fn is_reliable(&self) -> bool {
        self.watch.is_some() && self.mounted.is_empty()
    }

    /// Whether inotify may not report a change of the file called `name`.
    fn is_unreliable(&self, name: &OsStr) -> bool {
        self.watch.is_none() || self.mounted.contains(name)
    }
}
