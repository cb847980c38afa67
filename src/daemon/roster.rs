//! Who is who: the tokens and servers behind the keeper's numbers, and the tokens' values.
//!
//! Holds the only copies of token values that the daemon keeps. Decides nothing about them.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::path::PathBuf;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::api::Client;
use crate::keeper::{ReauthId, ServerId, TokenId};
use crate::lifecycle::Slot;
use crate::secret::TokenValue;
use crate::settings::{Reauth, ReauthMethod, Server, Source};
use crate::store::Stored;

/// What brought a token here, and so where its values come from and go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A `[token.NAME]` with this source.
    Own(Source),
    /// A line of this stock.
    Line(StockId),
    /// A file of this stock, in this folder and called as the token.
    File(StockId, PathBuf),
}

/// One `[inventory.NAME]`, by the daemon's number for it; never given anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct StockId(pub(super) u32);

/// What all tokens of an inventory have in common; a `[token.NAME]` has its own.
#[derive(Debug, PartialEq)]
pub(super) struct Terms {
    pub(super) origin: Origin,
    pub(super) server: ServerId,
    pub(super) reauth: Option<Arc<Reauth>>,
    pub(super) revoke_on_shutdown: bool,
}

/// One token, as the world outside the keeper sees it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) name: Box<str>,
    pub(super) terms: Arc<Terms>,
    /// The line of its inventory that it stands on; 0 for none.
    pub(super) line: u32,
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
    pub(super) fn new(name: Box<str>, terms: Arc<Terms>, line: u32) -> Self {
        Self {
            name,
            terms,
            line,
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
        let method = self.terms.reauth.as_ref().map(|reauth| &reauth.method);
        matches!(method, Some(ReauthMethod::Command(_)))
    }

    /// The file that the value is kept in, if its source is one.
    pub(super) fn file(&self) -> Option<PathBuf> {
        match &self.terms.origin {
            Origin::Own(Source::File(path)) => Some(path.clone()),
            Origin::File(_, folder) => Some(folder.join(&*self.name)),
            Origin::Own(Source::Credential(_) | Source::Env(_)) | Origin::Line(_) => None,
        }
    }

    /// What can be looked at for the token's value alone; `None` for a line of an inventory.
    pub(super) fn source(&self) -> Option<Source> {
        match &self.terms.origin {
            Origin::Own(source) => Some(source.clone()),
            Origin::File(..) => self.file().map(Source::File),
            Origin::Line(_) => None,
        }
    }

    /// The stock that brought it.
    pub(super) fn stock(&self) -> Option<StockId> {
        match self.terms.origin {
            Origin::Own(_) => None,
            Origin::Line(stock) | Origin::File(stock, _) => Some(stock),
        }
    }

    /// The source is another one: nothing is known of what it holds.
    pub(super) fn forget_source(&mut self) {
        self.epoch += 1;
        self.in_source = None;
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
    /// By the hash of their names, which stand with the tokens.
    names: HashTable<TokenId>,
    keys: RandomState,
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
        let named = |id: &TokenId| self.token(*id).is_some_and(|kept| *kept.name == *name);
        self.names.find(self.keys.hash_one(name), named).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Every token with its number, in no particular order.
    pub(super) fn ids(&self) -> impl Iterator<Item = (TokenId, &Kept)> {
        self.names.iter().filter_map(|id| Some((*id, self.token(*id)?)))
    }

    pub(super) fn insert(&mut self, id: TokenId, kept: Kept) {
        if self.tokens.len() <= id.index() {
            self.tokens.resize_with(id.index() + 1, || None);
        }
        let hash = self.keys.hash_one(&*kept.name);
        self.tokens[id.index()] = Some(kept);
        let (tokens, keys) = (&self.tokens, &self.keys);
        let name = |id: &TokenId| tokens[id.index()].as_ref().map_or("", |kept| &*kept.name);
        let known = |other: &TokenId| name(other) == name(&id);
        match self.names.entry(hash, known, |id| keys.hash_one(name(id))) {
            Entry::Occupied(mut entry) => *entry.get_mut() = id,
            Entry::Vacant(entry) => drop(entry.insert(id)),
        }
    }

    pub(super) fn remove(&mut self, id: TokenId) {
        if let Some(kept) = self.tokens.get_mut(id.index()).and_then(Option::take) {
            let hash = self.keys.hash_one(&*kept.name);
            if let Ok(entry) = self.names.find_entry(hash, |other| *other == id) {
                entry.remove();
            }
        }
    }

    pub(super) fn remote(&self, id: ServerId) -> &Remote {
        &self.remotes[id.index()]
    }

    /// Every server with its number, in no particular order.
    pub(super) fn remotes(&self) -> impl Iterator<Item = (ServerId, &Remote)> {
        self.servers.values().map(|id| (*id, self.remote(*id)))
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
