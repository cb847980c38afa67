//! What a world is made of, drawn from its seed: servers, tokens, and how they are configured.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokenkeep::lifecycle::{Fraction, Policy, ReauthPolicy, Renewal, Schedule};
use tokenkeep::scheduler::{ReauthRoute, ReauthSpec, ServerLimits};

use crate::api::{Extends, Traits};
use crate::chance::{Chance, DAY, HOUR, MINUTE, Ms, SECOND, times};

/// The most tokens in one world.
const MOST_TOKENS: u64 = 4_000;

/// The share of a life after which a check is due at the latest, for reckoning how many
/// requests a server must bear: the default, less its jitter.
const SHARE_BETWEEN_CHECKS: f64 = 0.6;

/// A world's configuration.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Every life is shorter than an hour.
    pub(crate) short: bool,
    /// A typical life.
    pub(crate) life: Ms,
    pub(crate) servers: Vec<ServerPlan>,
    pub(crate) ways: Vec<ReauthSpec>,
    pub(crate) tokens: Vec<TokenPlan>,
    pub(crate) max_hooks: NonZeroU32,
    /// The precision of the daemon's timer.
    pub(crate) tick: Ms,
}

#[derive(Debug, Clone)]
pub(crate) struct ServerPlan {
    pub(crate) traits: Traits,
    pub(crate) limits: ServerLimits,
}

#[derive(Debug, Clone)]
pub(crate) struct TokenPlan {
    pub(crate) server: usize,
    pub(crate) life: Ms,
    pub(crate) policy: Arc<Policy>,
    pub(crate) way: Option<usize>,
}

impl Plan {
    pub(crate) fn new(seed: u64, chance: &mut Chance) -> Self {
        let short = seed.is_multiple_of(2);
        let life =
            if short { chance.spread(2 * SECOND, 40 * MINUTE) } else { chance.spread(HOUR, DAY) };
        let tokens = chance.spread(1, MOST_TOKENS);
        let servers = chance.between(1, 3.min(tokens));
        let ways: Vec<_> = (0..chance.between(1, 3)).map(|_| way(chance, life)).collect();
        let policies: Vec<_> = (0..servers)
            .map(|_| (0..chance.between(1, 3)).map(|_| policy(chance, life)).collect::<Vec<_>>())
            .collect();
        let mixed = chance.odds(0.4);
        let mut tokens: Vec<_> = (0..tokens)
            .map(|number| {
                let server = usize::try_from(number % servers).unwrap_or(0);
                let policy = Arc::clone(&policies[server][chance.index(policies[server].len())]);
                let way = policy.reauth.map(|_| chance.index(ways.len()));
                TokenPlan { server, life, policy, way }
            })
            .collect();
        if mixed {
            let longest = if short { HOUR - 1 } else { DAY };
            for token in &mut tokens {
                token.life = times(life, 1.0 + 2.0 * chance.share()).min(longest);
            }
        }
        let mut servers: Vec<_> = (0..servers)
            .map(|number| {
                let served = tokens.iter().filter(|t| t.server as u64 == number).count() as u64;
                let traits = traits(chance, life);
                let limits = limits(chance, served, life, &traits);
                ServerPlan { traits, limits }
            })
            .collect();
        // Nobody configures what the server refuses.
        for token in &mut tokens {
            if servers[token.server].traits.refuses_renewing {
                token.policy = Arc::new(Policy { renewal: Renewal::Auto, ..*token.policy });
            }
        }
        // A way's budget is for attempts that belong together: one rule for all of its tokens.
        for token in &mut tokens {
            if let (Some(way), Some(mut reauth)) = (token.way, token.policy.reauth) {
                reauth.window = ways[way].window;
                token.policy = Arc::new(Policy { reauth: Some(reauth), ..*token.policy });
            }
        }
        let mut rotation = Chance::new(seed, 3);
        let rotating: Vec<_> = servers.iter().map(|_| rotation.odds(0.2)).collect();
        for token in tokens.iter_mut().filter(|token| rotating[token.server]) {
            let renewal = Renewal::Renew;
            token.policy = Arc::new(Policy { renewal, rotates: true, ..*token.policy });
        }
        for (server, _) in servers.iter_mut().zip(rotating).filter(|(_, rotates)| *rotates) {
            let traits = &mut server.traits;
            (traits.extends, traits.rotates) = (Extends::Renew, true);
            (traits.replaces, traits.refuses_renewing) = (false, false);
        }
        let max_hooks = NonZeroU32::new(chance.pick(&[1, 4, 4, 16])).unwrap_or(NonZeroU32::MIN);
        let tick = chance.pick(&[1, 1, 4]);
        Self { short, life, servers, ways, tokens, max_hooks, tick }
    }
}

