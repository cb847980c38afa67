//! Properties that hold for random events, servers and errors.

use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;

use super::super::token::InFlight;
use super::server::{Renews, Reports, Server};
use super::world::{
    Life, START, answer, hook_failed, ms, not_allowed, reauthenticated, rejected, secs, throttled,
    timed_out,
};
use crate::lifecycle::{
    Action, CheckResult, Event, Method, OperatorRequest, ReauthOutcome, ReauthPolicy, ReauthReason,
    Renewal, ReplacedBy, Resource, Slot, SourceChange, Validity,
};
use crate::outcome::{CallError, Outcome};
use crate::time::Moment;

/// The most wake-ups at one instant if nothing takes any time: a write, a check with the four calls
/// of its proof, and a warning.
const MOST_AT_ONCE: u32 = 8;

/// The most calls for a token in any minute, for lives of at least half a second and random draws.
/// A life of a second is checked about every half second, with up to four calls of proof if it does
/// not grow. A long life costs little but the retries towards its expiry, spaced by a third of the
/// time left: about forty from a minute down to a millisecond, for the current value and for a
/// candidate. The maximum of 15,000 random lives is 138 (84 for lives of a minute or more).
const MOST_A_MINUTE: usize = 200;

/// What happens to the next call, or instead of it.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Served,
    Lost,
    Unavailable,
    Malformed,
    Throttled,
    Refused,
    Rejected,
    NewInSource,
    NewAndDead,
    NewRefreshToken,
    Vanished,
    Reloaded(Renewal),
    /// Whether re-auth is configured from now on, if it was at first.
    ReauthPermitted(bool),
    Moved,
    Ending,
    Summoned,
    Stale,
    Overslept(u32),
    Requested(OperatorRequest),
    /// Whether this replica asks from now on.
    Asked(bool),
    FromReplica,
    FromReplicaAndDead,
    /// What spends something is deferred for so long.
    Deferred(u32),
    Released,
}

/// Turns, the reloads while the action of each is in flight, and the random draws.
fn turns() -> impl Strategy<Value = Vec<(Turn, Vec<Turn>, f64)>> {
    let turn = prop_oneof![
        30 => Just(Turn::Served),
        4 => Just(Turn::Lost),
        8 => Just(Turn::Unavailable),
        2 => Just(Turn::Malformed),
        2 => Just(Turn::Throttled),
        2 => Just(Turn::Refused),
        2 => Just(Turn::Rejected),
        1 => Just(Turn::NewInSource),
        1 => Just(Turn::NewAndDead),
        1 => Just(Turn::NewRefreshToken),
        1 => Just(Turn::Vanished),
        1 => renewals().prop_map(Turn::Reloaded),
        1 => Just(Turn::Summoned),
        1 => any::<bool>().prop_map(Turn::ReauthPermitted),
        1 => Just(Turn::Moved),
        1 => Just(Turn::Ending),
        2 => Just(Turn::Stale),
        1 => (1_u32..100_000).prop_map(Turn::Overslept),
        4 => requests().prop_map(Turn::Requested),
        1 => prop::bool::weighted(0.7).prop_map(Turn::Asked),
        1 => Just(Turn::FromReplica),
        1 => Just(Turn::FromReplicaAndDead),
        8 => (1_u32..100_000).prop_map(Turn::Deferred),
        1 => Just(Turn::Released),
    ];
    let reloads = prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::vec(reloads(), 1..3),
    ];
    prop::collection::vec((turn, reloads, 0.0..1.0_f64), 400)
}

fn reloads() -> impl Strategy<Value = Turn> {
    prop_oneof![
        1 => renewals().prop_map(Turn::Reloaded),
        3 => any::<bool>().prop_map(Turn::ReauthPermitted),
    ]
}

fn requests() -> impl Strategy<Value = OperatorRequest> {
    // A pause lasts a few turns.
    prop_oneof![
        1 => Just(OperatorRequest::Check),
        1 => Just(OperatorRequest::Reauth),
        1 => Just(OperatorRequest::Pause),
        4 => Just(OperatorRequest::Resume),
        1 => Just(OperatorRequest::Revoke),
    ]
}

fn renewals() -> impl Strategy<Value = Renewal> {
    prop_oneof![Just(Renewal::Auto), Just(Renewal::Query), Just(Renewal::Renew)]
}

fn servers() -> impl Strategy<Value = Server> {
    let renews = prop_oneof![Just(Renews::Query), Just(Renews::Renew), Just(Renews::Neither)];
    let reports = prop_oneof![Just(Reports::After), Just(Reports::Before)];
    let latency = (0_u64..400, 0_u64..400);
    let life = prop_oneof![500_u64..10_000, 60_000_u64..7_200_000];
    (renews, reports, latency, life, any::<bool>()).prop_map(
        |(renews, reports, (there, back), life, whole_seconds)| {
            let mut server = Server::new(renews, reports, ms(life));
            server.latency = (ms(there), ms(back));
            server.whole_seconds = whole_seconds;
            server
        },
    )
}

