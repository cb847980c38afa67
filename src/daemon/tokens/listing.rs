//! In a cluster of replicas: which tokens this replica can ask about, as far as it has told the
//! others. A token is listed while it is configured and has a value.
//!
//! Costs one bit for each token. Without a cluster there is none of it.

use super::{TokenBitSet, Tokens};
use crate::clock;
use crate::cluster::replica::{TokenHash, TokenKey};
use crate::scheduler::TokenId;

/// What the cluster must be told about the tokens.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    listed: TokenBitSet,
    /// Tokens that were listed, and are not any more under this name and server.
    unlisted: Vec<TokenHash>,
    /// Tokens that are new, or that may have got or lost their value.
    changed: Vec<TokenId>,
}

/// A change that the cluster must be told about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListingChange {
    /// The replica cannot ask about this token any more.
    Unlisted(TokenHash),
    /// The token is new, or something of it has changed.
    Changed { id: TokenId, key: TokenKey, was_listed: bool, is_listed: bool },
}

impl Listing {
    /// Whether no change waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.unlisted.is_empty() && self.changed.is_empty()
    }
}

impl Tokens {
    /// The key of a token in the cluster.
    pub(crate) fn cluster_key(&self, id: TokenId) -> Option<TokenKey> {
        let entry = self.registry.token(id)?;
        let server = &self.servers.get(entry.config().server)?.settings.name;
        Some(TokenKey::new(server, entry.name()))
    }

    /// The token of a key in the cluster, if it is configured here, on that server.
    pub(crate) fn of_cluster_key(&self, key: &TokenKey) -> Option<TokenId> {
        let (server, name) = key.names()?;
        let id = self.registry.id_of(&name)?;
        let own = self.registry.token(id)?.config().server;
        (self.servers.get(own)?.settings.name == server).then_some(id)
    }

    /// Something of a token has changed that may matter to the cluster.
    pub(crate) fn note_listing(&mut self, id: TokenId) {
        if let Some(listing) = &mut self.listing
            && listing.changed.last() != Some(&id)
        {
            listing.changed.push(id);
        }
    }

    /// All servers by name, and whether each is reached, as far as is known.
    pub(crate) fn reach(&self) -> Vec<(&str, bool)> {
        let servers = self.servers.iter().map(|(id, server)| (id, server.settings.name.as_str()));
        // One that was replaced stays until no token uses it.
        let current = servers.filter(|(id, name)| self.servers.id_of(name) == Some(*id));
        let is_reached = |id| {
            let has_client = self.servers.get(id).is_some_and(|server| server.client.is_ok());
            has_client && self.scheduler.is_reached(id)
        };
        current.map(|(id, name)| (name, is_reached(id))).collect()
    }

    /// A token is added. It is not asked about before it is known which replica asks.
    pub(super) fn note_added(&mut self, id: TokenId) {
        if self.listing.is_some() {
            self.scheduler.set_asked(id, false, clock::now());
            self.note_listing(id);
        }
    }

    /// A token is removed, or is about to get another name in the cluster.
    pub(super) fn unlist(&mut self, id: TokenId) {
        let is_listed = self.listing.as_ref().is_some_and(|listing| listing.listed.contains(id));
        if is_listed
            && let Some(key) = self.cluster_key(id)
            && let Some(listing) = &mut self.listing
        {
            listing.listed.remove(id);
            listing.unlisted.push(key.hash());
        }
    }

    /// The next change for the cluster; `None` if there is none.
    pub(crate) fn next_listing_change(&mut self) -> Option<ListingChange> {
        let listing = self.listing.as_mut()?;
        if let Some(hash) = listing.unlisted.pop() {
            return Some(ListingChange::Unlisted(hash));
        }
        loop {
            let id = self.listing.as_mut()?.changed.pop()?;
            // The token may be gone.
            let Some(key) = self.cluster_key(id) else { continue };
            let is_listed = !self.scheduler.is_missing(id);
            let listed = &mut self.listing.as_mut()?.listed;
            let was_listed = listed.contains(id);
            if is_listed {
                listed.insert(id);
            } else {
                listed.remove(id);
            }
            return Some(ListingChange::Changed { id, key, was_listed, is_listed });
        }
    }
}
