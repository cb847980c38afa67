//! The folders that token files are in: which of them inotify watches, and whose files they hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use inotify::{WatchDescriptor, WatchMask, Watches};

use crate::token_file::links::parent;

/// How many folders one probe looks at, of those that are watched and of those that are not:
/// some 300 µs. More take turns, so that no number of folders holds the daemon up.
const TURN: usize = 256;

/// Everything that can change what a file in a folder holds, or whether it may be read, and
/// the end of the folder itself.
const SIGNS: WatchMask = WatchMask::CREATE
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::MODIFY)
    .union(WatchMask::ATTRIB)
    .union(WatchMask::MOVE)
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR);

/// The folders, by path.
#[derive(Debug)]
pub(super) struct Folders {
    /// `None` where there is no inotify.
    watches: Option<Watches>,
    by_path: BTreeMap<PathBuf, Folder>,
    /// Two paths to the same folder share a watch.
    by_descriptor: HashMap<i32, BTreeSet<PathBuf>>,
    unwatched: BTreeSet<PathBuf>,
    /// The last folder that was probed, of all and of those that are not watched.
    probed: (PathBuf, PathBuf),
}

#[derive(Debug, Default)]
struct Folder {
    watch: Option<Watch>,
    /// The keys of the files, by name.
    files: HashMap<OsString, Vec<u32>>,
    /// Those of them that are reached through links.
    linked: BTreeSet<u32>,
    /// The keys under which every file in it is of interest.
    wholes: BTreeSet<u32>,
}

#[derive(Debug)]
struct Watch {
    descriptor: WatchDescriptor,
    /// Which folder the path led to just before the watch began.
    identity: Identity,
}

/// Device and inode.
pub(super) type Identity = (u64, u64);

impl Folders {
    pub(super) fn new(watches: Option<Watches>) -> Self {
        Self {
            watches,
            by_path: BTreeMap::new(),
            by_descriptor: HashMap::new(),
            unwatched: BTreeSet::new(),
            probed: (PathBuf::new(), PathBuf::new()),
        }
    }

    /// How many watches there are.
    pub(super) fn watched(&self) -> usize {
        self.by_descriptor.len()
    }