fn lives() -> impl Strategy<Value = Life> {
    let reauth = (1_u32..5, 1_u64..600).prop_map(|(attempts, window)| ReauthPolicy {
        delay: secs(1),
        delay_max: secs(60),
        max_attempts: NonZeroU32::new(attempts).unwrap(),
        window: secs(window),
    });
    let before = prop::option::of((1_u64..600).prop_map(secs));
    let kind = (renewals(), any::<bool>(), prop::bool::weighted(0.2));
    (kind, prop::option::of(reauth), before, 1_u64..600).prop_map(
        |((renewal, rotates, assumed), reauth, reauth_before, max_interval)| {
            let mut life = Life::with_renewal(renewal);
            life.policy.rotates = rotates && renewal == Renewal::Renew;
            life.policy.assumed = assumed;
            life.policy.reauth = reauth;
            life.policy.reauth_before = reauth_before;
            life.policy.schedule.max_interval = secs(max_interval * 60);
            life
        },
    )
}

/// A random token and what is observed.
struct Watched {
    life: Life,
    server: Server,
    /// What the server has reported about the value in each slot: final, or a first 401.
    dead: [bool; 2],
    rejections: [u32; 2],
    /// A renewal that spends a refresh token had no response, and none had one since.
    is_lost: bool,
    /// The `reauth` policy at the start.
    way: Option<ReauthPolicy>,
    at_once: (Moment, u32),
}

impl Watched {
    fn new(life: Life, server: Server) -> Self {
        let way = life.policy.reauth;
        Self {
            life,
            server,
            dead: [false; 2],
            rejections: [0; 2],
            is_lost: false,
            way,
            at_once: (START, 0),
        }
    }

    fn step(&mut self, event: Event) -> Option<Action> {
        let action = self.life.step(event);
        self.the_bound_is_honest();
        self.rest_changes_nothing();
        action
    }

    fn the_bound_is_honest(&self) {
        if let (Some(expiry), Some(death)) =
            (self.life.token.expiry(), self.server.death(self.life.token.active_slot()))
        {
            assert!(expiry <= death, "a bound at {expiry:?}, but the server's is {death:?}");
        }
    }

    fn rest_changes_nothing(&self) {
        if let Some((resting, extra)) = self.life.token.compact() {
            assert_eq!(resting.expand(extra), self.life.token);
        }
    }

    /// Another replica asks about the current value; only a candidate is verified here.
    fn nothing_is_asked_elsewhere(&self, action: Action) {
        let active = self.life.token.active_slot();
        let is_own = match action {
            Action::Check { slot, .. } => slot == active,
            Action::Reauth { .. } | Action::Revoke { .. } => true,
            Action::Persist { .. } => false,
        };
        assert!(!is_own || self.life.token.is_asked(), "{action:?} for a token that is elsewhere");
    }

    fn spends(&self, action: Action) -> bool {
        match action {
            Action::Check { method, .. } => self.life.policy.rotates && method == Method::Renew,
            Action::Reauth { .. } | Action::Revoke { .. } => true,
            Action::Persist { .. } => false,
        }
    }

    /// The action that has just started is deferred: nothing counts, and nothing that spends is due
    /// earlier.
    fn is_deferred(&mut self, pause: Duration) {
        let (failures, said) = (self.life.token.failures(), self.life.notices.len());
        let until = self.life.now + pause;
        // By a reload that forbids it: what follows asks for a claim of its own.
        let is_discarded = matches!(self.life.token.in_flight, Some(InFlight::Discarded(_)));
        self.step(Event::Deferred(until));
        let token = &self.life.token;
        assert_eq!((token.failures(), self.life.notices.len()), (failures, said));
        let due = token.due_for(Resource::Reauth);
        assert!(is_discarded || due.is_none_or(|due| due >= until), "{token:?}");
    }

    fn put(&mut self, slot: Slot, alive: bool) {
        self.dead[index(slot)] = false;
        self.rejections[index(slot)] = 0;
        if alive {
            self.server.log_in(slot, self.life.now);
        } else {
            self.server.dies_at[index(slot)] = None;
        }
    }

    /// Applies one turn to whatever the token does next, and reloads while it does that.
    fn turn(&mut self, turn: Turn, reloads: &[Turn]) {
        self.happens(turn);
        if !matches!(turn, Turn::Served) {
            self.at_once = (self.life.now, 0);
        }
        self.proceed(turn, reloads);
        self.dead_value_is_replaced();
    }

