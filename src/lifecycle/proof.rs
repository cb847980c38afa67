//! The proof that something extends a life, from readings alone.
//!
//! A reading that did not grow is followed up at once: a second call, for a server that
//! reports the life from before; then the renewing call; then a query, for a server whose
//! renewing call reports the life from before.

use std::time::Duration;

use super::event::Notice;
use super::policy::Renewal;
use super::reading::{Method, Reading};
use super::step::Turn;
use super::token::{DOUBTS_FOR_A_VERDICT, Task};

/// Below this a life that the server tells in whole seconds cannot be judged; a doubt
/// never makes a life that is known to be longer count as one so short.
const SHORTEST_JUDGED_MS: u64 = 2_000;

impl Turn<'_> {
    /// Compares two readings, and decides what the comparison asks for; `None`: nothing can
    /// be said.
    pub(super) fn judge(
        &mut self,
        task: Task,
        earlier: &Reading,
        reading: &Reading,
    ) -> Option<bool> {
        let resumed = std::mem::take(&mut self.token.resumed);
        // A life that was never there is as good as one that is not extended: what renews it is
        // still to be tried.
        let unknown = self.token.life_ms == 0 && reading.remaining_ms > 0;
        if resumed || unknown {
            return None;
        }
        let life = Duration::from_millis(self.token.life_ms);
        let renewed = match task {
            Task::Watch | Task::Check | Task::ConfirmRejection { .. } | Task::Reauth => {
                let baseline = self.token.baseline.take();
                let baseline = baseline.filter(|first| first.by == earlier.by).unwrap_or(*earlier);
                let Some(renewed) = reading.renewed_since(&baseline, life) else {
                    if task == (Task::ConfirmRejection { in_proof: true }) {
                        self.continue_with(Task::ConfirmGrowth);
                    } else {
                        self.too_early(baseline, earlier, reading);
                    }
                    return None;
                };
                let settling = std::mem::take(&mut self.token.settling);
                match renewed {
                    true if baseline.by == reading.by => self.extends(reading.by, reading),
                    true => self.proven(reading),
                    false if settling == Some(reading.by) => {
                        self.token.baseline = Some(baseline.as_baseline());
                        return None;
                    }
                    false => self.continue_with(Task::ConfirmGrowth),
                }
                renewed
            }
            Task::ConfirmGrowth => {
                let renewed = reading.grew_since(earlier, life);
                match (renewed, self.context.policy.renewal) {
                    (true, _) => self.extends_belatedly(earlier.by, reading),
                    (false, Renewal::Auto) => self.continue_with(Task::TryRenew),
                    (false, Renewal::Query | Renewal::Renew) => self.doubt(reading),
                }
                renewed
            }
            Task::ConfirmRefusal => {
                let renewed = reading.grew_since(earlier, life);
                if renewed {
                    self.proven(reading);
                } else {
                    self.doubt(reading);
                }
                renewed
            }
            Task::TryRenew | Task::RetryRenew => {
                let renewed = reading.grew_since(earlier, life);
                if renewed {
                    self.extends(Method::Renew, reading);
                } else {
                    self.continue_with(Task::ConfirmRenewal);
                }
                renewed
            }
            Task::ConfirmRenewal => {
                let renewed = reading.grew_since(earlier, life);
                if renewed && earlier.by == Method::Renew {
                    self.extends_belatedly(Method::Renew, reading);
                } else if renewed {
                    // The answer to the renewing call was lost: this is not one from before.
                    self.extends(Method::Renew, reading);
                } else if earlier.by == Method::Query
                    && self.context.policy.renewal == Renewal::Auto
                {
                    self.continue_with(Task::RetryRenew);
                } else {
                    self.doubt(reading);
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
    fn extends(&mut self, by: Method, reading: &Reading) {
        self.proven(reading);
        if by == Method::Query && self.token.renew_unanswered {
            return;
        }
        if by == Method::Renew {
            self.token.renew_refused = false;
        }
        if self.context.policy.renewal == Renewal::Auto {
            self.say(Notice::RenewsBy(by));
        }
    }

    /// Only the call after the one that renewed showed it: the server reports the life from
    /// before. This reading shows a whole life, and no life from before the next renewal can
    /// be longer; so that one shows no growth, and only the one after it can be judged.
    fn extends_belatedly(&mut self, by: Method, reading: &Reading) {
        self.extends(by, reading);
        self.token.settling = Some(by);
    }

    fn proven(&mut self, reading: &Reading) {
        self.token.proven = true;
        self.token.life_ms = reading.remaining_ms;
        self.token.doubts = 0;
    }

    /// Nothing that is permitted made the life grow. If something does all the same, then
    /// what is left now is a whole life, and the next readings are judged by that.
    pub(super) fn doubt(&mut self, reading: &Reading) {
        self.token.doubts = (self.token.doubts + 1).min(DOUBTS_FOR_A_VERDICT);
        if self.token.doubts < DOUBTS_FOR_A_VERDICT {
            self.token.proven = false;
            let known = self.token.life_ms.min(SHORTEST_JUDGED_MS);
            self.token.life_ms = reading.remaining_ms.max(known);
            self.hasten_verdict(reading);
        } else if !self.token.unextendable {
            self.token.unextendable = true;
            self.say(Notice::RenewalNotObserved { dies_in_ms: self.ms_until(reading.bound()) });
        }
        self.plan_early_reauth(reading);
    }

    /// Where a new value is wanted before the end, whether anything extends this life has to
    /// be known by then: the next check comes no later, but not before it can be judged.
    fn hasten_verdict(&mut self, reading: &Reading) {
        let Some(wanted) = self.early_reauth_wanted(reading) else { return };
        let judgeable = reading.received + Duration::from_millis(self.token.life_ms.div_ceil(5));
        let due = wanted.max(judgeable);
        if due < self.token.due {
            self.token.due = due;
            self.token.room_from = due;
        }
    }

    fn continue_with(&mut self, task: Task) {
        self.token.task = task;
        self.token.due = self.now;
    }
}
