//! The terms that tokens are kept on: one number for all tokens of an inventory.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::keeper::{ServerId, TokenId};
use crate::settings::{Reauth, Source};

/// What brought a token here, and so where its values come from and go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenOrigin {
    /// A `[token.NAME]` with this source.
    Own(Source),
    /// A line of this stock.
    Line(InventoryId),
    /// A file of this stock, in this folder and called as the token.
    File(InventoryId, PathBuf),
}

/// One `[inventory.NAME]`, by the daemon's number for it; never given anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct InventoryId(pub(crate) u32);

/// What all tokens of an inventory have in common; a `[token.NAME]` has its own.
#[derive(Debug, PartialEq)]
pub(crate) struct TokenConfig {
    pub(crate) origin: TokenOrigin,
    pub(crate) server: ServerId,
    pub(crate) reauth: Option<Arc<Reauth>>,
    pub(crate) revoke_on_shutdown: bool,
}

/// The number of a token's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConfigId(u16);

impl ConfigId {
    /// TokenConfig that are the token's own: there may be more of those than there are numbers.
    const OWN: Self = Self(u16::MAX);
}

/// All terms that are in force.
#[derive(Debug, Default)]
pub(super) struct ConfigTable {
    /// With the number of tokens that are kept on them; a place with none is free.
    shared: Vec<(Arc<TokenConfig>, usize)>,
    own: HashMap<TokenId, Arc<TokenConfig>>,
    /// Most tokens come after one of the same inventory.
    last: usize,
}

impl ConfigTable {
    pub(super) fn of(&self, token: TokenId, id: ConfigId) -> &Arc<TokenConfig> {
        if id == ConfigId::OWN { &self.own[&token] } else { &self.shared[usize::from(id.0)].0 }
    }

    /// A token is kept on these from now on.
    pub(super) fn add(&mut self, token: TokenId, terms: &Arc<TokenConfig>) -> ConfigId {
        let shared = match terms.origin {
            TokenOrigin::Own(_) => None,
            TokenOrigin::Line(_) | TokenOrigin::File(..) => self.place_of(terms),
        };
        let Some((place, id)) = shared else {
            self.own.insert(token, Arc::clone(terms));
            return ConfigId::OWN;
        };
        self.last = place;
        self.shared[place].1 += 1;
        id
    }

    /// A token is not kept on these any more.
    pub(super) fn remove(&mut self, token: TokenId, id: ConfigId) {
        if id == ConfigId::OWN {
            self.own.remove(&token);
        } else {
            self.shared[usize::from(id.0)].1 -= 1;
        }
    }

    /// Where these terms stand, or may stand; `None` once there are no numbers left.
    fn place_of(&mut self, terms: &Arc<TokenConfig>) -> Option<(usize, ConfigId)> {
        let same =
            |(known, users): &(Arc<TokenConfig>, usize)| *users > 0 && Arc::ptr_eq(known, terms);
        let known = if self.shared.get(self.last).is_some_and(same) {
            Some(self.last)
        } else {
            self.shared.iter().position(same)
        };
        let place = known.unwrap_or_else(|| {
            let free = self.shared.iter().position(|(_, users)| *users == 0);
            let place = free.unwrap_or(self.shared.len());
            let entry = (Arc::clone(terms), 0);
            match free {
                Some(free) => self.shared[free] = entry,
                None => self.shared.push(entry),
            }
            place
        });
        let id = u16::try_from(place).ok().filter(|id| *id != ConfigId::OWN.0);
        id.map(|id| (place, ConfigId(id)))
    }
}
