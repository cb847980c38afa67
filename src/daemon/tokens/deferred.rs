//! Changes of value sources that the scheduler is not told of yet.
//!
//! A change is deferred while it is not known whether persisted state of the token is restored:
//! during the startup, and for inventories that are read later. A value that an inventory lists
//! during a re-authentication is deferred until that has ended.

use std::collections::{BTreeMap, HashMap};

use super::InventoryId;
use crate::lifecycle::SourceChange;
use crate::scheduler::TokenId;
use crate::secret::TokenValue;

/// Where an inventory is whose tokens are restored after the startup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestoreStage {
    /// Its first read has not ended.
    Awaited,
    /// Its tokens are restored next.
    Next,
    /// Its tokens are being restored.
    Current,
}

/// Changes found while the daemon starts, in order.
#[derive(Debug, Default)]
pub(crate) struct StartupChanges {
    /// Tokens with a new value: all tokens of a large inventory.
    pub(crate) new_values: Vec<TokenId>,
    pub(crate) others: Vec<(TokenId, SourceChange)>,
}

/// All deferred changes.
#[derive(Debug, Default)]
pub(crate) struct DeferredSourceChanges {
    startup: Option<StartupChanges>,
    inventories: BTreeMap<InventoryId, RestoreStage>,
    /// Tokens with a value, of these inventories.
    pub(crate) awaiting_restore: Vec<TokenId>,
    during_reauth: HashMap<TokenId, TokenValue>,
}

impl DeferredSourceChanges {
    /// Defers all changes until [`end_startup`](Self::end_startup).
    pub(crate) fn begin_startup(&mut self) {
        self.startup = Some(StartupChanges::default());
    }

    pub(crate) fn end_startup(&mut self) -> StartupChanges {
        self.startup.take().unwrap_or_default()
    }

    /// Defers the change if the daemon is starting; returns it otherwise.
    pub(super) fn defer_at_startup(
        &mut self,
        id: TokenId,
        change: SourceChange,
    ) -> Option<SourceChange> {
        let Some(startup) = &mut self.startup else { return Some(change) };
        match change {
            SourceChange::NewValue => startup.new_values.push(id),
            other => startup.others.push((id, other)),
        }
        None
    }

    /// Defers new values of this inventory until its tokens are restored.
    pub(crate) fn await_inventory(&mut self, inventory: InventoryId) {
        self.inventories.insert(inventory, RestoreStage::Awaited);
    }

    /// The inventory is not configured any more.
    pub(crate) fn forget_inventory(&mut self, inventory: InventoryId) {
        if self.stage(inventory) != Some(RestoreStage::Current) {
            self.inventories.remove(&inventory);
        }
    }

    pub(crate) fn stage(&self, inventory: InventoryId) -> Option<RestoreStage> {
        self.inventories.get(&inventory).copied()
    }

    /// Whether any inventory is in this stage.
    pub(crate) fn has_stage(&self, stage: RestoreStage) -> bool {
        self.inventories.values().any(|known| *known == stage)
    }

    /// Moves the inventories in one stage to another, or ends their restore.
    pub(crate) fn advance(&mut self, from: RestoreStage, to: Option<RestoreStage>) {
        self.inventories.retain(|_, stage| {
            let stays = *stage != from;
            if let (false, Some(to)) = (stays, to) {
                *stage = to;
            }
            stays || to.is_some()
        });
    }

    /// Moves one inventory from the first stage to the second. Returns whether it was there.
    pub(crate) fn inventory_was_read(&mut self, inventory: InventoryId) -> bool {
        let was_awaited = self.stage(inventory) == Some(RestoreStage::Awaited);
        if was_awaited {
            self.inventories.insert(inventory, RestoreStage::Next);
        }
        was_awaited
    }

    /// Whether persisted check results are still needed.
    pub(crate) fn is_restoring(&self) -> bool {
        !self.inventories.is_empty()
    }

    /// Defers a value until the token's re-authentication has ended.
    pub(crate) fn defer_during_reauth(&mut self, id: TokenId, value: TokenValue) {
        self.during_reauth.insert(id, value);
    }

    pub(crate) fn take_after_reauth(&mut self, id: TokenId) -> Option<TokenValue> {
        self.during_reauth.remove(&id)
    }

    pub(super) fn forget_token(&mut self, id: TokenId) {
        self.during_reauth.remove(&id);
    }
}