    fn happens(&mut self, turn: Turn) {
        match turn {
            Turn::NewInSource | Turn::NewAndDead => {
                self.put(self.life.token.active_slot().other(), matches!(turn, Turn::NewInSource));
                self.step(Event::SourceChanged(SourceChange::NewValue));
            }
            Turn::Vanished => {
                self.step(Event::SourceChanged(SourceChange::Lost("no such file".into())));
            }
            Turn::NewRefreshToken => {
                if self.life.policy.rotates {
                    self.rejections = [0; 2];
                }
                self.step(Event::SourceChanged(SourceChange::NewRefreshToken));
            }
            Turn::Reloaded(renewal) => {
                self.life.policy.renewal = renewal;
                self.life.policy.rotates &= renewal == Renewal::Renew;
                self.step(Event::PolicyChanged);
            }
            Turn::ReauthPermitted(permitted) => {
                self.life.policy.reauth = self.way.filter(|_| permitted);
                self.step(Event::PolicyChanged);
            }
            Turn::Moved => {
                self.dead = [false; 2];
                self.rejections = [0; 2];
                self.step(Event::ServerChanged);
            }
            Turn::Ending => {
                self.step(Event::ShuttingDown);
            }
            Turn::Summoned => {
                self.step(Event::RetryNow);
            }
            Turn::Stale => {
                let now = self.life.now;
                self.step(answer(now, now, Outcome::Alive { remaining: secs(9) }));
                self.step(Event::PersistFinished(Ok(())));
                self.step(reauthenticated(hook_failed()));
            }
            Turn::Requested(request) => {
                self.at_once.1 = 0;
                self.step(Event::OperatorRequested(request));
            }
            Turn::Asked(here) => {
                self.step(Event::Asked { here, spot_check: false });
            }
            Turn::FromReplica | Turn::FromReplicaAndDead => {
                self.put(self.life.token.active_slot().other(), matches!(turn, Turn::FromReplica));
                self.step(Event::SourceChanged(SourceChange::Obtained(ReplacedBy::Replica)));
            }
            Turn::Released => {
                self.step(Event::Released);
            }
            Turn::Overslept(millis) => self.life.now = self.life.now + ms(millis.into()),
            Turn::Served
            | Turn::Lost
            | Turn::Unavailable
            | Turn::Malformed
            | Turn::Throttled
            | Turn::Refused
            | Turn::Deferred(_)
            | Turn::Rejected => {}
        }
    }

    fn proceed(&mut self, turn: Turn, reloads: &[Turn]) {
        let Some(at) = self.life.wakes_at() else { return };
        self.life.now = self.life.now.max(at);
        self.step(Event::TimerFired);
        let so_far = if self.at_once.0 == self.life.now { self.at_once.1 } else { 0 };
        self.at_once = (self.life.now, so_far + 1);
        assert!(so_far < MOST_AT_ONCE, "a busy loop: {:?}", self.life.token);
        let started = [Resource::None, Resource::Server, Resource::Reauth]
            .into_iter()
            .find_map(|resource| self.step(Event::Admitted(resource)));
        if let Some(action) = started {
            self.nothing_is_asked_elsewhere(action);
        } else {
            let next = self.life.wakes_at();
            assert!(next.is_none_or(|at| at > self.life.now), "nothing starts, but is due");
        }
        if let (Turn::Deferred(millis), Some(action)) = (turn, started)
            && self.spends(action)
        {
            self.reload(reloads);
            self.is_deferred(ms(millis.into()));
            return;
        }
        match started {
            None => {}
            Some(Action::Check { method, slot, timeout, .. }) => {
                self.ask(turn, reloads, method, slot, timeout);
            }
            Some(Action::Reauth { reason, .. }) => self.reauth(turn, reloads, reason),
            Some(Action::Revoke { .. }) => {
                self.reload(reloads);
                let lost = matches!(turn, Turn::Unavailable);
                if !lost {
                    let active = index(self.life.token.active_slot());
                    self.dead[active] = true;
                    self.server.dies_at[active] = None;
                }
                self.step(Event::RevokeFinished(if lost {
                    Err(CallError::new("no answer"))
                } else {
                    Ok(())
                }));
            }
            Some(Action::Persist { .. }) => {
                self.reload(reloads);
                let full = matches!(turn, Turn::Unavailable);
                self.step(Event::PersistFinished(if full {
                    Err("disk full".into())
                } else {
                    Ok(())
                }));
            }
        }
    }

    /// Reloads while an action is in flight.
    fn reload(&mut self, reloads: &[Turn]) {
        for reload in reloads {
            self.happens(*reload);
        }
    }

