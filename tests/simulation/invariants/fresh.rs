//! Invariant 12: what failed on one connection is tried again on another.

use std::collections::{HashMap, HashSet};

use tokenkeep::outcome::Connection;

use super::{Invariant, Violation};
use crate::api::SessionId;
use crate::chance::Ms;

/// The books of attempts that came to no conclusion.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    /// The values whose last response was none, or a first 401.
    open: HashSet<SessionId>,
    /// When a value last became new to the daemon: what was asked before says nothing about it.
    new_since: HashMap<SessionId, Ms>,
}

impl Fresh {
    /// A request about a value starts; `probing`: its server is known to be down.
    pub(crate) fn asked(
        &self,
        now: Ms,
        (subject, session): (usize, SessionId),
        connection: Connection,
        probing: bool,
    ) -> Result<(), Violation> {
        let why = if probing {
            "a probe of a server that is down"
        } else if self.must_be_fresh(session) {
            "an attempt after one without a conclusion"
        } else {
            return Ok(());
        };
        if connection == Connection::Fresh {
            return Ok(());
        }
        let what = format!("token {subject}: {why} uses a pooled connection");
        Err(Violation { invariant: Invariant::RetriesAreFresh, at: now, what })
    }

    pub(crate) fn must_be_fresh(&self, session: SessionId) -> bool {
        self.open.contains(&session)
    }

    /// A response about a value that was asked about at `asked` came, or none.
    pub(crate) fn answered(&mut self, session: SessionId, asked: Ms, concluded: bool) {
        if self.new_since.get(&session).is_some_and(|new_since| asked <= *new_since) {
            return;
        }
        if concluded {
            self.open.remove(&session);
        } else {
            self.open.insert(session);
        }
    }

    /// Whatever came before counts no more: the value is new to the daemon, or to its server.
    pub(crate) fn forget(&mut self, now: Ms, session: SessionId) {
        self.open.remove(&session);
        self.new_since.insert(session, now);
    }

    pub(super) fn restarted(&mut self) {
        self.open.clear();
        self.new_since.clear();
    }
}
