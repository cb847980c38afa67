//! Reconciles the tokens of an inventory with what a read of it lists.
//!
//! - A name belongs to the first token that has it: a `[token.NAME]` before all inventories, and
//!   these in the order of their names at startup. A token keeps its name until it is removed, so
//!   that no change of one inventory moves a token of another.
//! - Tokens are not removed if the inventory cannot be read, is empty, was being written, or has a
//!   bad line, which may be that of a token.

use std::ops::ControlFlow;

use super::log;
use super::{Inventories, NameConflict, table_name};
use crate::daemon::notices;
use crate::daemon::tokens::{InventoryId, TokenOrigin, Tokens};
use crate::inventory::{
    Batch, EntryLocation, InventoryEntry, InventoryError, LineError, MAX_DETAILED, ReadSummary,
};
use crate::profile::Profile;
use crate::scheduler::TokenId;
use crate::settings::InventorySource;

/// Inconclusive reads in a row, one a second, until a read is applied without removing tokens: a
/// program keeps writing to the file.
const MAX_TRIES: u32 = 5;

impl Inventories {
    /// Applies a part of a read.
    pub(super) fn apply_part(&mut self, id: InventoryId, part: Batch, tokens: &mut Tokens) {
        let mut known = tokens.registry.ids_of(part.names()).into_iter();
        let _ = part.pass_on(&mut |listed| {
            // A name that this part has added is listed twice.
            let token = known.next().flatten().or_else(|| tokens.registry.id_of(listed.name));
            self.on_listed(id, listed, token, tokens);
            ControlFlow::Continue(())
        });
    }

    /// An inventory lists a token; `known` is the token that has this name.
    fn on_listed(
        &mut self,
        id: InventoryId,
        listed: InventoryEntry<'_>,
        known: Option<TokenId>,
        tokens: &mut Tokens,
    ) {
        let InventoryEntry { name, value, refresh, warnings, line } = listed;
        let Some(inventory) = self.by_id.get_mut(&id) else { return };
        let Some(pass) = &mut inventory.pass else { return };
        pass.without_refresh += u64::from(refresh.is_none());
        let Some(token) = known else {
            let token = tokens.add(name, &inventory.config, inventory.spec.clone(), line);
            pass.seen.insert(token);
            tokens.on_refresh_token_listed(token, refresh, true);
            return match value {
                Ok(value) => tokens.on_value_found(token, value, &warnings),
                Err(error) => tokens.on_value_missing(token, &error),
            };
        };
        let Some(entry) = tokens.registry.token(token) else { return };
        if entry.inventory() != Some(id) {
            return self.on_name_conflict(id, name, line, tokens, token);
        }
        if line > 0 && pass.seen.contains(token) {
            let error = LineError::Duplicate { line: entry.line() };
            return pass.repeats.add(EntryLocation::Line(line), error);
        }
        pass.seen.insert(token);
        tokens.on_refresh_token_listed(token, refresh, false);
        let Some(entry) = tokens.registry.token(token) else { return };
        let is_same = value.as_ref().is_ok_and(|value| entry.in_source() == Some(*value))
            && !tokens.has_refused_value(token);
        let is_file = matches!(entry.config().origin, TokenOrigin::File(..));
        if entry.line() != line {
            tokens.registry.set_line(token, line);
        }
        if is_same {
            // The value may have changed and changed back during a re-authentication.
            tokens.deferred.take_after_reauth(token);
            return;
        }
        // The daemon may be replacing the file at the same time: a read of this file alone can
        // tell.
        if is_file {
            return pass.reads.push(token);
        }
        let Ok(value) = value else { return };
        if tokens.scheduler.token(token).is_some_and(|token| token.is_reauthenticating()) {
            tokens.deferred.defer_during_reauth(token, value.to_value());
        } else {
            tokens.on_value_found(token, value, &warnings);
        }
    }

    /// An inventory lists a name that another token has.
    fn on_name_conflict(
        &mut self,
        id: InventoryId,
        name: &str,
        line: u32,
        tokens: &Tokens,
        token: TokenId,
    ) {
        let owner = self.place_of(token, tokens);
        let Some(inventory) = self.by_id.get_mut(&id) else { return };
        let Some(pass) = &mut inventory.pass else { return };
        pass.conflicts.1 += 1;
        if pass.conflicts.0.len() < MAX_DETAILED {
            let place = inventory.settings.location(name, line);
            pass.conflicts.0.push(NameConflict { name: name.into(), place, owner });
        }
    }

    /// Where a token is configured, for people.
    fn place_of(&self, token: TokenId, tokens: &Tokens) -> String {
        let Some(entry) = tokens.registry.token(token) else { return String::new() };
        match entry.inventory().and_then(|id| self.by_id.get(&id)) {
            None => format!("[token.{}]", entry.name()),
            Some(inventory) => {
                let place = inventory.settings.location(entry.name(), entry.line());
                format!("[{}] ({place})", table_name(&inventory.settings.name))
            }
        }
    }

