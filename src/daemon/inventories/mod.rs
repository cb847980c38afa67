//! Inventories: many tokens from a file, a directory or a command.
//!
//! Owns the inventories, the watches on them and the threads that read them. A read comes in
//! parts, each applied before the next is taken: a million lines are neither twice in memory nor
//! do they block the loop. What the tokens of an inventory are is known to
//! [`Tokens`](super::tokens::Tokens) only.

mod apply;
mod death_checks;
mod log;
mod read;
mod reconcile;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::sleep;

pub(crate) use self::apply::InventoryRollout;

use self::death_checks::{Compared, DeathChecks};
use self::log::Report;
use super::tasks::blocking::blocking;
use super::tokens::{InventoryId, TokenBitSet, TokenConfig, Tokens};
use crate::event_log::ReportedWarnings;
use crate::inventory::{BadEntries, Batch, FileStamp, InventoryError, ReadSummary, is_ignored};
use crate::scheduler::{TokenId, TokenSpec};
use crate::settings::{Inventory, InventorySource};
use crate::token_source::{ChangedNames, InotifyError, Watcher};

/// Parts that wait for the loop; the read then waits as well.
const WAITING_PARTS: usize = 2;

/// Time between an inconclusive read and the check whether the file was being written.
const SETTLING: Duration = Duration::from_secs(1);

/// The prefix of the link that Kubernetes replaces to change all files of a directory at once.
const KUBERNETES_LINK: &[u8] = b"..";

/// One inventory.
#[derive(Debug)]
pub(crate) struct InventoryState {
    pub(crate) settings: Inventory,
    /// The configuration of its tokens.
    config: Arc<TokenConfig>,
    spec: TokenSpec,
    pass: Option<ReadPass>,
    /// The inventory has changed since the current read began.
    read_again: bool,
    /// Inconclusive reads in a row.
    tries: u32,
    /// Whether a warning about the source was logged.
    is_warned: bool,
    /// The file's stamp when it was last read.
    stamp: Option<FileStamp>,
    /// The file's stamp when its errors were last logged.
    reported: Option<FileStamp>,
    /// The errors that were logged.
    given: ReportedWarnings,
    /// The inventory was once read from beginning to end, and had tokens.
    is_read_whole: bool,
}

impl InventoryState {
    fn new(settings: Inventory, config: Arc<TokenConfig>, spec: TokenSpec) -> Self {
        Self {
            settings,
            config,
            spec,
            pass: None,
            read_again: false,
            tries: 0,
            is_warned: false,
            stamp: None,
            reported: None,
            given: ReportedWarnings::default(),
            is_read_whole: false,
        }
    }

    /// Logs errors of the inventory.
    fn report<'a>(&'a mut self, tokens: &'a mut Tokens) -> Report<'a> {
        Report { log: &mut tokens.log, inventory: &self.settings, given: &mut self.given }
    }
}

/// A read that is running, or waits for its confirmation.
#[derive(Debug, Default)]
struct ReadPass {
    number: u64,
    /// Only some files of a directory are read.
    partial: bool,
    seen: TokenBitSet,
    /// Tokens of a directory whose files are to be read one by one.
    reads: Vec<TokenId>,
    /// Names that another token has, and how many there are.
    conflicts: (Vec<NameConflict>, u64),
    /// How many entries have no refresh token.
    without_refresh: u64,
    /// Lines with names that earlier lines have.
    repeats: BadEntries,
    end: Option<Result<ReadSummary, InventoryError>>,
}

/// A name that is listed twice.
#[derive(Debug)]
struct NameConflict {
    name: Box<str>,
    place: String,
    /// Where the token with this name comes from.
    owner: String,
}

/// Something that happened to an inventory.
#[derive(Debug)]
pub(crate) enum InventoryEvent {
    /// Its file, or files in its directory, may have changed.
    Touched(InventoryId, ChangedNames),
    /// A part was read.
    Part(InventoryId, u64, Batch),
    /// A read has ended.
    End(InventoryId, u64, Result<ReadSummary, InventoryError>),
    /// Whether the file is still the one that an inconclusive read has read.
    Settled(InventoryId, u64, bool),
    /// The file was compared before deaths are acted on.
    Compared(InventoryId, Compared),
    /// Deaths have waited long enough for a read after the one with this number.
    DeathsDue(InventoryId, u64),
}