    /// A value that is known to be dead is replaced if that is permitted.
    fn dead_value_is_replaced(&self) {
        let Life { token, policy, .. } = &self.life;
        let is_dead = matches!(token.validity(), Validity::Expired | Validity::Rejected)
            || token.validity() == Validity::Missing && !token.awaits_source();
        let is_active = token.is_asked() && !token.is_paused() && !token.is_busy();
        if is_dead && is_active && policy.reauth.is_some() {
            let planned = [Resource::Server, Resource::Reauth].map(|it| token.due_for(it));
            assert!(
                planned.iter().any(Option::is_some),
                "nothing replaces a dead value: {token:?}"
            );
        }
    }

    fn ask(&mut self, turn: Turn, reloads: &[Turn], method: Method, slot: Slot, timeout: Duration) {
        match self.life.policy.renewal {
            Renewal::Query => assert_eq!(method, Method::Query),
            Renewal::Renew => assert_eq!(method, Method::Renew),
            Renewal::Auto => {}
        }
        let sent = self.life.now;
        self.server.outage = matches!(
            turn,
            Turn::Unavailable | Turn::Malformed | Turn::Refused | Turn::Rejected | Turn::Throttled
        )
        .then_some((sent, sent + ms(1)));
        self.server.loses_answers = matches!(turn, Turn::Lost).then_some((sent, sent + ms(1)));
        let rotates = self.life.policy.rotates && method == Method::Renew;
        if rotates && matches!(turn, Turn::Served) && self.life.draw < 0.5 {
            // The refresh token outlives the value.
            self.server.log_in(slot, sent);
        }
        let (received, outcome) = self.server.ask(method, slot, sent, timeout);
        let mut outcome = match turn {
            Turn::Malformed => timed_out(),
            Turn::Throttled => throttled(1),
            Turn::Refused => not_allowed(),
            Turn::Rejected => rejected(),
            _ => outcome,
        };
        if let Outcome::Unavailable(fault) = &mut outcome {
            fault.may_have_acted = rotates;
            self.is_lost |= rotates;
        }
        self.is_lost &= !matches!(outcome, Outcome::Alive { .. });
        let at = index(slot);
        match &outcome {
            Outcome::Expired(_) => self.dead[at] = true,
            Outcome::Rejected(_) => {
                self.rejections[at] += 1;
                self.dead[at] |= self.rejections[at] >= 2;
            }
            Outcome::Alive { .. } => (self.rejections[at], self.dead[at]) = (0, false),
            _ => {}
        }
        self.life.now = received;
        self.reload(reloads);
        let replaced = rotates && matches!(outcome, Outcome::Alive { .. });
        self.step(Event::CheckFinished(CheckResult {
            sent,
            received,
            outcome,
            replaced,
            cannot_renew: false,
        }));
    }

    fn reauth(&mut self, turn: Turn, reloads: &[Turn], reason: ReauthReason) {
        let active = self.life.token.active_slot();
        assert!(!self.life.token.is_paused(), "re-auth of a token that is left alone");
        if reason == ReauthReason::Requested {
            let is_held = self.is_lost && self.life.policy.rotates;
            assert!(is_held || self.life.token.validity() != Validity::Unknown);
        } else if reason == ReauthReason::Expiring {
            let before = self.life.policy.reauth_before;
            let expiry = self.life.token.expiry();
            let is_late = |before| expiry.is_some_and(|expiry| self.life.now + before >= expiry);
            let is_late = before.is_some_and(is_late);
            let is_lost = self.is_lost && self.life.policy.rotates;
            assert!(is_late || is_lost, "re-auth too early");
            let is_unrenewed = self.life.count("renewal not observed") > 0;
            assert!(is_unrenewed || is_lost, "re-auth of what may be extended");
        } else {
            let missing = self.life.token.validity() == Validity::Missing;
            assert!(missing || self.dead[index(active)], "re-auth without a final answer");
        }
        self.life.now = self.life.now + secs(2);
        self.reload(reloads);
        let result = match turn {
            Turn::Unavailable | Turn::Malformed | Turn::Refused => hook_failed(),
            Turn::Rejected => ReauthOutcome::SameValue,
            _ => {
                self.put(active.other(), !matches!(turn, Turn::Lost));
                ReauthOutcome::NewValue { stored: matches!(turn, Turn::Throttled) }
            }
        };
        self.step(reauthenticated(result));
    }
}

const fn index(slot: Slot) -> usize {
    match slot {
        Slot::A => 0,
        Slot::B => 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_for_random_events(life in lives(), server in servers(), turns in turns()) {
        let mut watched = Watched::new(life, server);
        for (turn, reloads, draw) in turns {
            watched.life.draw = draw;
            watched.turn(turn, &reloads);
        }
        let calls = &watched.server.calls;
        let most = calls.iter().enumerate().map(|(first, (from, _))| {
            calls[first..].iter().take_while(|(at, _)| at.since(*from) < secs(60)).count()
        });
        prop_assert!(most.max().unwrap_or(0) <= MOST_A_MINUTE);
    }
}
