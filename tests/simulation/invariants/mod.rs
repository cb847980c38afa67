//! What must never be otherwise, checked at every step.
//!
//! The watchers keep books of their own, from what goes in and out of the scheduler and from
//! what the world knows to be true; they do not believe what the scheduler says of itself.

mod claims;
mod fresh;
mod limits;
mod logins;
mod order;
mod outages;
mod permits;
mod reports;
mod schedule;
mod slots;
mod spent;
mod survival;
mod tally;

use std::fmt;

pub(crate) use self::claims::Claims;
pub(crate) use self::fresh::Fresh;
pub(crate) use self::limits::LimitsWatch;
pub(crate) use self::logins::Logins;
pub(crate) use self::order::Order;
pub(crate) use self::outages::Outages;
pub(crate) use self::permits::Permits;
pub(crate) use self::reports::{Answered, Reports};
pub(crate) use self::schedule::ScheduleWatch;
pub(crate) use self::slots::Slots;
pub(crate) use self::spent::{Left, Spent};
pub(crate) use self::survival::{Survival, Window, longest_good_time};
pub(crate) use self::tally::Tally;
use crate::chance::{Ms, SECOND};
use crate::plan::Plan;
use crate::subject::Subject;

/// The invariants, by number and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Invariant {
    /// 1: a token that could have lived did not die.
    NothingDiesThatCouldHaveLived,
    /// 2: one effect at a time for a token, and only so many requests in a minute.
    OneAtATime,
    /// 3: rate, places in flight and `Retry-After` are kept.
    LimitsHold,
    /// 4: a login has a reason and a budget.
    LoginsHaveAReason,
    /// 5: after a recovery the most urgent go first, and none is missed.
    UrgentFirst,
    /// 6: deaths, recoveries and re-auths are said exactly once.
    SaidOnce,
    /// 7: there is always a next wake-up, and in time.
    NeverStalls,
    /// 8: no expiry is later than the true end of life.
    BoundIsTrue,
    /// 9: after a recovery everything due is asked about within seconds.
    RecoveryIsPrompt,
    /// 10: actions handed out = completed + cancelled + in flight, and so are their permits.
    NothingIsLost,
    /// 11: no `[reauth]` waits for a slot while another holds more than its share.
    SlotsAreShared,
    /// 12: what failed on one connection is tried again on a fresh one.
    RetriesAreFresh,
    /// 13: nothing that another boot has heard postpones a check.
    BootsPostponeNothing,
    /// 14: a login attempt without a conclusion changes no budget.
    InconclusiveIsFree,
    /// 15: nothing is kept of servers and `[reauth]` methods that are configured no more.
    NothingIsKept,
    /// 16: what is said of renewals is true.
    RenewalIsProven,
    /// 17: a server is said to be down when it is, once, and is probed then.
    OutagesAreReal,
    /// 18: a refresh token that may be spent is sent again only where little can be lost.
    NothingIsSpentTwice,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, sentence) = match self {
            Self::NothingDiesThatCouldHaveLived => (1, "nothing dies that could have lived"),
            Self::OneAtATime => (2, "one effect at a time, and a limit in a minute"),
            Self::LimitsHold => (3, "a server's limits hold"),
            Self::LoginsHaveAReason => (4, "a login has a reason and a budget"),
            Self::UrgentFirst => (5, "after a recovery the most urgent go first"),
            Self::SaidOnce => (6, "what happened is said exactly once"),
            Self::NeverStalls => (7, "the schedule never stalls"),
            Self::BoundIsTrue => (8, "a bound is never later than the true end"),
            Self::RecoveryIsPrompt => (9, "everything due is asked soon after a recovery"),
            Self::NothingIsLost => (10, "every action ends, and gives back what it took"),
            Self::SlotsAreShared => (11, "hook slots are shared by all that wait"),
            Self::RetriesAreFresh => (12, "what failed is tried on a fresh connection"),
            Self::BootsPostponeNothing => (13, "no other boot postpones a check"),
            Self::InconclusiveIsFree => (14, "an inconclusive login changes no budget"),
            Self::NothingIsKept => (15, "nothing is kept of what is not configured"),
            Self::RenewalIsProven => (16, "a renewal that is claimed has happened"),
            Self::OutagesAreReal => (17, "an outage is real, told of once, and probed"),
            Self::NothingIsSpentTwice => (18, "what may be spent is not sent again early"),
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
    pub(crate) survival: Survival,
    pub(crate) claims: Claims,
    pub(crate) fresh: Fresh,
    pub(crate) limits: LimitsWatch,
    pub(crate) logins: Logins,
    pub(crate) order: Order,
    pub(crate) outages: Outages,
    pub(crate) permits: Permits,
    pub(crate) reports: Reports,
    pub(crate) schedule: ScheduleWatch,
    pub(crate) slots: Slots,
    pub(crate) spent: Spent,
    /// When the daemon was down, or the machine asleep.
    absences: Vec<(Ms, Ms)>,
}

