//! What there is to tell of inventories, as log events. Places and faults, never content.

use crate::daemon::inventories::{ChangeCounts, NameConflict};
use crate::events::{Fields, Given, Journal, Name, Severity};
use crate::inventory::{BadLines, InventoryFault, Place};
use crate::settings::Inventory;
use crate::time::Moment;

/// Tells what an inventory has brought, and how many tokens are from it now.
pub(crate) fn loaded(
    journal: &mut Journal,
    now: Moment,
    inventory: &Inventory,
    tokens: u64,
    tally: ChangeCounts,
) {
    let fields = Fields {
        inventory: Some(&inventory.name),
        path: Some(&inventory.whole()),
        tokens: Some(tokens),
        tokens_added: Some(tally.added),
        tokens_removed: Some(tally.removed),
        tokens_changed: Some(tally.changed),
        ..Fields::default()
    };
    let name = Name::InventoryLoaded;
    journal.write(now, name, Severity::Info, "the inventory was read", fields);
}

/// Writes what is wrong with one inventory, except what has been written before.
pub(crate) struct Report<'a> {
    pub(crate) journal: &'a mut Journal,
    pub(crate) now: Moment,
    pub(crate) inventory: &'a Inventory,
    pub(crate) given: &'a mut Given,
}

impl Report<'_> {
    /// Tells that an inventory cannot be read, with what is bad if that is why.
    pub(crate) fn unread(&mut self, tokens: u64, fault: &InventoryFault) {
        if let Some(bad) = fault.bad() {
            self.bad_lines(bad);
        }
        let message = "the inventory cannot be used; the tokens that it brought before go on";
        self.warn(message, &self.inventory.whole(), &fault.to_string(), Some(tokens));
    }

    /// Tells that an inventory brings no token.
    pub(crate) fn empty(&mut self, tokens: u64) {
        let error = "there is no token in it; to let go of all its tokens, remove its table from \
                     the configuration";
        let message = "the inventory is empty; the tokens that it brought before go on";
        self.warn(message, &self.inventory.whole(), error, Some(tokens));
    }

    /// Tells what was skipped: one by one, as far as there is a list, then how much more.
    pub(crate) fn bad_lines(&mut self, bad: &BadLines) {
        let message = "a line of the inventory is bad, and skipped";
        for bad in &bad.first {
            let place = match &bad.place {
                Place::Line(line) => self.inventory.place("", *line),
                Place::File(name) => self.inventory.place(name, 0),
            };
            self.warn(message, &place, &bad.fault.to_string(), None);
        }
        self.further(bad.further(), "bad, and skipped");
    }

    /// Tells which names are taken, with both places.
    pub(crate) fn collisions(&mut self, (first, count): &(Vec<NameConflict>, u64)) {
        for NameConflict { name, place, taken } in first {
            let error = format!(
                "{name} stands at {place} in [inventory.{}], and in {taken}, where it counts; \
                 names are unique: remove one of the two, or rename it",
                self.inventory.name
            );
            let fields = Fields {
                token: Some(name),
                path: Some(place),
                error: Some(&error),
                ..Fields::default()
            };
            self.write("two tokens have the same name; this one is skipped", fields);
        }
        self.further(count - first.len() as u64, "names that are taken already");
    }

    fn further(&mut self, count: u64, what: &str) {
        if count > 0 {
            let error = format!("{count} more lines are {what}");
            self.warn("more of the inventory is skipped", &self.inventory.whole(), &error, None);
        }
    }

    fn warn(&mut self, message: &str, path: &str, error: &str, tokens: Option<u64>) {
        let fields = Fields { path: Some(path), error: Some(error), tokens, ..Fields::default() };
        self.write(message, fields);
    }

    #[expect(clippy::large_types_passed_by_value, reason = "the callers build the fields in place")]
    fn write(&mut self, message: &str, fields: Fields<'_>) {
        let Self { journal, now, inventory, given } = self;
        if given.add((message, fields.path, fields.error)) {
            let fields = Fields { inventory: Some(&inventory.name), ..fields };
            journal.write(*now, Name::ConfigWarning, Severity::Error, message, fields);
        }
    }
}
