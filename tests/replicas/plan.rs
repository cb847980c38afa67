//! What a world is made of, drawn from its seed: replicas, tokens, and how they are configured.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokenkeep::lifecycle::{Policy, ReauthPolicy, Renewal, Schedule};
use tokenkeep::scheduler::{ReauthRoute, ReauthSpec, ServerLimits};

use crate::api::Renews;
use crate::chance::{Chance, DAY, HOUR, MINUTE, Ms, SECOND};

/// How fast the clocks of a world run apart: less than a tenth in all.
const DRIFT_PPM: u64 = 45_000;

/// A world's configuration.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) hosts: Vec<HostPlan>,
    pub(crate) failover: Duration,
    pub(crate) renews: Renews,
    pub(crate) single_session: bool,
    /// A value whose renewal spends a refresh token can be queried.
    pub(crate) has_query: bool,
    pub(crate) lives: Vec<Ms>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) reauth: ReauthSpec,
    /// The longest time that a login may take.
    pub(crate) login_timeout: Duration,
    pub(crate) limits: ServerLimits,
    /// How many incidents there are, as their mean distance.
    pub(crate) pause: Ms,
    /// Wall clocks may be wrong.
    pub(crate) wrong_clocks: bool,
    /// The share of the requests to etcd that is lost in normal weather.
    pub(crate) losses: f64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct HostPlan {
    /// How much faster than true its clock runs, in millionths.
    pub(crate) drift_ppm: i64,
    /// How far its wall clock is ahead.
    pub(crate) wall_ahead: i64,
    /// The usual time to etcd, one way.
    pub(crate) distance: Ms,
}

impl Plan {
    pub(crate) fn new(chance: &mut Chance) -> Self {
        let hosts = chance.pick(&[2, 3, 3, 3, 5]);
        let failover = chance.pick(&[3, 5, 10, 10, 10, 30, 60]) * SECOND;
        let life = chance.spread((6 * failover).max(MINUTE), (30 * failover).max(20 * MINUTE));
        let tokens = chance.spread(1, 48);
        let mixed = chance.odds(0.4);
        let lives = (0..tokens)
            .map(|_| if mixed { life + chance.between(0, life) } else { life })
            .collect();
        let renews = match chance.between(0, 9) {
            0..=2 => Renews::Query,
            3..=4 => Renews::Renew,
            5..=7 => Renews::Rotation,
            _ => Renews::Nothing,
        };
        let drifts = chance.odds(0.5);
        let wrong_clocks = chance.odds(0.3);
        let far = chance.pick(&[1, 1, 5, 40]);
        let hosts = (0..hosts).map(|_| host(chance, drifts, wrong_clocks, far)).collect();
        let window = Duration::from_millis(chance.spread(life * 2, (life * 10).max(HOUR)));
        let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let reauth_policy = ReauthPolicy {
            delay: Duration::from_secs(1),
            delay_max: Duration::from_secs(chance.pick(&[10, 60, 300])),
            max_attempts: number(chance.pick(&[1, 3, 5, 5, 8])),
            window,
        };
        let rotates = renews == Renews::Rotation;
        let logs_in = chance.odds(0.9);
        let early = logs_in && renews == Renews::Nothing && chance.odds(0.5);
        let policy = Policy {
            schedule: Schedule::default(),
            timeout: Duration::from_secs(chance.pick(&[2, 10, 30])),
            renewal: match renews {
                Renews::Renew | Renews::Rotation => Renewal::Renew,
                Renews::Query | Renews::Nothing => Renewal::Auto,
            },
            reauth: logs_in.then_some(reauth_policy),
            reauth_before: early.then(|| Duration::from_millis(chance.spread(life / 20, life / 4))),
            assumed: false,
            rotates,
        };
        let route = if chance.odds(0.5) { ReauthRoute::Hook } else { ReauthRoute::Server };
        Self {
            hosts,
            failover: Duration::from_millis(failover),
            renews,
            single_session: renews != Renews::Rotation && chance.odds(0.3),
            has_query: chance.odds(0.5),
            lives,
            policy: Arc::new(policy),
            reauth: ReauthSpec { route, max_failures: number(1_000), window },
            login_timeout: Duration::from_secs(chance.pick(&[5, 30, 60, 60, 280])),
            limits: ServerLimits { rate_limit: number(1_000), max_in_flight: number(100) },
            pause: chance.spread(failover * 3, (life * 2).max(failover * 60)).min(DAY),
            wrong_clocks,
            losses: if chance.odds(0.5) { 0.0 } else { chance.share() * 0.05 },
        }
    }

    /// The longest time from taking a claim to the end of its spending, by a clock of a replica.
    pub(crate) fn longest_limit(&self) -> Duration {
        let login = self.login_timeout + Duration::from_secs(10);
        login.max(self.policy.timeout + Duration::from_secs(5))
    }
}

fn host(chance: &mut Chance, drifts: bool, wrong_clocks: bool, far: Ms) -> HostPlan {
    let drift = if drifts { chance.between(0, 2 * DRIFT_PPM) } else { DRIFT_PPM };
    let is_wrong = wrong_clocks && chance.odds(0.5);
    let wall = if is_wrong { chance.spread(SECOND, 4 * DAY) } else { chance.between(0, 40) };
    let wall = i64::try_from(wall).unwrap_or(0);
    HostPlan {
        drift_ppm: i64::try_from(drift).unwrap_or(0) - i64::try_from(DRIFT_PPM).unwrap_or(0),
        wall_ahead: if chance.odds(0.5) { wall } else { -wall },
        distance: chance.spread(1, far),
    }
}
