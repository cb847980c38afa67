//! I5: one death, one login; a second one only if the first one's value was never stored.
//!
//! Checked when the API begins a login: the value of the login before is dead, or was never stored
//! in etcd, or is due for an early login.
//!
//! Exceptions: a restored etcd, which has forgotten the value.

use std::collections::BTreeSet;

use crate::api::SessionId;
use crate::invariants::{Invariant, Violation};
use crate::world::World;

/// The logins of each token.
#[derive(Debug)]
pub(crate) struct Logins {
    /// The newest value that was stored in etcd.
    stored: Vec<Option<SessionId>>,
    /// Values that operators have put on a host.
    given: BTreeSet<SessionId>,
}

impl Logins {
    pub(super) fn new(tokens: usize) -> Self {
        Self { stored: vec![None; tokens], given: BTreeSet::new() }
    }

    /// A value was stored. Returns the one before.
    pub(super) fn stored(&mut self, token: usize, session: SessionId) -> Option<SessionId> {
        self.stored[token].replace(session)
    }

    /// Whether an operator has put this value on a host.
    pub(super) fn is_given(&self, session: SessionId) -> bool {
        self.given.contains(&session)
    }

    pub(super) fn restored(&mut self) {
        self.stored.fill(None);
    }
}

impl World {
    /// The API begins a login.
    pub(super) fn login_begins(&mut self, token: usize) -> Result<(), Violation> {
        self.watch.attempts.began(token, self.now);
        if let Some(stored) = self.watch.logins.stored[token]
            && self.api.is_alive(stored, self.now)
            && !self.is_due(stored)
        {
            let what = format!("a login for token {token}, whose stored value {stored} lives");
            return Err(self.violation(Invariant::OneDeathOneLogin, what));
        }
        Ok(())
    }

    /// The API has executed a login.
    pub(crate) fn logged_in(&mut self, token: usize, _session: SessionId) {
        self.watch.spending.renewed(token);
    }

    /// An operator has logged in.
    pub(crate) fn operator_logged_in(&mut self, token: usize, session: SessionId) {
        self.watch.logins.given.insert(session);
        self.watch.spending.renewed(token);
    }
}