impl Plan {
    /// The longest life that is drawn for a token.
    pub(crate) fn longest_life(&self) -> Ms {
        if self.short { HOUR - 1 } else { DAY }
    }
}

fn traits(chance: &mut Chance, life: Ms) -> Traits {
    let extends = match chance.between(0, 9) {
        0..=4 => Extends::Any,
        5..=8 => Extends::Renew,
        _ => Extends::Nothing,
    };
    let slowest = chance.spread(5, (life / 500).clamp(5, 400));
    Traits {
        extends,
        query_reports_before: extends == Extends::Any && chance.odds(0.3),
        renew_reports_before: chance.odds(0.2),
        replaces: extends == Extends::Renew && chance.odds(0.2),
        rotates: false,
        refuses_renewing: extends == Extends::Any && chance.odds(0.2),
        // Of lives this short, whole seconds would hide nearly everything.
        whole_seconds: life >= 10 * SECOND && chance.odds(0.3),
        forgets: chance.odds(0.2),
        clock_ahead: if chance.odds(0.5) { 0 } else { chance.spread(SECOND, DAY) },
        latency: ((slowest / 8).max(1), slowest),
    }
}

/// Enough for the tokens, with little or much to spare.
fn limits(chance: &mut Chance, tokens: u64, life: Ms, traits: &Traits) -> ServerLimits {
    let between_checks = times(life, SHARE_BETWEEN_CHECKS).max(1);
    let needed = (tokens * 4 * SECOND).div_ceil(between_checks).max(1);
    let rate = chance.spread(needed, (needed * 100).max(500)).min(100_000);
    let places = (rate * traits.longest_latency()).div_ceil(SECOND).max(1);
    let in_flight = chance.spread(places, (places * 8).max(64));
    let limit = |wanted: u64| {
        NonZeroU32::new(u32::try_from(wanted).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN)
    };
    ServerLimits { rate_limit: limit(rate), max_in_flight: limit(in_flight) }
}

fn way(chance: &mut Chance, life: Ms) -> ReauthSpec {
    let route = if chance.odds(0.6) { ReauthRoute::Hook } else { ReauthRoute::Server };
    let max_failures = NonZeroU32::new(chance.pick(&[5, 20, 20, 1_000])).unwrap_or(NonZeroU32::MIN);
    let window = Duration::from_millis(chance.spread(life * 2, (life * 10).max(HOUR)));
    ReauthSpec { route, max_failures, window }
}

fn policy(chance: &mut Chance, life: Ms) -> Arc<Policy> {
    let renewal = match chance.between(0, 9) {
        0..=6 => Renewal::Auto,
        7 => Renewal::Query,
        _ => Renewal::Renew,
    };
    let reauth = chance.odds(0.85).then(|| ReauthPolicy {
        delay: Duration::from_secs(1),
        delay_max: Duration::from_secs(chance.pick(&[10, 300])),
        max_attempts: NonZeroU32::new(chance.pick(&[1, 3, 5, 5, 8])).unwrap_or(NonZeroU32::MIN),
        window: Duration::from_secs(3_600),
    });
    let early = reauth.is_some() && chance.odds(0.3);
    Arc::new(Policy {
        schedule: schedule(chance),
        timeout: Duration::from_secs(chance.pick(&[2, 10, 10, 30])),
        renewal,
        reauth,
        reauth_before: early.then(|| Duration::from_millis(chance.spread(100, life / 4))),
        assumed: false,
        rotates: false,
    })
}

/// The default in two worlds of three, else anything that can be configured sensibly.
pub(crate) fn schedule(chance: &mut Chance) -> Schedule {
    if chance.odds(0.67) {
        return Schedule::default();
    }
    let share = |value| Fraction::try_new(value).unwrap_or_else(|fault| panic!("{fault}"));
    let shortest = Duration::from_millis(chance.spread(100, 10 * SECOND));
    let retry = Duration::from_millis(chance.spread(50, 10 * SECOND));
    Schedule::try_new(
        share(0.3 + 0.5 * chance.share()),
        share(0.5 * chance.share()),
        (shortest, shortest + Duration::from_millis(chance.spread(HOUR, DAY))),
        (retry, retry + Duration::from_millis(chance.spread(SECOND, 20 * MINUTE))),
    )
    .unwrap_or_else(|fault| panic!("{fault}"))
}
