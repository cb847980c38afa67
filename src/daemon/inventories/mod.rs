//! The inventories as they are kept in stock: what each brings, and the readings under way.
//!
//! A reading runs on a thread of its own and comes in parts, each applied before the next is
//! waited for: a million lines neither stand in memory twice nor hold the loop up. What is made
//! of a part is not decided here.

pub(crate) mod death_checks;
pub(crate) mod events;
pub(crate) mod log;
mod reconcile;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::daemon::tasks::SECOND_LOOK;
use crate::daemon::tasks::blocking::blocking;
use crate::daemon::tokens::{InventoryId, TokenConfig};
use crate::events::Given;
use crate::inventory::{
    BadLines, Bundle, Bundles, InventoryFault, Listed, Reading, Repeats, Stamp, read_command,
    read_file, read_folder, read_names,
};
use crate::keeper::{TokenId, TokenSpec};
use crate::secret::TokenValue;
use crate::settings::{Inventory, InventorySource};
use crate::token_file::{SourceFaultKind, Touched, Watcher};

/// Parts that wait for the loop; the reading then waits as well.
pub(crate) const WAITING_PARTS: usize = 2;

/// Between a reading that finds something wrong or missing and the look that tells whether the
/// file was only just being written.
const SETTLING: Duration = Duration::from_secs(1);

/// One inventory, and what is known of it.
#[derive(Debug)]
pub(crate) struct InventoryState {
    pub(crate) settings: Inventory,
    pub(crate) terms: Arc<TokenConfig>,
    pub(crate) spec: TokenSpec,
    /// How many tokens it has brought and not taken away again.
    pub(crate) tokens: u64,
    pub(crate) tally: ChangeCounts,
    pub(crate) pass: Option<ReadPass>,
    /// It has changed since the reading under way began.
    pub(crate) again: bool,
    /// Readings in a row that were not conclusive.
    pub(crate) tries: u32,
    /// It was said that it is open to others.
    pub(crate) warned: bool,
    /// Of a file: what it was when it was last read.
    pub(crate) stamp: Option<Stamp>,
    /// The same, when what is wrong with it was last reported.
    pub(crate) reported: Option<Stamp>,
    /// What was reported.
    pub(crate) given: Given,
    /// It has been read once, from its beginning to its end, and brought tokens.
    pub(crate) read_whole: bool,
}

impl InventoryState {
    pub(crate) fn new(settings: Inventory, terms: Arc<TokenConfig>, spec: TokenSpec) -> Self {
        Self {
            settings,
            terms,
            spec,
            tokens: 0,
            tally: ChangeCounts::default(),
            pass: None,
            again: false,
            tries: 0,
            warned: false,
            stamp: None,
            reported: None,
            given: Given::default(),
            read_whole: false,
        }
    }
}

/// What has come of an inventory since that was last said.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChangeCounts {
    pub(crate) added: u64,
    pub(crate) removed: u64,
    pub(crate) changed: u64,
}

/// A reading that is under way, or waits for its confirmation.
#[derive(Debug, Default)]
pub(crate) struct ReadPass {
    pub(crate) number: u64,
    /// Only some files of a folder are read.
    pub(crate) partial: bool,
    pub(crate) seen: TokenBitSet,
    /// Tokens of a folder whose files are to be looked at one by one.
    pub(crate) errands: Vec<TokenId>,
    /// Names that are taken, with both places, and how many there are.
    pub(crate) collisions: (Vec<NameConflict>, u64),
    /// Lines with names that earlier ones have.
    pub(crate) repeats: BadLines,
    /// What it came to.
    pub(crate) end: Option<Result<Reading, InventoryFault>>,
}

/// A name that stands in two places.
#[derive(Debug)]
pub(crate) struct NameConflict {
    pub(crate) name: Box<str>,
    pub(crate) place: String,
    pub(crate) taken: String,
}

/// A set of tokens: a bit for each.
#[derive(Debug, Default)]
pub(crate) struct TokenBitSet {
    words: Vec<u64>,
    pub(crate) count: u64,
}

