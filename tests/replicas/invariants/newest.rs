//! I3: a spending begins only for a value that is dead (or due) and newest.
//!
//! Checked when the API begins a spending:
//! - its replica has taken a claim for it, in this incarnation, and the value that etcd had at that
//!   instant is the one that the replica holds as current, or is dead. A rotation may also be for a
//!   newer one, which is verified so;
//! - a login: the value that the replica holds is dead, or is due for an early login.
//!
//! Exceptions: a value that came after the claim was taken; a replica whose current value was put
//! there by an operator, who may replace what lives; a restored etcd.

use tokenkeep::cluster::replica::{Claim, Key, Record};

use crate::api::{SessionId, Value};
use crate::chance::whole;
use crate::etcd::Change;
use crate::host::{key_of, token_of};
use crate::invariants::{Invariant, Violation};
use crate::world::World;

/// A spending that the API begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    pub(crate) host: usize,
    pub(crate) token: usize,
    /// The value that its replica holds as current.
    pub(crate) current: Option<SessionId>,
    pub(crate) is_login: bool,
}

/// The claims that were taken.
#[derive(Debug)]
pub(crate) struct Takes {
    /// By token: the newest claim, and the value that etcd had then.
    newest: Vec<Option<(Claim, Option<SessionId>)>>,
}

impl Takes {
    pub(super) fn new(tokens: usize) -> Self {
        Self { newest: vec![None; tokens] }
    }

    pub(super) fn restored(&mut self) {
        self.newest.fill(None);
    }
}

impl World {
    /// A key of etcd has changed.
    pub(crate) fn watch_change(&mut self, change: &Change) -> Result<(), Violation> {
        match (&change.entry.key, &change.entry.record) {
            (Key::Claim(key), Some(Record::Claim(claim))) => {
                let value = match self.etcd.get(&Key::Value(key.clone())) {
                    Some(Record::Value(sealed)) => Value::open(sealed).map(|value| value.session),
                    _ => None,
                };
                self.watch.takes.newest[token_of(key)] = Some((claim.clone(), value));
                if change.before != 0 {
                    self.tally.stolen += 1;
                }
                Ok(())
            }
            (Key::Value(key), record) => self.value_changed(token_of(key), record.as_ref()),
            _ => Ok(()),
        }
    }

    /// The API begins a spending.
    pub(crate) fn spending_begins(&mut self, begun: Begun) -> Result<(), Violation> {
        let Begun { host, token, current, is_login } = begun;
        if self.watch.restores.is_felt(self.now) {
            return Ok(());
        }
        let there = &self.hosts[host];
        let taken = self.watch.takes.newest[token].as_ref();
        let taken = taken.filter(|(claim, _)| {
            claim.replica == there.name
                && there.daemon.as_ref().is_some_and(|d| d.incarnation == claim.incarnation)
        });
        let Some((_, newest)) = taken else {
            let what = format!("host {host} spends for token {token} without a claim");
            return Err(self.violation(Invariant::SpentForTheNewest, what));
        };
        // A reload has removed the token since the claim was taken: what the replica held is gone.
        if there.daemon.as_ref().is_none_or(|daemon| daemon.ids[token].is_none()) {
            return Ok(());
        }
        let is_given = |current: SessionId| self.watch.logins.is_given(current);
        let is_own = !is_login && current > *newest || current.is_some_and(is_given);
        if let Some(newest) = *newest
            && Some(newest) != current
            && !is_own
            && self.api.is_alive(newest, self.now)
        {
            let what = format!(
                "host {host} spends for token {token} with {current:?}; etcd has {newest}, which lives"
            );
            return Err(self.violation(Invariant::SpentForTheNewest, what));
        }
        if is_login
            && let Some(current) = current
            && self.api.is_alive(current, self.now)
            && !self.is_due(current)
        {
            let what =
                format!("host {host} logs in for token {token}, whose value {current} lives");
            return Err(self.violation(Invariant::SpentForTheNewest, what));
        }
        if is_login { self.login_begins(token) } else { Ok(()) }
    }

    /// Whether an early login is permitted for a value: it cannot be renewed and is near its end, or
    /// its refresh token may be spent.
    pub(super) fn is_due(&self, session: SessionId) -> bool {
        let left = self.api.sessions[session].end.saturating_sub(self.now);
        let early = self.plan.policy.reauth_before.map_or(0, whole);
        self.plan.policy.rotates || left <= early * 11 / 10 + 1_000
    }

    pub(crate) fn claim_exists(&self, token: usize) -> bool {
        self.etcd.get(&Key::Claim(key_of(token))).is_some()
    }
}
