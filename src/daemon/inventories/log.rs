//! Log events of inventories: places and errors, never content.

use super::NameConflict;
use crate::daemon::tokens::{ChangeCounts, InventoryId, Tokens};
use crate::event_log::{EventLog, EventName, Fields, ReportedWarnings, Severity};
use crate::inventory::{BadEntries, InventoryError};
use crate::settings::Inventory;

/// Logs the changes of an inventory, and how many tokens it has; without changes only if it was read
/// as a `whole`.
pub(super) fn changes(tokens: &mut Tokens, id: InventoryId, inventory: &Inventory, whole: bool) {
    let count = tokens.inventory_counts.of(id);
    let changes = std::mem::take(&mut count.changes);
    if !whole && changes == ChangeCounts::default() {
        return;
    }
    let fields = Fields {
        inventory: Some(&inventory.name),
        path: Some(&inventory.whole()),
        tokens: Some(count.tokens),
        tokens_added: Some(changes.added),
        tokens_removed: Some(changes.removed),
        tokens_changed: Some(changes.changed),
        ..Fields::default()
    };
    tokens.log.event(EventName::InventoryLoaded, "inventory read", fields);
}

/// Logs the errors of one inventory, except errors that were logged before.
pub(super) struct Report<'a> {
    pub(super) log: &'a mut EventLog,
    pub(super) inventory: &'a Inventory,
    pub(super) given: &'a mut ReportedWarnings,
}

impl Report<'_> {
    /// Logs that an inventory cannot be read, with the bad lines if they are the reason.
    pub(super) fn unread(&mut self, tokens: u64, fault: &InventoryError) {
        if let Some(bad) = fault.bad() {
            self.bad_lines(bad);
        }
        let message = "the inventory cannot be read; its previous tokens stay in service";
        self.warn(message, &self.inventory.whole(), &fault.to_string(), Some(tokens));
    }

    /// Logs that an inventory is empty.
    pub(super) fn empty(&mut self, tokens: u64) {
        let error = "it contains no token; to remove all of its tokens, remove its table from the \
        configuration";
        let message = "the inventory is empty; its previous tokens stay in service";
        self.warn(message, &self.inventory.whole(), error, Some(tokens));
    }

    /// Logs the lines that were skipped: the first ones one by one, then a count.
    pub(super) fn bad_lines(&mut self, bad: &BadEntries) {
        let message = "invalid inventory line skipped";
        for bad in &bad.first {
            let place = bad.place.within(self.inventory);
            self.warn(message, &place, &bad.fault.to_string(), None);
        }
        self.further(bad.further(), "invalid and were skipped");
    }

    /// Logs the names that another token has, with both places.
    pub(super) fn conflicts(&mut self, (first, count): &(Vec<NameConflict>, u64)) {
        for NameConflict { name, place, owner } in first {
            let error = format!(
                "{name} stands at {place} in [inventory.{}], and in {owner}, which takes precedence; \
                 names are unique: remove one of the two, or rename it",
                self.inventory.name
            );
            let (token, path, error) = (Some(&**name), Some(&**place), Some(&*error));
            let fields = Fields { token, error, path, ..Fields::default() };
            self.write("duplicate token name; this token is skipped", fields);
        }
        self.further(count - first.len() as u64, "duplicates of other names");
    }

    /// Logs how many lines have no refresh token, where nothing else renews a token.
    pub(super) fn without_refresh(&mut self, count: u64) {
        let error = format!(
            "{count} without \"refresh\", but the profile of the server can only renew with one"
        );
        let message = "tokens without a refresh token cannot be kept alive";
        self.warn(message, &self.inventory.whole(), &error, None);
    }

    fn further(&mut self, count: u64, what: &str) {
        if count > 0 {
            let error = format!("{count} more lines are {what}");
            self.warn("more inventory lines skipped", &self.inventory.whole(), &error, None);
        }
    }

    fn warn(&mut self, message: &str, path: &str, error: &str, tokens: Option<u64>) {
        let fields = Fields { path: Some(path), error: Some(error), tokens, ..Fields::default() };
        self.write(message, fields);
    }

    #[expect(clippy::large_types_passed_by_value, reason = "the callers build the fields in place")]
    fn write(&mut self, message: &str, fields: Fields<'_>) {
        let Self { log, inventory, given } = self;
        if given.add((message, fields.path, fields.error)) {
            let fields = Fields { inventory: Some(&inventory.name), ..fields };
            log.event_at(Severity::Error, EventName::ConfigWarning, message, fields);
        }
    }
}
