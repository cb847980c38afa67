//! I2: some living replica asks about each listed token, but for one failover time after a death.
//!
//! Checked: after every event, for each token that a running daemon lists with a value: a running
//! daemon asks about it. A gap is permitted
//! - for two failover times (the lease, and the next beat) and 10 s after a daemon has left, died,
//!   or was stopped, or a token was removed from a configuration;
//! - if etcd, the network, a watch or a lease was in trouble at that time or since: after the end of
//!   that;
//! - for 10 s after the first of its daemons has started;
//! - for 3 s if a running daemon does not list the token: one that asked only because the digests
//!   differ leaves it at once to a new owner, which may still be looking at its other tokens.
//!
//! So no replica may stop asking as long as no replica is lost.
//!
//! Also checked: a running daemon asks whose requests to the API do not fail, if there is one that
//! could, and whose requests have not failed for long enough. The same gaps are permitted, and one
//! failover time and 10 s from the first failure.

use crate::chance::{Ms, SECOND, whole};
use crate::invariants::{Invariant, Violation};
use crate::world::World;

/// What a start and a take-over take besides the failover time.
const SLACK: Ms = 10 * SECOND;

/// What it takes a daemon to look at all of its tokens.
const WALK: Ms = 3 * SECOND;

/// How long after a failover time a replica that reaches the API again asks in place of another one,
/// with some beats.
const RECOVERY: Ms = 10 * SECOND;

/// Which tokens are asked about.
#[derive(Debug)]
pub(crate) struct Coverage {
    /// By token: since when some running daemon could ask.
    able_since: Vec<Option<Ms>>,
    /// By token: since when none of them does.
    unasked_since: Vec<Option<Ms>>,
    /// By token: since when none of them does that reaches the API, although one could.
    unserved_since: Vec<Option<Ms>>,
    /// By token: when it was last asked about.
    asked_at: Vec<Ms>,
    /// When a replica was last lost.
    departed: Ms,
    /// The latest end of any trouble.
    troubled_until: Ms,
}

impl Coverage {
    pub(super) fn new(tokens: usize) -> Self {
        Self {
            able_since: vec![None; tokens],
            unasked_since: vec![None; tokens],
            unserved_since: vec![None; tokens],
            asked_at: vec![0; tokens],
            departed: 0,
            troubled_until: 0,
        }
    }

    /// When the last trouble is over.
    pub(crate) fn troubled_until(&self) -> Ms {
        self.troubled_until.max(self.departed)
    }
}

impl World {
    /// A replica is lost.
    pub(crate) fn departed(&mut self, _host: usize) {
        self.watch.coverage.departed = self.now;
        self.watch.calm.disturbed(self.now);
        self.must_look_at_coverage = true;
    }

    /// Something is in trouble until then.
    pub(crate) fn troubled_until(&mut self, until: Ms) {
        let troubled = &mut self.watch.coverage.troubled_until;
        *troubled = (*troubled).max(until);
        self.watch.calm.disturbed(until);
    }

    /// Looks who asks about what, if that may have changed.
    pub(crate) fn look_at_coverage(&mut self) -> Result<(), Violation> {
        if !std::mem::take(&mut self.must_look_at_coverage) {
            return Ok(());
        }
        self.must_look_at_all()
    }

    /// Looks who asks about what.
    pub(super) fn must_look_at_all(&mut self) -> Result<(), Violation> {
        let now = self.now;
        let failover = whole(self.plan.failover);
        for token in 0..self.plan.lives.len() {
            let running = self.hosts.iter().filter(|host| host.is_running(now));
            let mut is_able = false;
            let mut is_able_everywhere = true;
            let (mut is_asked, mut is_newest_asked) = (false, false);
            let (mut is_servable, mut is_served) = (false, false);
            for daemon in running.filter_map(|host| host.daemon.as_ref()) {
                let Some((value, _)) = daemon.current(token) else {
                    is_able_everywhere = false;
                    continue;
                };
                is_able = true;
                is_asked |= daemon.asked[token];
                let serves = daemon.asked[token] && daemon.reached_since.is_some();
                is_served |= serves;
                is_newest_asked |= serves && value.session == self.api.newest[token];
                let reaches = |since| now > since + 2 * failover + RECOVERY;
                is_servable |= daemon.reached_since.is_some_and(reaches);
            }
            self.watch.survival.asked(now, token, is_newest_asked);
            let coverage = &mut self.watch.coverage;
            if !is_able {
                coverage.able_since[token] = None;
                continue;
            }
            let able_since = *coverage.able_since[token].get_or_insert(now);
            let departed = coverage.departed;
            let trouble = coverage.troubled_until;
            let excused = if trouble + 2 * failover >= departed { trouble } else { 0 };
            let permitted = (departed.max(excused) + 2 * failover).max(able_since) + SLACK;
            if is_asked {
                coverage.asked_at[token] = now;
                coverage.unasked_since[token] = None;
            } else {
                let unasked = now - *coverage.unasked_since[token].get_or_insert(now);
                if (is_able_everywhere || unasked > WALK) && now > permitted {
                    let what = format!(
                        "no replica asks about token {token}, last asked {} ms ago",
                        now - coverage.asked_at[token]
                    );
                    return Err(self.violation(Invariant::EachTokenIsAsked, what));
                }
            }
            if is_served || !is_servable {
                coverage.unserved_since[token] = None;
                continue;
            }
            let since = *coverage.unserved_since[token].get_or_insert(now);
            if now > permitted.max(since + failover + SLACK) {
                let what = format!("no replica that reaches the API asks about token {token}");
                return Err(self.violation(Invariant::EachTokenIsAsked, what));
            }
        }
        Ok(())
    }
}
