//! A transition in progress: the token, the time, what else it depends on, and its notices.

use std::time::Duration;

use super::backoff::{LONGEST_PAUSE_IN_DOUBT, backoff};
use super::check_timing::RandomFraction;
use super::event::Notice;
use super::policy::Policy;
use super::reading::Method;
use super::token::Token;
use crate::time::{Moment, whole_millis};

/// What a transition depends on besides state, event and time.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The token's policy.
    pub policy: &'a Policy,
    /// The call that is known to renew tokens on the token's server.
    pub renews_by: Option<Method>,
    /// A random number.
    pub draw: RandomFraction,
    /// The server may be unavailable: it has responded to no token since this one's checks fail.
    pub server_in_doubt: bool,
}

/// A transition in progress.
pub(super) struct Transition<'a> {
    pub(super) token: Token,
    pub(super) now: Moment,
    pub(super) context: &'a Context<'a>,
    pub(super) notices: &'a mut Vec<Notice>,
}

impl Transition<'_> {
    pub(super) fn notify(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    /// Whole milliseconds from now until `moment`.
    pub(super) fn ms_until(&self, moment: Moment) -> u64 {
        whole_millis(moment.since(self.now))
    }

    /// The pause after one more failure at this backoff level, and the next level. A pause that the
    /// expiry shortens does not raise the level.
    pub(super) fn retry_pause(&self, level: u16) -> (Duration, u16) {
        let (schedule, draw) = (&self.context.policy.schedule, self.context.draw);
        let raised = level.saturating_add(1);
        let full = backoff(raised, schedule, None, self.now, draw);
        let reading = self.token.reading().filter(|_| !self.token.is_from_earlier_boot());
        if reading.is_some_and(|reading| reading.expiry() > self.now) {
            let cut = backoff(raised, schedule, reading.as_ref(), self.now, draw);
            return (cut, if cut < full { level } else { raised });
        }
        let limit =
            if self.context.server_in_doubt { LONGEST_PAUSE_IN_DOUBT } else { Duration::MAX };
        (full.min(limit), raised)
    }
}
