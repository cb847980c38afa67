//! `env_file`s: exports the current value of a token for applications.
//!
//! Each file is written at startup, and again with each new current value. After each check it is
//! compared, and restored if it was changed or removed. A failed write is retried with an
//! exponential backoff. A value that is known to be dead is not written: the file keeps its last
//! value then, and when the token is removed.

use std::collections::{BTreeSet, HashMap};

use super::retry_queue::RetryQueue;
use super::{TokenEntry, Tokens, names_of};
use crate::clock;
use crate::event_log::{EventName, Fields, Severity};
use crate::lifecycle::{ReplacedBy, Validity};
use crate::scheduler::TokenId;
use crate::secret::{TokenValue, ValueRef};
use crate::settings::EnvFile;
use crate::time::{Moment, whole_millis};
use crate::token_source::{ExportedFile, PersistError};

/// The tokens that have an `env_file`.
#[derive(Debug, Default)]
pub(crate) struct EnvFiles {
    by_token: HashMap<TokenId, Export>,
    /// Tokens whose current value, or its `env_file`, may have changed.
    changed: BTreeSet<TokenId>,
    retries: RetryQueue,
}

/// One `env_file`.
#[derive(Debug, Default)]
struct Export {
    /// The value that was written last, by this process.
    written: Option<TokenValue>,
    /// The id of its `env_group`, which the last write has found.
    gid: Option<u32>,
    is_writing: bool,
    /// The file is to be compared with the value, as it may have been changed.
    is_doubtful: bool,
}

/// A write of an `env_file` that is to be made.
#[derive(Debug)]
pub(crate) struct EnvFileWrite {
    pub(crate) id: TokenId,
    pub(crate) name: Box<str>,
    pub(crate) file: EnvFile,
    /// The id of its `env_group`, if it is known.
    pub(crate) gid: Option<u32>,
    pub(crate) value: TokenValue,
}

impl EnvFiles {
    /// The token has another `env_file`, or none any more.
    pub(super) fn set(&mut self, id: TokenId, has_file: bool) {
        self.forget_token(id);
        if has_file {
            self.by_token.insert(id, Export::default());
        }
        self.changed.insert(id);
    }

    /// A token is removed.
    pub(super) fn forget_token(&mut self, id: TokenId) {
        self.by_token.remove(&id);
        self.changed.remove(&id);
        self.retries.remove(id);
    }

    /// Something of the token has changed, perhaps its current value; if it `was_checked`, its
    /// `env_file` is compared too.
    pub(crate) fn note_change(&mut self, id: TokenId, was_checked: bool) {
        if let Some(export) = self.by_token.get_mut(&id) {
            export.is_doubtful |= was_checked;
            self.changed.insert(id);
        }
    }

    /// Whether the token has no `env_file`, or has `value` there. A write that is running, or has
    /// failed, may have changed the file.
    pub(super) fn has_written(&self, id: TokenId, value: ValueRef<'_>) -> bool {
        self.by_token.get(&id).is_none_or(|export| {
            let written = export.written.as_ref().map(TokenValue::by_ref);
            written == Some(value) && !export.is_writing && !export.is_doubtful
        })
    }

    /// Whether a write has begun and not ended.
    pub(crate) fn are_being_written(&self) -> bool {
        self.by_token.values().any(|export| export.is_writing)
    }

    /// When the next write is to be retried.
    pub(crate) fn next_retry(&self) -> Option<Moment> {
        self.retries.next_due()
    }
}

impl Tokens {
    /// Takes the writes of `env_file`s that are to be made now. [`Moment::NEVER`] takes all retries
    /// too: at shutdown.
    pub(crate) fn take_env_file_writes(&mut self, now: Moment) -> Vec<EnvFileWrite> {
        let mut ids = self.env_files.retries.take_due(now);
        for id in std::mem::take(&mut self.env_files.changed) {
            self.log_replaced_if_stored(id);
            if !self.env_files.retries.has(id) {
                ids.push(id);
            }
        }
        ids.into_iter().filter_map(|id| self.begin_env_file_write(id)).collect()
    }

    fn begin_env_file_write(&mut self, id: TokenId) -> Option<EnvFileWrite> {
        let Self { registry, scheduler, env_files, .. } = self;
        let export = env_files.by_token.get_mut(&id).filter(|export| !export.is_writing)?;
        let entry = registry.token(id)?;
        let file = entry.config().env_file.clone()?;
        let token = scheduler.token(id)?;
        let value = match token.validity() {
            Validity::Unknown | Validity::Alive(_) | Validity::Unverified(_) => {
                entry.value(token.active_slot())
            }
            Validity::Missing | Validity::Expired | Validity::Rejected => None,
        };
        let written = export.written.as_ref().map(TokenValue::by_ref);
        let is_due = |value: &ValueRef<'_>| export.is_doubtful || written != Some(*value);
        let Some(value) = value.filter(is_due) else {
            env_files.retries.remove(id);
            return None;
        };
        export.is_writing = true;
        export.is_doubtful = false;
        let (name, gid, value) = (entry.name().into(), export.gid, value.to_value());
        Some(EnvFileWrite { id, name, file, gid, value })
    }

    /// An `env_file` was written, or not. The token may be gone meanwhile, or have another
    /// `env_file`.
    pub(crate) fn on_env_file_written(
        &mut self,
        write: EnvFileWrite,
        result: Result<ExportedFile, PersistError>,
    ) {
        let EnvFileWrite { id, name, file, value, gid: _ } = write;
        let is_same = |entry: &TokenEntry<'_>| {
            entry.name() == &*name && entry.config().env_file.as_ref() == Some(&file)
        };
        let Self { registry, scheduler, servers, env_files, log, .. } = self;
        let Some(entry) = registry.token(id).filter(is_same) else { return };
        let Some(spec) = scheduler.spec(id) else { return };
        let Some(export) = env_files.by_token.get_mut(&id) else { return };
        export.is_writing = false;
        let path = file.path.display().to_string();
        let fields = Fields { path: Some(&path), ..names_of(servers, entry) };
        match result {
            Ok(exported) => {
                export.gid = exported.gid;
                let is_first = export.written.replace(value).is_none();
                let has_recovered = env_files.retries.was_logged(id);
                env_files.retries.remove(id);
                // A newer value may be current, or `token_replaced` may have waited for this.
                env_files.changed.insert(id);
                if has_recovered {
                    let (name, message) =
                        (EventName::ConfigWarning, "the env_file was written again after an error");
                    log.event_at(Severity::Info, name, message, fields);
                }
                if is_first && exported.had_other_value {
                    // The value was replaced while no daemon wrote this file.
                    self.note_unlogged_replacement(id, ReplacedBy::Source);
                }
            }
            Err(error) => {
                export.gid = None;
                // A write that has timed out may still be made.
                export.is_doubtful = true;
                let (error, schedule) = (error.to_string(), &spec.policy.schedule);
                let (pause, is_new) = env_files.retries.fail(id, schedule, clock::now(), &error);
                if is_new {
                    let message = "the env_file could not be written; applications keep reading \
                                   its old content, and the write is retried";
                    let retry_in_ms = Some(whole_millis(pause));
                    let fields = Fields { error: Some(&error), retry_in_ms, ..fields };
                    log.event(EventName::StoreFailed, message, fields);
                }
            }
        }
    }
}
