//! Noticing that a token's file has changed, within a second or two and without being told.
//!
//! Folders are watched, not files: a file is usually replaced, and a watch would stay with the
//! old one. There is one inotify descriptor, one watch for each folder, and two timers, however
//! many files there are. What a file holds is not looked at here.
//!
//! Where inotify does not see a change (a folder that is not there yet, one that was replaced
//! or moved with its parents, a limit of the kernel that is used up), a look once a second does.

mod file;
mod folders;
mod whole;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use inotify::{EventMask, EventOwned, EventStream, Inotify};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Interval, MissedTickBehavior, Sleep, interval, sleep};

use self::file::{Stamp, Watched, links};
use self::folders::{Folders, Seen, look};
pub use self::whole::Touched;
use self::whole::Whole;
use super::TEMPORARY_PREFIX;

/// From the first sign of a change until files are looked at: a replacement is a burst of
/// events, and ten thousand replacements are one batch.
const SETTLING: Duration = Duration::from_millis(100);

/// Between two looks at folders that inotify cannot be trusted with.
const PROBING: Duration = Duration::from_secs(1);

/// Room for some two hundred events a read.
const BUFFER_BYTES: usize = 16 * 1024;

/// Signs that a file's content was written, whatever its stamp says: two writes within one tick
/// of the file system's clock leave the same stamp.
const WRITTEN: EventMask = EventMask::CLOSE_WRITE.union(EventMask::MOVED_TO);

/// Signs that a watch has ended or no longer belongs to its path.
const FOLDER_GONE: EventMask =
    EventMask::IGNORED.union(EventMask::MOVE_SELF).union(EventMask::UNMOUNT);

/// Watches files, and folders as a whole, each known by a key of the caller's.
#[derive(Debug)]
pub struct Watcher {
    /// `None` where inotify is not to be had: then everything is looked at once a second.
    events: Option<EventStream<Vec<u8>>>,
    fault: Option<io::Error>,
    folders: Folders,
    files: HashMap<u32, Watched>,
    wholes: HashMap<u32, Whole>,
    /// Files that may have changed, and whether that is certain.
    suspects: BTreeMap<u32, bool>,
    settling: Option<Pin<Box<Sleep>>>,
    probing: Interval,
    /// A look at folders, on a thread of its own: one whose disk hangs holds up the next look,
    /// and nothing else.
    look: Option<JoinHandle<Seen>>,
}

