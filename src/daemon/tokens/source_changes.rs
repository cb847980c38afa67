//! What the daemon makes of a look at a token's source: the keeper hears of changes only.

use crate::clock;
use crate::daemon::Daemon;
use crate::daemon::tasks::{self, SourceRead};
use crate::daemon::tokens::TokenEntry;
use crate::events::{Fields, Name, Severity};
use crate::keeper::TokenId;
use crate::lifecycle::SourceChange;
use crate::secret::{Mistake, TokenValue, ValueRef};
use crate::settings::Source;
use crate::token_file::{SourceFault, SourceWarning};

/// While the daemon starts: what the sources hold, in the order in which it was found.
#[derive(Debug, Default)]
pub(crate) struct DeferredSourceChanges {
    /// Tokens with a value: all of a large inventory.
    pub(crate) new: Vec<TokenId>,
    pub(crate) others: Vec<(TokenId, SourceChange)>,
}

impl DeferredSourceChanges {
    pub(crate) fn add(&mut self, id: TokenId, change: SourceChange) {
        match change {
            SourceChange::NewValue => self.new.push(id),
            other => self.others.push((id, other)),
        }
    }
}

impl Daemon {
    /// Files with these keys may have changed.
    pub(crate) fn look_at(&mut self, keys: Vec<u32>) {
        let wanted = keys.into_iter().filter_map(|key| {
            let id = self.tokens.scheduler.id_of(key)?;
            errand(id, self.tokens.registry.token(id)?)
        });
        let wanted = wanted.collect();
        self.look(wanted);
    }

    /// Looks at the sources of these tokens.
    pub(crate) fn look_at_tokens(&mut self, ids: impl IntoIterator<Item = TokenId>) {
        let errands = ids.into_iter().filter_map(|id| errand(id, self.tokens.registry.token(id)?));
        let wanted = errands.collect();
        self.look(wanted);
    }

    /// Looks again at a source that changed while its token's re-auth was under way.
    pub(crate) fn look_once_more(&mut self, id: TokenId) {
        if self.tokens.registry.set_look_again(id, false) {
            self.look_at_tokens([id]);
        }
        self.take_held_back(id);
    }

    fn look(&mut self, wanted: Vec<(TokenId, u8, Source)>) {
        if !wanted.is_empty() {
            self.queries.spawn(tasks::look(wanted));
        }
    }

    /// Reads a source here and now: for the start, which is to have all values first.
    pub(crate) fn look_now(&mut self, id: TokenId) {
        if let Some((id, epoch, source)) =
            self.tokens.registry.token(id).and_then(|kept| errand(id, kept))
        {
            let result = tasks::read_source(&source);
            self.looked(SourceRead { id, epoch, source, result });
        }
    }

    /// Takes what a look has found.
    pub(crate) fn looked(&mut self, look: SourceRead) {
        let id = look.id;
        let busy = self.tokens.scheduler.token(id).is_some_and(|token| token.is_reauthenticating());
        let Some(kept) = self.tokens.registry.token(id) else { return };
        if !is_current(kept, &look) {
            // It may have seen more than what made it worthless.
            let wanted = errand(id, kept).into_iter().collect();
            return self.look(wanted);
        }
        if busy {
            self.tokens.registry.set_look_again(id, true);
            return;
        }
        match look.result {
            Ok(found) => self.found(id, found.value.by_ref(), &found.warnings),
            Err(fault) => {
                if !self.left_its_folder(id, &fault) {
                    self.lost(id, &fault);
                }
            }
        }
    }

