//! Queries for metrics: the metrics that were counted, and those that are read off the tokens.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use super::cluster_view::ClusterView;
use super::views::View;
use crate::clock;
use crate::control::Reply;
use crate::daemon::metrics::Labels;
use crate::lifecycle::{State, TokenSummary};
use crate::scheduler::{TokenId, TokenSpec};
use crate::time::Moment;

type Gauges = Family<Labels, Gauge>;
type FloatGauges = Family<Labels, Gauge<f64, AtomicU64>>;

/// Buckets of remaining lives: from a demo's to the longest that the API grants.
const LIFE: [f64; 11] =
    [1.0, 10.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0, 86_400.0];

/// The same in milliseconds, as a million are counted at once.
const LIFE_MS: [u64; 11] = [
    1_000, 10_000, 60_000, 300_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000,
    43_200_000, 86_400_000,
];

/// Tokens that can have gauges of their own: metrics are read every few seconds.
const NAMED: usize = 1_000;

/// A query for metrics.
#[derive(Debug)]
pub(crate) struct MetricsQuery {
    now: Moment,
    /// The remaining lives by the servers' numbers.
    lives: Vec<LifeHistogram>,
    /// The numbers of tokens with an assumed life, by the servers' numbers.
    assumed: Vec<usize>,
    /// The clients that wait, and whether they may see names of tokens.
    replies: Vec<(bool, Reply<Registry>)>,
}

/// A histogram without locks, as a million values are counted at once.
#[derive(Debug, Clone, Default)]
struct LifeHistogram {
    /// Up to each of [`LIFE`], and beyond.
    buckets: [u64; LIFE.len() + 1],
    sum_ms: u64,
    /// The least so far.
    shortest_ms: Option<u64>,
}

impl LifeHistogram {
    fn add(&mut self, left_ms: u64) {
        self.buckets[LIFE_MS.partition_point(|up_to| *up_to < left_ms)] += 1;
        self.sum_ms = self.sum_ms.saturating_add(left_ms);
        self.shortest_ms = Some(self.shortest_ms.map_or(left_ms, |shortest| shortest.min(left_ms)));
    }
}

/// A histogram among metrics.
#[derive(Debug, Clone, Default)]
struct Lives(Arc<OnceLock<LifeHistogram>>);

