//! Invariant 4: a login has a reason, and a budget that a restart does not refill.

use tokenkeep::lifecycle::{Policy, ReauthReason};
use tokenkeep::scheduler::{ReauthRoute, ReauthSpec};

use super::{Invariant, Violation};
use crate::api::SessionId;
use crate::chance::{Ms, whole};
use crate::plan::Plan;

/// What is known of the value in use, from answers alone.
#[derive(Debug, Clone, Copy, Default)]
struct Verdict {
    /// 401s in a row.
    rejections: u8,
    dead: Option<ReauthReason>,
}

/// A token's attempts in its window, which begins with the first of them.
#[derive(Debug, Clone, Copy, Default)]
struct Budget {
    window_end: Ms,
    attempts: u32,
    /// The newest value, and when it will have lived through half of its reported life.
    probation: Option<(SessionId, Ms)>,
    /// What the budget was before the last attempt.
    before: Option<(Ms, u32)>,
    /// The last attempt's number, as the scheduler counts them.
    attempt: u32,
}

/// A way's failures in its window, which begins with the first of them.
#[derive(Debug, Clone, Copy)]
struct Way {
    spec: ReauthSpec,
    window_end: Ms,
    failures: u32,
    closed_until: Ms,
}

/// The books of logins.
#[derive(Debug)]
pub(crate) struct Logins {
    verdicts: Vec<Verdict>,
    budgets: Vec<Budget>,
    ways: Vec<Way>,
}

impl Logins {
    pub(super) fn new(plan: &Plan, subjects: usize) -> Self {
        let way =
            |spec: &ReauthSpec| Way { spec: *spec, window_end: 0, failures: 0, closed_until: 0 };
        Self {
            verdicts: vec![Verdict::default(); subjects],
            budgets: vec![Budget::default(); subjects],
            ways: plan.ways.iter().map(way).collect(),
        }
    }

    /// An attempt starts for a token that has the value `using`, known to live until `expiry`.
    pub(crate) fn started(
        &mut self,
        now: Ms,
        (subject, attempt): (usize, u32),
        (reason, policy, way, is_lost): (ReauthReason, &Policy, usize, bool),
        using: Option<SessionId>,
        expiry: Option<Ms>,
    ) -> Result<(), Violation> {
        let broken = |what: String| {
            Err(Violation { invariant: Invariant::LoginsHaveAReason, at: now, what })
        };
        let dead = self.verdicts[subject].dead;
        let has_reason = match reason {
            ReauthReason::Requested => false,
            ReauthReason::Missing => using.is_none(),
            ReauthReason::Expired | ReauthReason::Rejected => dead == Some(reason),
            ReauthReason::Expiring if is_lost => true,
            ReauthReason::Expiring => match (policy.reauth_before, expiry) {
                (Some(before), Some(expiry)) => now + whole(before) >= expiry,
                _ => false,
            },
        };
        if !has_reason {
            return broken(format!(
                "token {subject} logs in as {}, but the last final answer is {dead:?}",
                reason.as_str()
            ));
        }
        let Some(reauth) = policy.reauth else {
            return broken(format!("token {subject} logs in without a way to do so"));
        };
        let way = &self.ways[way];
        if now < way.closed_until {
            return broken(format!("token {subject} logs in during a quiet time"));
        }
        if way.failures >= way.spec.max_failures.get() && now < way.window_end {
            let failures = way.failures;
            return broken(format!(
                "token {subject} logs in by a way that has failed {failures} times in its window"
            ));
        }
        let budget = &mut self.budgets[subject];
        let before = Some((budget.window_end, budget.attempts));
        if budget.attempts == 0 || now >= budget.window_end {
            *budget = Budget { window_end: now + whole(reauth.window), ..Budget::default() };
        }
        budget.attempts += 1;
        budget.before = before;
        budget.attempt = attempt;
        budget.probation = None;
        if budget.attempts > reauth.max_attempts.get() {
            let (attempts, left) = (budget.attempts, budget.window_end - now);
            return broken(format!(
                "attempt {attempts} for token {subject} with {left} ms of its window left"
            ));
        }
        Ok(())
    }

    /// An attempt has come to no conclusion: it was none.
    pub(crate) fn inconclusive(&mut self, subject: usize) {
        let budget = &mut self.budgets[subject];
        if let Some((window_end, attempts)) = budget.before.take() {
            (budget.window_end, budget.attempts) = (window_end, attempts);
        }
    }

