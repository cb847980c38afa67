//! I4: a value that etcd has acknowledged is never replaced by an older one.
//!
//! Checked at every change of a value in etcd: it is not deleted, and the new value comes from a
//! later login or rotation than the one before.
//!
//! Exceptions: the newer value is dead by now (a replica that held the older one has found that
//! out); the older one was put on a host by an operator, and the host has noticed it late; a restored
//! etcd.

use tokenkeep::cluster::replica::Record;

use crate::api::Value;
use crate::invariants::{Invariant, Violation};
use crate::world::World;

impl World {
    /// The value of a token has changed in etcd.
    pub(super) fn value_changed(
        &mut self,
        token: usize,
        record: Option<&Record>,
    ) -> Result<(), Violation> {
        let value = match record {
            Some(Record::Value(sealed)) => Value::open(sealed),
            _ => None,
        };
        let Some(value) = value else {
            let what = format!("the value of token {token} is gone from etcd");
            return Err(self.violation(Invariant::NoOlderValue, what));
        };
        self.tally.values += 1;
        let before = self.watch.logins.stored(token, value.session);
        let is_felt = self.watch.restores.is_felt(self.now);
        if let Some(before) = before.filter(|before| *before > value.session)
            && self.api.is_alive(before, self.now)
            && !self.watch.logins.is_given(value.session)
            && !is_felt
        {
            let what = format!("value {} of token {token} replaces {before}", value.session);
            return Err(self.violation(Invariant::NoOlderValue, what));
        }
        Ok(())
    }
}
