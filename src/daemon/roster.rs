//! Who is who: the tokens and servers behind the keeper's numbers, and the tokens' values.
//!
//! Holds the only copies of token values that the daemon keeps. Decides nothing about them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::api::Client;
use crate::keeper::{ReauthId, ServerId, TokenId};
use crate::lifecycle::Slot;
use crate::secret::TokenValue;
use crate::settings::{Reauth, ReauthMethod, Server, Source, Token};
use crate::store::Stored;

/// One token, as the world outside the keeper sees it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) settings: Token,
    pub(super) reauth: Option<Arc<Reauth>>,
    pub(super) server: ServerId,
    values: [Option<TokenValue>; 2],
    /// What the source held when it was last looked at.
    pub(super) in_source: Option<TokenValue>,
    /// Counts what makes an older look at the source worthless.
    pub(super) epoch: u64,
    /// The source is to be looked at again once the re-auth under way has ended.
    pub(super) look_again: bool,
    /// What an earlier run kept in place of the source's value, until the source is read.
    pub(super) recalled: Option<Stored>,
    /// It was said that the source is open to others.
    pub(super) warned: bool,
    /// Re-auth attempts that counted when this was last looked at.
    pub(super) counted: u32,
    /// What the server said when the value died, for the hook.
    pub(super) last_words: Option<LastWords>,
}

/// What a server said of a dead value.
#[derive(Debug, Clone, Default)]
pub(super) struct LastWords {
    pub(super) status: Option<u16>,
    pub(super) detail: Option<Box<str>>,
}

impl Kept {
    pub(super) fn new(settings: Token, reauth: Option<Arc<Reauth>>, server: ServerId) -> Self {
        Self {
            settings,
            reauth,
            server,
            values: [None, None],
            in_source: None,
            epoch: 0,
            look_again: false,
            recalled: None,
            warned: false,
            counted: 0,
            last_words: None,
        }
    }

    pub(super) fn value(&self, slot: Slot) -> Option<&TokenValue> {
        self.values[slot as usize].as_ref()
    }

    pub(super) fn put(&mut self, slot: Slot, value: TokenValue) {
        self.values[slot as usize] = Some(value);
    }

    /// Whether a new value comes from a command.
    pub(super) fn has_hook(&self) -> bool {
        let method = self.reauth.as_ref().map(|reauth| &reauth.method);
        matches!(method, Some(ReauthMethod::Command(_)))
    }

    /// The file that the value is kept in, if its source is one.
    pub(super) fn file(&self) -> Option<&Path> {
        match &self.settings.source {
            Source::File(path) => Some(path),
            Source::Credential(_) | Source::Env(_) => None,
        }
    }
}

/// One server and the connections to it.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    pub(super) settings: Server,
    pub(super) client: Client,
}

/// All tokens and servers, by number and by name.
#[derive(Debug, Default)]
pub(super) struct Roster {
    tokens: Vec<Option<Kept>>,
    names: HashMap<String, TokenId>,
    remotes: Vec<Remote>,
    servers: HashMap<String, ServerId>,
    reauths: Vec<Arc<Reauth>>,
    reauth_names: HashMap<String, ReauthId>,
}

impl Roster {
    pub(super) fn token(&self, id: TokenId) -> Option<&Kept> {
        self.tokens.get(id.index())?.as_ref()
    }

    pub(super) fn token_mut(&mut self, id: TokenId) -> Option<&mut Kept> {
        self.tokens.get_mut(id.index())?.as_mut()
    }

    pub(super) fn id_of(&self, name: &str) -> Option<TokenId> {
        self.names.get(name).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Every token with its number, in no particular order.
    pub(super) fn ids(&self) -> impl Iterator<Item = (TokenId, &Kept)> {
        self.names.values().filter_map(|id| Some((*id, self.token(*id)?)))
    }

    pub(super) fn insert(&mut self, id: TokenId, kept: Kept) {
        self.names.insert(kept.settings.name.clone(), id);
        if self.tokens.len() <= id.index() {
            self.tokens.resize_with(id.index() + 1, || None);
        }
        self.tokens[id.index()] = Some(kept);
    }

    pub(super) fn remove(&mut self, id: TokenId) {
        if let Some(kept) = self.tokens.get_mut(id.index()).and_then(Option::take) {
            self.names.remove(&kept.settings.name);
        }
    }

    pub(super) fn remote(&self, id: ServerId) -> &Remote {
        &self.remotes[id.index()]
    }

    pub(super) fn server_of(&self, name: &str) -> Option<ServerId> {
        self.servers.get(name).copied()
    }

    pub(super) fn reauth_of(&self, name: &str) -> Option<ReauthId> {
        self.reauth_names.get(name).copied()
    }

    pub(super) fn reauth(&self, id: ReauthId) -> &Arc<Reauth> {
        &self.reauths[id.index()]
    }

    /// Every way to new values with its number.
    pub(super) fn reauths(&self) -> impl Iterator<Item = (ReauthId, &Arc<Reauth>)> {
        self.reauth_names.values().map(|id| (*id, self.reauth(*id)))
    }

    /// Puts a way to new values in the place of the one with this number, or at the end.
    pub(super) fn put_reauth(&mut self, id: ReauthId, reauth: Reauth) {
        self.reauth_names.insert(reauth.name.clone(), id);
        let reauth = Arc::new(reauth);
        if id.index() < self.reauths.len() {
            self.reauths[id.index()] = reauth;
        } else {
            self.reauths.push(reauth);
        }
    }

    /// Puts a server in the place of the one with this number, or at the end.
    pub(super) fn put_server(&mut self, id: ServerId, remote: Remote) {
        self.servers.insert(remote.settings.name.clone(), id);
        if id.index() < self.remotes.len() {
            self.remotes[id.index()] = remote;
        } else {
            self.remotes.push(remote);
        }
    }
}
