//! Invariant 18: a refresh token that may be spent is not sent again while much of the value's life
//! is left.

use std::collections::HashSet;

use tokenkeep::lifecycle::{Policy, last_retry_room};
use tokenkeep::outcome::Outcome;

use super::{Invariant, Violation};
use crate::api::SessionId;
use crate::chance::{Ms, whole};
use crate::families::Refresh;

/// A renewal without a response.
#[derive(Debug, Clone, Copy)]
struct Loss {
    /// What was sent; `None` if it was replaced meanwhile, or the request waited for another one and
    /// never reached its server.
    refresh: Option<Refresh>,
    /// It was sent in the last room already.
    is_repeated: bool,
    /// The end of the hold if it was not known how long the value lives.
    blind_until: Ms,
}

/// The value in use: its reported life and its expiry, if it is known to live.
pub(crate) type Left = Option<(Ms, Ms)>;

/// The books of refresh tokens.
#[derive(Debug)]
pub(crate) struct Spent {
    losses: Vec<Option<Loss>>,
    /// Values whose renewal had no response.
    held: HashSet<SessionId>,
}

impl Spent {
    pub(super) fn new(subjects: usize) -> Self {
        Self { losses: vec![None; subjects], held: HashSet::new() }
    }

    pub(super) fn restarted(&mut self) {
        self.losses.fill(None);
    }

    /// The token is a new one, or another server's.
    pub(crate) fn forget(&mut self, subject: usize) {
        self.losses[subject] = None;
    }

    /// Whether the last renewal of a token had no response.
    pub(crate) fn is_lost(&self, subject: usize) -> bool {
        self.losses[subject].is_some()
    }

    /// Whether a renewal of this value had no response: what follows is not a keep-alive's duty.
    pub(crate) fn was_held(&self, value: SessionId) -> bool {
        self.held.contains(&value)
    }

    /// When this refresh token may be sent at the earliest.
    pub(crate) fn held_until(
        &self,
        subject: usize,
        refresh: Option<Refresh>,
        left: Left,
        policy: &Policy,
    ) -> Ms {
        let loss = self.losses[subject];
        match loss.filter(|loss| loss.refresh.is_none() || loss.refresh == refresh) {
            Some(loss) => loss.held_until(left, policy),
            None => 0,
        }
    }

    pub(crate) fn sent(
        &self,
        now: Ms,
        subject: usize,
        refresh: Refresh,
        left: Left,
        policy: &Policy,
    ) -> Result<(), Violation> {
        let loss = self.losses[subject].filter(|loss| loss.refresh == Some(refresh));
        let earliest = loss.map_or(0, |loss| loss.held_until(left, policy));
        if now >= earliest {
            return Ok(());
        }
        let what = format!(
            "token {subject} sends a refresh token that may be spent {} ms too early",
            earliest - now
        );
        Err(Violation { invariant: Invariant::NothingIsSpentTwice, at: now, what })
    }

    /// A renewal has ended; `using` is the value in use, if it may live.
    pub(crate) fn ended(
        &mut self,
        now: Ms,
        (subject, using): (usize, Option<SessionId>),
        refresh: Option<Refresh>,
        outcome: &Outcome,
        (left, policy): (Left, &Policy),
    ) {
        match outcome {
            Outcome::Unavailable(fault) if fault.may_have_acted => {
                let is_repeated = left
                    .is_some_and(|(life, expiry)| now >= expiry.saturating_sub(room(life, policy)));
                let is_blind = using.is_some() && left.is_none();
                let blind_until = if is_blind { now + whole(policy.timeout) } else { 0 };
                self.losses[subject] = Some(Loss { refresh, is_repeated, blind_until });
                self.held.extend(using);
            }
            Outcome::Alive { .. } => self.losses[subject] = None,
            _ => {}
        }
    }
}

impl Loss {
    fn held_until(&self, left: Left, policy: &Policy) -> Ms {
        match left {
            Some((_, expiry)) if self.is_repeated => expiry,
            Some((life, expiry)) => expiry.saturating_sub(room(life, policy)),
            None => self.blind_until,
        }
    }
}

fn room(life: Ms, policy: &Policy) -> Ms {
    whole(last_retry_room(policy.timeout, std::time::Duration::from_millis(life)))
}
