//! Looks for a name or a value among the tokens that are configured already.

use std::ops::ControlFlow;

use crate::inventory::{DuplicatePolicy, InventoryEntry, read_directory, read_file};
use crate::secret::TokenValue;
use crate::settings::{InventorySource, Settings};
use crate::token_source::read;

/// The place of the token `name` in an inventory, as a phrase. Inventory commands are not run.
pub(super) fn inventory_with(settings: &Settings, name: &str) -> Option<String> {
    find_entry(settings, |entry| entry.name == name)
}

/// The token other than `name` that has this value, as a phrase.
pub(super) fn owner_of(value: &TokenValue, name: &str, settings: &Settings) -> Option<String> {
    let others = settings.tokens.iter().filter(|token| token.name != name);
    let variable = |name: &str| std::env::var_os(name);
    // A source that cannot be read now is compared by the daemon later.
    let mut same = others
        .filter(|token| read(&token.source, &variable).is_ok_and(|found| found.value == *value));
    same.next().map(|token| format!("[token.{}]", token.name)).or_else(|| {
        find_entry(settings, |entry| {
            entry.value.as_ref().is_ok_and(|other| *other == value.by_ref())
        })
    })
}

/// The first entry of all inventories that satisfies `is_wanted`.
fn find_entry(
    settings: &Settings,
    is_wanted: impl Fn(&InventoryEntry<'_>) -> bool,
) -> Option<String> {
    settings.inventories.iter().find_map(|inventory| {
        let mut found = None;
        let mut sink = |entry: InventoryEntry<'_>| {
            if !is_wanted(&entry) {
                return ControlFlow::Continue(());
            }
            let place = inventory.location(entry.name, entry.line);
            found = Some(format!("{} of [inventory.{}] ({place})", entry.name, inventory.name));
            ControlFlow::Break(())
        };
        // An inventory that cannot be read is reported by `check-config` and the daemon.
        let _ = match &inventory.source {
            InventorySource::File { path, .. } => {
                read_file(path, false, DuplicatePolicy::PassOn, &mut sink)
            }
            InventorySource::Dir(path) => read_directory(path, &mut sink),
            InventorySource::Command { .. } => return None,
        };
        found
    })
}
