//! Applies a configuration to the inventories, and reads them at startup.

use std::collections::VecDeque;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};

use tokio::task::spawn_blocking;

use super::{Inventories, InventoryEvent, InventoryState, WAITING_PARTS, path, read, table_name};
use crate::daemon::tasks::blocking::wait_at_startup;
use crate::daemon::tokens::{ConfigDiff, InventoryId, TokenConfig, TokenOrigin, Tokens};
use crate::inventory::{Batch, FileStamp, InventoryError};
use crate::lifecycle::Policy;
use crate::scheduler::{TokenId, TokenSpec};
use crate::settings::{Inventory, InventorySource};
use crate::token_source::DISK_TIMEOUT;

/// Tokens of an inventory that a reload replaces or removes, one by one.
#[derive(Debug)]
pub(crate) struct InventoryRollout {
    inventory: InventoryId,
    tokens: Vec<TokenId>,
    /// Their new configuration; `None` if they are removed.
    config: Option<(Arc<TokenConfig>, TokenSpec)>,
}

impl InventoryRollout {
    /// Replaces or removes the next token. Returns whether there was one.
    pub(crate) fn step(&mut self, tokens: &mut Tokens) -> bool {
        let Some(token) = self.tokens.pop() else { return false };
        // The token may have left the inventory meanwhile, and its number be another token's.
        if tokens.registry.is_listed_by(token, self.inventory) {
            match &self.config {
                Some((config, spec)) => drop(tokens.replace(token, config, spec)),
                None => tokens.remove(token),
            }
        }
        true
    }
}

impl Inventories {
    /// Applies a configuration. The inventories are to be read afterwards. Returns the changes of
    /// their tokens that are still to be made.
    pub(crate) fn apply(
        &mut self,
        settings: &[Inventory],
        policies: &mut Vec<Arc<Policy>>,
        tokens: &mut Tokens,
        diff: &mut ConfigDiff,
    ) -> Vec<InventoryRollout> {
        let mut rollouts = Vec::new();
        let is_gone = |inventory: &InventoryState| {
            !settings.iter().any(|settings| settings.name == inventory.settings.name)
        };
        let all = self.by_id.iter();
        let gone: Vec<_> = all.filter(|(_, it)| is_gone(it)).map(|(id, _)| *id).collect();
        for (id, inventory) in gone.into_iter().filter_map(|id| self.by_id.remove_entry(&id)) {
            let listed = tokens.registry.listed_by(id, |_| true);
            rollouts.push(InventoryRollout { inventory: id, tokens: listed, config: None });
            tokens.deferred.forget_inventory(id);
            diff.removed.push(table_name(&inventory.settings.name));
        }
        for settings in settings {
            rollouts.extend(self.apply_one(settings, policies, tokens, diff));
        }
        self.watch();
        rollouts
    }

    fn apply_one(
        &mut self,
        settings: &Inventory,
        policies: &mut Vec<Arc<Policy>>,
        tokens: &Tokens,
        diff: &mut ConfigDiff,
    ) -> Option<InventoryRollout> {
        let id = self.id_of(&settings.name);
        let origin = match &settings.source {
            InventorySource::Dir(path) => TokenOrigin::File(id, path.clone()),
            InventorySource::File { .. } | InventorySource::Command { .. } => TokenOrigin::Line(id),
        };
        // Lines may have one, and files do not.
        let has_refresh = matches!(origin, TokenOrigin::Line(_));
        let (config, spec) =
            tokens.config_for(&settings.keep_alive, origin, has_refresh, policies)?;
        let Some(inventory) = self.by_id.get_mut(&id) else {
            let inventory = InventoryState::new(settings.clone(), Arc::new(config), spec);
            self.by_id.insert(id, inventory);
            diff.added.push(table_name(&settings.name));
            return None;
        };
        let has_other_source = inventory.settings.source != settings.source;
        if !has_other_source && inventory.spec == spec && *inventory.config == config {
            return None;
        }
        if *inventory.config != config {
            inventory.config = Arc::new(config);
        }
        inventory.settings = settings.clone();
        inventory.spec = spec.clone();
        // A read that is running is of the inventory before.
        inventory.pass = None;
        let config = Arc::clone(&inventory.config);
        diff.changed.push(table_name(&settings.name));
        let listed = tokens.registry.listed_by(id, |_| true);
        Some(InventoryRollout { inventory: id, tokens: listed, config: Some((config, spec)) })
    }

