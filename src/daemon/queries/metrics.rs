//! The metrics as they are at one moment: what was counted, and how the tokens are.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use crate::clock;
use crate::control::Reply;
use crate::daemon::Daemon;
use crate::daemon::metrics::Labels;
use crate::events::Guard;
use crate::keeper::{ServerId, TokenId};
use crate::lifecycle::{Glance, State};
use crate::time::Moment;

type Gauges = Family<Labels, Gauge>;
type FloatGauges = Family<Labels, Gauge<f64, AtomicU64>>;

/// From lives of a demo to the longest that the API grants.
const LIFE: [f64; 11] =
    [1.0, 10.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0, 86_400.0];

/// The same in milliseconds: a million are counted at once.
const LIFE_MS: [u64; 11] = [
    1_000, 10_000, 60_000, 300_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000,
    43_200_000, 86_400_000,
];

/// Tokens that may have gauges of their own: a page of metrics is read every few seconds.
const NAMED: usize = 1_000;

/// How long the tokens of each server have left.
#[derive(Debug)]
pub(crate) struct MetricsQuery {
    now: Moment,
    /// By the servers' numbers.
    lives: Vec<Tally>,
    /// Who waits for it, and whether tokens may be named to them.
    replies: Vec<(bool, Reply<Registry>)>,
}

/// A histogram without the locks of one that others write to: a million are counted at once.
#[derive(Debug, Clone, Default)]
struct Tally {
    /// Up to each of [`LIFE`], and beyond.
    buckets: [u64; LIFE.len() + 1],
    sum_ms: u64,
    /// The least so far.
    shortest_ms: Option<u64>,
}

impl Tally {
    fn add(&mut self, left_ms: u64) {
        self.buckets[LIFE_MS.partition_point(|up_to| *up_to < left_ms)] += 1;
        self.sum_ms = self.sum_ms.saturating_add(left_ms);
        self.shortest_ms = Some(self.shortest_ms.map_or(left_ms, |shortest| shortest.min(left_ms)));
    }
}

/// A tally among metrics.
#[derive(Debug, Clone, Default)]
struct Lives(Arc<OnceLock<Tally>>);

impl EncodeMetric for Lives {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(tally) = self.0.get() else { return Ok(()) };
        let up_to = LIFE.into_iter().chain([f64::MAX]);
        let buckets: Vec<_> = up_to.zip(tally.buckets).collect();
        let count = tally.buckets.iter().sum();
        encoder.encode_histogram::<NoLabelSet>(seconds(tally.sum_ms), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Lives {
    const TYPE: MetricType = MetricType::Histogram;
}

impl MetricsQuery {
    pub(crate) fn begin(names: bool, reply: Reply<Registry>) -> Self {
        Self { now: clock::now(), lives: Vec::new(), replies: vec![(names, reply)] }
    }

    /// Another one that has not begun either: what is seen is for both.
    pub(crate) fn join(&mut self, other: Self) {
        self.replies.extend(other.replies);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.replies.iter().any(|(_, reply)| !reply.is_closed())
    }

    pub(crate) fn see(&mut self, glance: Glance, server: ServerId) {
        let Some(bound) = glance.bound else { return };
        let server = server.index();
        if self.lives.len() <= server {
            self.lives.resize_with(server + 1, Tally::default);
        }
        self.lives[server].add(bound.as_millis().saturating_sub(self.now.as_millis()));
    }
}

impl Daemon {
    pub(crate) fn conclude_scrape(&self, mut scrape: MetricsQuery) {
        for (names, reply) in std::mem::take(&mut scrape.replies) {
            // Whoever asked may have gone.
            let _ = reply.send(Ok(self.registry(&scrape, names)));
        }
    }

    fn registry(&self, scrape: &MetricsQuery, names: bool) -> Registry {
        let mut registry = Registry::with_prefix("tokenkeep");
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The program that runs", Info::new(version));
        self.figures.register(&mut registry);
        self.register_servers(scrape, &mut registry);
        if names {
            self.register_named(&mut registry, scrape.now);
        }
        let successful = Gauge::<i64>::default();
        successful.set(i64::from(self.config_rejected.is_none()));
        registry.register(
            "config_last_reload_successful",
            "1 if the configuration on disk was accepted when it was last read, 0 if it was not",
            successful,
        );
        let dropped = self.log.as_ref().map_or(0, Guard::dropped_lines);
        registry.register(
            "log_lines_dropped",
            "Lines that the reader of the log was too slow to take",
            ConstCounter::new(dropped),
        );
        registry
    }

    fn register_servers(&self, scrape: &MetricsQuery, registry: &mut Registry) {
        let (tokens, available) = (Gauges::default(), Gauges::default());
        let (lives, shortest) = (Family::<Labels, Lives>::default(), FloatGauges::default());
        for server in &self.settings.servers {
            let Some(id) = self.tokens.registry.server_of(&server.name) else { continue };
            let labels = vec![("server", server.name.clone())];
            let census = self.tokens.scheduler.census_of(id);
            for state in State::ALL {
                let state_label = vec![("state", state.as_str().to_owned())];
                let labels = [labels.clone(), state_label].concat();
                tokens.get_or_create(&labels).set(whole(census.of(state)));
            }
            available.get_or_create(&labels).set(i64::from(self.is_available(id)));
            let tally = scrape.lives.get(id.index()).cloned().unwrap_or_default();
            if let Some(left_ms) = tally.shortest_ms {
                shortest.get_or_create(&labels).set(seconds(left_ms));
            }
            // It is new, and so not set yet.
            let _ = lives.get_or_create(&labels).0.set(tally);
        }
        registry.register("tokens", "Tokens by their state", tokens);
        registry.register(
            "server_available",
            "1 if the server answers, 0 if it is down",
            available,
        );
        registry.register_with_unit(
            "remaining_life",
            "What tokens have left of their lives, at this moment",
            Unit::Seconds,
            lives,
        );
        registry.register_with_unit(
            "remaining_life_min",
            "The least that any token has left",
            Unit::Seconds,
            shortest,
        );
    }

    fn register_named(&self, registry: &mut Registry, now: Moment) {
        let (alive, remaining) = (Gauges::default(), FloatGauges::default());
        let named = self.settings.tokens.iter().filter(|token| token.metrics).take(NAMED);
        for token in named {
            let id: Option<TokenId> = self.tokens.registry.id_of(&token.name);
            let Some(known) = id.and_then(|id| self.tokens.scheduler.token(id)) else { continue };
            let labels = vec![("token", token.name.clone())];
            let lives = matches!(known.state(), State::Alive | State::Retrying);
            alive.get_or_create(&labels).set(i64::from(lives));
            if let Some(bound) = known.bound() {
                remaining.get_or_create(&labels).set(bound.since(now).as_secs_f64());
            }
        }
        registry.register("token_alive", "1 if the token is known to live", alive);
        registry.register_with_unit(
            "token_remaining_life",
            "What the token has left of its life",
            Unit::Seconds,
            remaining,
        );
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn seconds(millis: u64) -> f64 {
    Duration::from_millis(millis).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_counted_in_the_buckets_that_are_told() {
        let ends = LIFE_MS.map(|millis| format!("{:?}", seconds(millis)));
        assert_eq!(ends, LIFE.map(|up_to| format!("{up_to:?}")));
        let mut tally = Tally::default();
        for left in [0, 1_000, 1_001, 86_400_000, 86_400_001] {
            tally.add(left);
        }
        assert_eq!(tally.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((tally.sum_ms, tally.shortest_ms), (172_802_002, Some(0)));
    }
}
