//! Interning table of token configurations: all tokens of an inventory share one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::scheduler::{ServerId, TokenId};
use crate::settings::{EnvFile, Reauth, Source};

/// Where a token is configured, and so where its values are read and written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenOrigin {
    /// A `[token.NAME]` with this source.
    Own(Source),
    /// A line of this inventory.
    Line(InventoryId),
    /// A file of this inventory, in this folder and with the token's name.
    File(InventoryId, PathBuf),
}

/// The number of an `[inventory.NAME]`; numbers are not reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct InventoryId(pub(crate) u32);

impl InventoryId {
    /// The number as an index: they are dense.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl TokenOrigin {
    /// The inventory that lists the token.
    pub(crate) const fn inventory(&self) -> Option<InventoryId> {
        match self {
            Self::Own(_) => None,
            Self::Line(inventory) | Self::File(inventory, _) => Some(*inventory),
        }
    }
}

/// The configuration of a token. All tokens of an inventory share one.
#[derive(Debug, PartialEq)]
pub(crate) struct TokenConfig {
    pub(crate) origin: TokenOrigin,
    pub(crate) server: ServerId,
    pub(crate) reauth: Option<Arc<Reauth>>,
    pub(crate) revoke_on_shutdown: bool,
    /// Only a `[token.NAME]` has one.
    pub(crate) env_file: Option<EnvFile>,
    /// The source of the refresh token. Only a `[token.NAME]` has one.
    pub(crate) refresh: Option<Source>,
}

/// The number of a shared configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConfigId(u16);

impl ConfigId {
    /// A configuration that is not shared: the numbers may not suffice for all.
    const OWN: Self = Self(u16::MAX);
}

/// All configurations in use.
#[derive(Debug, Default)]
pub(super) struct ConfigTable {
    /// With the number of tokens that use them; a place without users is free.
    shared: Vec<(Arc<TokenConfig>, usize)>,
    own: HashMap<TokenId, Arc<TokenConfig>>,
    /// The place of the last addition: most tokens are added after one of the same inventory.
    last: usize,
}

impl ConfigTable {
    pub(super) fn of(&self, token: TokenId, id: ConfigId) -> &Arc<TokenConfig> {
        if id == ConfigId::OWN { &self.own[&token] } else { &self.shared[usize::from(id.0)].0 }
    }

    /// A token uses this configuration from now on.
    pub(super) fn add(&mut self, token: TokenId, config: &Arc<TokenConfig>) -> ConfigId {
        let shared = match config.origin {
            TokenOrigin::Own(_) => None,
            TokenOrigin::Line(_) | TokenOrigin::File(..) => self.place_of(config),
        };
        let Some((place, id)) = shared else {
            self.own.insert(token, Arc::clone(config));
            return ConfigId::OWN;
        };
        self.last = place;
        self.shared[place].1 += 1;
        id
    }

    /// A token does not use this configuration any more.
    pub(super) fn remove(&mut self, token: TokenId, id: ConfigId) {
        if id == ConfigId::OWN {
            self.own.remove(&token);
        } else {
            self.shared[usize::from(id.0)].1 -= 1;
        }
    }

    /// The place of this configuration, or a free one; `None` once there are no numbers left.
    fn place_of(&mut self, config: &Arc<TokenConfig>) -> Option<(usize, ConfigId)> {
        let same =
            |(known, users): &(Arc<TokenConfig>, usize)| *users > 0 && Arc::ptr_eq(known, config);
        let known = if self.shared.get(self.last).is_some_and(same) {
            Some(self.last)
        } else {
            self.shared.iter().position(same)
        };
        let place = known.unwrap_or_else(|| {
            let free = self.shared.iter().position(|(_, users)| *users == 0);
            let place = free.unwrap_or(self.shared.len());
            let entry = (Arc::clone(config), 0);
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
