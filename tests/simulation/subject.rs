//! A configured token, and what is under way for one: as the daemon's double knows them.

use std::sync::Arc;

use tokenkeep::keeper::{Ticket, TokenId};
use tokenkeep::lifecycle::{Method, Policy, Slot};

use crate::api::{Fate, Poison, Poisoned, Reply, SessionId};
use crate::chance::Ms;
use crate::hooks::Brought;

/// A configured token, as everybody but the keeper sees it.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) server: usize,
    pub(crate) life: Ms,
    pub(crate) policy: Arc<Policy>,
    pub(crate) way: Option<usize>,
    /// Its number in the keeper; `None` while it is not configured, or the daemon is down.
    pub(crate) id: Option<TokenId>,
    pub(crate) configured: bool,
    /// The values that the daemon holds.
    pub(crate) slots: [Option<SessionId>; 2],
    /// The value in use as of the last look.
    pub(crate) using: Option<SessionId>,
    /// What its source holds, which outlives the daemon.
    pub(crate) source: Option<SessionId>,
    /// What the daemon last saw there.
    pub(crate) seen: Option<SessionId>,
    /// The source changed during a re-auth attempt, and is to be looked at after it.
    pub(crate) look_again: bool,
    /// When its requests all failed, whatever the weather; the last time may not be over.
    pub(crate) poisoned: Vec<Poisoned>,
}

impl Subject {
    /// What its requests meet at this moment, if it is poisoned.
    pub(crate) fn poison_at(&self, now: Ms) -> Option<Poison> {
        self.poisoned.last().filter(|poisoned| now < poisoned.until).map(|poisoned| poisoned.kind)
    }
}

/// What is under way for the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    pub(crate) run: u32,
    pub(crate) ticket: Ticket,
    pub(crate) subject: usize,
    pub(crate) since: Ms,
    pub(crate) errand: Errand,
    /// How many events are still to come for it.
    pub(crate) events: u8,
}

#[derive(Debug, Clone)]
pub(crate) enum Errand {
    Ask {
        method: Method,
        slot: Slot,
        session: SessionId,
        fate: Fate,
        reply: Option<Reply>,
    },
    /// A login through the server; `session` is what the server has made of it.
    LogIn {
        fate: Fate,
        session: Option<SessionId>,
    },
    Hook(Brought),
    Store {
        session: SessionId,
    },
}