impl Watch {
    pub(crate) fn new(plan: &Plan, subjects: &[Subject]) -> Self {
        Self {
            survival: Survival::default(),
            claims: Claims::new(plan.servers.len()),
            fresh: Fresh::default(),
            limits: LimitsWatch::new(plan, subjects.len()),
            logins: Logins::new(plan, subjects.len()),
            order: Order::new(plan.servers.len()),
            outages: Outages::new(plan.servers.len()),
            permits: Permits::default(),
            reports: Reports::new(plan.servers.len(), subjects.len()),
            schedule: ScheduleWatch::default(),
            slots: Slots::new(plan.max_hooks.get(), plan.ways.len()),
            spent: Spent::new(subjects.len()),
            absences: Vec::new(),
        }
    }

    /// The daemon is new: it knows nothing of what was under way.
    pub(crate) fn restarted(&mut self, plan: &Plan) {
        self.limits.restarted(plan);
        self.logins.restarted();
        self.order = Order::new(plan.servers.len());
        self.reports.restarted();
        self.schedule = ScheduleWatch::default();
        self.fresh.restarted();
        self.permits.restarted();
        self.spent.restarted();
        self.slots = Slots::new(plan.max_hooks.get(), plan.ways.len());
        (0..plan.servers.len()).for_each(|server| self.outages.reset(server));
    }

    /// A server is another one to the scheduler.
    pub(crate) fn renamed(&mut self, server: usize, plan: &Plan) {
        self.limits.renamed(server, plan);
        self.order.forget(server);
        self.outages.reset(server);
        self.reports.renamed(server);
    }

    /// A token is another server's.
    pub(crate) fn moved(&mut self, from: usize, subject: usize, logs_in: bool) {
        self.order.left(from, subject);
        if !logs_in {
            self.spent.forget(subject);
            self.logins.moved(subject);
        }
        self.outages.forget(from, subject);
    }

    /// The daemon does nothing in this time.
    pub(crate) fn absent(&mut self, from: Ms, until: Ms) {
        self.absences.push((from, until));
    }

    /// When the daemon could or must not ask a server, within a span.
    pub(crate) fn idle_times(
        &self,
        server: usize,
        from: Ms,
        until: Ms,
    ) -> impl Iterator<Item = (Ms, Ms)> {
        let absences = self.absences.iter().copied();
        let absences = absences.filter(move |(start, end)| *start < until && *end > from);
        absences.chain(self.limits.quiet_times(server, from, until))
    }

    /// A token is configured from now on.
    pub(crate) fn added(&mut self, subject: usize) {
        self.limits.added(subject);
        self.spent.forget(subject);
        self.logins.added(subject);
        self.reports.added(subject);
    }

    /// A token is not configured any more.
    pub(crate) fn removed(&mut self, server: usize, subject: usize) {
        self.logins.forgotten(subject);
        self.outages.forget(server, subject);
        self.order.left(server, subject);
    }
}