    /// How many folders have none.
    pub(super) fn unwatched(&self) -> usize {
        self.unwatched.len()
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

    /// Takes back what [`Folders::attach`] did for the same key and steps.
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
    pub(super) fn attach_whole(&mut self, key: u32, path: &Path) {
        if let Some(folder) = self.folder(path) {
            folder.wholes.insert(key);
        }
    }

    /// Takes back what [`Folders::attach_whole`] did.
    pub(super) fn detach_whole(&mut self, key: u32, path: &Path) {
        if let Some(folder) = self.by_path.get_mut(path) {
            folder.wholes.remove(&key);
        }
        self.leave(path);
    }

    /// The folder at `path`, watched from now on if it can be.
    fn folder(&mut self, path: &Path) -> Option<&mut Folder> {
        if !self.by_path.contains_key(path) {
            self.by_path.insert(path.to_owned(), Folder::default());
            self.unwatched.insert(path.to_owned());
            self.watch(path);
        }
        self.by_path.get_mut(path)
    }

    /// Lets go of the folder at `path` if nothing in it is of interest any more.
    fn leave(&mut self, path: &Path) {
        let unused = |folder: &Folder| folder.files.is_empty() && folder.wholes.is_empty();
        if self.by_path.get(path).is_some_and(unused) {
            self.unwatch(path);
            self.unwatched.remove(path);
            self.by_path.remove(path);
        }
    }

    /// The keys for which every file in the folder of a watch is of interest.
    pub(super) fn wholes(&self, descriptor: i32) -> Vec<u32> {
        self.of(descriptor).flat_map(|folder| &folder.wholes).copied().collect()
    }

    /// The files called `name` in the folder of a watch.
    pub(super) fn named(&self, descriptor: i32, name: &OsStr) -> Vec<u32> {
        self.of(descriptor).filter_map(|folder| folder.files.get(name)).flatten().copied().collect()
    }

    /// The files that are reached by links through the folder of a watch.
    pub(super) fn linked(&self, descriptor: i32) -> Vec<u32> {
        self.of(descriptor).flat_map(|folder| &folder.linked).copied().collect()
    }

    /// Takes note that a watch has ended or its folder was moved; returns the files concerned.
    pub(super) fn lose(&mut self, descriptor: i32) -> Vec<u32> {
        let paths = self.by_descriptor.get(&descriptor).cloned().unwrap_or_default();
        for path in &paths {
            self.unwatch(path);
        }
        paths.iter().flat_map(|path| self.inside(path)).collect()
    }

    /// Makes sure that the folder that `path` leads to now is the one that is watched; returns
    /// the files in it if that was not so, or cannot be had.
    pub(super) fn ensure(&mut self, path: &Path) -> Vec<u32> {
        if self.by_path.contains_key(path) { self.led(path, identity(path)) } else { Vec::new() }
    }

    /// The same for a path that led to this folder a moment ago.
    fn led(&mut self, path: &Path, to: Option<Identity>) -> Vec<u32> {
        let Some(folder) = self.by_path.get(path) else { return Vec::new() };
        match (to, &folder.watch) {
            (None, None) => return Vec::new(),
            (Some(now), Some(watch)) if watch.identity == now => return Vec::new(),
            (_, Some(_)) => self.unwatch(path),
            (Some(_), None) => {}
        }
        self.watch(path);
        self.inside(path)
    }

    /// The folders whose turn it is to be looked at.
    pub(super) fn turn(&mut self) -> BTreeSet<PathBuf> {
        let (all, unwatched) = &mut self.probed;
        let (after, until) = around(all);
        let keys = |(path, _): (&PathBuf, &Folder)| path.clone();
        let mut turn: BTreeSet<PathBuf> = self
            .by_path
            .range::<Path, _>(after)
            .chain(self.by_path.range::<Path, _>(until))
            .map(keys)
            .take(TURN)
            .inspect(|path| all.clone_from(path))
            .collect();
        let (after, until) = around(unwatched);
        turn.extend(
            self.unwatched
                .range::<Path, _>(after)
                .chain(self.unwatched.range::<Path, _>(until))
                .take(TURN)
                .inspect(|path| unwatched.clone_from(path))
                .cloned(),
        );
        turn
    }

    /// What a [look](look) at some of them has found; returns the files of those that were not,
    /// or are not, watched.
    pub(super) fn looked(&mut self, seen: Seen) -> Vec<u32> {
        seen.into_iter().flat_map(|(path, to)| self.led(&path, to)).collect()
    }

    /// Lets go of all watches, for good.
    pub(super) fn do_without_inotify(&mut self) {
        self.watches = None;
        self.by_descriptor.clear();
        for (path, folder) in &mut self.by_path {
            folder.watch = None;
            self.unwatched.insert(path.clone());
        }
    }

    fn of(&self, descriptor: i32) -> impl Iterator<Item = &Folder> {
        let paths = self.by_descriptor.get(&descriptor).into_iter().flatten();
        paths.filter_map(|path| self.by_path.get(path))
    }

    fn inside(&self, path: &Path) -> Vec<u32> {
        let Some(folder) = self.by_path.get(path) else { return Vec::new() };
        folder.files.values().flatten().chain(&folder.wholes).copied().collect()
    }

    /// Begins to watch the folder at `path`, if that can be had.
    fn watch(&mut self, path: &Path) {
        // Before the watch begins: if the path is made to lead elsewhere in between, the next
        // probe finds another identity than this one, and watches anew.
        let Some(identity) = identity(path) else { return };
        let Some(watches) = &mut self.watches else { return };
        let Some(folder) = self.by_path.get_mut(path) else { return };
        if let Ok(descriptor) = watches.add(path, SIGNS) {
            let id = descriptor.get_watch_descriptor_id();
            self.by_descriptor.entry(id).or_default().insert(path.to_owned());
            self.unwatched.remove(path);
            folder.watch = Some(Watch { descriptor, identity });
        }
    }

    /// Ends the watch on the folder at `path`, if there is one.
    fn unwatch(&mut self, path: &Path) {
        let Some(folder) = self.by_path.get_mut(path) else { return };
        let Some(watch) = folder.watch.take() else { return };
        self.unwatched.insert(path.to_owned());
        let id = watch.descriptor.get_watch_descriptor_id();
        let Some(paths) = self.by_descriptor.get_mut(&id) else { return };
        paths.remove(path);
        if paths.is_empty() {
            self.by_descriptor.remove(&id);
            if let Some(watches) = &mut self.watches {
                // It fails where the kernel has ended the watch already.
                let _ = watches.remove(watch.descriptor);
            }
        }
    }
}

/// Everything after `path`, and everything up to it.
fn around(path: &Path) -> (PathRange<'_>, PathRange<'_>) {
    ((Excluded(path), Unbounded), (Unbounded, Included(path)))
}

type PathRange<'a> = (std::ops::Bound<&'a Path>, std::ops::Bound<&'a Path>);

/// Where some paths lead.
pub(super) type Seen = Vec<(PathBuf, Option<Identity>)>;

/// Looks where paths lead. It takes as long as the slowest of their disks, which may be gone.
pub(super) fn look(paths: BTreeSet<PathBuf>) -> Seen {
    let look = |path: PathBuf| {
        let to = identity(&path);
        (path, to)
    };
    paths.into_iter().map(look).collect()
}

/// Which folder `path` leads to, if any.
fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