impl Watcher {
    /// A watcher of nothing. To be called within a tokio runtime.
    ///
    /// Without inotify it works all the same, by looking once a second; see [`Watcher::fault`].
    pub fn new() -> Self {
        let events =
            Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0; BUFFER_BYTES]));
        let (events, fault) = match events {
            Ok(events) => (Some(events), None),
            Err(error) => (None, Some(error)),
        };
        let mut probing = interval(PROBING);
        probing.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            folders: Folders::new(events.as_ref().map(EventStream::watches)),
            events,
            fault,
            files: HashMap::new(),
            wholes: HashMap::new(),
            suspects: BTreeMap::new(),
            settling: None,
            probing,
            look: None,
        }
    }

    /// Why there is no inotify, if there is none: most often `fs.inotify.max_user_instances`.
    pub const fn fault(&self) -> Option<&io::Error> {
        self.fault.as_ref()
    }

    /// How many folders are watched.
    pub fn watched_folders(&self) -> usize {
        self.folders.watched()
    }

    /// How many folders are looked at once a second instead, as they do not exist or a limit
    /// (`fs.inotify.max_user_watches`) is used up.
    pub fn unwatched_folders(&self) -> usize {
        self.folders.unwatched()
    }

    /// Watches the files in `paths`, and no others from now on. Files that were watched before
    /// under the same key are not disturbed.
    ///
    /// To be called before the files are read: a change after this is reported, one before is not.
    pub fn set_paths(&mut self, paths: impl IntoIterator<Item = (u32, PathBuf)>) {
        let wanted: HashMap<u32, PathBuf> = paths.into_iter().collect();
        let gone: Vec<u32> = self
            .files
            .iter()
            .filter(|(key, file)| wanted.get(key) != Some(&file.path))
            .map(|(key, _)| *key)
            .collect();
        for key in gone {
            self.suspects.remove(&key);
            if let Some(file) = self.files.remove(&key) {
                self.folders.detach(key, &file.steps());
            }
        }
        for (key, path) in wanted {
            if self.files.contains_key(&key) {
                continue;
            }
            let mut file = Watched { links: links(&path), path, stamp: None };
            self.folders.attach(key, &file.steps());
            // After the watch began: a change in between is seen twice rather than never.
            file.stamp = Stamp::of(&file.path);
            self.files.insert(key, file);
        }
    }

    /// Watches the folders in `paths` as a whole, and no others from now on: every file in
    /// them, the ones to come as well. Their keys must not be those of files. Otherwise as
    /// [`Watcher::set_paths`].
    ///
    /// Where inotify is not to be had, files that are replaced, created or removed are noticed,
    /// and not those that are written in place.
    pub fn set_folders(&mut self, paths: impl IntoIterator<Item = (u32, PathBuf)>) {
        let wanted: HashMap<u32, PathBuf> = paths.into_iter().collect();
        let folders = &mut self.folders;
        self.wholes.retain(|key, whole| {
            let stays = whole.is_at(wanted.get(key));
            if !stays {
                folders.detach_whole(*key, &whole.path);
            }
            stays
        });
        for (key, path) in wanted {
            self.wholes.entry(key).or_insert_with(|| {
                folders.attach_whole(key, &path);
                Whole::new(path)
            });
        }
    }

    /// What may have changed in the folder of this key, since this was last called.
    pub fn take_touched(&mut self, key: u32) -> Touched {
        self.wholes.get_mut(&key).map_or(Touched::All, Whole::take)
    }

    /// Waits until files may have changed, and returns their keys, or those of the folders that
    /// are watched as a whole, in order: at least one.
    ///
    /// Cancel-safe: what was noticed and not returned is returned the next time. A file that
    /// was written with the same content is among them, and so is one that was removed.
    pub async fn changed(&mut self) -> Vec<u32> {
        loop {
            tokio::select! {
                biased;
                () = elapsed(&mut self.settling) => {
                    self.settling = None;
                    let changed = self.compare();
                    if !changed.is_empty() {
                        return changed;
                    }
                }
                _ = self.probing.tick(), if self.look.is_none() && !self.is_idle() => {
                    let turn = self.folders.turn();
                    self.look = Some(spawn_blocking(|| look(turn)));
                }
                seen = ended(&mut self.look) => {
                    self.look = None;
                    let suspects = self.folders.looked(seen);
                    self.suspect(suspects, false);
                }
                event = next(&mut self.events) => match event {
                    Ok(event) => self.note(&event),
                    Err(error) => self.do_without_inotify(error),
                },
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.files.is_empty() && self.wholes.is_empty()
    }

    /// Concludes from an event which files to look at.
    fn note(&mut self, event: &EventOwned) {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            self.wholes.values_mut().for_each(Whole::touch_all);
            let all: Vec<u32> = self.files.keys().chain(self.wholes.keys()).copied().collect();
            return self.suspect(all, false);
        }
        let descriptor = event.wd.get_watch_descriptor_id();
        match &event.name {
            Some(name) if name.as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()) => {}
            Some(name) => {
                let written = event.mask.intersects(WRITTEN);
                for key in self.folders.wholes(descriptor) {
                    if let Some(whole) = self.wholes.get_mut(&key) {
                        whole.touch(name);
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
            None if event.mask.intersects(FOLDER_GONE) => {
                let inside = self.folders.lose(descriptor);
                self.suspect(inside, false);
            }
            None => {}
        }
    }

    fn do_without_inotify(&mut self, error: io::Error) {
        self.events = None;
        self.fault = Some(error);
        self.folders.do_without_inotify();
    }

    fn suspect(&mut self, keys: impl IntoIterator<Item = u32>, certain: bool) {
        for key in keys {
            *self.suspects.entry(key).or_default() |= certain;
        }
        if self.settling.is_none() && !self.suspects.is_empty() {
            self.settling = Some(Box::pin(sleep(SETTLING)));
        }
    }

    /// Looks at the files that are suspected; returns those that have changed.
    fn compare(&mut self) -> Vec<u32> {
        let mut suspects = std::mem::take(&mut self.suspects);
        let linked_folders = self.follow_again(suspects.keys().copied());
        for key in linked_folders.iter().flat_map(|folder| self.folders.ensure(folder)) {
            suspects.entry(key).or_default();
        }
        let mut changed = Vec::new();
        for (key, certain) in suspects {
            if self.wholes.get_mut(&key).is_some_and(Whole::compare) {
                changed.push(key);
            }
            let Some(file) = self.files.get_mut(&key) else { continue };
            let stamp = Stamp::of(&file.path);
            if certain || stamp != file.stamp {
                file.stamp = stamp;
                changed.push(key);
            }
        }
        changed
    }

    /// Follows the links of `keys` anew, and returns the folders that they lead through.
    fn follow_again(&mut self, keys: impl Iterator<Item = u32>) -> HashSet<PathBuf> {
        let mut folders = HashSet::new();
        for key in keys {
            let Some(file) = self.files.get_mut(&key) else { continue };
            let links = links(&file.path);
            if links != file.links {
                self.folders.detach(key, &file.steps());
                file.links = links;
                self.folders.attach(key, &file.steps());
            }
            let steps = file.links.iter().filter_map(|step| step.parent());
            folders.extend(steps.map(Path::to_owned));
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

/// The end of a look that may not be under way.
async fn ended(look: &mut Option<JoinHandle<Seen>>) -> Seen {
    match look {
        // It is only lost with the runtime.
        Some(look) => look.await.unwrap_or_default(),
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
