//! A configured token, and what is under way for one: as the daemon's double knows them.

use std::sync::Arc;

use tokenkeep::lifecycle::{Method, Policy, Slot};
use tokenkeep::scheduler::{ReauthId, ServerId, Ticket, TokenId};

use crate::api::{Fate, Poison, Poisoned, Reply, SessionId};
use crate::chance::Ms;
use crate::connections::Used;
use crate::families::Refresh;
use crate::hooks::Brought;

/// A configured token, as everybody but the scheduler sees it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts of a token")]
pub(crate) struct Subject {
    pub(crate) server: usize,
    pub(crate) life: Ms,
    pub(crate) policy: Arc<Policy>,
    pub(crate) way: Option<usize>,
    /// Its number in the scheduler; `None` while it is not configured, or the daemon is down.
    pub(crate) id: Option<TokenId>,
    pub(crate) configured: bool,
    /// The values that the daemon holds.
    pub(crate) slots: [Option<SessionId>; 2],
    /// The value in use as of the last look.
    pub(crate) using: Option<SessionId>,
    /// What its source holds, which outlives the daemon.
    pub(crate) source: Option<SessionId>,
    /// Its refresh token, where the daemon and its operators keep it; it outlives the daemon.
    pub(crate) refresh: Option<Refresh>,
    /// An operator has replaced it, and the scheduler has not heard of that.
    pub(crate) is_refresh_new: bool,
    /// When the scheduler heard of another one during a renewal without a living value: the result
    /// of that is outdated.
    pub(crate) renewal_outdated_at: Option<Ms>,
    /// Until when a request with it is under way: there is only one at a time.
    pub(crate) refresh_locked_until: Ms,
    /// What stands for its value where it has none.
    pub(crate) nothing: Option<SessionId>,
    /// What the daemon last saw there.
    pub(crate) seen: Option<SessionId>,
    /// The source changed during a re-auth attempt, and is to be looked at after it.
    pub(crate) look_again: bool,
    /// When its requests all failed, whatever the weather; the last time may not be over.
    pub(crate) poisoned: Vec<Poisoned>,
    /// When a sick pooled connection spoilt a request that had no reason to be on a fresh one.
    pub(crate) spoilt: Vec<(Ms, Ms)>,
    /// All that is known of its value comes from another boot, by a clock that may be wrong.
    pub(crate) unconfirmed: bool,
}

impl Task {
    /// Whether it has a permit of its server's gate.
    pub(crate) fn is_at_server(&self) -> bool {
        matches!(self, Self::Ask { .. } | Self::LogIn { .. })
    }
}

impl Flight {
    /// The server has answered a request with this refresh token.
    pub(crate) fn set_reply(&mut self, sent: Refresh, answered: Reply) {
        if let Task::Ask { reply, refresh, .. } = &mut self.task {
            *reply = Some(answered);
            *refresh = Some(Some(sent));
        }
    }
}

impl Subject {
    /// Until when its requests fail, whatever the weather.
    pub(crate) fn poisoned_until(&self) -> Ms {
        self.poisoned.last().map_or(0, |poisoned| poisoned.until)
    }

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
    /// The server that it concerns, by its number in the world and in the scheduler.
    pub(crate) server: usize,
    pub(crate) server_id: ServerId,
    /// The method that it is an attempt of.
    pub(crate) reauth_id: Option<ReauthId>,
    pub(crate) since: Ms,
    pub(crate) task: Task,
    /// How many events are still to come for it.
    pub(crate) events: u8,
}

#[derive(Debug, Clone)]
#[expect(clippy::option_option, reason = "none is sent, one that is known, or one that is not yet")]
pub(crate) enum Task {
    Ask {
        method: Method,
        slot: Slot,
        session: SessionId,
        fate: Fate,
        used: Used,
        reply: Option<Reply>,
        /// A refresh token is sent, and which; that is open while the request before it is under
        /// way.
        refresh: Option<Option<Refresh>>,
    },
    /// A login through the server; `session` is what the server has made of it.
    LogIn {
        fate: Fate,
        session: Option<SessionId>,
    },
    /// A command of this `[reauth]`.
    Hook {
        brought: Brought,
        way: usize,
    },
    Store {
        session: SessionId,
    },
}
