//! Handles what is found in value sources: the scheduler hears of changes only.

use super::{DeferredSourceChanges, ReadRequest, SourceRead, TokenEntry, TokenOrigin, Tokens};
use crate::clock;
use crate::daemon::notices;
use crate::lifecycle::SourceChange;
use crate::scheduler::TokenId;
use crate::secret::{TokenValue, ValueRef};
use crate::token_source::{SourceError, SourceErrorKind, SourceWarning};

impl Tokens {
    /// The watched files with these keys may have changed.
    pub(crate) fn on_files_changed(&mut self, keys: Vec<u32>) {
        let keys = self.take_refresh_keys(keys);
        let ids: Vec<_> = keys.into_iter().filter_map(|key| self.scheduler.id_of(key)).collect();
        self.request_reads(ids);
    }

    /// Requests a read of these tokens' sources, by one task.
    pub(crate) fn request_reads(&mut self, ids: impl IntoIterator<Item = TokenId>) {
        let requests: Vec<_> = ids.into_iter().filter_map(|id| self.read_request(id)).collect();
        if !requests.is_empty() {
            self.reads.push(requests);
        }
    }

    /// A request to read a token's source; `None` if it is a line of an inventory.
    pub(crate) fn read_request(&self, id: TokenId) -> Option<ReadRequest> {
        let entry = self.registry.token(id)?;
        Some(ReadRequest { id, epoch: entry.epoch(), source: entry.source()? })
    }

    /// Whether the read is of the token's current source, and began after the last write to it.
    /// False if the token is gone.
    pub(crate) fn is_current(&self, request: &ReadRequest) -> bool {
        self.read_request(request.id).as_ref() == Some(request)
    }

    /// Reads a source at once.
    #[cfg(test)]
    pub(crate) fn read_source_now(&mut self, id: TokenId) {
        if let Some(request) = self.read_request(id) {
            self.on_source_read(request.read());
        }
    }

    /// A token's re-authentication has ended: values that were found meanwhile are used.
    pub(crate) fn on_reauth_ended(&mut self, id: TokenId) {
        if self.registry.set_read_again(id, false) {
            self.request_reads([id]);
        }
        if let Some(value) = self.deferred.take_after_reauth(id) {
            self.on_value_found(id, value.by_ref(), &[]);
        }
    }

    /// A source was read.
    pub(crate) fn on_source_read(&mut self, read: SourceRead) {
        let SourceRead { request, stamp, result } = read;
        let id = request.id;
        if !self.is_current(&request) {
            // A newer value may be there than the one that made the read outdated.
            return self.request_reads([id]);
        }
        if !matches!(&result, Err(error) if matches!(error.kind, SourceErrorKind::TimedOut)) {
            self.watch_value_file(id, stamp);
        }
        if self.scheduler.token(id).is_some_and(|token| token.is_reauthenticating()) {
            self.registry.set_read_again(id, true);
            return;
        }
        match result {
            Ok(found) => self.on_value_found(id, found.value.by_ref(), &found.warnings),
            Err(error) if self.has_left_its_folder(id, &error) => {}
            Err(error) => self.on_value_missing(id, &error),
        }
    }

