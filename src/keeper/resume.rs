//! Going on after a restart: few are asked at once, and what they say is weighed.
//!
//! A small share of the tokens that an earlier run found alive is asked about first. Where too
//! many of those turn out dead, what that run knew of the server is not relied upon any more.

use super::Keeper;
use super::output::{Output, ServerId, TokenId};
use crate::lifecycle::{Event, Method, Resumed, Standing, Token};
use crate::time::Moment;

/// The share of the resumed tokens that is asked about at once; at least one of each server.
const SPOT_CHECKED: f64 = 0.01;

/// The share of the spot checks, as a divisor, that may find a token dead: single ones are
/// ended by their users, or by another login.
const TOLERATED: u32 = 10;

/// How what an earlier run knew of a server's tokens stands the test.
#[derive(Debug, Default)]
pub(super) struct Trial {
    spot_checks: u32,
    dead: u32,
}

impl Trial {
    /// Weighs a step of one of the server's tokens. True once it is too much: when a tenth as
    /// many tokens as were spot-checked are dead that should have lived.
    pub(super) fn judge(&mut self, earlier: &Token, token: &Token, now: Moment) -> bool {
        let should_live = earlier.is_resumed() && earlier.bound().is_some_and(|bound| bound > now);
        let is_dead = matches!(token.standing(), Standing::Expired | Standing::Rejected);
        let was_dead = matches!(earlier.standing(), Standing::Expired | Standing::Rejected);
        if !should_live || !is_dead || was_dead {
            return false;
        }
        self.dead += 1;
        self.dead == (self.spot_checks / TOLERATED).max(1)
    }
}

impl Keeper {
    /// Goes on with a token where an earlier run left it, in place of
    /// [`SourceChange::NewValue`](crate::lifecycle::SourceChange::NewValue): its value has been
    /// put into the [spare slot](Keeper::spare_slot). One that is known already, or whose
    /// bound has passed, is taken as a new value.
    pub fn resume(&mut self, id: TokenId, resumed: Resumed, now: Moment, out: &mut Vec<Output>) {
        let Some(entry) = self.tokens[id.index()].as_ref() else { return };
        let trial = &mut self.servers[entry.spec.server.index()].trial;
        let spot_check = trial.spot_checks == 0 || self.chance.f64() < SPOT_CHECKED;
        trial.spot_checks += u32::from(spot_check);
        self.advance(id, Event::Resumed { resumed, spot_check }, now, out);
        self.settle(id, now, out);
    }

    /// Takes over which call an earlier run found to extend lives on a server.
    pub fn restore_lesson(&mut self, server: ServerId, renews_by: Method) {
        self.servers[server.index()].renews_by = Some(renews_by);
    }

    /// Everything that an earlier run knew of a server's tokens is asked about anew.
    pub(super) fn doubt_all(&mut self, server: ServerId, now: Moment, out: &mut Vec<Output>) {
        for index in 0..self.tokens.len() {
            let resumed = self.tokens[index]
                .as_ref()
                .is_some_and(|entry| entry.spec.server == server && entry.token.is_resumed());
            if resumed {
                let id = TokenId(u32::try_from(index).unwrap_or(u32::MAX));
                self.advance(id, Event::Doubted, now, out);
                self.queue_or_store(id, now, out);
            }
        }
    }
}
