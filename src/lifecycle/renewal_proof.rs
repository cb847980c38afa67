//! The proof that something extends a life, from readings alone.
//!
//! A reading that did not grow is followed up at once: a second call, for a server that
//! reports the life from before; then the renewing call; then a query, for a server whose
//! renewing call reports the life from before.

use std::time::Duration;

use super::event::Notice;
use super::policy::Renewal;
use super::reading::{Method, Reading};
use super::token::{DOUBTS_TO_CONCLUDE, Task};
use super::transition::Transition;

/// Below this a life that the server tells in whole seconds cannot be judged; a doubt
/// never makes a life that is known to be longer count as one so short.
const SHORTEST_JUDGED_MS: u64 = 2_000;

impl Transition<'_> {
    /// Compares two readings, and decides what the comparison asks for; `None`: nothing can
    /// be said.
    pub(super) fn evaluate_renewal(
        &mut self,
        task: Task,
        earlier: &Reading,
        reading: &Reading,
    ) -> Option<bool> {
        let restored = std::mem::take(&mut self.token.restored);
        // A life that was never there is as good as one that is not extended: what renews it is
        // still to be tried.
        let unknown = self.token.life_ms == 0 && reading.remaining_ms > 0;
        if restored || unknown {
            return None;
        }
        let life = Duration::from_millis(self.token.life_ms);
        let renewed = match task {
            Task::Watch | Task::Check | Task::ConfirmRejection { .. } | Task::Reauth => {
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
                    // The answer to the renewing call was lost: this is not one from before.
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

    /// Too little of the life has passed for a judgement. The earlier reading is kept for the
    /// next one, or checks that come often would never be judged at all; but a life that the
    /// server has cut short meanwhile is measured by what is left of it.
    fn too_early(&mut self, baseline: Reading, earlier: &Reading, reading: &Reading) {
        if reading.shrank_since(earlier, Duration::from_millis(self.token.life_ms)) {
            self.token.proven = false;
            self.token.life_ms = reading.remaining_ms;
        } else {
            self.token.baseline = Some(baseline.as_baseline());
        }
    }

    /// The life grew, and `by` is the only call that can have done it (if no other client
    /// did, which is why every later reading is judged too). A renewing call whose answer was
    /// lost can have done it instead of a query.
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

    /// Only the call after the one that renewed showed it: the server reports the life from
    /// before. This reading shows a whole life, and no life from before the next renewal can
    /// be longer; so that one shows no growth, and only the one after it can be judged.
    fn renewal_proven_with_lag(&mut self, by: Method, reading: &Reading) {
        self.renewal_proven(by, reading);
        self.token.lagging = Some(by);
    }

    fn mark_proven(&mut self, reading: &Reading) {
        self.token.proven = true;
        self.token.life_ms = reading.remaining_ms;
        self.token.doubts = 0;
    }

    /// Nothing that is permitted made the life grow. If something does all the same, then
    /// what is left now is a whole life, and the next readings are judged by that.
    pub(super) fn renewal_not_observed(&mut self, reading: &Reading) {
        self.token.doubts = (self.token.doubts + 1).min(DOUBTS_TO_CONCLUDE);
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

    /// Where a new value is wanted before the end, whether anything extends this life has to
    /// be known by then: the next check comes no later, but not before it can be judged.
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
