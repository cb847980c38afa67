//! The inventories as they are kept in stock: what each brings, and the readings under way.
//!
//! A reading runs on a thread of its own and comes in parts, each applied before the next is
//! waited for: a million lines neither stand in memory twice nor hold the loop up. What is made
//! of a part is not decided here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::beside::blocking;
use super::deeds::SECOND_LOOK;
use super::roster::{StockId, Terms};
use crate::event_log::ReportedWarnings;
use crate::inventory::{
    BadEntries, Batch, Batches, DuplicatePolicy, FileStamp, InventoryEntry, InventoryError,
    ReadSummary, read_command, read_directory, read_file, read_names,
};
use crate::scheduler::{TokenId, TokenSpec};
use crate::secret::TokenValue;
use crate::settings::{Inventory, InventorySource};
use crate::token_file::{Shortage, SourceFaultKind, Touched, Watcher};

/// Parts that wait for the loop; the reading then waits as well.
pub(super) const WAITING_PARTS: usize = 2;

/// Between a reading that finds something wrong or missing and the look that tells whether the
/// file was only just being written.
const SETTLING: Duration = Duration::from_secs(1);

/// One inventory, and what is known of it.
#[derive(Debug)]
pub(super) struct Stock {
    pub(super) settings: Inventory,
    pub(super) terms: Arc<Terms>,
    pub(super) spec: TokenSpec,
    /// How many tokens it has brought and not taken away again.
    pub(super) tokens: u64,
    pub(super) tally: Tally,
    pub(super) pass: Option<Pass>,
    /// It has changed since the reading under way began.
    pub(super) again: bool,
    /// Readings in a row that were not conclusive.
    pub(super) tries: u32,
    /// It was said that it is open to others.
    pub(super) warned: bool,
    /// Of a file: what it was when it was last read.
    pub(super) stamp: Option<FileStamp>,
    /// The same, when what is wrong with it was last reported.
    pub(super) reported: Option<FileStamp>,
    /// What was reported.
    pub(super) given: ReportedWarnings,
    /// It has been read once, from its beginning to its end, and brought tokens.
    pub(super) read_whole: bool,
}

impl Stock {
    pub(super) fn new(settings: Inventory, terms: Arc<Terms>, spec: TokenSpec) -> Self {
        Self {
            settings,
            terms,
            spec,
            tokens: 0,
            tally: Tally::default(),
            pass: None,
            again: false,
            tries: 0,
            warned: false,
            stamp: None,
            reported: None,
            given: ReportedWarnings::default(),
            read_whole: false,
        }
    }
}

/// What has come of an inventory since that was last said.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) added: u64,
    pub(super) removed: u64,
    pub(super) changed: u64,
}

/// A reading that is under way, or waits for its confirmation.
#[derive(Debug, Default)]
pub(super) struct Pass {
    pub(super) number: u64,
    /// Only some files of a folder are read.
    pub(super) partial: bool,
    pub(super) seen: Seen,
    /// Tokens of a folder whose files are to be looked at one by one.
    pub(super) errands: Vec<TokenId>,
    /// Names that are taken, with both places, and how many there are.
    pub(super) collisions: (Vec<Collision>, u64),
    /// Lines with names that earlier ones have.
    pub(super) repeats: BadEntries,
    /// What it came to.
    pub(super) end: Option<Result<ReadSummary, InventoryError>>,
}

/// A name that stands in two places.
#[derive(Debug)]
pub(super) struct Collision {
    pub(super) name: Box<str>,
    pub(super) place: String,
    pub(super) taken: String,
}

/// A set of tokens: a bit for each.
#[derive(Debug, Default)]
pub(super) struct Seen {
    words: Vec<u64>,
    pub(super) count: u64,
}

