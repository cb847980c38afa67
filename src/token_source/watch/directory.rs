//! A folder of which every file is of interest, the ones to come as well.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::polling::{Stamps, differences};
use crate::file::FileStamp;

/// What may have changed in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedNames {
    /// The files of these names: written, replaced, created or removed.
    Names(BTreeSet<OsString>),
    /// Any of them.
    All,
}

/// A folder that is watched as a whole.
#[derive(Debug)]
pub(super) struct WatchedDirectory {
    pub(super) path: PathBuf,
    /// What the folder itself was when it was last looked at; `None` if it was not there.
    stamp: Option<FileStamp>,
    changed_names: ChangedNames,
    /// Where inotify does not report every change: what the files were in the last pass.
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

    /// Takes note of a file.
    pub(super) fn add_name(&mut self, name: &OsStr) {
        if let ChangedNames::Names(names) = &mut self.changed_names
            && !names.contains(name)
        {
            names.insert(name.to_owned());
        }
    }

    /// Takes note that something was missed.
    pub(super) fn set_all(&mut self) {
        self.changed_names = ChangedNames::All;
    }

    /// Looks at the folder itself, unless it is known which files to look at; returns whether
    /// anything may have changed.
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

    /// Takes what the files are in a pass; returns whether any has changed since the last one.
    /// Before the first one, each may have.
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

    /// What was noticed since it was last taken.
    pub(super) fn take(&mut self) -> ChangedNames {
        std::mem::replace(&mut self.changed_names, ChangedNames::Names(BTreeSet::new()))
    }
}
