//! Proof of renewal, from readings alone. Two readings are compared in `reading`.
//!
//! If the expiry has not moved, follow-up calls start at once: a second call, for a server that
//! reports the life before the renewal; then the renewing call; then a query, for a server whose
//! renewing call reports the life before it.

use std::time::Duration;

use super::context::Transition;
use super::event::Notice;
use super::policy::Renewal;
use super::reading::{Method, Reading};
use super::token::{DOUBTS_TO_CONCLUDE, Task};

/// A shorter life cannot be evaluated if the server reports whole seconds. A longer known life is
/// never reduced below this.
const SHORTEST_JUDGED_MS: u64 = 2_000;

impl Transition<'_> {
    /// Compares two readings and plans what the result requires; `None` if it cannot be evaluated.
    pub(super) fn evaluate_renewal(
        &mut self,
        task: Task,
        earlier: &Reading,
        reading: &Reading,
    ) -> Option<bool> {
        let restored = std::mem::take(&mut self.token.restored);
        if self.context.policy.assumed || earlier.is_endless() || reading.is_endless() {
            self.forget_proof();
            return None;
        }
        // A life of zero is as good as one that is not renewed: the renewing call is still to be
        // tried.
        let unknown = self.token.life_ms == 0 && reading.remaining_ms > 0;
        if restored || unknown {
            return None;
        }
        let life = Duration::from_millis(self.token.life_ms);
        let renewed = match task {
            Task::Watch
            | Task::Check
            | Task::ConfirmRejection { .. }
            | Task::Rotate { .. }
            | Task::Reauth => {
                let baseline = self.token.baseline.take();
                let baseline = baseline.filter(|first| first.by == earlier.by).unwrap_or(*earlier);
                let Some(renewed) = reading.renewed_since(&baseline, life) else {
                    if task == (Task::ConfirmRejection { in_proof: true }) {
                        self.follow_up_with(Task::ConfirmGrowth);
                    } else {
                        self.too_early(baseline, earlier, reading);
                    }
                    return None;
                };
                let lagging = std::mem::take(&mut self.token.lagging);
                match renewed {
                    true if baseline.by == reading.by => self.renewal_proven(reading.by, reading),
                    true => self.mark_proven(reading),
                    false if lagging == Some(reading.by) => {
                        self.token.baseline = Some(baseline.as_baseline());
                        return None;
                    }
                    false => self.follow_up_with(Task::ConfirmGrowth),
                }
                renewed
            }
            Task::ConfirmGrowth => {
                let renewed = reading.grew_since(earlier, life);
                match (renewed, self.context.policy.renewal) {
                    (true, _) => self.renewal_proven_with_lag(earlier.by, reading),
                    (false, Renewal::Auto) => self.follow_up_with(Task::TryRenew),
                    (false, Renewal::Query | Renewal::Renew) => self.renewal_not_observed(reading),
                }
                renewed
            }
            Task::ConfirmRefusal => {
                let renewed = reading.grew_since(earlier, life);
                if renewed {
                    self.mark_proven(reading);
                } else {
                    self.renewal_not_observed(reading);
                }
                renewed
            }
            Task::TryRenew | Task::RetryRenew => {
                let renewed = reading.grew_since(earlier, life);
                if renewed {
                    self.renewal_proven(Method::Renew, reading);
                } else {
                    self.follow_up_with(Task::ConfirmRenewal);
                }
                renewed
            }
            Task::ConfirmRenewal => {
                let renewed = reading.grew_since(earlier, life);
                if renewed && earlier.by == Method::Renew {
                    self.renewal_proven_with_lag(Method::Renew, reading);
                } else if renewed {
                    // The response to the renewing call was lost, so this reading is not from
                    // before it.
                    self.renewal_proven(Method::Renew, reading);
                } else if earlier.by == Method::Query
                    && self.context.policy.renewal == Renewal::Auto
                {
                    self.follow_up_with(Task::RetryRenew);
                } else {
                    self.renewal_not_observed(reading);
                }
                renewed
            }
        };
        Some(renewed)
    }

    /// Too little of the life has passed for an evaluation. The baseline is kept for the next
    /// reading; otherwise frequent checks could never be evaluated. If the server has shortened the
    /// life meanwhile, the remaining life is the new measure.
    fn too_early(&mut self, baseline: Reading, earlier: &Reading, reading: &Reading) {
        if reading.shrank_since(earlier, Duration::from_millis(self.token.life_ms)) {
            self.token.proven = false;
            self.token.life_ms = reading.remaining_ms;
        } else {
            self.token.baseline = Some(baseline.as_baseline());
        }
    }

    /// The expiry moved, and `by` is the only call that can have caused it, unless another client
    /// did; therefore every later reading is evaluated too. A renewing call whose response was lost
    /// can have caused it instead of a query.
    fn renewal_proven(&mut self, by: Method, reading: &Reading) {
        self.mark_proven(reading);
        if by == Method::Query && self.token.renew_unanswered {
            return;
        }
        if by == Method::Renew {
            self.token.renew_refused = false;
        }
        if self.context.policy.renewal == Renewal::Auto {
            self.notify(Notice::RenewsBy(by));
        }
    }

    /// The renewal became visible only with the next call: the server reports the life before the
    /// renewal. This reading shows a full life, so the next one by this call cannot show growth;
    /// the one after it can.
    fn renewal_proven_with_lag(&mut self, by: Method, reading: &Reading) {
        self.renewal_proven(by, reading);
        self.token.lagging = Some(by);
    }

    /// The life was assumed, or has no end: nothing that is known of it proves or disproves a renewal.
    fn forget_proof(&mut self) {
        self.token.proven = false;
        self.token.life_ms = 0;
        self.token.baseline = None;
        self.token.lagging = None;
        self.token.doubts = 0;
        self.token.unrenewable = false;
    }

    fn mark_proven(&mut self, reading: &Reading) {
        self.token.proven = true;
        self.token.life_ms = reading.remaining_ms;
        self.token.doubts = 0;
    }

    /// No permitted call moved the expiry. In case something does, what is left now counts as a
    /// full life for the next readings. If a login is wanted by now, there is no time for these.
    pub(super) fn renewal_not_observed(&mut self, reading: &Reading) {
        let is_late = self.early_reauth_wanted(reading).is_some_and(|wanted| wanted <= self.now);
        let doubts = if is_late { DOUBTS_TO_CONCLUDE } else { self.token.doubts + 1 };
        self.token.doubts = doubts.min(DOUBTS_TO_CONCLUDE);
        if self.token.doubts < DOUBTS_TO_CONCLUDE {
            self.token.proven = false;
            let known = self.token.life_ms.min(SHORTEST_JUDGED_MS);
            self.token.life_ms = reading.remaining_ms.max(known);
            self.expedite_verdict(reading);
        } else if !self.token.unrenewable {
            self.token.unrenewable = true;
            self.notify(Notice::RenewalNotObserved { dies_in_ms: self.ms_until(reading.expiry()) });
        }
        self.plan_early_reauth(reading);
    }

    /// The renewal moved the expiry by less than before: the server may have a limit for the life of
    /// the session, beyond which nothing moves it.
    pub(super) fn expedite_if_capped(&mut self, full_ms: u64, reading: &Reading) {
        if self.token.proven && reading.remaining_ms < full_ms - full_ms / 10 {
            self.expedite_verdict(reading);
        }
    }

    /// If early re-authentication is configured, it must be known by then whether the token can be
    /// renewed. The next check is not later than that, but not before an evaluation is possible.
    fn expedite_verdict(&mut self, reading: &Reading) {
        let Some(wanted) = self.early_reauth_wanted(reading) else { return };
        let judgeable = reading.received + Duration::from_millis(self.token.life_ms.div_ceil(5));
        let due = wanted.max(judgeable);
        if due < self.token.due {
            self.token.due = due;
            self.token.retry_room_start = due;
        }
    }

    fn follow_up_with(&mut self, task: Task) {
        self.token.task = task;
        self.token.due = self.now;
    }
}
