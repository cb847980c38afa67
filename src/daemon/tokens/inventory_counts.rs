//! Counts of the tokens of each inventory, and of changes that were not logged yet.

use super::InventoryId;

/// What has changed in an inventory since that was last logged.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChangeCounts {
    pub(crate) added: u64,
    pub(crate) removed: u64,
    pub(crate) changed: u64,
}

/// One inventory.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct InventoryCount {
    pub(crate) tokens: u64,
    pub(crate) changes: ChangeCounts,
}

/// All inventories, by their dense numbers.
#[derive(Debug, Default)]
pub(crate) struct InventoryCounts(Vec<InventoryCount>);

impl InventoryCounts {
    /// How many tokens the inventory has.
    pub(crate) fn tokens(&self, id: InventoryId) -> u64 {
        self.0.get(id.index()).map_or(0, |count| count.tokens)
    }

    pub(crate) fn of(&mut self, id: InventoryId) -> &mut InventoryCount {
        if self.0.len() <= id.index() {
            self.0.resize_with(id.index() + 1, InventoryCount::default);
        }
        &mut self.0[id.index()]
    }
}
