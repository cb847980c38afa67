//! I7: without etcd nothing that lives dies.
//!
//! Checked for tokens that any replica keeps alive without spending: the newest value of a token
//! does not reach its end if a running daemon that holds it, and whose requests do not fail, asked
//! about it during the last quarter of its life, and for at least 10 s, without a gap. Whether etcd answered does not matter.
//!
//! Exceptions: a response of the API about the token was lost in that time, or the API was down, or
//! the API ended the session.

use crate::chance::{Ms, SECOND};
use crate::invariants::{Invariant, Violation};
use crate::world::World;

/// Who keeps which value alive.
#[derive(Debug)]
pub(crate) struct Survival {
    /// By token: since when its newest value is asked about without a gap.
    asked_since: Vec<Option<Ms>>,
    /// By token: when a response was last lost.
    lost: Vec<Ms>,
    /// By token: the session that was judged.
    judged: Vec<Option<usize>>,
}

impl Survival {
    pub(super) fn new(tokens: usize) -> Self {
        Self { asked_since: vec![None; tokens], lost: vec![0; tokens], judged: vec![None; tokens] }
    }

    pub(super) fn asked(&mut self, now: Ms, token: usize, is_asked: bool) {
        let since = &mut self.asked_since[token];
        *since = if is_asked { since.or(Some(now)) } else { None };
    }

    /// A response about a token is lost.
    pub(crate) fn lost(&mut self, now: Ms, token: usize) {
        self.lost[token] = now;
    }
}

impl World {
    /// Looks which values have died.
    pub(super) fn look_at_deaths(&mut self) -> Result<(), Violation> {
        for token in 0..self.plan.lives.len() {
            let newest = self.api.newest[token];
            let session = &self.api.sessions[newest];
            if session.end > self.now || session.revoked {
                continue;
            }
            if self.watch.survival.judged[token].replace(newest) == Some(newest) {
                continue;
            }
            self.tally.deaths += 1;
            let from = session.end - (self.api.life(token) / 4).max(10 * SECOND);
            let was_asked =
                self.watch.survival.asked_since[token].is_some_and(|since| since < from);
            let was_lost =
                self.watch.survival.lost[token] + 60 * SECOND > from || self.api.down_until > from;
            if self.is_kept_alive_by_asking() && was_asked && !was_lost {
                let what =
                    format!("token {token} died at {} although it was asked about", session.end);
                return Err(self.violation(Invariant::NothingDiesWithoutEtcd, what));
            }
        }
        Ok(())
    }
}
