//! Source changes: the source offers another value, the current one, or none.

use super::context::Transition;
use super::event::{Notice, SourceChange};
use super::token::{Candidate, Task, Validity};

impl Transition<'_> {
    pub(super) fn source_changed(&mut self, change: SourceChange) {
        match change {
            SourceChange::NewValue => {
                self.new_value_in_source();
                self.token.source_lost = false;
            }
            SourceChange::Reappeared => self.token.source_lost = false,
            SourceChange::Reverted => {
                self.token.source_lost = false;
                if self.token.candidate.is_some_and(|candidate| candidate.is_from_source()) {
                    self.discard_candidate_check();
                    self.token.candidate = None;
                }
            }
            SourceChange::NewRefreshToken => self.new_refresh_token(),
            SourceChange::Obtained(by) => self.new_value_from_elsewhere(by),
            SourceChange::Lost(error) => self.source_lost(error),
        }
    }

    pub(super) fn new_value_in_source(&mut self) {
        self.discard_candidate_check();
        match self.token.validity {
            // Another replica asks, and may know a better value: this one is verified first.
            Validity::Expired | Validity::Rejected if self.token.elsewhere => {
                self.token.candidate = Some(Candidate::new(self.now, None));
            }
            Validity::Missing if self.token.elsewhere && self.token.source_lost => {
                self.token.candidate = Some(Candidate::new(self.now, None));
            }
            Validity::Missing | Validity::Expired | Validity::Rejected => {
                self.discard_rotation();
                self.promote_candidate();
            }
            Validity::Unknown | Validity::Alive(_) | Validity::Unverified(_) => {
                // An attempt whose own value was not verified is judged by this value.
                let obtained = self.token.candidate.and_then(|candidate| candidate.obtained);
                let obtained = obtained.map(|(pending_reauth, _)| (pending_reauth, true));
                self.token.candidate =
                    Some(Candidate::new(self.token.not_held(self.now), obtained));
            }
        }
    }

    fn source_lost(&mut self, error: Box<str>) {
        let in_use = self.token.may_be_alive();
        if self.token.elsewhere {
            // Reported once this replica asks.
            self.token.source_lost |= self.token.validity == Validity::Missing;
            return;
        }
        if self.may_rotate() {
            return;
        }
        // Not an error before it is known that there is no refresh token either.
        let is_new = self.token.validity == Validity::Missing && !self.token.source_lost;
        if self.context.policy.rotates && is_new && self.token.task == Task::Watch {
            return self.plan_rotation();
        }
        if !std::mem::replace(&mut self.token.source_lost, true) {
            self.notify(Notice::Missing { error, in_use });
        }
        if !in_use {
            self.token.unrecovered = true;
            if self.token.task == Task::Watch {
                self.schedule_reauth();
            }
        }
    }
}
