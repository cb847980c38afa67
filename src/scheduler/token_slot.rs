//! One token in the scheduler: active with all fields, or idle in 28 bytes.
//!
//! Makes no decision: [`IdleToken::expand`] restores exactly what [`IdleToken::new`] stored.

use std::time::Duration;

use super::types::TokenSpec;
use super::wait_queue::{FAILED_BEFORE, NEW, WaitKey};
use crate::lifecycle::{CompactExtra, CompactToken, Resource, Token, TokenSummary};
use crate::time::Moment;

/// A token with all fields.
#[derive(Debug, Clone)]
pub(super) struct ActiveToken {
    pub(super) token: Token,
    /// Serial number of the action in flight; 0 for none.
    pub(super) serial: u64,
    /// Its earliest entry in the timer queue that is not outdated.
    pub(super) scheduled: Option<Moment>,
    /// Its key in the server's wait queue.
    pub(super) waiting: Option<WaitKey>,
    /// It waits in the queue of its `reauth` method.
    pub(super) waits_for_reauth: bool,
    pub(super) id: u32,
    /// Number of its spec.
    pub(super) spec: u32,
}

impl ActiveToken {
    /// A token without timer and queue entries.
    pub(super) fn new(id: u32, token: &Token, spec: u32) -> Self {
        Self {
            token: *token,
            serial: 0,
            scheduled: None,
            waiting: None,
            waits_for_reauth: false,
            id,
            spec,
        }
    }

    /// When it needs a timer next. What it already waits for in a queue needs none, nor does an
    /// attempt without a `reauth` method: its timer would fire again and again, as nothing starts it.
    pub(super) fn next_deadline(&self, spec: &TokenSpec) -> Option<Moment> {
        let token = &self.token;
        let server = if self.waiting.is_none() { token.due_for(Resource::Server) } else { None };
        let needs_no_timer =
            self.waits_for_reauth || self.waiting.is_some() || spec.reauth.is_none();
        let reauth = if needs_no_timer { None } else { token.due_for(Resource::Reauth) };
        let next_deadline =
            [server, reauth, token.due_for(Resource::None), token.next_deadline_warning()];
        next_deadline.into_iter().flatten().min()
    }

    pub(super) fn is_due(&self, resource: Resource, now: Moment) -> bool {
        self.token.due_for(resource).is_some_and(|due| due <= now)
    }

    /// The key with which it would enter the server's wait queue in its present state.
    pub(super) fn wait_key(&self) -> WaitKey {
        let unbounded = if self.token.is_unrecovered() { FAILED_BEFORE } else { NEW };
        (self.token.expiry().unwrap_or(unbounded), self.id)
    }
}

/// An idle token. Byte arrays, so that it takes 28 bytes without padding.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdleToken {
    token: CompactToken,
    spec: [u8; 2],
    timer: PackedTimer,
}

/// Timer and queue of an idle token. Two bits: 0 for no queue, 1 for the server's, 2 for that of
/// the `reauth` method. Thirty bits: milliseconds from the token's origin to its timer, up to
/// twelve days.
#[derive(Debug, Clone, Copy)]
struct PackedTimer([u8; 4]);

const UNSCHEDULED: u32 = (1 << 30) - 1;

impl PackedTimer {
    fn new(active: &ActiveToken, origin: Moment) -> Option<Self> {
        let queue: u32 = match (active.waiting, active.waits_for_reauth) {
            (None, false) => 0,
            (Some(place), false) if place == active.wait_key() => 1,
            (None, true) => 2,
            (Some(_), _) => return None,
        };
        let after = match active.scheduled {
            None => UNSCHEDULED,
            Some(at) => {
                let after = at.as_millis().checked_sub(origin.as_millis())?;
                u32::try_from(after).ok().filter(|after| *after < UNSCHEDULED)?
            }
        };
        Some(Self((queue << 30 | after).to_le_bytes()))
    }

    fn scheduled(self, origin: Moment) -> Option<Moment> {
        let after = u32::from_le_bytes(self.0) & UNSCHEDULED;
        (after != UNSCHEDULED).then(|| origin + Duration::from_millis(after.into()))
    }

    const fn queue(self) -> u32 {
        u32::from_le_bytes(self.0) >> 30
    }
}

impl IdleToken {
    /// Compacts a token; `None` if it does not fit.
    pub(super) fn new(active: &ActiveToken) -> Option<(Self, CompactExtra)> {
        if active.serial != 0 {
            return None;
        }
        let (token, extra) = active.token.compact()?;
        let spec = u16::try_from(active.spec).ok()?.to_le_bytes();
        Some((Self { token, spec, timer: PackedTimer::new(active, token.origin())? }, extra))
    }

    pub(super) fn token(&self) -> &CompactToken {
        &self.token
    }

    #[inline]
    pub(super) fn spec(&self) -> u32 {
        u16::from_le_bytes(self.spec).into()
    }

    #[inline]
    pub(super) fn summary(&self) -> TokenSummary {
        self.token.summary()
    }

    pub(super) fn scheduled(&self) -> Option<Moment> {
        self.timer.scheduled(self.token.origin())
    }

    pub(super) fn expand(&self, id: u32, extra: CompactExtra) -> ActiveToken {
        let mut active = ActiveToken {
            scheduled: self.scheduled(),
            waits_for_reauth: self.timer.queue() == 2,
            ..ActiveToken::new(id, &self.token.expand(extra), self.spec())
        };
        if self.timer.queue() == 1 {
            active.waiting = Some(active.wait_key());
        }
        active
    }
}
