//! Which reasons why etcd cannot be used are logged: the first one, and each other one that lasts.
//!
//! How long another one must last doubles with each line (exponential backoff), so reasons that
//! alternate without end are not logged without end.

use std::sync::Arc;
use std::time::Duration;

use crate::time::Moment;

/// The kinds of reasons since etcd could be used last.
#[derive(Debug)]
pub(super) struct Reasons {
    /// The one that was logged last.
    logged: Option<Arc<str>>,
    /// The present one, if it is another, and since when.
    other: Option<(Arc<str>, Moment)>,
    /// How long that one must last.
    must_last: Duration,
    /// How long the one after it must last at least.
    failover: Duration,
}

impl Reasons {
    pub(super) const fn new(failover: Duration) -> Self {
        Self { logged: None, other: None, must_last: Duration::ZERO, failover }
    }

    /// Whether the reason, which is of this `kind` at `now`, is to be logged. Each but the first one
    /// must have lasted for `least`.
    pub(super) fn is_news(&mut self, kind: &Arc<str>, least: Duration, now: Moment) -> bool {
        let other = self.other.take();
        if self.logged.as_ref() == Some(kind) {
            return false;
        }
        if self.logged.is_some() {
            let since = other.filter(|(other, _)| other == kind).map_or(now, |(_, since)| since);
            if now.since(since) < self.must_last.max(least) {
                self.other = Some((kind.clone(), since));
                return false;
            }
            self.must_last = self.must_last.saturating_mul(2).max(self.failover);
        }
        self.logged = Some(kind.clone());
        true
    }
}