impl EncodeMetric for Lives {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(histogram) = self.0.get() else { return Ok(()) };
        let up_to = LIFE.into_iter().chain([f64::MAX]);
        let buckets: Vec<_> = up_to.zip(histogram.buckets).collect();
        let count = histogram.buckets.iter().sum();
        encoder.encode_histogram::<NoLabelSet>(seconds(histogram.sum_ms), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Lives {
    const TYPE: MetricType = MetricType::Histogram;
}

/// An info metric for each token: its own label, and the others.
#[derive(Debug, Default)]
struct TokenInfos(Vec<(Labels, Labels)>);

impl EncodeMetric for TokenInfos {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        for (token, others) in &self.0 {
            encoder.encode_family(token)?.encode_info(others)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Info
    }
}

impl MetricsQuery {
    pub(crate) fn new(names: bool, reply: Reply<Registry>) -> Self {
        Self {
            now: clock::now(),
            lives: Vec::new(),
            assumed: Vec::new(),
            replies: vec![(names, reply)],
        }
    }

    /// Adds a query that has not begun either: they share the counts.
    pub(crate) fn join(&mut self, other: Self) {
        self.replies.extend(other.replies);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.replies.iter().any(|(_, reply)| !reply.is_closed())
    }

    pub(crate) fn visit(&mut self, summary: TokenSummary, spec: &TokenSpec) {
        let server = spec.server.index();
        if spec.policy.assumed {
            if self.assumed.len() <= server {
                self.assumed.resize(server + 1, 0);
            }
            self.assumed[server] += 1;
        }
        let Some(expiry) = summary.expiry.filter(|_| summary.state != State::Elsewhere) else {
            return;
        };
        if self.lives.len() <= server {
            self.lives.resize_with(server + 1, LifeHistogram::default);
        }
        self.lives[server].add(expiry.as_millis().saturating_sub(self.now.as_millis()));
    }

    /// Answers all who wait.
    pub(super) fn answer(mut self, view: &View<'_>) {
        for (names, reply) in std::mem::take(&mut self.replies) {
            // The client may be gone.
            let _ = reply.send(Ok(self.registry(view, names)));
        }
    }

    pub(super) fn registry(&self, view: &View<'_>, names: bool) -> Registry {
        let mut registry = Registry::with_prefix("tokenkeep");
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "Version of the running program", Info::new(version));
        view.metrics.register(&mut registry);
        self.register_servers(view, &mut registry);
        if let Some(cluster) = view.cluster {
            register_cluster(cluster, &mut registry);
        }
        if names {
            register_named(view, &mut registry, self.now);
        }
        let successful = Gauge::<i64>::default();
        successful.set(i64::from(view.config_rejected.is_none()));
        registry.register(
            "config_last_reload_successful",
            "1 if the last reload of the configuration succeeded, 0 if it failed",
            successful,
        );
        registry.register(
            "log_lines_dropped",
            "Log lines dropped because they could not be written in time",
            ConstCounter::new(view.dropped_lines),
        );
        registry
    }

    fn register_servers(&self, view: &View<'_>, registry: &mut Registry) {
        let (tokens, available, assumed) =
            (Gauges::default(), Gauges::default(), Gauges::default());
        let (lives, shortest) = (Family::<Labels, Lives>::default(), FloatGauges::default());
        for server in &view.settings.servers {
            let Some(id) = view.tokens.servers.id_of(&server.name) else { continue };
            let labels = vec![("server", server.name.clone())];
            let state_counts = view.tokens.scheduler.state_counts_of(id);
            let is_shown = |state: &State| *state != State::Elsewhere || view.cluster.is_some();
            for state in State::ALL.into_iter().filter(is_shown) {
                let state_label = vec![("state", state.as_str().to_owned())];
                let labels = [labels.clone(), state_label].concat();
                tokens.get_or_create(&labels).set(whole(state_counts.of(state)));
            }
            let with_assumed_life = self.assumed.get(id.index()).copied().unwrap_or_default();
            assumed.get_or_create(&labels).set(whole(with_assumed_life));
            available.get_or_create(&labels).set(i64::from(view.tokens.is_available(id)));
            let histogram = self.lives.get(id.index()).cloned().unwrap_or_default();
            if let Some(left_ms) = histogram.shortest_ms {
                shortest.get_or_create(&labels).set(seconds(left_ms));
            }
            // It is new, and so not set yet.
            let _ = lives.get_or_create(&labels).0.set(histogram);
        }
        registry.register("tokens", "Tokens by their state", tokens);
        registry.register(
            "tokens_assumed",
            "Tokens whose API reports no life, so that their remaining life is assumed",
            assumed,
        );
        registry.register(
            "server_available",
            "1 if the server is available, 0 if its circuit breaker is open",
            available,
        );
        registry.register_with_unit(
            "remaining_life",
            "Remaining life of the tokens",
            Unit::Seconds,
            lives,
        );
        registry.register_with_unit(
            "remaining_life_min",
            "Shortest remaining life of all tokens",
            Unit::Seconds,
            shortest,
        );
    }
}

fn register_cluster(cluster: ClusterView<'_>, registry: &mut Registry) {
    let (reachable, members) = (Gauge::<i64>::default(), Gauge::<i64>::default());
    reachable.set(i64::from(cluster.unreachable().is_none()));
    members.set(whole(cluster.members().len()));
    let claims = Family::<Labels, Counter>::default();
    let counts = cluster.replica.claim_counts();
    for (result, count) in [
        ("granted", counts.granted),
        ("held", counts.held),
        ("stolen", counts.stolen),
        ("lost", counts.lost),
    ] {
        claims.get_or_create(&vec![("result", result.to_owned())]).inc_by(count);
    }
    registry.register("cluster_claims", "Requests for claims, by result", claims);
    registry.register(
        "cluster_reachable",
        "1 if etcd can be used, 0 if logins wait for it",
        reachable,
    );
    registry.register(
        "cluster_members",
        "Living replicas, this one included, as this one has last seen",
        members,
    );
}

fn register_named(view: &View<'_>, registry: &mut Registry, now: Moment) {
    let (alive, remaining) = (Gauges::default(), FloatGauges::default());
    let (expiries, mut infos) = (Gauges::default(), TokenInfos::default());
    let wall = clock::wall_clock().as_millisecond();
    let named = view.settings.tokens.iter().filter(|token| token.metrics).take(NAMED);
    for token in named {
        let id: Option<TokenId> = view.tokens.registry.id_of(&token.name);
        let Some(known) = id.and_then(|id| view.tokens.scheduler.token(id)) else { continue };
        // The replica that checks it exports its life.
        if known.state() == State::Elsewhere {
            continue;
        }
        let labels = vec![("token", token.name.clone())];
        let lives = matches!(known.state(), State::Alive | State::Retrying);
        alive.get_or_create(&labels).set(i64::from(lives));
        if let Some(bound) = known.expiry() {
            remaining.get_or_create(&labels).set(bound.since(now).as_secs_f64());
            expiries.get_or_create(&labels).set(unix_seconds(bound, now, wall));
        }
        infos.0.push((labels, vec![("server", token.keep_alive.server.clone())]));
    }
    registry.register("token_alive", "1 if the token is alive", alive);
    registry.register_with_unit(
        "token_remaining_life",
        "Remaining life of the token",
        Unit::Seconds,
        remaining,
    );
    registry.register_with_unit(
        "token_expiry_timestamp",
        "Unix time of the last known expiry of the token",
        Unit::Seconds,
        expiries,
    );
    registry.register("token", "Properties of the token", infos);
}

/// `bound` as Unix time, rounded down. `wall_ms` is the Unix time of `now`, in milliseconds.
fn unix_seconds(bound: Moment, now: Moment, wall_ms: i64) -> i64 {
    let (bound, now) = (bound.as_millis(), now.as_millis());
    let left = i64::try_from(bound.abs_diff(now)).unwrap_or(i64::MAX);
    let left = if bound < now { left.saturating_neg() } else { left };
    wall_ms.saturating_add(left).div_euclid(1_000)
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
    fn expiry_is_a_unix_time_before_or_after_now() {
        let now = Moment::from_millis(50_000);
        for (bound, seconds) in [(50_000, 1_000), (51_999, 1_001), (48_001, 998), (0, 950)] {
            assert_eq!(unix_seconds(Moment::from_millis(bound), now, 1_000_000), seconds);
        }
    }

    #[test]
    fn lives_are_counted_in_the_buckets_that_are_exported() {
        let ends = LIFE_MS.map(|millis| format!("{:?}", seconds(millis)));
        assert_eq!(ends, LIFE.map(|up_to| format!("{up_to:?}")));
        let mut histogram = LifeHistogram::default();
        for left in [0, 1_000, 1_001, 86_400_000, 86_400_001] {
            histogram.add(left);
        }
        assert_eq!(histogram.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((histogram.sum_ms, histogram.shortest_ms), (172_802_002, Some(0)));
    }
}