    /// The source holds a value, and this is what should be mended all the same.
    pub(crate) fn found(&mut self, id: TokenId, value: ValueRef<'_>, warnings: &[SourceWarning]) {
        let Some(kept) = self.tokens.registry.token(id) else { return };
        let was_there = kept.in_source();
        let (unchanged, changed) =
            (was_there == Some(value), was_there.is_some_and(|v| v != value));
        let warned = self.tokens.registry.set_warned(id, !warnings.is_empty());
        // Once for the file, and for each value that is probably not a token.
        let due = warnings.iter().filter(|warning| {
            !warned || changed && matches!(warning, SourceWarning::Mistaken { .. })
        });
        let due: Vec<_> = due.cloned().collect();
        if let Some(kept) = self.tokens.registry.token(id)
            && !due.is_empty()
        {
            let name = kept.name().to_owned();
            self.warn_of(Some(&name), &due);
        }
        if changed {
            self.count_change(id);
        }
        match self.tokens.registry.take_recalled(id) {
            Some(stored) if stored.replaces.as_ref().map(TokenValue::by_ref) == Some(value) => {
                self.offer(id, stored.value.by_ref());
                self.resume_unwritten(id);
            }
            recalled => {
                if recalled.is_some() {
                    self.forget_stored_value(id);
                }
                if unchanged {
                    self.source_changed(id, SourceChange::Restored);
                } else {
                    self.forget_superseded(id);
                    self.offer(id, value);
                }
            }
        }
        self.tokens.registry.set_in_source(id, Some(value));
    }

    pub(crate) fn lost(&mut self, id: TokenId, fault: &SourceFault) {
        self.tokens.registry.set_in_source(id, None);
        if let Some(stored) = self.tokens.registry.take_recalled(id) {
            self.offer(id, stored.value.by_ref());
            self.resume_unwritten(id);
        }
        self.source_changed(id, SourceChange::Lost(fault.to_string().into()));
    }

    /// A value to be used, unless it is the one in use already.
    pub(crate) fn offer(&mut self, id: TokenId, value: ValueRef<'_>) {
        let spare = self.tokens.scheduler.spare_slot(id);
        let Some(kept) = self.tokens.registry.token(id) else { return };
        if kept.value(spare.other()) == Some(value) {
            return self.source_changed(id, SourceChange::Reverted);
        }
        self.tokens.registry.put(id, spare, value);
        self.source_changed(id, SourceChange::NewValue);
    }

    fn source_changed(&mut self, id: TokenId, change: SourceChange) {
        if let Some(held) = &mut self.memory.held {
            return held.add(id, change);
        }
        if change == SourceChange::NewValue && self.hold_late(id) {
            return;
        }
        self.tokens.scheduler.source_changed(id, change, clock::now(), &mut self.tokens.actions);
    }

    /// Logs what is wrong with sources that have a value.
    pub(crate) fn warn_of(&mut self, token: Option<&str>, warnings: &[SourceWarning]) {
        for warning in warnings {
            let error = warning.to_string();
            let (message, path) = match warning {
                SourceWarning::OpenToAll { path, .. } => {
                    ("a secret is open to others", Some(path.display().to_string()))
                }
                SourceWarning::Mistaken { .. } => ("the value is probably not a token", None),
            };
            let path = path.as_deref();
            self.say(
                Name::ConfigWarning,
                Severity::Warn,
                message,
                Fields { token, error: Some(&error), path, ..Fields::default() },
            );
        }
    }

    /// Logs that a command printed a value that is probably not a token.
    pub(crate) fn warn_of_output(&mut self, id: TokenId, value: &TokenValue) {
        let Some(mistake) = Mistake::of(value.expose()) else { return };
        let Some(name) = self.tokens.registry.token(id).map(|kept| kept.name().to_owned()) else {
            return;
        };
        let error = format!("the output of the re-auth command: {mistake}");
        self.say(
            Name::ConfigWarning,
            Severity::Warn,
            "the value is probably not a token",
            Fields { token: Some(&name), error: Some(&error), ..Fields::default() },
        );
    }
}

/// Whether a look is at the token's present source, and was begun after the daemon last wrote it.
pub(crate) fn is_current(kept: TokenEntry<'_>, look: &SourceRead) -> bool {
    kept.epoch() == look.epoch && kept.source().as_ref() == Some(&look.source)
}

/// A look at what can be looked at for the token alone.
pub(crate) fn errand(id: TokenId, kept: TokenEntry<'_>) -> Option<(TokenId, u8, Source)> {
    Some((id, kept.epoch(), kept.source()?))
}
