//! One token's place in the keeper: as a whole while something goes on with it, and short.
//!
//! Never decides anything: [`Short::entry`] gives back what [`Short::new`] took.

use std::time::Duration;

use super::line::{NEW, TROUBLED, Waiting};
use crate::lifecycle::{Aside, Glance, Need, Resting, Token};
use crate::time::Moment;

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
    pub(super) id: u32,
    /// The number of its spec.
    pub(super) spec: u32,
}

impl Entry {
    /// A token that has just come.
    pub(super) fn new(id: u32, token: &Token, spec: u32) -> Self {
        Self {
            token: *token,
            serial: 0,
            listed: None,
            waiting: None,
            waits_for_reauth: false,
            id,
            spec,
        }
    }

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
        let unbounded = if self.token.is_troubled() { TROUBLED } else { NEW };
        (self.token.bound().unwrap_or(unbounded), self.id)
    }
}

/// A token that is at rest, and its place in the keeper. In bytes, for 28 of them hold it all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Short {
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
    /// The entry in short, and what it has besides; `None` for one that does not fit.
    pub(super) fn new(entry: &Entry) -> Option<(Self, Aside)> {
        if entry.serial != 0 {
            return None;
        }
        let (token, aside) = entry.token.rest()?;
        let spec = u16::try_from(entry.spec).ok()?.to_le_bytes();
        Some((Self { token, spec, listing: Listing::new(entry, token.origin())? }, aside))
    }

    pub(super) fn token(&self) -> &Resting {
        &self.token
    }

    pub(super) fn spec(&self) -> u32 {
        u16::from_le_bytes(self.spec).into()
    }

    pub(super) fn glance(&self) -> Glance {
        self.token.glance()
    }

    pub(super) fn listed(&self) -> Option<Moment> {
        self.listing.listed(self.token.origin())
    }

    pub(super) fn entry(&self, id: u32, aside: Aside) -> Entry {
        let mut entry = Entry {
            listed: self.listed(),
            waits_for_reauth: self.listing.queue() == 2,
            ..Entry::new(id, &self.token.wake(aside), self.spec())
        };
        if self.listing.queue() == 1 {
            entry.waiting = Some(entry.place_in_line());
        }
        entry
    }
}
