//! I6: attempts stay within `max_attempts` over all replicas.
//!
//! Checked when the API refuses a login, and the response is not lost:
//! - within any span as long as a window, at most two windows' attempts are refused, because a
//!   window may end in it;
//! - within the window that begins with a login before which there was none for as long as a window,
//!   at most `max_attempts` are refused.
//!
//! Spans are a tenth shorter than the window, because clocks may be faster.
//!
//! Exceptions: worlds with wrong wall clocks, by which the windows are shared, and a restored etcd.

use crate::chance::{Ms, whole};
use crate::invariants::{Invariant, Violation};
use crate::world::World;

/// The logins of each token.
#[derive(Debug)]
pub(crate) struct Attempts {
    /// By token: when logins began.
    began: Vec<Vec<Ms>>,
    /// By token: when logins were refused.
    refused: Vec<Vec<Ms>>,
    /// Nothing is checked for what began before this moment.
    from: Ms,
}

impl Attempts {
    pub(super) fn new(tokens: usize) -> Self {
        Self { began: vec![Vec::new(); tokens], refused: vec![Vec::new(); tokens], from: 0 }
    }

    pub(super) fn restored(&mut self, until: Ms) {
        self.from = self.from.max(until);
    }

    pub(super) fn began(&mut self, token: usize, now: Ms) {
        self.began[token].push(now);
    }

    /// How many logins began since then.
    pub(super) fn since(&self, token: usize, since: Ms) -> usize {
        self.began[token].iter().filter(|at| **at >= since).count()
    }
}

impl World {
    /// The API has refused a login.
    pub(crate) fn login_refused(&mut self, token: usize) -> Result<(), Violation> {
        let now = self.now;
        self.tally.refused += 1;
        let attempts = &mut self.watch.attempts;
        attempts.refused[token].push(now);
        let Some(reauth) = self.plan.policy.reauth.filter(|_| !self.plan.wrong_clocks) else {
            return Ok(());
        };
        let (window, max) = (whole(reauth.window), reauth.max_attempts.get() as usize);
        let span = window * 9 / 10;
        let refused = &attempts.refused[token];
        let within = |from: Ms| refused.iter().filter(|at| **at >= from).count();
        let from = now.saturating_sub(span);
        if from >= attempts.from && within(from) > 2 * max {
            let what = format!("{} refused logins of token {token} in a window", within(from));
            return Err(self.violation(Invariant::AttemptsAreShared, what));
        }
        // The first login of the window that began after a pause.
        let began = &attempts.began[token];
        let first = began.iter().zip(began.iter().skip(1)).rev();
        let pause = window * 12 / 10;
        let first = first.filter(|(before, at)| **at > **before + pause).map(|(_, at)| *at).next();
        let first = first.or(began.first().copied()).unwrap_or(now);
        if first >= attempts.from + pause && now < first + span && within(first) > max {
            let what =
                format!("{} refused logins of token {token}, {max} permitted", within(first));
            return Err(self.violation(Invariant::AttemptsAreShared, what));
        }
        Ok(())
    }
}
