//! Values that an action obtains for a token that a reload removes meanwhile, for example to move it
//! to an inventory. The value that it replaces may be dead, so it is kept for the name of the token.

use super::{TokenEntry, Tokens};
use crate::lifecycle::ReplacedBy;
use crate::scheduler::TokenId;
use crate::secret::{TokenValue, ValueRef};
use crate::store::StoredValue;

/// For which token an action obtains a value.
#[derive(Debug)]
pub(crate) struct ValueOwner {
    name: Box<str>,
    /// The value in the token's source when the action began.
    in_source: Option<TokenValue>,
}

impl ValueOwner {
    pub(crate) fn of(entry: TokenEntry<'_>) -> Self {
        let in_source = entry.in_source().map(ValueRef::to_value);
        Self { name: entry.name().into(), in_source }
    }
}

impl Tokens {
    /// A value was obtained for a token that was removed since: the token that has the name now gets
    /// it, or the next one.
    pub(super) fn keep_late_value(&mut self, owner: ValueOwner, value: TokenValue, by: ReplacedBy) {
        let ValueOwner { name, in_source } = owner;
        let added = self.registry.id_of(&name);
        if let Some(id) = added.filter(|id| !self.awaits_value(*id)) {
            return self.adopt_late_value(id, &value, in_source.as_ref(), by);
        }
        let replaces = in_source.as_ref().map(TokenValue::by_ref);
        drop(self.recorder.keep_value(&name, value.clone(), replaces));
        let stored = StoredValue { value, replaces: in_source };
        match added {
            Some(id) => self.registry.keep_restored_value(id, stored),
            None => self.recorder.stash_value(&name, stored),
        }
    }

    /// Whether the source of a token was not read yet.
    fn awaits_value(&self, id: TokenId) -> bool {
        let awaits_source = self.scheduler.token(id).is_some_and(|token| token.awaits_source());
        awaits_source || self.awaits_restore(id)
    }

    /// The token was added again, and its source was read. A source that has changed wins, and so
    /// does the login that is running: it has waited for this value, or obtains a newer one.
    fn adopt_late_value(
        &mut self,
        id: TokenId,
        value: &TokenValue,
        replaces: Option<&TokenValue>,
        by: ReplacedBy,
    ) {
        let in_source = self.registry.token(id).and_then(TokenEntry::in_source);
        let is_changed = in_source != replaces.map(TokenValue::by_ref);
        let logs_in = self.scheduler.token(id).is_some_and(|token| token.is_reauthenticating());
        if !is_changed && !logs_in {
            self.adopt_value(id, value, by);
        }
    }
}
