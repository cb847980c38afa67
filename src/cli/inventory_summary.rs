//! Summarizes the inventories of a configuration, for `check-config` and `doctor`. Runs no inventory
//! commands.

use std::collections::HashMap;
use std::ops::ControlFlow;

use crate::inventory::{
    BadEntries, DuplicatePolicy, InventoryEntry, MAX_DETAILED, read_directory, read_file,
};
use crate::settings::{Inventory, InventorySource, Settings};

/// Summary of an inventory.
pub(super) struct InventorySummary<'a> {
    pub(super) inventory: &'a Inventory,
    /// Number of tokens; `None` for an inventory command, which is not run.
    pub(super) tokens: Option<u32>,
    /// Whether the whole inventory is unusable.
    pub(super) failed: bool,
    /// Problems, as sentences with their location.
    pub(super) remarks: Vec<String>,
}

/// First occurrence of each name: `None` for a `[token.NAME]`, else the inventory and the line.
type Names = HashMap<Box<str>, Option<(usize, u32)>>;

/// Reads all inventories, in the order of their names.
pub(super) fn summarize(settings: &Settings) -> Vec<InventorySummary<'_>> {
    let own = settings.tokens.iter();
    let mut names: Names = own.map(|token| (token.name.as_str().into(), None)).collect();
    let all = &settings.inventories;
    (0..all.len()).map(|index| summarize_one(all, index, &mut names)).collect()
}

fn summarize_one<'a>(
    all: &'a [Inventory],
    index: usize,
    names: &mut Names,
) -> InventorySummary<'a> {
    let inventory = &all[index];
    let (mut tokens, mut duplicates, mut more_duplicates) = (0, Vec::new(), 0_u64);
    let mut sink = |listed: InventoryEntry<'_>| {
        let InventoryEntry { name, line, .. } = listed;
        match names.get(name) {
            None => {
                names.insert(name.into(), Some((index, line)));
                tokens += 1;
            }
            Some(earlier) if duplicates.len() < MAX_DETAILED => {
                let place = inventory.location(name, line);
                duplicates
                    .push(format!("{place}: {name} is already in {}", origin(all, name, *earlier)));
            }
            Some(_) => more_duplicates += 1,
        }
        ControlFlow::Continue(())
    };
    let read = match &inventory.source {
        InventorySource::File { path, strict } => {
            read_file(path, *strict, DuplicatePolicy::Reject, &mut sink)
        }
        InventorySource::Dir(path) => read_directory(path, &mut sink),
        InventorySource::Command { .. } => {
            return InventorySummary {
                inventory,
                tokens: None,
                failed: false,
                remarks: Vec::new(),
            };
        }
    };
    let mut remarks = Vec::new();
    let failed = read.is_err();
    match read {
        Ok(read) => {
            remarks.extend(read.warnings.iter().map(ToString::to_string));
            describe_bad_entries(inventory, &read.bad, &mut remarks);
            if tokens == 0 && remarks.is_empty() && duplicates.is_empty() {
                remarks
                    .push(format!("{}: it contains no tokens; check the path", inventory.whole()));
            }
        }
        Err(fault) => {
            remarks.push(fault.to_string());
            fault
                .bad()
                .into_iter()
                .for_each(|bad| describe_bad_entries(inventory, bad, &mut remarks));
        }
    }
    remarks.extend(duplicates);
    if more_duplicates > 0 {
        remarks.push(format!("{more_duplicates} more names are duplicates"));
    }
    InventorySummary { inventory, tokens: Some(tokens), failed, remarks }
}

fn origin(all: &[Inventory], name: &str, earlier: Option<(usize, u32)>) -> String {
    match earlier {
        None => format!("[token.{name}]"),
        Some((index, line)) => {
            let inventory = &all[index];
            format!("[inventory.{}] ({})", inventory.name, inventory.location(name, line))
        }
    }
}

fn describe_bad_entries(inventory: &Inventory, bad: &BadEntries, remarks: &mut Vec<String>) {
    for bad in &bad.first {
        remarks.push(format!("{}: {}", bad.place.within(inventory), bad.fault));
    }
    if bad.further() > 0 {
        remarks.push(format!("{}: {} more lines are invalid", inventory.whole(), bad.further()));
    }
}
