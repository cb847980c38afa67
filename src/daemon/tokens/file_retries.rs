//! New values whose file cannot be replaced: a mount point, a read-only or full file system.
//!
//! Such a value is kept in the state directory, where it wins over the file as long as the file
//! still holds the value that it replaced. The write is retried with an exponential backoff; once
//! the file is written, or holds another value, the copy in the state directory is deleted.

use std::path::{Path, PathBuf};

use super::{TokenEntry, Tokens, WriteOutcome, names_of};
use crate::clock;
use crate::event_log::{EventName, Fields};
use crate::lifecycle::ReplacedBy;
use crate::scheduler::{Ticket, TokenId};
use crate::secret::{TokenValue, ValueRef};
use crate::store::WriteReceipt;
use crate::time::{Moment, whole_millis};
use crate::token_source::PersistError;

/// A write to a token's file that is to be retried.
#[derive(Debug)]
pub(crate) struct FileWrite {
    pub(crate) id: TokenId,
    pub(crate) name: Box<str>,
    pub(crate) path: PathBuf,
    pub(crate) value: TokenValue,
    pub(crate) in_source: Option<TokenValue>,
}

impl Tokens {
    /// When the next file write is to be retried.
    pub(crate) fn next_file_retry(&self) -> Option<Moment> {
        self.file_retries.next_due()
    }

    /// The token's file holds this value, whatever a read that began before has found.
    pub(super) fn is_in_file(&mut self, id: TokenId, value: &TokenValue) {
        self.is_in_source(id, value);
        self.end_file_retry(id);
    }

    /// The file of a new value cannot be replaced: persists the value in the state directory.
    /// Returns the receipt that is to be waited for; without a state directory the write failed.
    pub(super) fn keep_in_state_dir(
        &mut self,
        ticket: Ticket,
        value: TokenValue,
        error: PersistError,
    ) -> Option<(WriteReceipt, PersistError)> {
        let entry = self.registry.token(ticket.token)?;
        let in_source = entry.in_source();
        let receipt = self.recorder.keep_value(entry.name(), value, in_source);
        if receipt.is_none() {
            let error = error.to_string().into();
            self.scheduler.persist_finished(ticket, Err(error), clock::now());
            return None;
        }
        receipt.map(|receipt| (receipt, error))
    }

    /// Schedules the next write to the token's file, and logs why the last one failed unless
    /// that error was logged before.
    pub(super) fn retry_file_later(&mut self, id: TokenId, error: &PersistError) {
        let (Some(entry), Some(spec)) = (self.registry.token(id), self.scheduler.spec(id)) else {
            return;
        };
        let (error, now) = (error.to_string(), clock::now());
        let (pause, is_new) = self.file_retries.fail(id, &spec.policy.schedule, now, &error);
        if !is_new {
            return;
        }
        let path = entry.file().map(|path| path.display().to_string());
        let fields = Fields {
            error: Some(&error),
            path: path.as_deref(),
            retry_in_ms: Some(whole_millis(pause)),
            ..names_of(&self.servers, entry)
        };
        let message = "the new value could not be written to the token's file; it is kept in \
        `state_dir`, survives a restart, and the write is retried";
        self.log.event(EventName::StoreFailed, message, fields);
    }

    /// An earlier run has kept a value because the token's file could not be replaced: the write
    /// is retried at once. That run did not log `token_replaced`, as the file has the old value.
    pub(super) fn resume_file_retry(&mut self, id: TokenId) {
        if self.begin_file_retry(id) {
            self.note_unlogged_replacement(id, ReplacedBy::Reauth);
        }
    }

    /// Schedules a write of the current value to the token's file, at once. Returns whether it has one.
    pub(super) fn begin_file_retry(&mut self, id: TokenId) -> bool {
        let has_file = self.registry.token(id).and_then(TokenEntry::file).is_some();
        if has_file {
            self.file_retries.schedule(id, clock::now());
        }
        has_file
    }

    /// The token's file holds the current value, or another value that wins over the one in the
    /// state directory, which is deleted.
    pub(super) fn end_file_retry(&mut self, id: TokenId) {
        if self.file_retries.remove(id) {
            self.forget_stored_value(id);
        }
    }

    /// The token's source holds another value, which wins over the one in the state directory.
    /// While the daemon starts, that one is deleted where it is refused.
    pub(super) fn forget_superseded(&mut self, id: TokenId) {
        if self.file_retries.remove(id) || self.recorder.shared_writer().is_some() {
            self.forget_stored_value(id);
        }
    }

    /// Takes the file writes whose time has come. [`Moment::NEVER`] takes all: at shutdown.
    pub(crate) fn take_file_writes(&mut self, now: Moment) -> Vec<FileWrite> {
        if self.next_file_retry().is_none_or(|due| due > now) {
            return Vec::new();
        }
        let mut writes = Vec::new();
        for id in self.file_retries.take_due(now) {
            let slot = self.scheduler.spare_slot(id).other();
            let Some(entry) = self.registry.token(id) else { continue };
            let (Some(path), Some(value)) = (entry.file(), entry.value(slot)) else {
                self.file_retries.remove(id);
                continue;
            };
            let in_source = entry.in_source();
            if in_source == Some(value) {
                self.end_file_retry(id);
                self.log_replaced_if_stored(id);
                continue;
            }
            let (name, value) = (entry.name().into(), value.to_value());
            let in_source = in_source.map(ValueRef::to_value);
            writes.push(FileWrite { id, name, path, value, in_source });
        }
        writes
    }

    /// A write to this file of a token was retried. The number may be another token's by now, so the
    /// name is compared too. After a reload, the token may have another file.
    pub(crate) fn on_file_written(
        &mut self,
        id: TokenId,
        name: &str,
        file: &Path,
        result: Result<WriteOutcome, PersistError>,
    ) {
        let entry = self.registry.token(id).filter(|entry| entry.name() == name);
        let Some(entry) = entry.filter(|_| self.file_retries.has(id)) else { return };
        if entry.file().as_deref() != Some(file) {
            return self.file_retries.schedule(id, clock::now());
        }
        match result {
            Ok(WriteOutcome::Written(value)) => self.is_in_file(id, &value),
            Ok(WriteOutcome::SourceChanged(value)) => {
                self.is_in_source(id, &value);
                if self.is_refused(id, value.by_ref()) {
                    // The next attempt replaces the value of the other token.
                    self.resume_file_retry(id);
                } else {
                    self.end_file_retry(id);
                    self.offer_candidate(id, value.by_ref());
                }
            }
            Ok(WriteOutcome::NotInFile(_, error) | WriteOutcome::InStateDir(error))
            | Err(error) => self.retry_file_later(id, &error),
        }
    }
}
