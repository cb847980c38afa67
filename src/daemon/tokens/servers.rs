//! The servers and `[reauth]` methods behind the scheduler's numbers.

use std::collections::HashMap;
use std::sync::Arc;

use super::registry::TokenRegistry;
use super::server_client::ServerClient;
use crate::scheduler::{ReauthId, ServerId};
use crate::settings::{Reauth, Server};

/// One server and its client.
#[derive(Debug, Clone)]
pub(crate) struct ServerHandle {
    pub(crate) settings: Server,
    pub(crate) client: ServerClient,
}

/// All servers and methods, by number and by name. The scheduler reuses a number once its owner
/// was removed and nothing is in flight for it.
#[derive(Debug, Default)]
pub(super) struct Servers {
    by_id: Vec<Option<(ServerId, ServerHandle)>>,
    ids: HashMap<String, ServerId>,
    reauths: Vec<Option<(ReauthId, Arc<Reauth>)>>,
    reauth_names: HashMap<String, ReauthId>,
}

impl TokenRegistry {
    /// The server of a token: it is there as long as a token has it.
    pub(crate) fn server(&self, id: ServerId) -> &ServerHandle {
        self.find_server(id).expect("a server that tokens have is not removed")
    }

    /// The server with this number; `None` if it was removed.
    pub(crate) fn find_server(&self, id: ServerId) -> Option<&ServerHandle> {
        self.servers.by_id.get(id.index())?.as_ref().map(|(_, handle)| handle)
    }

    /// All servers with their numbers.
    pub(crate) fn servers(&self) -> impl Iterator<Item = (ServerId, &ServerHandle)> {
        self.servers.by_id.iter().flatten().map(|(id, handle)| (*id, handle))
    }

    pub(crate) fn server_of(&self, name: &str) -> Option<ServerId> {
        self.servers.ids.get(name).copied()
    }

    pub(crate) fn reauth_of(&self, name: &str) -> Option<ReauthId> {
        self.servers.reauth_names.get(name).copied()
    }

    /// The `[reauth]` with this number; `None` if it was removed.
    pub(crate) fn reauth(&self, id: ReauthId) -> Option<&Arc<Reauth>> {
        self.servers.reauths.get(id.index())?.as_ref().map(|(_, reauth)| reauth)
    }

    /// All `[reauth]` methods with their numbers.
    pub(crate) fn reauths(&self) -> impl Iterator<Item = (ReauthId, &Arc<Reauth>)> {
        self.servers.reauth_names.values().filter_map(|id| Some((*id, self.reauth(*id)?)))
    }

    /// Replaces the `[reauth]` method with this number.
    pub(crate) fn put_reauth(&mut self, id: ReauthId, reauth: Reauth) {
        self.servers.reauth_names.insert(reauth.name.clone(), id);
        put(&mut self.servers.reauths, id.index(), (id, Arc::new(reauth)));
    }

    /// Replaces the server with this number. Another server that had the name keeps its number
    /// until it is removed.
    pub(crate) fn put_server(&mut self, id: ServerId, handle: ServerHandle) {
        self.servers.ids.insert(handle.settings.name.clone(), id);
        put(&mut self.servers.by_id, id.index(), (id, handle));
    }

    /// The servers that are not `configured`: their name is gone, or now another server's.
    pub(crate) fn stale_servers(&self, configured: &[Server]) -> Vec<ServerId> {
        let all = self.servers.by_id.iter().flatten();
        let stale = all.filter(|(id, ServerHandle { settings: Server { name, .. }, .. })| {
            self.server_of(name) != Some(*id)
                || !configured.iter().any(|server| server.name == *name)
        });
        stale.map(|(id, _)| *id).collect()
    }

    /// The `[reauth]` methods that are not `configured`.
    pub(crate) fn stale_reauths(&self, configured: &[Reauth]) -> Vec<ReauthId> {
        let stale = self.reauths();
        let stale =
            stale.filter(|(_, known)| !configured.iter().any(|reauth| reauth.name == known.name));
        stale.map(|(id, _)| id).collect()
    }

    /// Removes a server; requests in flight keep their own handle of its client.
    pub(crate) fn remove_server(&mut self, id: ServerId) {
        let slot = self.servers.by_id.get_mut(id.index());
        if let Some((id, handle)) = slot.and_then(Option::take)
            && self.server_of(&handle.settings.name) == Some(id)
        {
            self.servers.ids.remove(&handle.settings.name);
        }
    }

    /// Removes a `[reauth]` method.
    pub(crate) fn remove_reauth(&mut self, id: ReauthId) {
        let slot = self.servers.reauths.get_mut(id.index());
        if let Some((_, reauth)) = slot.and_then(Option::take) {
            self.servers.reauth_names.remove(&reauth.name);
        }
    }
}

fn put<T>(slots: &mut Vec<Option<T>>, index: usize, content: T) {
    if slots.len() <= index {
        slots.resize_with(index + 1, || None);
    }
    slots[index] = Some(content);
}
