//! A folder of which every file is of interest, the ones to come as well.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::compare::{Stamps, differences};
use crate::file::FileStamp;

/// What may have changed in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// The files of these names: written, replaced, created or removed.
    Names(BTreeSet<OsString>),
    /// Any of them.
    All,
}

/// A folder that is watched as a whole.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) path: PathBuf,
    /// What the folder itself was when it was last looked at; `None` if it was not there.
    stamp: Option<FileStamp>,
    touched: Touched,
    /// Where inotify does not report every change: what the files were in the last pass.
    stamps: Option<Stamps>,
}

impl Whole {
    pub(super) fn new(path: PathBuf) -> Self {
        let stamp = FileStamp::of(&path);
        Self { path, stamp, touched: Touched::Names(BTreeSet::new()), stamps: None }
    }

    pub(super) fn is_at(&self, path: Option<&PathBuf>) -> bool {
        path.is_some_and(|path| path == Path::new(&self.path))
    }

    /// Takes note of a file.
    pub(super) fn touch(&mut self, name: &OsStr) {
        if let Touched::Names(names) = &mut self.touched
            && !names.contains(name)
        {
            names.insert(name.to_owned());
        }
    }

    /// Takes note that something was missed.
    pub(super) fn touch_all(&mut self) {
        self.touched = Touched::All;
    }

    /// Looks at the folder itself, unless it is known which files to look at; returns whether
    /// anything may have changed.
    pub(super) fn compare(&mut self) -> bool {
        let stamp = FileStamp::of(&self.path);
        let same = stamp == self.stamp;
        self.stamp = stamp;
        match &self.touched {
            Touched::Names(names) if !names.is_empty() => {}
            Touched::Names(_) if same => return false,
            Touched::Names(_) => self.touched = Touched::All,
            Touched::All => {}
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
            self.touch(name);
        }
        !changed.is_empty()
    }

    /// What was noticed since it was last taken.
    pub(super) fn take(&mut self) -> Touched {
        std::mem::replace(&mut self.touched, Touched::Names(BTreeSet::new()))
    }
}
