//! Tables of the servers and `[reauth]` methods, by the scheduler's numbers and by name.

use std::collections::HashMap;
use std::ops::Index;
use std::sync::Arc;

use super::server_client::ServerClient;
use crate::scheduler::{ReauthId, ServerId};
use crate::settings::{Reauth, Server};

/// One server and its client.
#[derive(Debug, Clone)]
pub(crate) struct ServerHandle {
    pub(crate) settings: Server,
    pub(crate) client: ServerClient,
}

/// An entry of a table, with the scheduler's number for it.
pub(crate) trait Named {
    type Id: Copy + PartialEq;
    fn name(&self) -> &str;
    fn index(id: Self::Id) -> usize;
}

impl Named for ServerHandle {
    type Id = ServerId;

    fn name(&self) -> &str {
        &self.settings.name
    }

    fn index(id: ServerId) -> usize {
        id.index()
    }
}

impl Named for Arc<Reauth> {
    type Id = ReauthId;

    fn name(&self) -> &str {
        &self.name
    }

    fn index(id: ReauthId) -> usize {
        id.index()
    }
}

/// Entries by number and by name. The scheduler reuses a number once its entry was removed and
/// nothing is in flight for it.
#[derive(Debug)]
pub(crate) struct NamedTable<T: Named> {
    slots: Vec<Option<(T::Id, T)>>,
    ids: HashMap<String, T::Id>,
}

impl<T: Named> Default for NamedTable<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), ids: HashMap::new() }
    }
}

impl<T: Named> NamedTable<T> {
    /// The entry with this number; `None` if it was removed.
    pub(crate) fn get(&self, id: T::Id) -> Option<&T> {
        self.slots.get(T::index(id))?.as_ref().map(|(_, entry)| entry)
    }

    /// The number of the entry with this name.
    pub(crate) fn id_of(&self, name: &str) -> Option<T::Id> {
        self.ids.get(name).copied()
    }

    /// All entries with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (T::Id, &T)> {
        self.slots.iter().flatten().map(|(id, entry)| (*id, entry))
    }

    /// The entries that are not `configured`: their name is gone, or now another entry's.
    pub(crate) fn stale(&self, configured: impl Fn(&str) -> bool) -> Vec<T::Id> {
        let is_stale = |(id, entry): &(T::Id, &T)| {
            self.id_of(entry.name()) != Some(*id) || !configured(entry.name())
        };
        self.iter().filter(is_stale).map(|(id, _)| id).collect()
    }

    /// Replaces the entry with this number. Another entry that had the name keeps its number
    /// until it is removed.
    pub(super) fn put(&mut self, id: T::Id, entry: T) {
        self.ids.insert(entry.name().to_owned(), id);
        let index = T::index(id);
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        self.slots[index] = Some((id, entry));
    }

    /// Removes an entry; requests in flight own what they need of it.
    pub(super) fn remove(&mut self, id: T::Id) {
        let slot = self.slots.get_mut(T::index(id));
        if let Some((id, entry)) = slot.and_then(Option::take)
            && self.id_of(entry.name()) == Some(id)
        {
            self.ids.remove(entry.name());
        }
    }
}

impl<T: Named> Index<T::Id> for NamedTable<T> {
    type Output = T;

    /// The entry of a token: it is there as long as a token uses it.
    fn index(&self, id: T::Id) -> &T {
        self.get(id).expect("an entry that tokens use is not removed")
    }
}
