//! Invariant 9: a renewal that is claimed has happened, and where one is said to be impossible
//! it is. A keep-alive that reports success while the life runs down must be impossible.

use std::collections::HashMap;

use crate::api::SessionId;
use crate::chance::Ms;

/// The books of what readings spoke of.
#[derive(Debug)]
pub(crate) struct Claims {
    /// By value: the end of life that the oldest reading spoke of which may still be judged by.
    oldest: HashMap<SessionId, Ms>,
    /// By server: when another client last renewed a token there.
    others: Vec<Option<Ms>>,
}

impl Claims {
    pub(super) fn new(servers: usize) -> Self {
        Self { oldest: HashMap::new(), others: vec![None; servers] }
    }

    /// A reading spoke of this end; tells whether a claim that the life has grown, is false.
    pub(crate) fn judged(&mut self, session: SessionId, end: Ms, renewed: Option<bool>) -> bool {
        let oldest = self.oldest.entry(session).or_insert(end);
        let false_claim = renewed == Some(true) && end <= *oldest;
        *oldest = if renewed.is_some() { end } else { end.min(*oldest) };
        false_claim
    }

    pub(crate) fn replaced(&mut self, old: SessionId, new: SessionId) {
        if let Some(oldest) = self.oldest.remove(&old) {
            self.oldest.insert(new, oldest);
        }
    }

    pub(crate) fn used_by_another(&mut self, server: usize, now: Ms) {
        self.others[server] = Some(now);
    }

    /// Whether another client has renewed a token of this server since `since`.
    pub(crate) fn others_since(&self, server: usize, since: Ms) -> bool {
        self.others[server].is_some_and(|at| at >= since)
    }
}
