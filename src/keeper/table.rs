//! The state of every token: nearly all in a few bytes each, and those that something goes on
//! with, or is wrong with, as a whole.
//!
//! Never decides anything. A token is opened to be stepped, and closed afterwards; what is
//! known of it is the same before and after, however it is kept.

use std::time::Duration;

use super::gate::Waiting;
use super::output::TokenSpec;
use super::specs::Specs;
use crate::lifecycle::{Need, Resting, Token};
use crate::time::Moment;

/// Below this the room for whole entries is not given back.
const ROOM_KEPT: usize = 1_024;

/// A token as a whole, with its place in the keeper.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) token: Token,
    /// The serial of the effect under way; 0 for none.
    pub(super) serial: u64,
    /// The earliest entry for it in the agenda that still counts.
    pub(super) listed: Option<Moment>,
    /// Its place among those that wait for the server.
    pub(super) waiting: Option<Waiting>,
    /// It waits for its way to new values.
    pub(super) waits_for_reauth: bool,
    id: u32,
    spec: u32,
}

impl Entry {
    /// When it next wants to be looked at, as far as nobody sees to that already.
    pub(super) fn wants(&self) -> Option<Moment> {
        let token = &self.token;
        let server = if self.waiting.is_none() { token.due_for(Need::Server) } else { None };
        let waits_for_reauth = self.waits_for_reauth || self.waiting.is_some();
        let reauth = if waits_for_reauth { None } else { token.due_for(Need::Reauth) };
        let wants = [server, reauth, token.due_for(Need::Nothing), token.next_alarm()];
        wants.into_iter().flatten().min()
    }

    pub(super) fn is_due(&self, need: Need, now: Moment) -> bool {
        self.token.due_for(need).is_some_and(|due| due <= now)
    }

    /// Its place among those that wait for the server, had it begun to wait as it is.
    pub(super) fn place_in_line(&self) -> Waiting {
        (self.token.bound().unwrap_or(Moment::NEVER), self.id)
    }
}

/// A token that is at rest, and its place in the keeper. In bytes, for 28 of them hold it all.
#[derive(Debug, Clone, Copy)]
struct Short {
    token: Resting,
    spec: [u8; 2],
    listing: Listing,
}

/// Where the token is listed and whether it waits: [`Queue`] in the two highest bits, and in
/// the others the time from the token's origin to its entry in the agenda, in milliseconds up
/// to twelve days.
#[derive(Debug, Clone, Copy)]
struct Listing([u8; 4]);

const UNLISTED: u32 = (1 << 30) - 1;

impl Listing {
    fn new(entry: &Entry, origin: Moment) -> Option<Self> {
        let queue: u32 = match (entry.waiting, entry.waits_for_reauth) {
            (None, false) => 0,
            (Some(place), false) if place == entry.place_in_line() => 1,
            (None, true) => 2,
            (Some(_), _) => return None,
        };
        let after = match entry.listed {
            None => UNLISTED,
            Some(at) => {
                let after = at.as_millis().checked_sub(origin.as_millis())?;
                u32::try_from(after).ok().filter(|after| *after < UNLISTED)?
            }
        };
        Some(Self((queue << 30 | after).to_le_bytes()))
    }

    fn listed(self, origin: Moment) -> Option<Moment> {
        let after = u32::from_le_bytes(self.0) & UNLISTED;
        (after != UNLISTED).then(|| origin + Duration::from_millis(after.into()))
    }

    const fn queue(self) -> u32 {
        u32::from_le_bytes(self.0) >> 30
    }
}

impl Short {
    /// The entry in short; `None` for one that does not fit.
    fn new(entry: &Entry) -> Option<Self> {
        if entry.serial != 0 {
            return None;
        }
        let token = entry.token.rest()?;
        let spec = u16::try_from(entry.spec).ok()?.to_le_bytes();
        Some(Self { token, spec, listing: Listing::new(entry, token.origin())? })
    }

    fn spec(&self) -> u32 {
        u16::from_le_bytes(self.spec).into()
    }

    fn listed(&self) -> Option<Moment> {
        self.listing.listed(self.token.origin())
    }

    fn entry(&self, id: u32) -> Entry {
        let mut entry = Entry {
            token: self.token.wake(),
            serial: 0,
            listed: self.listed(),
            waiting: None,
            waits_for_reauth: self.listing.queue() == 2,
            id,
            spec: self.spec(),
        };
        if self.listing.queue() == 1 {
            entry.waiting = Some(entry.place_in_line());
        }
        entry
    }
}

#[derive(Debug, Clone, Copy)]
enum Row {
    /// Nobody has this number.
    Free,
    /// At rest.
    Short(Short),
    /// Where its entry stands.
    Whole(u32),
}

/// All tokens, by number.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
    free: Vec<u32>,
    /// In no order.
    entries: Vec<Entry>,
    specs: Specs,
}

