//! A directory that is watched with all present and future files in it.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::file::FileStamp;

/// Stamps of files by name.
pub(super) type Stamps = HashMap<OsString, FileStamp>;

/// The files of a directory that may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedNames {
    /// Files with these names were written, replaced, created or removed.
    Names(BTreeSet<OsString>),
    /// Any file may have changed.
    All,
}

/// A watched directory.
#[derive(Debug)]
pub(super) struct WatchedDirectory {
    pub(super) path: PathBuf,
    /// Stamp of the directory at the last comparison; `None` if it did not exist.
    stamp: Option<FileStamp>,
    changed_names: ChangedNames,
    /// If the directory is polled: the stamps of its files in the last pass.
    stamps: Option<Stamps>,
}

impl WatchedDirectory {
    pub(super) fn new(path: PathBuf) -> Self {
        let stamp = FileStamp::of(&path);
        Self { path, stamp, changed_names: ChangedNames::Names(BTreeSet::new()), stamps: None }
    }

    pub(super) fn is_at(&self, path: Option<&PathBuf>) -> bool {
        path.is_some_and(|path| path == Path::new(&self.path))
    }

    /// Adds the name of a changed file.
    pub(super) fn add_name(&mut self, name: &OsStr) {
        if let ChangedNames::Names(names) = &mut self.changed_names
            && !names.contains(name)
        {
            names.insert(name.to_owned());
        }
    }

    /// Marks all files as possibly changed.
    pub(super) fn set_all(&mut self) {
        self.changed_names = ChangedNames::All;
    }

    /// Compares the stamp of the directory, unless changed names are known. Returns whether any
    /// file may have changed.
    pub(super) fn compare(&mut self) -> bool {
        let stamp = FileStamp::of(&self.path);
        let same = stamp == self.stamp;
        self.stamp = stamp;
        match &self.changed_names {
            ChangedNames::Names(names) if !names.is_empty() => {}
            ChangedNames::Names(_) if same => return false,
            ChangedNames::Names(_) => self.changed_names = ChangedNames::All,
            ChangedNames::All => {}
        }
        true
    }

    /// Stores the stamps of a pass and returns whether a file has changed since the last one.
    /// Before the first pass, every file counts as changed.
    pub(super) fn take_stamps(&mut self, stamps: Stamps) -> bool {
        let changed = match &self.stamps {
            Some(old) => differences(old, &stamps),
            None => stamps.keys().cloned().collect(),
        };
        self.stamps = Some(stamps);
        for name in &changed {
            self.add_name(name);
        }
        !changed.is_empty()
    }

    /// Returns and clears the changed names.
    pub(super) fn take(&mut self) -> ChangedNames {
        std::mem::replace(&mut self.changed_names, ChangedNames::Names(BTreeSet::new()))
    }
}

/// Names with different stamps.
fn differences(old: &Stamps, new: &Stamps) -> BTreeSet<OsString> {
    let changed = new.iter().filter(|(name, stamp)| old.get(*name) != Some(*stamp));
    let gone = old.iter().filter(|(name, _)| !new.contains_key(*name));
    changed.chain(gone).map(|(name, _)| name.clone()).collect()
}
