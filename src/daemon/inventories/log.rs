//! Log events of inventories: places and errors, never content.

use super::NameConflict;
use crate::daemon::tokens::ChangeCounts;
use crate::event_log::{EventLog, EventName, Fields, ReportedWarnings, Severity};
use crate::inventory::{BadEntries, EntryLocation, InventoryError};
use crate::settings::Inventory;
use crate::time::Moment;

/// Logs the changes of an inventory, and how many tokens it has.
pub(super) fn loaded(
    event_log: &mut EventLog,
    now: Moment,
    inventory: &Inventory,
    tokens: u64,
    changes: ChangeCounts,
) {
    let fields = Fields {
        inventory: Some(&inventory.name),
        path: Some(&inventory.whole()),
        tokens: Some(tokens),
        tokens_added: Some(changes.added),
        tokens_removed: Some(changes.removed),
        tokens_changed: Some(changes.changed),
        ..Fields::default()
    };
    let name = EventName::InventoryLoaded;
    event_log.write(now, name, Severity::Info, "inventory read", fields);
}

/// Logs the errors of one inventory, except errors that were logged before.
pub(super) struct Report<'a> {
    pub(super) event_log: &'a mut EventLog,
    pub(super) now: Moment,
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
            let place = match &bad.place {
                EntryLocation::Line(line) => self.inventory.location("", *line),
                EntryLocation::File(name) => self.inventory.location(name, 0),
            };
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
            let fields = Fields {
                token: Some(name),
                path: Some(place),
                error: Some(&error),
                ..Fields::default()
            };
            self.write("duplicate token name; this token is skipped", fields);
        }
        self.further(count - first.len() as u64, "duplicates of other names");
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
        let Self { event_log, now, inventory, given } = self;
        if given.add((message, fields.path, fields.error)) {
            let fields = Fields { inventory: Some(&inventory.name), ..fields };
            event_log.write(*now, EventName::ConfigWarning, Severity::Error, message, fields);
        }
    }
}
