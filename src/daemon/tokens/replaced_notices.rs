//! `token_replaced` is logged once the token's file and its `env_file` hold the new value, so that
//! who acts on the event finds it there.

use super::{Tokens, names_of};
use crate::clock;
use crate::daemon::notices;
use crate::lifecycle::{Notice, ReplacedBy};
use crate::scheduler::TokenId;

impl Tokens {
    /// Whether `token_replaced` is logged later, when the new value is in the token's files. An
    /// earlier one that waits is logged now.
    pub(crate) fn waits_for_files(&mut self, id: TokenId, notice: &Notice) -> bool {
        let Notice::Replaced(by) = notice else { return false };
        self.log_replaced(id);
        let waits = !self.is_in_files(id);
        if waits {
            self.replaced.insert(id, *by);
        }
        waits
    }

    /// The value in the token's file is one that an earlier run has obtained, and did not log.
    pub(super) fn note_unlogged_replacement(&mut self, id: TokenId) {
        self.replaced.entry(id).or_insert(ReplacedBy::Reauth);
    }

    /// Logs `token_replaced` if it has waited, and the new value is in the token's files now.
    pub(super) fn log_replaced_if_stored(&mut self, id: TokenId) {
        if self.replaced.contains_key(&id) && self.is_in_files(id) {
            self.log_replaced(id);
        }
    }

    fn log_replaced(&mut self, id: TokenId) {
        let Some(by) = self.replaced.remove(&id) else { return };
        let Some(entry) = self.registry.token(id) else { return };
        let names = names_of(&self.servers, entry);
        notices::token(&mut self.log, clock::now(), &names, &Notice::Replaced(by));
    }

    /// Whether the current value is in the token's file and `env_file`, as far as it has them.
    fn is_in_files(&self, id: TokenId) -> bool {
        let slot = self.scheduler.spare_slot(id).other();
        let Some(entry) = self.registry.token(id) else { return true };
        let value = entry.value(slot);
        (entry.file().is_none() || entry.in_source() == value)
            && self.env_files.has_written(id, value)
    }
}
