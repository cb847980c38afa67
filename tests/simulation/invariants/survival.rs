//! Invariants 1 and 8: nothing dies that could have lived, and no expiry is later than the
//! true end of life.
//!
//! A value could have lived if, after its first check since its last renewal was due, and
//! before its expiry, there was a *window*. (A check that bad weather met, and that was answered
//! all the same, but not with all that it takes to prove a renewal, is not repeated at once: then
//! the next one counts as the first.) A window is a contiguous time
//!
//! - in which the server answers and renews this token, with a call that its configuration
//!   permits (bad weather ends with the last request that it spoilt: one that hangs when the
//!   weather turns fair may hold a place in flight, or the breaker's probe, until it is given
//!   up);
//! - in which the daemon is up, the machine awake, and the server has not asked for quiet;
//! - of at least a tenth of the life, and long enough for the longest pause between two tries
//!   and for the service time of every token of the server: the rate limit, the places in
//!   flight, the breaker's five probes a second, and the requests of tokens whose own requests
//!   are the ones that fail.
//!
//! Without an expiry (nothing has been heard of the value yet) the longest pause is the longest
//! `retry_max` of the server's tokens, which share its breaker, and the true end stands for the
//! expiry.

use crate::api::SessionId;
use crate::chance::Ms;

/// The share of a life that a pause between two tries may take, as long as the expiry is ahead.
const LONGEST_PAUSE: u64 = 20;

/// What is known of one value while it is in use.
#[derive(Debug, Clone, Copy, Default)]
struct Cycle {
    /// When the first check since the last renewal was due.
    from: Ms,
    /// When the next check was due as of the last reading.
    last_due: Ms,
    expiry: Option<Ms>,
    /// The life that the last reading reported.
    reported: Ms,
    /// It is new or renewed, and no reading has told of that.
    renewed: bool,
    used_by_another: Option<Ms>,
    /// Its end has been dealt with.
    closed: bool,
    /// A renewal has cut its life short, and no reading has told.
    cut: bool,
}

/// The books of values.
#[derive(Debug, Default)]
pub(crate) struct Survival(Vec<Cycle>);

/// The time in which a value had to be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: Ms,
    pub(crate) until: Ms,
    /// The pause that may pass within it before the next try.
    pub(crate) pause: Ms,
}

impl Survival {
    fn cycle(&mut self, session: SessionId) -> &mut Cycle {
        if self.0.len() <= session {
            self.0.resize(session + 1, Cycle::default());
        }
        &mut self.0[session]
    }

    /// The daemon uses this value from now on, and knows nothing of it.
    pub(crate) fn put_in_use(&mut self, session: SessionId, now: Ms) {
        let Cycle { used_by_another, closed, cut, .. } = *self.cycle(session);
        *self.cycle(session) = Cycle {
            from: now,
            last_due: now,
            renewed: true,
            used_by_another,
            closed,
            cut,
            ..Cycle::default()
        };
    }

    /// An earlier run knew that it lives until `expiry`, and that so much was `reported`.
    pub(crate) fn resumed(&mut self, session: SessionId, expiry: Ms, reported: Ms) {
        let cycle = self.cycle(session);
        (cycle.expiry, cycle.reported) = (Some(expiry), reported);
    }

    /// One of our requests has renewed it; `cut`: to less than it had.
    pub(crate) fn renewed(&mut self, session: SessionId, now: Ms, cut: bool) {
        let cycle = self.cycle(session);
        cycle.from = cycle.from.max(now);
        cycle.renewed = true;
        cycle.cut |= cut;
    }

    pub(crate) fn used_by_another(&mut self, session: SessionId, now: Ms, cut: bool) {
        let cycle = self.cycle(session);
        cycle.cut |= cut;
        cycle.used_by_another = Some(now);
        cycle.renewed = true;
    }

    /// A reading came at `now`: the value lives until `expiry`, and the next check is due then.
    /// The end that it spoke of may be one from before the last renewal; next is the true one.
    ///
    /// The first check since a renewal is the first regular one: not one that follows at once
    /// because the renewal could not be seen. Where bad weather has `spoilt` the checks since
    /// then, the next one begins anew.
    pub(crate) fn checked(
        &mut self,
        now: Ms,
        session: SessionId,
        (expiry, due): (Ms, Ms),
        (reported, end): (Ms, Ms),
        spoilt: bool,
    ) {
        let cycle = self.cycle(session);
        cycle.expiry = Some(expiry);
        cycle.last_due = due;
        cycle.cut &= expiry > end;
        if cycle.renewed || (spoilt && due > now) {
            cycle.from = due;
            cycle.renewed = reported < end || due <= now;
        }
    }

    /// When the first check since its last renewal was due.
    pub(crate) fn first_due(&self, session: SessionId) -> Ms {
        self.0.get(session).map_or(0, |cycle| cycle.from)
    }

    /// A reading has reported so much life.
    pub(crate) fn reports(&mut self, session: SessionId, remaining: Ms) {
        self.cycle(session).reported = remaining;
    }

    /// The life that the last reading reported.
    pub(crate) fn reported(&self, session: SessionId) -> Ms {
        self.0.get(session).map_or(0, |cycle| cycle.reported)
    }

    pub(crate) fn expiry(&self, session: SessionId) -> Option<Ms> {
        self.0.get(session)?.expiry
    }

    /// The rules for it have changed.
    pub(crate) fn due_again(&mut self, session: SessionId, due: Ms) {
        let cycle = self.cycle(session);
        cycle.last_due = due;
        cycle.from = cycle.from.max(due);
    }

    pub(crate) fn is_cut(&mut self, session: SessionId) -> bool {
        self.cycle(session).cut
    }

    /// A value's life is over at `end`: when it should have been renewed; `None` if that was
    /// told before, or nobody could have.
    pub(crate) fn ended(
        &mut self,
        session: SessionId,
        end: Ms,
        life: Ms,
        retry_max: Ms,
    ) -> Option<Window> {
        let cycle = self.cycle(session);
        if std::mem::replace(&mut cycle.closed, true) || cycle.cut {
            return None;
        }
        // What another client did may look like a renewal by the last call; then it takes a
        // check more to find out.
        let shared = cycle.used_by_another.is_some_and(|at| at + 3 * life > end);
        let from = if shared { cycle.last_due } else { cycle.from };
        let (until, pause) = match cycle.expiry {
            Some(expiry) => (expiry.min(end), life / LONGEST_PAUSE),
            None => (end, retry_max),
        };
        Some(Window { from, until, pause })
    }
}

/// The longest time within a window that none of the bad times touches.
pub(crate) fn longest_good_time(window: Window, mut bad: Vec<(Ms, Ms)>) -> Ms {
    bad.sort_unstable();
    let mut longest = 0;
    let mut good_from = window.from;
    for (from, until) in bad {
        longest = longest.max(from.min(window.until).saturating_sub(good_from));
        good_from = good_from.max(until);
    }
    longest.max(window.until.saturating_sub(good_from))
}