    /// A source holds a value, with warnings about the source.
    pub(crate) fn on_value_found(
        &mut self,
        id: TokenId,
        value: ValueRef<'_>,
        warnings: &[SourceWarning],
    ) {
        let Some(entry) = self.registry.token(id) else { return };
        let earlier = entry.in_source();
        let (is_same, has_changed) =
            (earlier == Some(value), earlier.is_some_and(|earlier| earlier != value));
        let inventory = entry.inventory();
        let was_warned = self.registry.set_warned(id, !warnings.is_empty());
        // Once for the file, and for each value that is probably not a token.
        let is_due = |warning: &&SourceWarning| {
            !was_warned || has_changed && matches!(warning, SourceWarning::Mistaken { .. })
        };
        if let Some(entry) = self.registry.token(id) {
            let due = warnings.iter().filter(is_due);
            notices::source_warnings(&mut self.log, Some(entry.name()), due);
        }
        if has_changed && let Some(inventory) = inventory {
            self.inventory_counts.of(inventory).changes.changed += 1;
        }
        match self.registry.take_restored_value(id) {
            Some(stored) if stored.replaces.as_ref().map(TokenValue::by_ref) == Some(value) => {
                self.offer_candidate(id, stored.value.by_ref());
                self.resume_file_retry(id);
            }
            restored => {
                if restored.is_some() {
                    self.forget_stored_value(id);
                }
                // Considered again: the owner of a refused value may have another value by now.
                if is_same && !self.has_refused_value(id) {
                    self.source_changed(id, SourceChange::Reappeared);
                } else if !self.is_refused(id, value) {
                    self.forget_superseded(id);
                    self.offer_candidate(id, value);
                }
            }
        }
        self.registry.set_in_source(id, Some(value));
        self.reconsider_refused(id);
        self.log_replaced_if_stored(id);
    }

    /// A source holds no usable value.
    pub(crate) fn on_value_missing(&mut self, id: TokenId, error: &SourceError) {
        // A disk that does not respond says nothing about the value.
        if !matches!(error.kind, SourceErrorKind::TimedOut) {
            self.registry.set_in_source(id, None);
            self.refused.remove(id);
        }
        if let Some(stored) = self.registry.take_restored_value(id) {
            self.offer_candidate(id, stored.value.by_ref());
            self.resume_file_retry(id);
        }
        self.source_changed(id, SourceChange::Lost(error.to_string().into()));
    }

    /// Offers a value to the scheduler, unless it is the current value.
    pub(super) fn offer_candidate(&mut self, id: TokenId, value: ValueRef<'_>) {
        let spare = self.scheduler.spare_slot(id);
        let Some(entry) = self.registry.token(id) else { return };
        if entry.value(spare.other()) == Some(value) {
            return self.source_changed(id, SourceChange::Reverted);
        }
        self.registry.put(id, spare, value);
        self.source_changed(id, SourceChange::NewValue);
    }

    pub(super) fn source_changed(&mut self, id: TokenId, change: SourceChange) {
        self.env_files.note_change(id, false);
        self.note_listing(id);
        let Some(change) = self.deferred.defer_at_startup(id, change) else { return };
        if change == SourceChange::NewValue && self.awaits_restore(id) {
            return self.deferred.awaiting_restore.push(id);
        }
        self.scheduler.source_changed(id, change, clock::now());
    }

    /// Whether persisted state of the token may still be restored.
    pub(super) fn awaits_restore(&self, id: TokenId) -> bool {
        let Self { registry, scheduler, deferred, .. } = self;
        let stage = |inventory| DeferredSourceChanges::stage(deferred, inventory);
        registry.token(id).and_then(TokenEntry::inventory).and_then(stage).is_some()
            && scheduler.is_missing(id)
    }

    /// The source holds this value, whatever a read that began before has found.
    pub(super) fn is_in_source(&mut self, id: TokenId, value: &TokenValue) {
        self.registry.set_in_source(id, Some(value.by_ref()));
        self.refused.remove(id);
        self.registry.outdate_reads(id);
        self.log_replaced_if_stored(id);
    }

    /// Whether the token's file is gone from the folder of its inventory. If the folder itself is
    /// there, the token is removed.
    fn has_left_its_folder(&mut self, id: TokenId, error: &SourceError) -> bool {
        let Some(entry) = self.registry.token(id) else { return false };
        let TokenOrigin::File(inventory, folder) = &entry.config().origin else { return false };
        if !matches!(error.kind, SourceErrorKind::Missing) {
            return false;
        }
        let inventory = *inventory;
        if folder.is_dir() {
            self.inventory_counts.of(inventory).changes.removed += 1;
            self.remove(id);
        }
        true
    }
}
