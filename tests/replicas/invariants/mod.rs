//! What must never be otherwise, checked at every step.
//!
//! The watchers keep books of their own, from what the model of etcd and the model of the API see.
//! They do not believe what schedulers and replicas say of themselves, but for which tokens a
//! running daemon asks about.

mod asked;
mod attempts;
mod liveness;
mod newest;
mod no_older;
mod one_login;
mod one_spending;
mod steady;
mod survival;
mod tally;

use std::fmt;

pub(crate) use self::newest::Begun;
pub(crate) use self::tally::Tally;
use crate::chance::{Ms, SECOND};
use crate::plan::Plan;

/// The invariants, by number and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Invariant {
    /// I1
    OneSpendingAtATime,
    /// I2
    EachTokenIsAsked,
    /// I3
    SpentForTheNewest,
    /// I4
    NoOlderValue,
    /// I5
    OneDeathOneLogin,
    /// I6
    AttemptsAreShared,
    /// I7
    NothingDiesWithoutEtcd,
    /// Operations in a steady state, outputs and turns are bounded.
    SteadyState,
    /// What is dead is logged in again, and what lives is renewed, once nothing is wrong.
    SpendingHappens,
    /// Nothing panics.
    NothingPanics,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, sentence) = match self {
            Self::OneSpendingAtATime => (1, "never two spendings for a token at once"),
            Self::EachTokenIsAsked => (2, "some living replica asks about each token"),
            Self::SpentForTheNewest => (3, "a spending is for the newest value, dead or due"),
            Self::NoOlderValue => (4, "no older value replaces a newer one"),
            Self::OneDeathOneLogin => (5, "one death, one login"),
            Self::AttemptsAreShared => (6, "the attempts of all replicas count"),
            Self::NothingDiesWithoutEtcd => (7, "without etcd nothing dies that lives"),
            Self::SteadyState => (8, "outputs and operations are bounded"),
            Self::SpendingHappens => (9, "spending happens once nothing is wrong"),
            Self::NothingPanics => (10, "nothing panics"),
        };
        write!(f, "{self:?} (invariant {number}: {sentence})")
    }
}

/// A broken invariant.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) at: Ms,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.at / SECOND, self.at % SECOND);
        write!(f, "{} at {seconds}.{millis:03} s: {}", self.invariant, self.what)
    }
}

/// All watchers.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) restores: one_spending::Restores,
    pub(crate) coverage: asked::Coverage,
    pub(crate) takes: newest::Takes,
    pub(crate) logins: one_login::Logins,
    pub(crate) attempts: attempts::Attempts,
    pub(crate) survival: survival::Survival,
    pub(crate) calm: steady::Calm,
    pub(crate) spending: liveness::Spending,
}

impl Watch {
    pub(crate) fn new(plan: &Plan) -> Self {
        let (tokens, hosts) = (plan.lives.len(), plan.hosts.len());
        Self {
            restores: one_spending::Restores::default(),
            coverage: asked::Coverage::new(tokens),
            takes: newest::Takes::new(tokens),
            logins: one_login::Logins::new(tokens),
            attempts: attempts::Attempts::new(tokens),
            survival: survival::Survival::new(tokens),
            calm: steady::Calm::new(hosts),
            spending: liveness::Spending::new(tokens),
        }
    }

    /// Etcd was restored, and the last replica accepts that at `until`.
    pub(crate) fn restored(&mut self, now: Ms, until: Ms) {
        self.restores.restored(now, until);
        self.takes.restored();
        self.logins.restored();
        self.attempts.restored(until);
    }
}