    /// A read has ended.
    pub(super) fn on_end(
        &mut self,
        id: InventoryId,
        number: u64,
        end: Result<ReadSummary, InventoryError>,
    ) {
        let Some(inventory) = self.by_id.get_mut(&id) else { return };
        if let Ok(ReadSummary { stamp: Some(stamp), .. }) = &end {
            inventory.stamp = Some(*stamp);
        }
        if let Some(pass) = inventory.pass.as_mut().filter(|pass| pass.number == number) {
            let repeats = std::mem::take(&mut pass.repeats);
            pass.end = Some(end.map(|mut reading| {
                reading.good = reading.good.saturating_sub(repeats.count);
                reading.bad.append(repeats);
                reading
            }));
        }
    }

    /// Finishes the pass, unless the file may be in the middle of being written: then the file is
    /// checked again before tokens are removed or errors logged.
    pub(super) fn finish_pass_if_settled(
        &mut self,
        id: InventoryId,
        number: u64,
        tokens: &mut Tokens,
    ) {
        let Some(inventory) = self.by_id.get_mut(&id) else { return };
        let Some(pass) = &inventory.pass else { return };
        let is_clean = match &pass.end {
            Some(Ok(reading)) => {
                let is_whole = pass.seen.len() >= tokens.inventory_counts.tokens(id);
                !reading.changed && reading.bad.count == 0 && reading.good > 0 && is_whole
            }
            Some(Err(_)) | None => false,
        };
        let is_watched = matches!(inventory.settings.source, InventorySource::File { .. });
        if is_clean || !is_watched || inventory.tries >= MAX_TRIES {
            return self.finish_pass(id, is_clean || !is_watched, tokens);
        }
        inventory.tries += 1;
        let stamp = match &pass.end {
            Some(Ok(reading)) => reading.stamp,
            Some(Err(_)) | None => None,
        };
        self.settle(id, number, stamp);
    }

    /// Finishes a pass: removes the tokens that a read which is `certain` to be whole does not
    /// list, and logs errors.
    pub(super) fn finish_pass(&mut self, id: InventoryId, certain: bool, tokens: &mut Tokens) {
        let Some(inventory) = self.by_id.get_mut(&id) else { return };
        let Some(mut pass) = inventory.pass.take() else { return };
        inventory.tries = 0;
        let is_folder = matches!(inventory.settings.source, InventorySource::Dir(_));
        let had = tokens.inventory_counts.tokens(id);
        let read_again = std::mem::take(&mut inventory.read_again);
        if pass.partial || inventory.stamp != inventory.reported {
            inventory.given.clear();
        } else {
            inventory.given.begin();
        }
        inventory.reported = inventory.stamp;
        match pass.end.take() {
            Some(Ok(reading)) => {
                inventory.report(tokens).bad_lines(&reading.bad);
                let profile = tokens.servers[inventory.config.server].settings.profile.as_deref();
                if pass.without_refresh > 0 && profile.is_some_and(Profile::needs_refresh_token) {
                    inventory.report(tokens).without_refresh(pass.without_refresh);
                }
                let was_warned =
                    std::mem::replace(&mut inventory.is_warned, !reading.warnings.is_empty());
                let is_whole = certain && !pass.partial && !reading.changed;
                inventory.is_read_whole |= !pass.partial && !reading.changed && reading.good > 0;
                if is_whole && reading.good == 0 {
                    inventory.report(tokens).empty(had);
                }
                if !was_warned {
                    notices::source_warnings(&mut tokens.log, None, &reading.warnings);
                }
                if is_whole && reading.good > 0 && pass.seen.len() < had {
                    let gone = tokens.registry.listed_by(id, |token| !pass.seen.contains(token));
                    if is_folder {
                        pass.reads.extend(gone);
                    } else if reading.bad.count == 0 {
                        tokens.inventory_counts.of(id).changes.removed += gone.len() as u64;
                        for token in gone {
                            tokens.remove(token);
                        }
                    }
                }
                log::changes(tokens, id, &inventory.settings, !pass.partial);
            }
            Some(Err(InventoryError::Cancelled)) | None => {}
            Some(Err(error)) => inventory.report(tokens).unread(had, &error),
        }
        inventory.report(tokens).conflicts(&pass.conflicts);
        tokens.request_reads(pass.reads);
        tokens.recorder.prune_orphans();
        if self.are_all_read() {
            tokens.expire_orphans();
        }
        if read_again {
            self.read(id, None);
        }
    }

    /// Logs changes that reads of single files have made.
    pub(crate) fn log_changes(&self, tokens: &mut Tokens) {
        for (id, inventory) in self.by_id.iter().filter(|(_, inventory)| inventory.pass.is_none()) {
            log::changes(tokens, *id, &inventory.settings, false);
        }
    }
}
