//! Restores tokens after a restart from what an earlier run persisted.
//!
//! A few restored tokens are checked at once, to test whether the persisted state is reliable; see
//! [`spot_checks`](super::spot_checks). The others keep their schedule.

use super::Scheduler;
use super::types::{ServerId, TokenId};
use crate::lifecycle::{Event, Method, PersistedLife, ReauthAttempts};
use crate::time::Moment;

impl Scheduler {
    /// Restores a token from its persisted life, in place of
    /// [`SourceChange::NewValue`](crate::lifecycle::SourceChange::NewValue). The value is in the
    /// [spare slot](Scheduler::spare_slot). If the token already has a value, or the expiry has
    /// passed, the value counts as a new one.
    pub fn restore(&mut self, id: TokenId, persisted: PersistedLife, now: Moment) {
        let Some(spec) = self.table.spec(id.0) else { return };
        let spot_checks = &mut self.servers[spec.server.index()].spot_checks;
        // A refresh token is not spent for a test.
        let testable = persisted.this_boot && !spec.policy.rotates && self.table.is_asked(id.0);
        let spot_check = testable && spot_checks.start(&mut self.chance);
        self.apply_event(id, Event::Restored { persisted, spot_check }, now);
        self.requeue(id, now);
        self.wake(now);
    }

    /// Sets the re-auth attempts of a token that count, which an earlier run or other replicas have
    /// counted too. A planned attempt follows them.
    pub fn restore_reauth_attempts(&mut self, id: TokenId, attempts: ReauthAttempts, now: Moment) {
        self.apply_event(id, Event::AttemptsCounted(attempts), now);
        self.requeue(id, now);
    }

    /// Restores which call an earlier run found to renew tokens on a server.
    pub fn restore_renewal_method(&mut self, server: ServerId, renews_by: Method) {
        self.servers[server.index()].renews_by = Some(renews_by);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::lifecycle::{Action, CheckResult, Policy, Renewal, Resource, Schedule, Token};
    use crate::outcome::{CallError, Outcome};
    use crate::scheduler::{SchedulerOutput, ServerLimits, TokenSpec};

    const NOW: Moment = Moment::from_millis(10_000_000);

    /// A scheduler with `count` restored tokens that have 50 of 60 minutes left.
    fn restored(count: usize) -> Scheduler {
        let number = |number| NonZeroU32::new(number).unwrap();
        let mut scheduler = Scheduler::new(number(4), 7);
        let limits = ServerLimits { rate_limit: number(100_000), max_in_flight: number(100_000) };
        let server = scheduler.add_server(limits);
        let policy = Arc::new(Policy {
            schedule: Schedule::default(),
            timeout: Duration::from_secs(10),
            renewal: Renewal::Query,
            reauth: None,
            reauth_before: None,
            assumed: false,
            rotates: false,
        });
        for _ in 0..count {
            let spec = TokenSpec { server, policy: Arc::clone(&policy), reauth: None };
            let id = scheduler.add_token(spec, false, NOW);
            let persisted = PersistedLife {
                expiry: NOW + Duration::from_secs(3_000),
                remaining_ms: 3_600_000,
                life_ms: 3_600_000,
                by: Method::Query,
                proven: true,
                unrenewable: false,
                this_boot: true,
            };
            scheduler.restore(id, persisted, NOW);
        }
        scheduler
    }

    fn asked(scheduler: &Scheduler) -> usize {
        let is_check =
            |output: &&_| matches!(output, SchedulerOutput::Action(_, Action::Check { .. }));
        scheduler.outputs.iter().filter(is_check).count()
    }

    /// Responds to all checks: the first `dead` ones find the token expired.
    fn answer(scheduler: &mut Scheduler, dead: usize) {
        let outputs = std::mem::take(&mut scheduler.outputs);
        let tickets = outputs.into_iter().filter_map(|output| match output {
            SchedulerOutput::Action(ticket, _) => Some(ticket),
            SchedulerOutput::TokenNotice(..)
            | SchedulerOutput::ServerNotice(..)
            | SchedulerOutput::ReauthExhausted { .. } => None,
        });
        for ticket in tickets.take(dead) {
            let outcome = Outcome::Expired(CallError::new("expired"));
            let answer = CheckResult {
                sent: NOW,
                received: NOW,
                outcome,
                replaced: false,
                cannot_renew: false,
            };
            scheduler.check_finished(ticket, answer, NOW);
        }
        scheduler.wake(NOW + Duration::from_secs(5));
    }

    #[test]
    fn small_share_of_restored_tokens_is_checked_at_once() {
        let asked = asked(&restored(10_000));
        assert!((20..=90).contains(&asked), "{asked}");
    }

    #[test]
    fn at_least_one_restored_token_is_checked_at_once() {
        assert_eq!(asked(&restored(1)), 1);
    }

    #[test]
    fn few_dead_tokens_change_nothing() {
        let mut scheduler = restored(10_000);
        answer(&mut scheduler, 2);
        assert_eq!(asked(&scheduler), 0);
    }

    #[test]
    fn too_many_dead_tokens_cause_all_to_be_checked() {
        let mut scheduler = restored(10_000);
        let dead = asked(&scheduler) / 10;
        answer(&mut scheduler, dead);
        let is_due = |token: &Token| {
            token.is_busy() || token.due_for(Resource::Server).is_some_and(|due| due <= NOW)
        };
        let due = (0..10_000).filter_map(|key| scheduler.token(scheduler.id_of(key)?));
        assert_eq!(due.filter(is_due).count(), 10_000 - dead);
    }
}
