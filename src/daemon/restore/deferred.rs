//! Tokens that come after the lives that an earlier run knew of were read: those of an
//! inventory's command. They are held back until its first reading has ended and the lives
//! were read once more, so that they go on where they were as others do.

use std::collections::BTreeSet;

use crate::clock;
use crate::daemon::Daemon;
use crate::daemon::inventories::TokenBitSet;
use crate::daemon::tokens::{InventoryId, TokenEntry};
use crate::keeper::TokenId;
use crate::lifecycle::SourceChange;
use crate::store::Part;
use crate::time::Moment;
use crate::token_file::DISK_PATIENCE;

/// Who is late, and how far the reading of their lives is.
#[derive(Debug, Default)]
pub(crate) struct DeferredRestore {
    /// Inventories whose first reading is under way.
    awaited: BTreeSet<InventoryId>,
    /// Those whose tokens' lives are to be read next.
    next: BTreeSet<InventoryId>,
    /// Those whose tokens' lives are being read.
    current: BTreeSet<InventoryId>,
    /// Tokens of all of these that have a value.
    held: Vec<TokenId>,
    /// Tokens of which the newest has been read.
    seen: TokenBitSet,
    /// Until then the next of the lives are waited for.
    due: Option<Moment>,
}

impl DeferredRestore {
    /// This inventory's tokens will come later than those of others.
    pub(crate) fn expect(&mut self, stock: InventoryId) {
        self.awaited.insert(stock);
    }

    /// Whether what an earlier run knew is still needed.
    pub(crate) fn is_pending(&self) -> bool {
        !(self.awaited.is_empty() && self.next.is_empty() && self.current.is_empty())
    }

    /// The inventory is not configured any more.
    pub(crate) fn forget(&mut self, stock: InventoryId) {
        self.awaited.remove(&stock);
        self.next.remove(&stock);
    }

    /// When the store is waited for no longer; `None` while it is not.
    pub(crate) const fn due(&self) -> Option<Moment> {
        self.due
    }

    fn concerns(&self, stock: InventoryId) -> bool {
        [&self.awaited, &self.next, &self.current].iter().any(|stocks| stocks.contains(&stock))
    }
}

impl Daemon {
    /// Whether a new value of a token is held back until more is known of it.
    pub(crate) fn hold_late(&mut self, id: TokenId) -> bool {
        let stock = self.tokens.registry.token(id).and_then(TokenEntry::stock);
        let is_late = stock.is_some_and(|stock| self.late.concerns(stock)) && self.is_unheard(id);
        if is_late {
            self.late.held.push(id);
        }
        is_late
    }

    /// Whether the keeper has not been told of any value of the token.
    pub(crate) fn is_unheard(&self, id: TokenId) -> bool {
        self.tokens.scheduler.is_missing(id)
    }

    /// A reading of this inventory has ended.
    pub(crate) fn stock_was_read(&mut self, stock: InventoryId) {
        if self.late.awaited.remove(&stock) {
            self.late.next.insert(stock);
            self.read_late();
        }
    }

    fn read_late(&mut self) {
        if !self.late.current.is_empty() || self.late.next.is_empty() {
            return;
        }
        self.late.current = std::mem::take(&mut self.late.next);
        self.late.seen = TokenBitSet::default();
        self.late.due = Some(clock::now() + DISK_PATIENCE);
        match &self.store {
            Some(store) => store.recall(None),
            None => self.recalled(None),
        }
    }

    /// A store that hangs must not keep tokens from being asked about: without what it knows,
    /// they are asked at once.
    pub(crate) fn give_up_lives(&mut self, now: Moment) {
        if self.late.due.is_some_and(|due| due <= now) {
            self.recalled(None);
        }
    }

    /// Lives that an earlier run knew of, with where to go on from; `None` at their end.
    pub(crate) fn recalled(&mut self, found: Option<(i64, Part)>) {
        if let (Some((number, part)), Some(store)) = (found, &self.store) {
            store.recall(Some(number));
            let mut seen = std::mem::take(&mut self.late.seen);
            part.lives(|recalled| self.recall(&mut seen, recalled));
            self.late.seen = seen;
            self.late.due = self.late.due.map(|_| clock::now() + DISK_PATIENCE);
            return self.perform();
        }
        self.late.due = None;
        let stocks = std::mem::take(&mut self.late.current);
        for id in std::mem::take(&mut self.late.held) {
            let Some(kept) = self.tokens.registry.token(id) else { continue };
            if !kept.stock().is_some_and(|stock| stocks.contains(&stock)) {
                self.late.held.push(id);
            } else if kept.value(self.tokens.scheduler.spare_slot(id)).is_some()
                && self.is_unheard(id)
            {
                let (change, now) = (SourceChange::NewValue, clock::now());
                self.tokens.scheduler.source_changed(id, change, now, &mut self.tokens.actions);
            }
        }
        self.perform();
        self.read_late();
    }
}
