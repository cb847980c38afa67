//! `[inventory.NAME]`

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use crate::lifecycle::Schedule;

use super::super::fault::{FaultKind, WarningKind};
use super::super::marks::join;
use super::super::model::{Inventory, InventorySource};
use super::super::raw::{Raw, RawInventory};
use super::{Judge, duration_or};

/// As long as a re-auth command gets.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Judge<'_> {
    /// `schedules`: what holds for each server's tokens.
    pub(super) fn inventory(
        &mut self,
        name: &str,
        inventory: &RawInventory,
        raw: &Raw,
        schedules: &BTreeMap<&str, Schedule>,
    ) -> Option<Inventory> {
        let table = join("inventory", name);
        if self.exactly_one(&table, &["file", "dir", "command"]) {
            self.only_beside(&table, "strict", &["file", "command"]);
            self.only_beside(&table, "timeout", &["command"]);
        }
        let upkeep = self.upkeep(name, &inventory.into(), raw, schedules)?;
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
        Some(Inventory { name: name.to_owned(), source, upkeep })
    }

    /// Reports `key` where none of `homes`, the sources that it speaks of, stands beside it.
    fn only_beside(&mut self, table: &str, key: &str, homes: &[&str]) {
        if !self.is_written(table, key) || homes.iter().any(|home| self.is_written(table, home)) {
            return;
        }
        let homes = homes.iter().map(|home| format!("`{home}`")).collect::<Vec<_>>().join(" or ");
        self.report.fault(
            self.marks.near(table, key),
            FaultKind::Conflict,
            format!("`{}` has no meaning without {homes}", join(table, key)),
            "remove it",
        );
    }

    /// Warns of inventories that bring the same tokens.
    pub(super) fn shared_inventories(&mut self, inventories: &[Inventory]) {
        let mut first = HashMap::new();
        for inventory in inventories {
            let (key, path): (_, &Path) = match &inventory.source {
                InventorySource::File { path, .. } => ("file", path),
                InventorySource::Dir(path) => ("dir", path),
                InventorySource::Command { .. } => continue,
            };
            let Some(other) = first.insert(path, &inventory.name) else { continue };
            let table = join("inventory", &inventory.name);
            self.report.warning(
                self.marks.near(&table, key),
                WarningKind::SharedSource,
                format!("[{table}] and [{}] bring the same tokens", join("inventory", other)),
                "remove one of the two: a token can be in one inventory only",
            );
        }
    }
}