impl Table {
    /// Adds a token, which stays open.
    pub(super) fn add(&mut self, token: &Token, spec: TokenSpec) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            if self.rows.len() == self.rows.capacity() {
                // By a quarter, not by as much again: this is the largest thing there is.
                self.rows.reserve_exact(self.rows.len() / 4 + 16);
            }
            self.rows.push(Row::Free);
            u32::try_from(self.rows.len() - 1).unwrap_or(u32::MAX)
        });
        let spec = self.specs.take(spec);
        self.enter(Entry {
            token: *token,
            serial: 0,
            listed: None,
            waiting: None,
            waits_for_reauth: false,
            id,
            spec,
        });
        id
    }

    pub(super) fn remove(&mut self, id: u32) {
        match self.row(id) {
            Row::Free => return,
            Row::Short(short) => self.specs.give_back(short.spec()),
            Row::Whole(index) => {
                let entry = self.leave(index);
                self.specs.give_back(entry.spec);
            }
        }
        self.rows[id as usize] = Row::Free;
        self.free.push(id);
    }

    /// The token as a whole, to be changed, and its spec; it is to be [closed](Self::close).
    pub(super) fn open(&mut self, id: u32) -> Option<(&mut Entry, &TokenSpec)> {
        let index = match self.row(id) {
            Row::Free => return None,
            Row::Short(short) => self.enter(short.entry(id)),
            Row::Whole(index) => index as usize,
        };
        let entry = &mut self.entries[index];
        let spec = self.specs.get(entry.spec)?;
        Some((entry, spec))
    }

    /// Puts a token that is at rest back into its row.
    pub(super) fn close(&mut self, id: u32) {
        if let Row::Whole(index) = self.row(id)
            && let Some(short) = Short::new(&self.entries[index as usize])
        {
            self.leave(index);
            self.rows[id as usize] = Row::Short(short);
        }
    }

    /// What `what` makes of a token; `None` for one that is not there.
    pub(super) fn look<R>(&self, id: u32, what: impl FnOnce(&Entry) -> R) -> Option<R> {
        match self.row(id) {
            Row::Free => None,
            Row::Short(short) => Some(what(&short.entry(id))),
            Row::Whole(index) => Some(what(&self.entries[index as usize])),
        }
    }

    pub(super) fn spec(&self, id: u32) -> Option<&TokenSpec> {
        match self.row(id) {
            Row::Free => None,
            Row::Short(short) => self.specs.get(short.spec()),
            Row::Whole(index) => self.specs.get(self.entries[index as usize].spec),
        }
    }

    /// Gives an open token another spec.
    pub(super) fn set_spec(&mut self, id: u32, spec: TokenSpec) {
        if let Row::Whole(index) = self.row(id) {
            let number = self.specs.take(spec);
            let earlier = std::mem::replace(&mut self.entries[index as usize].spec, number);
            self.specs.give_back(earlier);
        }
    }

    /// Where in the agenda the token's entry is that counts.
    pub(super) fn listed(&self, id: u32) -> Option<Moment> {
        match self.row(id) {
            Row::Free => None,
            Row::Short(short) => short.listed(),
            Row::Whole(index) => self.entries[index as usize].listed,
        }
    }

    /// The serial of the effect under way; 0 for none.
    pub(super) fn serial(&self, id: u32) -> u64 {
        match self.row(id) {
            Row::Free | Row::Short(_) => 0,
            Row::Whole(index) => self.entries[index as usize].serial,
        }
    }

    /// How many numbers there are, free ones included.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Those of the tokens that are not at rest of which `which` holds, with their specs. What
    /// is being retried or written is among them, whatever else is not.
    pub(super) fn restless(&self, which: impl Fn(&Entry, &TokenSpec) -> bool) -> Vec<u32> {
        let holds =
            |entry: &&Entry| self.specs.get(entry.spec).is_some_and(|spec| which(entry, spec));
        let mut ids: Vec<_> = self.entries.iter().filter(holds).map(|entry| entry.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Those of all tokens of which `which` holds. A look at each: for what is rare.
    pub(super) fn all(&self, which: impl Fn(&Token, &TokenSpec) -> bool) -> Vec<u32> {
        let ids = (0..self.rows.len()).filter_map(|index| u32::try_from(index).ok());
        let holds = |id: &u32| {
            let spec = self.spec(*id);
            spec.is_some_and(|spec| self.look(*id, |entry| which(&entry.token, spec)) == Some(true))
        };
        ids.filter(holds).collect()
    }

    /// Bytes that it takes up, unused ones included, without the specs.
    pub(super) fn footprint(&self) -> usize {
        self.rows.capacity() * size_of::<Row>()
            + self.entries.capacity() * size_of::<Entry>()
            + self.free.capacity() * size_of::<u32>()
    }

    fn row(&self, id: u32) -> Row {
        self.rows.get(id as usize).copied().unwrap_or(Row::Free)
    }

    fn enter(&mut self, entry: Entry) -> usize {
        let index = self.entries.len();
        self.rows[entry.id as usize] = Row::Whole(u32::try_from(index).unwrap_or(u32::MAX));
        self.entries.push(entry);
        index
    }

    /// Takes an entry out; the last one takes its place.
    fn leave(&mut self, index: u32) -> Entry {
        let entry = self.entries.swap_remove(index as usize);
        if let Some(moved) = self.entries.get(index as usize) {
            self.rows[moved.id as usize] = Row::Whole(index);
        }
        if self.entries.capacity() > ROOM_KEPT.max(self.entries.len() * 4) {
            self.entries.shrink_to(ROOM_KEPT.max(self.entries.len() * 2));
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_at_rest_takes_28_bytes() {
        assert_eq!(size_of::<Row>(), 28);
    }
}