impl TokenBitSet {
    pub(crate) fn add(&mut self, id: TokenId) {
        let (word, bit) = (id.index() / 64, 1 << (id.index() % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.count += u64::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    pub(crate) fn has(&self, id: TokenId) -> bool {
        self.words.get(id.index() / 64).is_some_and(|word| word & (1 << (id.index() % 64)) != 0)
    }
}

/// Something that happened to an inventory.
#[derive(Debug)]
pub(crate) enum InventoryEvent {
    /// Its file, or files in its folder, may have changed.
    Touched(InventoryId, Touched),
    /// A part of a reading.
    Part(InventoryId, u64, Bundle),
    /// The end of a reading.
    End(InventoryId, u64, Result<Reading, InventoryFault>),
    /// A reading was not conclusive, and this is whether the file is still the same.
    Settled(InventoryId, u64, bool),
}

/// All inventories.
#[derive(Debug)]
pub(crate) struct Inventories {
    pub(crate) by_id: BTreeMap<InventoryId, InventoryState>,
    last: u32,
    last_pass: u64,
    watcher: Watcher,
    touched: Vec<u32>,
    sender: Sender<InventoryEvent>,
    receiver: Receiver<InventoryEvent>,
    readings: JoinSet<()>,
    /// Values that came for tokens whose re-auth was under way.
    held_back: HashMap<TokenId, TokenValue>,
}

impl Inventories {
    /// No inventories yet. To be called within a runtime.
    pub(crate) fn new() -> Self {
        let (sender, receiver) = channel(WAITING_PARTS);
        Self {
            by_id: BTreeMap::new(),
            last: 0,
            last_pass: 0,
            watcher: Watcher::new(),
            touched: Vec::new(),
            sender,
            receiver,
            readings: JoinSet::new(),
            held_back: HashMap::new(),
        }
    }

    /// The next thing that happens. Cancel-safe.
    pub(crate) async fn news(&mut self) -> InventoryEvent {
        loop {
            if let Some(key) = self.touched.pop() {
                return InventoryEvent::Touched(InventoryId(key), self.watcher.take_touched(key));
            }
            tokio::select! {
                biased;
                Some(news) = self.receiver.recv() => return news,
                touched = self.watcher.changed() => self.touched = touched,
                Some(_) = self.readings.join_next() => {}
            }
        }
    }

    /// The number of the inventory called `name`: a new one where there is none.
    pub(crate) fn id_of(&mut self, name: &str) -> InventoryId {
        let known = self.by_id.iter().find(|(_, stock)| stock.settings.name == name);
        if let Some((id, _)) = known {
            return *id;
        }
        self.last += 1;
        InventoryId(self.last)
    }

    /// Whether every inventory has been read whole: a token that none of them has was removed.
    pub(crate) fn all_read(&self) -> bool {
        self.by_id.values().all(|stock| stock.read_whole)
    }

    /// Watches what can be watched. To be called before it is read.
    pub(crate) fn watch(&mut self) {
        let (mut files, mut folders) = (Vec::new(), Vec::new());
        for (id, stock) in &self.by_id {
            match &stock.settings.source {
                InventorySource::File { path, .. } => files.push((id.0, path.clone())),
                InventorySource::Dir(path) => folders.push((id.0, path.clone())),
                InventorySource::Command { .. } => {}
            }
        }
        self.watcher.set_paths(files);
        self.watcher.set_folders(folders);
    }

    /// Takes note that a token is gone.
    pub(crate) fn forget(&mut self, id: TokenId, stock: Option<InventoryId>) {
        self.held_back.remove(&id);
        if let Some(stock) = stock.and_then(|stock| self.by_id.get_mut(&stock)) {
            stock.tokens = stock.tokens.saturating_sub(1);
        }
    }

    /// Keeps a value until its token's re-auth has ended.
    pub(crate) fn hold_back(&mut self, id: TokenId, value: TokenValue) {
        self.held_back.insert(id, value);
    }

    pub(crate) fn take_held_back(&mut self, id: TokenId) -> Option<TokenValue> {
        self.held_back.remove(&id)
    }

    /// Begins a pass over an inventory, of these files of its folder only if they are given.
    pub(crate) fn begin(&mut self, id: InventoryId, partial: bool) -> Option<u64> {
        let stock = self.by_id.get_mut(&id)?;
        self.last_pass += 1;
        stock.again = false;
        stock.pass = Some(ReadPass { number: self.last_pass, partial, ..ReadPass::default() });
        Some(self.last_pass)
    }

    /// The number of the reading that was begun last, of any inventory.
    pub(crate) const fn last_pass(&self) -> u64 {
        self.last_pass
    }

    /// Starts to read an inventory, on a thread of its own.
    pub(crate) fn read(&mut self, id: InventoryId, names: Option<BTreeSet<OsString>>) {
        let Some(pass) = self.begin(id, names.is_some()) else { return };
        let Some(stock) = self.by_id.get(&id) else { return };
        let source = stock.settings.source.clone();
        let sender = self.sender.clone();
        self.readings.spawn(async move {
            let end = read(source, names, (id, pass), &sender).await;
            // It fails when the daemon ends.
            let _ = sender.send(InventoryEvent::End(id, pass, end)).await;
        });
    }

    /// Sees in a while whether an inventory's file is still the one that was read.
    pub(crate) fn settle(&mut self, id: InventoryId, pass: u64, read: Option<Stamp>) {
        let Some(stock) = self.by_id.get(&id) else { return };
        let InventorySource::File { path, .. } = &stock.settings.source else { return };
        let (path, sender) = (path.clone(), self.sender.clone());
        self.readings.spawn(async move {
            let before = match read {
                None => {
                    blocking({
                        let path = path.clone();
                        move || Stamp::of(&path)
                    })
                    .await
                }
                read => read,
            };
            sleep(SETTLING).await;
            let same = blocking(move || Stamp::of(&path)).await == before;
            let _ = sender.send(InventoryEvent::Settled(id, pass, same)).await;
        });
    }
}

/// Reads an inventory, and passes on what it brings.
async fn read(
    source: InventorySource,
    names: Option<BTreeSet<OsString>>,
    (id, pass): (InventoryId, u64),
    sender: &Sender<InventoryEvent>,
) -> Result<Reading, InventoryFault> {
    let (found, reading) = match (source, names) {
        (InventorySource::Dir(path), Some(names)) => {
            let read = move || {
                let (mut found, mut half_done) = (Bundles::default(), false);
                let reading = read_names(&path, &names, &mut |listed| {
                    half_done |= is_half_done(&listed);
                    found.add(listed);
                    ControlFlow::Continue(())
                });
                (found, reading, half_done)
            };
            let (mut found, mut reading, half_done) = blocking(read.clone()).await;
            if half_done {
                sleep(SECOND_LOOK).await;
                (found, reading, _) = blocking(read).await;
            }
            (found, reading?)
        }
        (InventorySource::Command { command, timeout, strict }, _) => {
            read_command(&command, timeout, strict).await?
        }
        (source, _) => {
            let sender = sender.clone();
            let pass_on =
                move |part| match sender.blocking_send(InventoryEvent::Part(id, pass, part)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                };
            return blocking(move || read_in_parts(&source, pass_on)).await;
        }
    };
    for part in found {
        // It fails when the daemon ends.
        let _ = sender.send(InventoryEvent::Part(id, pass, part)).await;
    }
    Ok(reading)
}

/// Reads a file or a folder, and passes on what it brings in parts. A command brings nothing:
/// its time is not its reader's.
pub(crate) fn read_in_parts(
    source: &InventorySource,
    mut pass_on: impl FnMut(Bundle) -> ControlFlow<()>,
) -> Result<Reading, InventoryFault> {
    let mut part = Bundle::default();
    let mut sink = |listed: Listed<'_>| {
        part.add(listed);
        if part.is_full() { pass_on(std::mem::take(&mut part)) } else { ControlFlow::Continue(()) }
    };
    let end = match source {
        InventorySource::File { path, strict } => {
            read_file(path, *strict, Repeats::HandedOver, &mut sink)
        }
        InventorySource::Dir(path) => read_folder(path, &mut sink),
        InventorySource::Command { .. } => return Ok(Reading::default()),
    };
    // Who wants no more says so at the end as well.
    let _ = pass_on(part);
    end
}

/// Whether a file may just be being written.
fn is_half_done(listed: &Listed<'_>) -> bool {
    listed.value.as_ref().is_err_and(|fault| matches!(fault.kind, SourceFaultKind::Empty))
}
