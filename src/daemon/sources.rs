//! What the daemon makes of a look at a token's source: the keeper hears of changes only.

use super::Daemon;
use super::deeds::{self, Look};
use super::roster::Kept;
use crate::clock;
use crate::events::{Fields, Name, Severity};
use crate::keeper::TokenId;
use crate::lifecycle::SourceChange;
use crate::secret::TokenValue;
use crate::settings::Source;
use crate::token_file::{Found, SourceFault, SourceWarning};

impl Daemon {
    /// Files with these keys may have changed.
    pub(super) fn look_at(&mut self, keys: Vec<u32>) {
        let wanted = keys.into_iter().filter_map(|key| {
            let id = self.keeper.id_of(key)?;
            errand(id, self.roster.token(id)?)
        });
        let wanted = wanted.collect();
        self.look(wanted);
    }

    /// Looks at the sources of these tokens.
    pub(super) fn look_at_tokens(&mut self, ids: impl IntoIterator<Item = TokenId>) {
        let errands = ids.into_iter().filter_map(|id| errand(id, self.roster.token(id)?));
        let wanted = errands.collect();
        self.look(wanted);
    }

    /// Looks at the source of every `[token.NAME]`.
    pub(super) fn look_at_all(&mut self) {
        let own = self.roster.ids().filter(|(_, kept)| kept.stock().is_none());
        let wanted = own.filter_map(|(id, kept)| errand(id, kept)).collect();
        self.look(wanted);
    }

    /// Looks again at a source that changed while its token's re-auth was under way.
    pub(super) fn look_once_more(&mut self, id: TokenId) {
        if let Some(kept) = self.roster.token_mut(id)
            && std::mem::take(&mut kept.look_again)
        {
            let wanted = errand(id, kept).into_iter().collect();
            self.look(wanted);
        }
        self.take_held_back(id);
    }

    fn look(&mut self, wanted: Vec<(TokenId, u64, Source)>) {
        if !wanted.is_empty() {
            self.queries.spawn(deeds::look(wanted));
        }
    }

    /// Reads a source here and now: for the start, which is to have all values first.
    pub(super) fn look_now(&mut self, id: TokenId) {
        if let Some((id, epoch, source)) = self.roster.token(id).and_then(|kept| errand(id, kept)) {
            let result = deeds::read_source(&source);
            self.looked(Look { id, epoch, source, result });
        }
    }

    /// Takes what looks have found.
    pub(super) fn looked_at(&mut self, looks: Vec<Look>) {
        for look in looks {
            self.looked(look);
        }
        self.tell_of_stocks();
    }

    pub(super) fn looked(&mut self, look: Look) {
        let Look { id, epoch, source, result } = look;
        let busy = self.keeper.token(id).is_some_and(|token| token.is_reauthenticating());
        let Some(kept) = self.roster.token_mut(id) else { return };
        if kept.epoch != epoch || kept.source().as_ref() != Some(&source) {
            // It may have seen more than what made it worthless.
            let wanted = errand(id, kept).into_iter().collect();
            return self.look(wanted);
        }
        if busy {
            kept.look_again = true;
            return;
        }
        match result {
            Ok(found) => self.found(id, found),
            Err(fault) => {
                if !self.left_its_folder(id, &fault) {
                    self.lost(id, &fault);
                }
            }
        }
    }

    pub(super) fn found(&mut self, id: TokenId, found: Found) {
        let Some(kept) = self.roster.token_mut(id) else { return };
        let Found { value, warnings } = found;
        let unchanged = kept.in_source.as_ref() == Some(&value);
        let changed = !unchanged && kept.in_source.is_some();
        kept.in_source = Some(value.clone());
        let recalled = kept.recalled.take();
        let warn = !std::mem::replace(&mut kept.warned, !warnings.is_empty());
        if warn {
            let name = kept.name.clone();
            self.warn_of(Some(&name), &warnings);
        }
        if changed {
            self.count_change(id);
        }
        match recalled {
            Some(stored) if stored.replaces.as_ref() == Some(&value) => {
                self.offer(id, stored.value);
            }
            Some(_) | None if unchanged => self.source_changed(id, SourceChange::Restored),
            Some(_) | None => self.offer(id, value),
        }
    }

    pub(super) fn lost(&mut self, id: TokenId, fault: &SourceFault) {
        let Some(kept) = self.roster.token_mut(id) else { return };
        kept.in_source = None;
        if let Some(stored) = kept.recalled.take() {
            self.offer(id, stored.value);
        }
        self.source_changed(id, SourceChange::Lost(fault.to_string().into()));
    }

    /// A value to be used, unless it is the one in use already.
    pub(super) fn offer(&mut self, id: TokenId, value: TokenValue) {
        let spare = self.keeper.spare_slot(id);
        let Some(kept) = self.roster.token_mut(id) else { return };
        if kept.value(spare.other()) == Some(&value) {
            return self.source_changed(id, SourceChange::Reverted);
        }
        kept.put(spare, value);
        self.source_changed(id, SourceChange::NewValue);
    }

    fn source_changed(&mut self, id: TokenId, change: SourceChange) {
        if let Some(held) = &mut self.memory.held {
            return held.push((id, change));
        }
        if change == SourceChange::NewValue && self.hold_late(id) {
            return;
        }
        self.keeper.source_changed(id, change, clock::now(), &mut self.outputs);
    }

    /// Tells of sources that are open to others.
    pub(super) fn warn_of(&mut self, token: Option<&str>, warnings: &[SourceWarning]) {
        for warning in warnings {
            let error = warning.to_string();
            let SourceWarning::OpenToAll { path, .. } = warning;
            let path = path.display().to_string();
            self.say(
                Name::ConfigWarning,
                Severity::Warn,
                "a secret is open to others",
                Fields { token, error: Some(&error), path: Some(&path), ..Fields::default() },
            );
        }
    }
}

/// A look at what can be looked at for the token alone.
fn errand(id: TokenId, kept: &Kept) -> Option<(TokenId, u64, Source)> {
    Some((id, kept.epoch, kept.source()?))
}
