//! Restores tokens of inventories that are read after the startup: those of a command.
//!
//! New values of such tokens are deferred until the inventory's first read has ended and the
//! persisted check results were read once more, so that these tokens are restored as others are.

use std::path::Path;

use super::{restore_lives, warn_of_state};
use crate::clock;
use crate::daemon::tokens::{InventoryId, RestoreStage, TokenBitSet, Tokens};
use crate::event_log::{EventName, Fields};
use crate::lifecycle::SourceChange;
use crate::store::{LifeBatch, StoreReport};
use crate::time::{Moment, whole_millis};
use crate::token_source::{DISK_TIMEOUT, PersistError};

/// How far the reading of check results is.
#[derive(Debug, Default)]
pub(crate) struct DeferredRestore {
    /// Tokens whose newest result was read.
    seen: TokenBitSet,
    /// When waiting for the database ends; `None` while nothing is read.
    due: Option<Moment>,
}

impl DeferredRestore {
    /// When waiting for the database ends.
    pub(crate) const fn due(&self) -> Option<Moment> {
        self.due
    }

    /// A read of this inventory has ended.
    pub(crate) fn on_inventory_read(&mut self, inventory: InventoryId, tokens: &mut Tokens) {
        if tokens.deferred.inventory_was_read(inventory) {
            self.begin(tokens);
        }
    }

    fn begin(&mut self, tokens: &mut Tokens) {
        let deferred = &mut tokens.deferred;
        if deferred.has_stage(RestoreStage::Current) || !deferred.has_stage(RestoreStage::Next) {
            return;
        }
        deferred.advance(RestoreStage::Next, Some(RestoreStage::Current));
        self.seen = TokenBitSet::default();
        self.due = Some(clock::now() + DISK_TIMEOUT);
        match tokens.recorder.shared_writer() {
            Some(writer) => writer.load_lives(None),
            None => self.end(tokens),
        }
    }

    /// Ends the wait for a database that hangs: without persisted results the tokens are checked
    /// at once.
    pub(crate) fn end_if_due(&mut self, now: Moment, tokens: &mut Tokens) {
        if self.due.is_some_and(|due| due <= now) {
            self.end(tokens);
        }
    }

    /// Handles a report of the database's thread.
    pub(crate) fn on_report(&mut self, report: StoreReport, state_dir: &Path, tokens: &mut Tokens) {
        match report {
            StoreReport::Failed { fault, retry_in } => {
                let error = fault.to_string();
                let fields = Fields {
                    error: Some(&error),
                    retry_in_ms: Some(whole_millis(retry_in)),
                    ..Fields::default()
                };
                let message = "the state database could not be written";
                tokens.log.event(EventName::StoreFailed, message, fields);
            }
            StoreReport::StartedOver(error) => {
                let message = match error {
                    PersistError::Moved { .. } => "the state database was moved or replaced",
                    _ => "the state database is damaged and was replaced by a new one",
                };
                warn_of_state(&mut tokens.log, state_dir, message, &error);
                if let Some(writer) = tokens.recorder.writer() {
                    writer.restart_compaction();
                }
            }
            StoreReport::LivesLoaded(found) => self.on_lives(found, tokens),
        }
    }

    /// Check results were read, with the row to continue at; `None`: all were read.
    fn on_lives(&mut self, found: Option<(i64, LifeBatch)>, tokens: &mut Tokens) {
        if let (Some((row, part)), Some(writer)) = (found, tokens.recorder.shared_writer()) {
            writer.load_lives(Some(row));
            part.lives(|recalled| {
                restore_lives(tokens, &mut self.seen, recalled);
            });
            self.due = self.due.map(|_| clock::now() + DISK_TIMEOUT);
        } else {
            self.end(tokens);
        }
    }

    /// Tells the scheduler of the deferred values of the current inventories, and continues with
    /// the next ones.
    fn end(&mut self, tokens: &mut Tokens) {
        self.due = None;
        let now = clock::now();
        for id in std::mem::take(&mut tokens.deferred.awaiting_restore) {
            let Some(entry) = tokens.registry.token(id) else { continue };
            let inventory = entry.inventory();
            let stage = inventory.and_then(|inventory| tokens.deferred.stage(inventory));
            if stage != Some(RestoreStage::Current) {
                tokens.deferred.awaiting_restore.push(id);
            } else if entry.value(tokens.scheduler.spare_slot(id)).is_some()
                && tokens.scheduler.is_missing(id)
            {
                let change = SourceChange::NewValue;
                tokens.scheduler.source_changed(id, change, now);
                tokens.note_listing(id);
            }
        }
        tokens.deferred.advance(RestoreStage::Current, None);
        self.begin(tokens);
    }
}
