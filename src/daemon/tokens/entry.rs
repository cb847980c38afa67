//! A read-only view of one token in the registry.

use std::path::PathBuf;
use std::sync::Arc;

use super::config_table::{InventoryId, TokenConfig, TokenOrigin};
use super::record::{ColdFields, DeathReason, SourceMatch, TokenRecord};
use super::registry::TokenRegistry;
use crate::arena::Handle;
use crate::lifecycle::Slot;
use crate::scheduler::TokenId;
use crate::secret::ValueRef;
use crate::settings::{ReauthMethod, Source};

/// One token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenEntry<'a> {
    pub(super) registry: &'a TokenRegistry,
    pub(super) id: TokenId,
    pub(super) row: &'a TokenRecord,
}

impl<'a> TokenEntry<'a> {
    pub(crate) fn name(self) -> &'a str {
        self.registry.text(&self.row.name)
    }

    pub(crate) fn config(self) -> &'a Arc<TokenConfig> {
        self.registry.configs.of(self.id, self.row.config)
    }

    /// The token's line in its inventory; 0 for none.
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

    /// The value that the source held when it was last read.
    pub(crate) fn in_source(self) -> Option<ValueRef<'a>> {
        Some(self.of(match self.row.in_source() {
            SourceMatch::Nothing => return None,
            SourceMatch::First => self.row.value.as_ref()?,
            SourceMatch::Second => self.more()?.second.as_ref()?,
            SourceMatch::Other => self.more()?.in_source.as_ref()?,
        }))
    }

    /// Changes when reads of the source that began before are outdated.
    pub(crate) fn epoch(self) -> u8 {
        self.row.epoch
    }

    /// What the server said of a dead value, for the re-auth command.
    pub(crate) fn death_reason(self) -> Option<&'a DeathReason> {
        self.more()?.death_reason.as_deref()
    }

    /// Whether the `[reauth]` method is a command.
    pub(crate) fn has_hook(self) -> bool {
        let method = self.config().reauth.as_ref().map(|reauth| &reauth.method);
        matches!(method, Some(ReauthMethod::Command(_)))
    }

    /// The file of the value, if its source is a file.
    pub(crate) fn file(self) -> Option<PathBuf> {
        match &self.config().origin {
            TokenOrigin::Own(Source::File(path)) => Some(path.clone()),
            TokenOrigin::File(_, folder) => Some(folder.join(self.name())),
            TokenOrigin::Own(Source::Credential(_) | Source::Env(_)) | TokenOrigin::Line(_) => None,
        }
    }

    /// The source of this value alone; `None` for a line of an inventory.
    pub(crate) fn source(self) -> Option<Source> {
        match &self.config().origin {
            TokenOrigin::Own(source) => Some(source.clone()),
            TokenOrigin::File(..) => self.file().map(Source::File),
            TokenOrigin::Line(_) => None,
        }
    }

    /// The inventory that lists the token.
    pub(crate) fn inventory(self) -> Option<InventoryId> {
        self.config().origin.inventory()
    }

    fn more(self) -> Option<&'a ColdFields> {
        if self.row.has_more() { self.registry.more.get(&self.id) } else { None }
    }

    fn of(self, handle: &Handle) -> ValueRef<'a> {
        ValueRef::again(self.registry.text(handle))
    }
}
