//! The servers and the ways to new values behind the keeper's numbers.

use std::collections::HashMap;
use std::sync::Arc;

use super::registry::TokenRegistry;
use super::server_client::ServerClient;
use crate::keeper::{ReauthId, ServerId};
use crate::settings::{Reauth, Server};

/// One server and the connections to it.
#[derive(Debug, Clone)]
pub(crate) struct ServerHandle {
    pub(crate) settings: Server,
    pub(crate) client: ServerClient,
}

/// All of them, by number and by name. The scheduler gives a number again once what had it was
/// removed and nothing is in flight on it.
#[derive(Debug, Default)]
pub(super) struct Servers {
    servers: Vec<Option<(ServerId, ServerHandle)>>,
    server_names: HashMap<String, ServerId>,
    reauths: Vec<Option<(ReauthId, Arc<Reauth>)>>,
    reauth_names: HashMap<String, ReauthId>,
}

impl TokenRegistry {
    /// The server of a token; it is there as long as a token has it.
    pub(crate) fn remote(&self, id: ServerId) -> &ServerHandle {
        self.find_remote(id).expect("a server that tokens have is not removed")
    }

    /// The server with this number; `None` if it was removed.
    pub(crate) fn find_remote(&self, id: ServerId) -> Option<&ServerHandle> {
        self.remotes.servers.get(id.index())?.as_ref().map(|(_, remote)| remote)
    }

    /// Every server with its number.
    pub(crate) fn remotes(&self) -> impl Iterator<Item = (ServerId, &ServerHandle)> {
        self.remotes.servers.iter().flatten().map(|(id, remote)| (*id, remote))
    }

    pub(crate) fn server_of(&self, name: &str) -> Option<ServerId> {
        self.remotes.server_names.get(name).copied()
    }

    pub(crate) fn reauth_of(&self, name: &str) -> Option<ReauthId> {
        self.remotes.reauth_names.get(name).copied()
    }

    /// The `[reauth]` with this number; `None` if it was removed.
    pub(crate) fn reauth(&self, id: ReauthId) -> Option<&Arc<Reauth>> {
        self.remotes.reauths.get(id.index())?.as_ref().map(|(_, reauth)| reauth)
    }

    /// Every `[reauth]` with its number.
    pub(crate) fn reauths(&self) -> impl Iterator<Item = (ReauthId, &Arc<Reauth>)> {
        self.remotes.reauth_names.values().filter_map(|id| Some((*id, self.reauth(*id)?)))
    }

    /// Puts a `[reauth]` in the place of the one with this number.
    pub(crate) fn put_reauth(&mut self, id: ReauthId, reauth: Reauth) {
        self.remotes.reauth_names.insert(reauth.name.clone(), id);
        put(&mut self.remotes.reauths, id.index(), (id, Arc::new(reauth)));
    }

    /// Puts a server in the place of the one with this number. Another one that had the name
    /// keeps its number until it is removed.
    pub(crate) fn put_server(&mut self, id: ServerId, remote: ServerHandle) {
        self.remotes.server_names.insert(remote.settings.name.clone(), id);
        put(&mut self.remotes.servers, id.index(), (id, remote));
    }

    /// The servers that are not `configured`: their name is gone, or another server has it now.
    pub(crate) fn stale_servers(&self, configured: &[Server]) -> Vec<ServerId> {
        let all = self.remotes.servers.iter().flatten();
        let stale = all.filter(|(id, ServerHandle { settings: Server { name, .. }, .. })| {
            self.server_of(name) != Some(*id) || !configured.iter().any(|one| one.name == *name)
        });
        stale.map(|(id, _)| *id).collect()
    }

    /// The `[reauth]` entries that are not `configured`.
    pub(crate) fn stale_reauths(&self, configured: &[Reauth]) -> Vec<ReauthId> {
        let stale = self.reauths();
        let stale = stale.filter(|(_, way)| !configured.iter().any(|one| one.name == way.name));
        stale.map(|(id, _)| id).collect()
    }

    /// Drops a server, and with it the last hold of its client that is not a request's.
    pub(crate) fn remove_server(&mut self, id: ServerId) {
        let slot = self.remotes.servers.get_mut(id.index());
        if let Some((id, remote)) = slot.and_then(Option::take)
            && self.server_of(&remote.settings.name) == Some(id)
        {
            self.remotes.server_names.remove(&remote.settings.name);
        }
    }

    /// Drops a `[reauth]` entry.
    pub(crate) fn remove_reauth(&mut self, id: ReauthId) {
        let slot = self.remotes.reauths.get_mut(id.index());
        if let Some((_, reauth)) = slot.and_then(Option::take) {
            self.remotes.reauth_names.remove(&reauth.name);
        }
    }
}

fn put<T>(slots: &mut Vec<Option<T>>, index: usize, content: T) {
    if slots.len() <= index {
        slots.resize_with(index + 1, || None);
    }
    slots[index] = Some(content);
}
