//! The servers and the ways to new values behind the keeper's numbers.

use std::collections::HashMap;
use std::sync::Arc;

use super::Roster;
use crate::api::Client;
use crate::keeper::{ReauthId, ServerId};
use crate::settings::{Reauth, Server};

/// One server and the connections to it.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Remote {
    pub(in crate::daemon) settings: Server,
    pub(in crate::daemon) client: Client,
}

/// All of them, by number and by name.
#[derive(Debug, Default)]
pub(super) struct Remotes {
    servers: Vec<Remote>,
    server_names: HashMap<String, ServerId>,
    reauths: Vec<Arc<Reauth>>,
    reauth_names: HashMap<String, ReauthId>,
}

impl Roster {
    pub(in crate::daemon) fn remote(&self, id: ServerId) -> &Remote {
        &self.remotes.servers[id.index()]
    }

    pub(in crate::daemon) fn server_of(&self, name: &str) -> Option<ServerId> {
        self.remotes.server_names.get(name).copied()
    }

    pub(in crate::daemon) fn reauth_of(&self, name: &str) -> Option<ReauthId> {
        self.remotes.reauth_names.get(name).copied()
    }

    pub(in crate::daemon) fn reauth(&self, id: ReauthId) -> &Arc<Reauth> {
        &self.remotes.reauths[id.index()]
    }

    /// Every way to new values with its number.
    pub(in crate::daemon) fn reauths(&self) -> impl Iterator<Item = (ReauthId, &Arc<Reauth>)> {
        self.remotes.reauth_names.values().map(|id| (*id, self.reauth(*id)))
    }

    /// Puts a way to new values in the place of the one with this number, or at the end.
    pub(in crate::daemon) fn put_reauth(&mut self, id: ReauthId, reauth: Reauth) {
        self.remotes.reauth_names.insert(reauth.name.clone(), id);
        let reauth = Arc::new(reauth);
        if id.index() < self.remotes.reauths.len() {
            self.remotes.reauths[id.index()] = reauth;
        } else {
            self.remotes.reauths.push(reauth);
        }
    }

    /// Puts a server in the place of the one with this number, or at the end.
    pub(in crate::daemon) fn put_server(&mut self, id: ServerId, remote: Remote) {
        self.remotes.server_names.insert(remote.settings.name.clone(), id);
        if id.index() < self.remotes.servers.len() {
            self.remotes.servers[id.index()] = remote;
        } else {
            self.remotes.servers.push(remote);
        }
    }
}
