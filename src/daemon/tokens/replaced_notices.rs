//! `token_replaced` is logged once the token's file and its `env_file` contain the new value, so that
//! a command that runs on the event reads the new value. If the value is replaced again before that,
//! one event reports both. If the file cannot be replaced, the event waits until it can.

use super::{Tokens, names_of};
use crate::clock;
use crate::daemon::notices;
use crate::lifecycle::{Notice, ReplacedBy};
use crate::scheduler::TokenId;

impl Tokens {
    /// Whether `token_replaced` is logged later, when the new value is in the token's files. It
    /// takes the place of an earlier one that waits.
    pub(crate) fn waits_for_files(&mut self, id: TokenId, notice: &Notice) -> bool {
        let Notice::Replaced(by) = notice else { return false };
        let waits = !self.is_in_files(id);
        if waits {
            self.replaced.insert(id, *by);
        } else {
            self.replaced.remove(&id);
        }
        waits
    }

    /// The token has another value than its files had, for which no notice comes: it is logged once
    /// the value is in the files.
    pub(super) fn note_unlogged_replacement(&mut self, id: TokenId, by: ReplacedBy) {
        self.replaced.entry(id).or_insert(by);
    }

    /// Logs `token_replaced` if it has waited, and the new value is in the token's files now.
    pub(super) fn log_replaced_if_stored(&mut self, id: TokenId) {
        if !self.replaced.contains_key(&id) || !self.is_in_files(id) {
            return;
        }
        let Some(by) = self.replaced.remove(&id) else { return };
        let Some(entry) = self.registry.token(id) else { return };
        let names = names_of(&self.servers, entry);
        notices::token(&mut self.log, clock::now(), &names, &Notice::Replaced(by));
    }

    /// Whether the current value is in the token's file and `env_file`, as far as it has them.
    fn is_in_files(&self, id: TokenId) -> bool {
        let slot = self.scheduler.spare_slot(id).other();
        let Some(entry) = self.registry.token(id) else { return true };
        let Some(value) = entry.value(slot) else { return false };
        (entry.file().is_none() || entry.in_source() == Some(value))
            && self.env_files.has_written(id, value)
    }
}
