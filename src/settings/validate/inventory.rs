//! `[inventory.NAME]`

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use crate::lifecycle::Schedule;

use super::super::finding::{ConfigErrorKind, WarningKind};
use super::super::key_positions::join;
use super::super::model::{Inventory, InventorySource};
use super::super::raw::{Raw, RawToken};
use super::{Validator, duration_or};

/// The same as for a re-auth command.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Validator<'_> {
    /// `schedules`: the schedule of each server.
    pub(super) fn inventory(
        &mut self,
        name: &str,
        inventory: &RawToken,
        raw: &Raw,
        schedules: &BTreeMap<&str, Schedule>,
    ) -> Option<Inventory> {
        let table = join("inventory", name);
        if self.require_exactly_one(&table, &["file", "dir", "command"]) {
            self.reject_unless_beside(&table, "strict", &["file", "command"]);
            self.reject_unless_beside(&table, "timeout", &["command"]);
        }
        let keep_alive = self.keep_alive(("inventory", name), inventory, raw, schedules)?;
        let strict = inventory.strict.unwrap_or(false);
        let source = match (&inventory.file, &inventory.dir, &inventory.command) {
            (Some(file), _, _) => InventorySource::File { path: file.into(), strict },
            (_, Some(dir), _) => InventorySource::Dir(dir.into()),
            (_, _, Some(command)) => {
                let timeout = duration_or(inventory.timeout.as_deref(), TIMEOUT);
                InventorySource::Command { command: command.clone(), timeout, strict }
            }
            (None, None, None) => return None,
        };
        Some(Inventory { name: name.to_owned(), source, keep_alive })
    }

    /// Reports `key` if none of `homes`, the sources to which it applies, is present.
    fn reject_unless_beside(&mut self, table: &str, key: &str, homes: &[&str]) {
        if !self.is_present(table, key) || homes.iter().any(|home| self.is_present(table, home)) {
            return;
        }
        let homes = homes.iter().map(|home| format!("`{home}`")).collect::<Vec<_>>().join(" or ");
        self.error(
            (table, key),
            ConfigErrorKind::Conflict,
            format!("`{}` has no effect without {homes}", join(table, key)),
            "remove it",
        );
    }

    /// Warns about inventories with the same source.
    pub(super) fn warn_shared_inventories(&mut self, inventories: &[Inventory]) {
        let mut first = HashMap::new();
        for inventory in inventories {
            let (key, path): (_, &Path) = match &inventory.source {
                InventorySource::File { path, .. } => ("file", path),
                InventorySource::Dir(path) => ("dir", path),
                InventorySource::Command { .. } => continue,
            };
            let Some(other) = first.insert(path, &inventory.name) else { continue };
            let table = join("inventory", &inventory.name);
            self.warning(
                (&table, key),
                WarningKind::SharedSource,
                format!("[{table}] and [{}] contain the same tokens", join("inventory", other)),
                "remove one of the two: a token can be in one inventory only",
            );
        }
    }
}
