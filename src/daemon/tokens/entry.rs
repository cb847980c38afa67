//! One token, as the world outside the keeper sees it.

use std::path::PathBuf;
use std::sync::Arc;

use super::config_table::{InventoryId, TokenConfig, TokenOrigin};
use super::record::{ColdFields, DeathReason, SourceMatch, TokenRecord};
use super::registry::TokenRegistry;
use crate::arena::Handle;
use crate::keeper::TokenId;
use crate::lifecycle::Slot;
use crate::secret::ValueRef;
use crate::settings::{ReauthMethod, Source};

/// A look at one token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenEntry<'a> {
    pub(super) roster: &'a TokenRegistry,
    pub(super) id: TokenId,
    pub(super) row: &'a TokenRecord,
}

impl<'a> TokenEntry<'a> {
    pub(crate) fn name(self) -> &'a str {
        self.roster.text(&self.row.name)
    }

    pub(crate) fn terms(self) -> &'a Arc<TokenConfig> {
        self.roster.terms.of(self.id, self.row.terms)
    }

    /// The line of its inventory that it stands on; 0 for none.
    pub(crate) fn line(self) -> u32 {
        self.row.line
    }

    pub(crate) fn value(self, slot: Slot) -> Option<ValueRef<'a>> {
        let first = self.row.value.as_ref()?;
        if slot == self.row.first_slot() {
            return Some(self.of(first));
        }
        Some(self.of(self.more()?.second.as_ref()?))
    }

    /// What the source held when it was last looked at.
    pub(crate) fn in_source(self) -> Option<ValueRef<'a>> {
        Some(self.of(match self.row.in_source() {
            SourceMatch::Nothing => return None,
            SourceMatch::First => self.row.value.as_ref()?,
            SourceMatch::Second => self.more()?.second.as_ref()?,
            SourceMatch::Other => self.more()?.in_source.as_ref()?,
        }))
    }

    /// Counts what makes an older look at the source worthless.
    pub(crate) fn epoch(self) -> u8 {
        self.row.epoch
    }

    /// What the server said when the value died, for the hook.
    pub(crate) fn last_words(self) -> Option<&'a DeathReason> {
        self.more()?.last_words.as_deref()
    }

    /// Whether a new value comes from a command.
    pub(crate) fn has_hook(self) -> bool {
        let method = self.terms().reauth.as_ref().map(|reauth| &reauth.method);
        matches!(method, Some(ReauthMethod::Command(_)))
    }

    /// The file that the value is kept in, if its source is one.
    pub(crate) fn file(self) -> Option<PathBuf> {
        match &self.terms().origin {
            TokenOrigin::Own(Source::File(path)) => Some(path.clone()),
            TokenOrigin::File(_, folder) => Some(folder.join(self.name())),
            TokenOrigin::Own(Source::Credential(_) | Source::Env(_)) | TokenOrigin::Line(_) => None,
        }
    }

    /// What can be looked at for the token's value alone; `None` for a line of an inventory.
    pub(crate) fn source(self) -> Option<Source> {
        match &self.terms().origin {
            TokenOrigin::Own(source) => Some(source.clone()),
            TokenOrigin::File(..) => self.file().map(Source::File),
            TokenOrigin::Line(_) => None,
        }
    }

    /// The stock that brought it.
    pub(crate) fn stock(self) -> Option<InventoryId> {
        match self.terms().origin {
            TokenOrigin::Own(_) => None,
            TokenOrigin::Line(stock) | TokenOrigin::File(stock, _) => Some(stock),
        }
    }

    fn more(self) -> Option<&'a ColdFields> {
        if self.row.has_more() { self.roster.more.get(&self.id) } else { None }
    }

    fn of(self, handle: &Handle) -> ValueRef<'a> {
        ValueRef::again(self.roster.text(handle))
    }
}