impl Seen {
    pub(super) fn add(&mut self, id: TokenId) {
        let (word, bit) = (id.index() / 64, 1 << (id.index() % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.count += u64::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    pub(super) fn has(&self, id: TokenId) -> bool {
        self.words.get(id.index() / 64).is_some_and(|word| word & (1 << (id.index() % 64)) != 0)
    }
}

/// Something that happened to an inventory.
#[derive(Debug)]
pub(super) enum News {
    /// Its file, or files in its folder, may have changed.
    Touched(StockId, Touched),
    /// A part of a reading.
    Part(StockId, u64, Batch),
    /// The end of a reading.
    End(StockId, u64, Result<ReadSummary, InventoryError>),
    /// A reading was not conclusive, and this is whether the file is still the same.
    Settled(StockId, u64, bool),
}

/// All inventories.
#[derive(Debug)]
pub(super) struct Stocks {
    pub(super) by_id: BTreeMap<StockId, Stock>,
    last: u32,
    last_pass: u64,
    watcher: Watcher,
    touched: Vec<u32>,
    sender: Sender<News>,
    receiver: Receiver<News>,
    readings: JoinSet<()>,
    /// Values that came for tokens whose re-auth was under way.
    held_back: HashMap<TokenId, TokenValue>,
}

impl Stocks {
    /// No inventories yet. To be called within a runtime.
    pub(super) fn new() -> Self {
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
    pub(super) async fn news(&mut self) -> News {
        loop {
            if let Some(key) = self.touched.pop() {
                return News::Touched(StockId(key), self.watcher.take_touched(key));
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
    pub(super) fn id_of(&mut self, name: &str) -> StockId {
        let known = self.by_id.iter().find(|(_, stock)| stock.settings.name == name);
        if let Some((id, _)) = known {
            return *id;
        }
        self.last += 1;
        StockId(self.last)
    }

    /// Whether every inventory has been read whole: a token that none of them has was removed.
    pub(super) fn all_read(&self) -> bool {
        self.by_id.values().all(|stock| stock.read_whole)
    }

    /// Watches what can be watched. To be called before it is read.
    pub(super) fn watch(&mut self) {
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

    /// What is lacking to have files and folders watched.
    pub(super) fn shortage(&self) -> Option<Shortage> {
        self.watcher.shortage()
    }

    /// Takes note that a token is gone.
    pub(super) fn forget(&mut self, id: TokenId, stock: Option<StockId>) {
        self.held_back.remove(&id);
        if let Some(stock) = stock.and_then(|stock| self.by_id.get_mut(&stock)) {
            stock.tokens = stock.tokens.saturating_sub(1);
        }
    }

    /// Keeps a value until its token's re-auth has ended.
    pub(super) fn hold_back(&mut self, id: TokenId, value: TokenValue) {
        self.held_back.insert(id, value);
    }

    pub(super) fn take_held_back(&mut self, id: TokenId) -> Option<TokenValue> {
        self.held_back.remove(&id)
    }

    /// Begins a pass over an inventory, of these files of its folder only if they are given.
    pub(super) fn begin(&mut self, id: StockId, partial: bool) -> Option<u64> {
        let stock = self.by_id.get_mut(&id)?;
        self.last_pass += 1;
        stock.again = false;
        stock.pass = Some(Pass { number: self.last_pass, partial, ..Pass::default() });
        Some(self.last_pass)
    }

    /// The number of the reading that was begun last, of any inventory.
    pub(super) const fn last_pass(&self) -> u64 {
        self.last_pass
    }

    /// Starts to read an inventory, on a thread of its own.
    pub(super) fn read(&mut self, id: StockId, names: Option<BTreeSet<OsString>>) {
        let Some(pass) = self.begin(id, names.is_some()) else { return };
        let Some(stock) = self.by_id.get(&id) else { return };
        let source = stock.settings.source.clone();
        let sender = self.sender.clone();
        self.readings.spawn(async move {
            let end = read(source, names, (id, pass), &sender).await;
            // It fails when the daemon ends.
            let _ = sender.send(News::End(id, pass, end)).await;
        });
    }

    /// Sees in a while whether an inventory's file is still the one that was read.
    pub(super) fn settle(&mut self, id: StockId, pass: u64, read: Option<FileStamp>) {
        let Some(stock) = self.by_id.get(&id) else { return };
        let InventorySource::File { path, .. } = &stock.settings.source else { return };
        let (path, sender) = (path.clone(), self.sender.clone());
        self.readings.spawn(async move {
            let before = match read {
                None => {
                    blocking({
                        let path = path.clone();
                        move || FileStamp::of(&path)
                    })
                    .await
                }
                read => read,
            };
            sleep(SETTLING).await;
            let same = blocking(move || FileStamp::of(&path)).await == before;
            let _ = sender.send(News::Settled(id, pass, same)).await;
        });
    }
}

/// Reads an inventory, and passes on what it brings.
async fn read(
    source: InventorySource,
    names: Option<BTreeSet<OsString>>,
    (id, pass): (StockId, u64),
    sender: &Sender<News>,
) -> Result<ReadSummary, InventoryError> {
    let (found, reading) = match (source, names) {
        (InventorySource::Dir(path), Some(names)) => {
            let read = move || {
                let (mut found, mut half_done) = (Batches::default(), false);
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
            let pass_on = move |part| match sender.blocking_send(News::Part(id, pass, part)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
            return blocking(move || read_in_parts(&source, pass_on)).await;
        }
    };
    for part in found {
        // It fails when the daemon ends.
        let _ = sender.send(News::Part(id, pass, part)).await;
    }
    Ok(reading)
}

/// Reads a file or a folder, and passes on what it brings in parts. A command brings nothing:
/// its time is not its reader's.
pub(super) fn read_in_parts(
    source: &InventorySource,
    mut pass_on: impl FnMut(Batch) -> ControlFlow<()>,
) -> Result<ReadSummary, InventoryError> {
    let mut part = Batch::default();
    let mut sink = |listed: InventoryEntry<'_>| {
        part.add(listed);
        if part.is_full() { pass_on(std::mem::take(&mut part)) } else { ControlFlow::Continue(()) }
    };
    let end = match source {
        InventorySource::File { path, strict } => {
            read_file(path, *strict, DuplicatePolicy::PassOn, &mut sink)
        }
        InventorySource::Dir(path) => read_directory(path, &mut sink),
        InventorySource::Command { .. } => return Ok(ReadSummary::default()),
    };
    // Who wants no more says so at the end as well.
    let _ = pass_on(part);
    end
}

/// Whether a file may just be being written.
fn is_half_done(listed: &InventoryEntry<'_>) -> bool {
    listed.value.as_ref().is_err_and(|fault| matches!(fault.kind, SourceFaultKind::Empty))
}
