//! Going on after a restart: few are asked at once, and what they say is weighed.
//!
//! A small share of the tokens that an earlier run found alive is asked about first. Where too
//! many of those turn out dead, what that run knew of the server is not relied upon any more.

use super::Scheduler;
use super::types::{SchedulerOutput, ServerId, TokenId};
use crate::lifecycle::{Event, Method, PersistedLife, Token, Validity};
use crate::time::Moment;

/// The share of the resumed tokens that is asked about at once; at least one of each server. Five
/// thousand of a million find out about a useless store as surely as more would.
const SPOT_CHECKED: f64 = 0.005;

/// The share of the spot checks, as a divisor, that may find a token dead: single ones are
/// ended by their users, or by another login.
const TOLERATED: u32 = 10;

/// A life is clearly shorter than remembered where this share of it is missing, as a divisor.
const CLEARLY_LESS: u32 = 10;

/// How what an earlier run knew of a server's tokens stands the test.
#[derive(Debug, Default)]
pub(super) struct SpotChecks {
    started: u32,
    dead: u32,
    /// A life was clearly shorter than remembered.
    is_refuted: bool,
}

impl SpotChecks {
    /// Weighs a step of one of the server's tokens. True once it is too much: when one lives
    /// clearly shorter than remembered, or a tenth as many tokens as were spot-checked are dead
    /// that should have lived.
    pub(super) fn judge(&mut self, earlier: &Token, token: &Token, now: Moment) -> bool {
        let should_live =
            earlier.is_restored() && earlier.expiry().is_some_and(|expiry| expiry > now);
        if !self.is_refuted
            && let (Validity::Alive(earlier), Validity::Alive(reading), true, false) =
                (earlier.validity(), token.validity(), earlier.is_restored(), token.is_restored())
            && reading.latest_end() + earlier.remaining() / CLEARLY_LESS < earlier.expiry()
        {
            self.is_refuted = true;
            return true;
        }
        let is_dead = matches!(token.validity(), Validity::Expired | Validity::Rejected);
        let was_dead = matches!(earlier.validity(), Validity::Expired | Validity::Rejected);
        if !should_live || !is_dead || was_dead {
            return false;
        }
        self.dead += 1;
        self.dead == (self.started / TOLERATED).max(1)
    }
}

impl Scheduler {
    /// Goes on with a token where an earlier run left it, in place of
    /// [`SourceChange::NewValue`](crate::lifecycle::SourceChange::NewValue): its value has been
    /// put into the [spare slot](Scheduler::spare_slot). One that is known already, or whose
    /// expiry has passed, is taken as a new value.
    pub fn restore(
        &mut self,
        id: TokenId,
        persisted: PersistedLife,
        now: Moment,
        out: &mut Vec<SchedulerOutput>,
    ) {
        let Some(spec) = self.table.spec(id.0) else { return };
        let spot_checks = &mut self.servers[spec.server.index()].spot_checks;
        let spot_check =
            persisted.this_boot && (spot_checks.started == 0 || self.chance.f64() < SPOT_CHECKED);
        spot_checks.started += u32::from(spot_check);
        self.apply_event(id, Event::Restored { persisted, spot_check }, now, out);
        self.requeue(id, now, out);
        self.wake(now, out);
    }

    /// Takes over which call an earlier run found to extend lives on a server.
    pub fn restore_renewal_method(&mut self, server: ServerId, renews_by: Method) {
        self.servers[server.index()].renews_by = Some(renews_by);
    }

    /// Everything that an earlier run knew of a server's tokens is asked about anew.
    pub(super) fn recheck_all_restored(
        &mut self,
        server: ServerId,
        now: Moment,
        out: &mut Vec<SchedulerOutput>,
    ) {
        for id in self.table.ids_where(|token, spec| spec.server == server && token.is_restored()) {
            self.apply_event(TokenId(id), Event::RecheckRestored, now, out);
            self.enqueue(TokenId(id), now, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::lifecycle::{Action, CheckResult, Policy, Renewal, Resource, Schedule};
    use crate::outcome::{CallError, Outcome};
    use crate::scheduler::{ServerLimits, TokenSpec};

    const NOW: Moment = Moment::from_millis(10_000_000);

    /// A scheduler that has resumed so many tokens with 50 of their 60 min left, and its effects.
    fn restored(count: usize) -> (Scheduler, Vec<SchedulerOutput>) {
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
        });
        let mut out = Vec::new();
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
            scheduler.restore(id, persisted, NOW, &mut out);
        }
        (scheduler, out)
    }

    fn asked(out: &[SchedulerOutput]) -> usize {
        out.iter()
            .filter(|out| matches!(out, SchedulerOutput::Action(_, Action::Check { .. })))
            .count()
    }

    /// Answers the first calls that were made so.
    fn answer(
        scheduler: &mut Scheduler,
        out: Vec<SchedulerOutput>,
        dead: usize,
    ) -> Vec<SchedulerOutput> {
        let mut next = Vec::new();
        let tickets = out.into_iter().filter_map(|output| match output {
            SchedulerOutput::Action(ticket, _) => Some(ticket),
            SchedulerOutput::TokenNotice(..)
            | SchedulerOutput::ServerNotice(..)
            | SchedulerOutput::ReauthExhausted { .. } => None,
        });
        for ticket in tickets.take(dead) {
            let outcome = Outcome::Expired(CallError::new("expired"));
            let answer = CheckResult { sent: NOW, received: NOW, outcome, replaced: false };
            scheduler.check_finished(ticket, answer, NOW, &mut next);
        }
        scheduler.wake(NOW + Duration::from_secs(5), &mut next);
        next
    }

    #[test]
    fn a_small_share_is_asked_about_first() {
        let (_, out) = restored(10_000);
        assert!((20..=90).contains(&asked(&out)), "{}", asked(&out));
    }

    #[test]
    fn at_least_one_is_asked_about() {
        assert_eq!(asked(&restored(1).1), 1);
    }

    #[test]
    fn single_dead_ones_change_nothing() {
        let (mut scheduler, out) = restored(10_000);
        assert_eq!(asked(&answer(&mut scheduler, out, 2)), 0);
    }

    #[test]
    fn too_many_dead_ones_have_all_asked_about() {
        let (mut scheduler, out) = restored(10_000);
        let dead = asked(&out) / 10;
        answer(&mut scheduler, out, dead);
        let is_due = |token: &Token| {
            token.is_busy() || token.due_for(Resource::Server).is_some_and(|due| due <= NOW)
        };
        let due = (0..10_000).filter_map(|key| scheduler.token(scheduler.id_of(key)?));
        assert_eq!(due.filter(is_due).count(), 10_000 - dead);
    }
}