/// All inventories.
#[derive(Debug)]
pub(crate) struct Inventories {
    by_id: BTreeMap<InventoryId, InventoryState>,
    last_id: u32,
    last_pass: u64,
    watcher: Watcher,
    /// Paths that did not respond at the startup. They are watched once they were read.
    hung: BTreeSet<PathBuf>,
    touched: Vec<u32>,
    sender: Sender<InventoryEvent>,
    receiver: Receiver<InventoryEvent>,
    tasks: JoinSet<Option<InventoryEvent>>,
    death_checks: DeathChecks,
    is_stopping: bool,
}

impl Inventories {
    /// No inventories. To be called within a runtime.
    pub(crate) fn new() -> Self {
        let (sender, receiver) = channel(WAITING_PARTS);
        Self {
            by_id: BTreeMap::new(),
            last_id: 0,
            last_pass: 0,
            watcher: Watcher::new(),
            hung: BTreeSet::new(),
            touched: Vec::new(),
            sender,
            receiver,
            tasks: JoinSet::new(),
            death_checks: DeathChecks::default(),
            is_stopping: false,
        }
    }

    /// Waits for the next event. Cancel-safe.
    pub(crate) async fn next(&mut self) -> InventoryEvent {
        loop {
            if let Some(key) = self.touched.pop() {
                return InventoryEvent::Touched(
                    InventoryId(key),
                    self.watcher.take_changed_names(key),
                );
            }
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next() => if let Ok(Some(event)) = ended {
                    return event;
                },
                Some(event) = self.receiver.recv() => return event,
                touched = self.watcher.changed() => self.touched = touched,
            }
        }
    }

    /// Handles an event. Returns the inventory if a read of it has ended.
    pub(crate) fn on_event(
        &mut self,
        event: InventoryEvent,
        tokens: &mut Tokens,
    ) -> Option<InventoryId> {
        match event {
            InventoryEvent::Touched(id, ChangedNames::All) => self.read_again(id),
            InventoryEvent::Touched(id, ChangedNames::Names(names)) => {
                self.on_touched(id, names, tokens);
            }
            InventoryEvent::Part(id, pass, part) => {
                if self.is_reading(id, pass) {
                    self.apply_part(id, part, tokens);
                }
            }
            InventoryEvent::End(id, pass, end) => {
                if self.is_reading(id, pass) {
                    self.watch_if_hung(id);
                    self.on_end(id, pass, end);
                    self.act_on_deaths_until(id, pass.saturating_sub(1), tokens);
                    self.finish_pass_if_settled(id, pass, tokens);
                    return Some(id);
                }
            }
            InventoryEvent::Settled(id, pass, is_same) => {
                if self.is_reading(id, pass) && is_same {
                    self.finish_pass(id, true, tokens);
                } else if self.is_reading(id, pass) {
                    self.read(id, None);
                }
            }
            InventoryEvent::Compared(id, compared) => self.on_compared(id, compared, tokens),
            InventoryEvent::DeathsDue(id, pass) => self.act_on_deaths_until(id, pass, tokens),
        }
        None
    }

    /// The inventory with this number.
    pub(crate) fn get(&self, id: InventoryId) -> Option<&InventoryState> {
        self.by_id.get(&id)
    }

    /// The number of the inventory with this name: a new number if there is none.
    fn id_of(&mut self, name: &str) -> InventoryId {
        let known = self.by_id.iter().find(|(_, inventory)| inventory.settings.name == name);
        if let Some((id, _)) = known {
            return *id;
        }
        self.last_id += 1;
        InventoryId(self.last_id)
    }

    /// Whether every inventory was read whole: a token that none of them lists was removed.
    pub(crate) fn are_all_read(&self) -> bool {
        self.by_id.values().all(|inventory| inventory.is_read_whole)
    }

    /// Watches the files and directories. To be called before they are read.
    fn watch(&mut self) {
        let (mut files, mut folders) = (Vec::new(), Vec::new());
        let responds = |inventory: &InventoryState| {
            path(&inventory.settings.source).is_none_or(|path| !self.hung.contains(path))
        };
        for (id, inventory) in self.by_id.iter().filter(|(_, inventory)| responds(inventory)) {
            match &inventory.settings.source {
                InventorySource::File { path, .. } => files.push((id.0, path.clone())),
                InventorySource::Dir(path) => folders.push((id.0, path.clone())),
                InventorySource::Command { .. } => {}
            }
        }
        self.watcher.set_paths(files);
        self.watcher.set_directories(folders);
    }

    /// An inventory that did not respond at the startup was read: watches it, and reads it again, as
    /// it may have changed in between.
    fn watch_if_hung(&mut self, id: InventoryId) {
        let Some(inventory) = self.by_id.get_mut(&id) else { return };
        if path(&inventory.settings.source).is_some_and(|path| self.hung.remove(path)) {
            inventory.read_again = true;
            self.watch();
        }
    }

    /// What is missing to have all files and directories watched.
    pub(crate) fn inotify_error(&self) -> Option<InotifyError> {
        self.watcher.inotify_error()
    }

    /// All numbers and sources in order of the names: the first inventory by name wins a name
    /// that two of them list.
    fn sources(&self) -> Vec<(InventoryId, InventorySource)> {
        let mut all: Vec<_> = self.by_id.iter().collect();
        all.sort_by_key(|(_, inventory)| &inventory.settings.name);
        all.into_iter().map(|(id, it)| (*id, it.settings.source.clone())).collect()
    }

    /// Reads every inventory again.
    pub(crate) fn read_all(&mut self) {
        for (id, _) in self.sources() {
            self.read_again(id);
        }
    }

    /// Reads an inventory, after the current read if there is one.
    fn read_again(&mut self, id: InventoryId) {
        let Some(inventory) = self.by_id.get_mut(&id) else { return };
        if inventory.pass.as_ref().is_some_and(|pass| pass.end.is_none()) {
            inventory.read_again = true;
        } else {
            self.read(id, None);
        }
    }

    fn is_reading(&self, id: InventoryId, number: u64) -> bool {
        let pass = self.by_id.get(&id).and_then(|inventory| inventory.pass.as_ref());
        pass.is_some_and(|pass| pass.number == number)
    }

    /// Files in a directory may have changed.
    fn on_touched(
        &mut self,
        id: InventoryId,
        names: impl IntoIterator<Item = OsString>,
        tokens: &mut Tokens,
    ) {
        let Some(inventory) = self.by_id.get(&id) else { return };
        if !matches!(inventory.settings.source, InventorySource::Dir(_)) {
            return self.read_again(id);
        }
        let is_busy = inventory.pass.is_some();
        let (mut known, mut new, mut all) = (Vec::new(), BTreeSet::new(), false);
        for name in names {
            let token = name.to_str().and_then(|name| tokens.registry.id_of(name));
            match token.filter(|token| tokens.registry.is_listed_by(*token, id)) {
                Some(token) => known.push(token),
                None if name.as_encoded_bytes().starts_with(KUBERNETES_LINK) => all = true,
                None if is_ignored(&name) => {}
                None => drop(new.insert(name)),
            }
        }
        tokens.request_reads(known);
        if all || (is_busy && !new.is_empty()) {
            self.read_again(id);
        } else if !new.is_empty() {
            self.read(id, Some(new));
        }
    }

    /// Begins a pass over an inventory.
    fn begin(&mut self, id: InventoryId, partial: bool) -> Option<u64> {
        let inventory = self.by_id.get_mut(&id)?;
        self.last_pass += 1;
        inventory.read_again = false;
        inventory.pass = Some(ReadPass { number: self.last_pass, partial, ..ReadPass::default() });
        Some(self.last_pass)
    }

    /// Starts to read an inventory, or these files of its directory only.
    fn read(&mut self, id: InventoryId, names: Option<BTreeSet<OsString>>) {
        let Some(pass) = self.begin(id, names.is_some()) else { return };
        let Some(inventory) = self.by_id.get(&id) else { return };
        let (source, sender) = (inventory.settings.source.clone(), self.sender.clone());
        self.tasks.spawn(async move {
            let end = read::read(source, names, (id, pass), &sender).await;
            // It fails when the daemon ends.
            let _ = sender.send(InventoryEvent::End(id, pass, end)).await;
            None
        });
    }

    /// Checks after a time whether an inventory's file is still the one that was read.
    fn settle(&mut self, id: InventoryId, pass: u64, read: Option<FileStamp>) {
        let Some(inventory) = self.by_id.get(&id) else { return };
        let InventorySource::File { path, .. } = &inventory.settings.source else { return };
        let (before_path, path) = (path.clone(), path.clone());
        self.tasks.spawn(async move {
            let before = match read {
                None => blocking(move || FileStamp::of(&before_path)).await,
                read => read,
            };
            sleep(SETTLING).await;
            let is_same = blocking(move || FileStamp::of(&path)).await == before;
            Some(InventoryEvent::Settled(id, pass, is_same))
        });
    }
}

/// The file or directory of an inventory; `None` for a command.
fn path(source: &InventorySource) -> Option<&Path> {
    match source {
        InventorySource::File { path, .. } | InventorySource::Dir(path) => Some(path),
        InventorySource::Command { .. } => None,
    }
}

/// An inventory as its table in the configuration is called.
fn table_name(name: &str) -> String {
    format!("inventory.{name}")
}
