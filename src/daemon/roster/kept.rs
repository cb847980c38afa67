//! One token, as the world outside the scheduler sees it.

use std::path::PathBuf;
use std::sync::Arc;

use super::Roster;
use super::row::{InSource, LastWords, More, Row};
use super::terms::{Origin, StockId, Terms};
use crate::arena::Handle;
use crate::lifecycle::Slot;
use crate::scheduler::TokenId;
use crate::secret::ValueRef;
use crate::settings::{ReauthMethod, Source};

/// A look at one token.
#[derive(Debug, Clone, Copy)]
pub(in crate::daemon) struct Kept<'a> {
    pub(super) roster: &'a Roster,
    pub(super) id: TokenId,
    pub(super) row: &'a Row,
}

impl<'a> Kept<'a> {
    pub(in crate::daemon) fn name(self) -> &'a str {
        self.roster.text(&self.row.name)
    }

    pub(in crate::daemon) fn terms(self) -> &'a Arc<Terms> {
        self.roster.terms.of(self.id, self.row.terms)
    }

    /// The line of its inventory that it stands on; 0 for none.
    pub(in crate::daemon) fn line(self) -> u32 {
        self.row.line
    }

    pub(in crate::daemon) fn value(self, slot: Slot) -> Option<ValueRef<'a>> {
        let first = self.row.value.as_ref()?;
        if slot == self.row.first_slot() {
            return Some(self.of(first));
        }
        Some(self.of(self.more()?.second.as_ref()?))
    }

    /// What the source held when it was last looked at.
    pub(in crate::daemon) fn in_source(self) -> Option<ValueRef<'a>> {
        Some(self.of(match self.row.in_source() {
            InSource::Nothing => return None,
            InSource::First => self.row.value.as_ref()?,
            InSource::Second => self.more()?.second.as_ref()?,
            InSource::Other => self.more()?.in_source.as_ref()?,
        }))
    }

    /// Counts what makes an older look at the source worthless.
    pub(in crate::daemon) fn epoch(self) -> u8 {
        self.row.epoch
    }

    /// What the server said when the value died, for the hook.
    pub(in crate::daemon) fn last_words(self) -> Option<&'a LastWords> {
        self.more()?.last_words.as_deref()
    }

    /// Whether a new value comes from a command.
    pub(in crate::daemon) fn has_hook(self) -> bool {
        let method = self.terms().reauth.as_ref().map(|reauth| &reauth.method);
        matches!(method, Some(ReauthMethod::Command(_)))
    }

    /// The file that the value is kept in, if its source is one.
    pub(in crate::daemon) fn file(self) -> Option<PathBuf> {
        match &self.terms().origin {
            Origin::Own(Source::File(path)) => Some(path.clone()),
            Origin::File(_, folder) => Some(folder.join(self.name())),
            Origin::Own(Source::Credential(_) | Source::Env(_)) | Origin::Line(_) => None,
        }
    }

    /// What can be looked at for the token's value alone; `None` for a line of an inventory.
    pub(in crate::daemon) fn source(self) -> Option<Source> {
        match &self.terms().origin {
            Origin::Own(source) => Some(source.clone()),
            Origin::File(..) => self.file().map(Source::File),
            Origin::Line(_) => None,
        }
    }

    /// The stock that brought it.
    pub(in crate::daemon) fn stock(self) -> Option<StockId> {
        match self.terms().origin {
            Origin::Own(_) => None,
            Origin::Line(stock) | Origin::File(stock, _) => Some(stock),
        }
    }

    fn more(self) -> Option<&'a More> {
        if self.row.has_more() { self.roster.more.get(&self.id) } else { None }
    }

    fn of(self, handle: &Handle) -> ValueRef<'a> {
        ValueRef::again(self.roster.text(handle))
    }
}
