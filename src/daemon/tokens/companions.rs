//! Refresh tokens, as far as tokens and their sources are concerned.

use super::{TokenEntry, Tokens, names_of};
use std::sync::Arc;

use crate::daemon::companions::{Companion, CompanionEvent, CompanionReport, CompanionSource};
use crate::daemon::notices;
use crate::event_log::{EventName, Fields};
use crate::lifecycle::SourceChange;
use crate::scheduler::TokenId;
use crate::secret::ValueRef;
use crate::settings::Source;

/// Distinguishes the key of a refresh token's file from that of the value's file. There are far
/// fewer tokens.
const REFRESH: u32 = 1 << 31;

impl Tokens {
    /// Watches the file of a token's refresh token, if its source is a file, and reads its source for
    /// the first time.
    pub(super) fn watch_refresh_file(&mut self, id: TokenId) {
        let config = self.registry.token(id).map(TokenEntry::config);
        if config.is_some_and(|config| config.refresh.is_some()) {
            self.changed_companions.push(id.key() | REFRESH);
        }
        match config.and_then(|config| config.refresh.as_ref()) {
            Some(Source::File(path)) => {
                self.watcher.set_path(id.key() | REFRESH, path.clone());
            }
            Some(Source::Credential(_) | Source::Env(_)) | None => self.unwatch_refresh_file(id),
        }
    }

    pub(super) fn unwatch_refresh_file(&mut self, id: TokenId) {
        self.watcher.remove_path(id.key() | REFRESH);
    }

    /// Takes the keys of refresh tokens' files out of `keys`: these sources are to be read.
    pub(super) fn take_refresh_keys(&mut self, keys: Vec<u32>) -> Vec<u32> {
        let (changed, others) = keys.into_iter().partition(|key| key & REFRESH != 0);
        self.changed_companions.extend::<Vec<u32>>(changed);
        others
    }

    /// The companions whose source may have changed.
    pub(crate) fn take_changed_companions(&mut self) -> Vec<Arc<Companion>> {
        let keys = std::mem::take(&mut self.changed_companions);
        let ids = keys.into_iter().filter_map(|key| self.scheduler.id_of(key & !REFRESH));
        ids.filter_map(|id| self.companions.of(self.registry.token(id)?.name())).collect()
    }

    /// The configuration of a token names another source of its refresh token, or none.
    pub(super) fn change_refresh_source(&mut self, id: TokenId) {
        let Some(entry) = self.registry.token(id) else { return };
        match entry.config().refresh.clone() {
            Some(source) => {
                self.companions.set_source(entry.name(), CompanionSource::Own(source));
                self.source_changed(id, SourceChange::NewRefreshToken);
            }
            None => self.companions.release(entry.name(), self.recorder.keep_removed),
        }
    }

    /// An inventory lists a token with this refresh token. `is_added`: the token is new.
    pub(crate) fn on_refresh_token_listed(
        &mut self,
        id: TokenId,
        refresh: Option<ValueRef<'_>>,
        is_added: bool,
    ) {
        let Some(entry) = self.registry.token(id) else { return };
        let name = entry.name();
        let Some(refresh) = refresh else {
            return self.companions.release(name, self.recorder.keep_removed);
        };
        let source = CompanionSource::Line(refresh.to_value());
        if self.companions.set_source(name, source) && !is_added {
            self.source_changed(id, SourceChange::NewRefreshToken);
        }
    }

    /// Something happened to a refresh token.
    pub(crate) fn on_companion_report(&mut self, report: &CompanionReport) {
        let CompanionReport { name, path, event } = report;
        let id = self.registry.id_of(name);
        let entry = id.and_then(|id| self.registry.token(id));
        let fields = entry.map_or_else(
            || Fields { token: Some(name), ..Fields::default() },
            |entry| names_of(&self.servers, entry),
        );
        let path = path.as_ref().map(|path| path.display().to_string());
        let fields = Fields { path: path.as_deref(), ..fields };
        match event {
            CompanionEvent::InStateDir { error } => {
                let fields = Fields { error: Some(error), ..fields };
                let message = "the new refresh token could not be written to its file; it is kept \
                in `state_dir`, survives a restart, and the next one is written to the file again";
                self.log.event(EventName::StoreFailed, message, fields);
            }
            CompanionEvent::Unsaved { error } => {
                let fields = Fields { error: Some(error), path: None, ..fields };
                let message = "the new refresh token could not be stored; it is kept in memory \
                only, a crash loses it and with it the session, and the write is retried";
                self.log.event(EventName::StoreFailed, message, fields);
            }
            CompanionEvent::Refused(fault) => {
                let message = "the server rejected the refresh token; the token lives, but cannot be \
                renewed: log in again, or put a new refresh token into its source";
                let fields = notices::with_fault(&fields, fault);
                self.log.event(EventName::RefreshTokenRejected, message, fields);
            }
            CompanionEvent::Unusable { error } => {
                let fields = Fields { error: Some(error), ..fields };
                let message = "the new refresh token cannot be used; the token lives, but cannot be \
                renewed: log in again, or put a new refresh token into its source";
                self.log.event(EventName::StoreFailed, message, fields);
            }
            CompanionEvent::SourceRead { is_new, warnings } => {
                notices::source_warnings(&mut self.log, Some(name), warnings);
                if let Some(id) = id.filter(|_| *is_new) {
                    self.source_changed(id, SourceChange::NewRefreshToken);
                }
            }
        }
    }
}