    /// Finds the inventories that do not respond. To be called at the startup, before they are
    /// watched and read. Blocks.
    pub(crate) fn find_hung(&mut self, settings: &[Inventory]) {
        let paths: Vec<_> = settings.iter().filter_map(|it| path(&it.source)).collect();
        let look = |path: &&Path| {
            let path = path.to_path_buf();
            move || FileStamp::of(&path)
        };
        let seen = wait_at_startup(paths.iter().map(look));
        let hung = paths.into_iter().zip(seen).filter(|(_, seen)| seen.is_none());
        self.hung = hung.map(|(path, _)| path.to_owned()).collect();
    }

    /// Reads the inventories for the startup, which needs all values first. Commands and inventories
    /// that do not respond must not delay the startup: they are started here and applied later. Parts
    /// are applied while a thread reads on.
    pub(crate) fn read_at_startup(&mut self, tokens: &mut Tokens) {
        let mut wanted = VecDeque::new();
        for (id, source) in self.sources() {
            match path(&source) {
                None => self.read_later(id, tokens),
                Some(path) if self.hung.contains(path) => self.report_hung(id, tokens),
                Some(_) => wanted.extend(self.begin(id, false).map(|pass| (id, pass, source))),
            }
        }
        let (sender, receiver) = sync_channel(WAITING_PARTS);
        let all = wanted.clone();
        drop(spawn_blocking(move || {
            for (id, pass, source) in all {
                let end = read::read_in_parts(&source, |part| {
                    match sender.send(InventoryEvent::Part(id, pass, part)) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(_) => ControlFlow::Break(()),
                    }
                });
                if sender.send(InventoryEvent::End(id, pass, end)).is_err() {
                    break;
                }
            }
        }));
        loop {
            match receiver.recv_timeout(DISK_TIMEOUT) {
                Ok(InventoryEvent::Part(id, _, part)) => {
                    self.reserve(id, &part, tokens);
                    self.apply_part(id, part, tokens);
                }
                Ok(InventoryEvent::End(id, pass, end)) => {
                    wanted.pop_front();
                    self.on_end(id, pass, end);
                    self.finish_pass(id, true, tokens);
                }
                Ok(_) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some((id, ..)) = wanted.pop_front() {
                        self.report_hung(id, tokens);
                    }
                    for (id, ..) in wanted {
                        self.read_later(id, tokens);
                    }
                    break;
                }
            }
        }
    }

    /// Logs that an inventory does not respond at the startup. It is read once it does.
    fn report_hung(&mut self, id: InventoryId, tokens: &mut Tokens) {
        let path = self.get(id).and_then(|it| path(&it.settings.source)).map(Path::to_owned);
        if let (Some(path), Some(pass)) = (path, self.begin(id, false)) {
            self.on_end(id, pass, Err(InventoryError::Unresponsive(path)));
            self.finish_pass(id, false, tokens);
        }
        self.read_later(id, tokens);
    }

    /// Reads an inventory while the daemon runs, and then restores its tokens.
    fn read_later(&mut self, id: InventoryId, tokens: &mut Tokens) {
        tokens.deferred.await_inventory(id);
        self.read(id, None);
    }

    /// Makes room for all tokens of an inventory at once, by its first part.
    fn reserve(&self, id: InventoryId, part: &Batch, tokens: &mut Tokens) {
        if let Some(inventory) = self.by_id.get(&id)
            && tokens.inventory_counts.tokens(id) == 0
            && let InventorySource::File { path, .. } = &inventory.settings.source
            && let Ok(file) = fs::metadata(path)
        {
            let more = part.estimate(file.len());
            tokens.registry.reserve(more);
            tokens.scheduler.reserve(usize::try_from(more).unwrap_or(0));
        }
    }
}