    /// The number of the last attempt, as the scheduler counts those that count.
    pub(crate) fn attempt(&self, subject: usize) -> u32 {
        self.budgets[subject].attempt
    }

    /// Whether the books know of nothing that keeps a method from beginning an attempt.
    pub(crate) fn may_begin(&self, way: usize, now: Ms) -> bool {
        let way = &self.ways[way];
        let exhausted = way.failures >= way.spec.max_failures.get() && now < way.window_end;
        now >= way.closed_until && !exhausted
    }

    /// A method is another one to the scheduler, which has not failed yet.
    pub(crate) fn renamed(&mut self, way: usize) {
        self.ways[way].failures = 0;
        self.ways[way].window_end = 0;
    }

    /// The token is another server's, which has said nothing of it.
    pub(super) fn moved(&mut self, subject: usize) {
        self.verdicts[subject] = Verdict::default();
        self.budgets[subject].probation = None;
    }

    /// An attempt failed, or its value died young.
    pub(crate) fn failed(&mut self, now: Ms, way: usize) {
        let way = &mut self.ways[way];
        if now >= way.window_end {
            way.window_end = now + whole(way.spec.window);
            way.failures = 0;
        }
        way.failures += 1;
    }

    /// An attempt's value was found alive by a request sent at `sent`, with so much left.
    pub(crate) fn succeeded(&mut self, subject: usize, value: SessionId, sent: Ms, left: Ms) {
        self.budgets[subject].probation = Some((value, sent + left / 2));
    }

    /// The value in use was found alive by a request sent at `sent`.
    pub(crate) fn alive(&mut self, subject: usize, value: SessionId, sent: Ms) {
        self.verdicts[subject] = Verdict::default();
        let budget = &mut self.budgets[subject];
        if budget.probation.is_some_and(|(whose, half)| whose == value && sent >= half) {
            budget.probation = None;
            budget.attempts = budget.attempts.saturating_sub(1);
        }
    }

    /// The server says that it does not know the value in use; tells whether that is final.
    pub(crate) fn rejected(&mut self, subject: usize) -> bool {
        let verdict = &mut self.verdicts[subject];
        verdict.rejections += 1;
        if verdict.rejections >= 2 {
            verdict.dead = Some(ReauthReason::Rejected);
        }
        verdict.rejections >= 2
    }

    /// The value in use may be renewed after all, and stays dead until then.
    pub(crate) fn has_new_refresh_token(&mut self, subject: usize) {
        self.verdicts[subject].rejections = 0;
    }

    pub(crate) fn expired(&mut self, subject: usize) {
        self.verdicts[subject].dead = Some(ReauthReason::Expired);
    }

    /// Whether the last answers about the value in use were final.
    pub(crate) fn is_dead(&self, subject: usize) -> bool {
        self.verdicts[subject].dead.is_some()
    }

    /// Another value is in use: nothing is known of it, and the one before cannot be seen to
    /// live any more.
    pub(crate) fn switched(&mut self, subject: usize, using: Option<SessionId>) {
        self.verdicts[subject] = Verdict::default();
        let probation = &mut self.budgets[subject].probation;
        *probation = probation.filter(|(value, _)| Some(*value) == using);
    }

    /// A renewing call answered with another value for the one that is on probation.
    pub(crate) fn replaced(&mut self, subject: usize, old: SessionId, new: SessionId) {
        if let Some((value, _)) = &mut self.budgets[subject].probation
            && *value == old
        {
            *value = new;
        }
    }

    /// Nothing logs in by this way until then.
    pub(crate) fn closed(&mut self, way: usize, until: Ms) {
        self.ways[way].closed_until = until;
    }

    pub(crate) fn is_by_server(&self, way: usize) -> bool {
        self.ways[way].spec.route == ReauthRoute::Server
    }

    pub(super) fn added(&mut self, subject: usize) {
        self.verdicts[subject] = Verdict::default();
    }

    /// The daemon is new. Attempts outlive it; what it knew of the newest values does not, so
    /// none of them is taken back.
    pub(super) fn restarted(&mut self) {
        for budget in &mut self.budgets {
            budget.probation = None;
        }
    }

    /// A token that is not configured any more, and would be a new one.
    pub(super) fn forgotten(&mut self, subject: usize) {
        self.budgets[subject] = Budget::default();
    }
}
