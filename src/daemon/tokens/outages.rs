//! The outages of servers: since when, and the error that showed each. For status queries.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::clock;
use crate::outcome::CallError;
use crate::scheduler::{ServerId, ServerNotice};

/// An outage that has not ended.
#[derive(Debug)]
pub(crate) struct Outage {
    /// When the circuit breaker opened.
    pub(crate) since: Timestamp,
    /// The error that opened it.
    pub(crate) error: CallError,
}

/// The outages of all servers.
#[derive(Debug, Default)]
pub(crate) struct Outages(BTreeMap<ServerId, Outage>);

impl Outages {
    pub(crate) fn get(&self, id: ServerId) -> Option<&Outage> {
        self.0.get(&id)
    }

    /// Takes note of what the scheduler says about a server.
    pub(crate) fn on_notice(&mut self, id: ServerId, notice: &ServerNotice) {
        match notice {
            ServerNotice::Unavailable { fault, .. } => {
                let since = clock::wall_clock();
                self.0.insert(id, Outage { since, error: fault.clone() });
            }
            ServerNotice::Recovered { .. } | ServerNotice::Untried => self.remove(id),
            ServerNotice::RenewalLearned(_) => {}
        }
    }

    pub(super) fn remove(&mut self, id: ServerId) {
        self.0.remove(&id);
    }
}
