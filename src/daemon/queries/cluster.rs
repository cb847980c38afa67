//! What clients see of the cluster of replicas.

use super::cluster_view::hex;
use super::digest::Disclosure;
use super::views::View;
use crate::control::{ApiError, ClusterDetail, ClusterStatus};
use crate::lifecycle::State;
use crate::time::whole_millis;

impl View<'_> {
    /// The cluster, if this daemon is a replica. The error and the names of replicas are shown as
    /// those of tokens and servers are.
    pub(crate) fn cluster_status(&self, disclosure: Disclosure) -> Option<ClusterStatus> {
        let cluster = self.cluster?;
        let counts = self.tokens.scheduler.state_counts();
        let elsewhere = counts.of(State::Elsewhere);
        let error = cluster.unreachable();
        Some(ClusterStatus {
            name: if disclosure.names { cluster.settings.name.clone() } else { String::new() },
            members: if disclosure.names { cluster.members() } else { Vec::new() },
            reachable: error.is_none(),
            error: error.filter(|_| disclosure.details).map(str::to_owned),
            unreachable_since: cluster
                .unreachable_since
                .filter(|_| cluster.replica.unreachable().is_some()),
            held: cluster.held,
            asked: counts.total() - elsewhere,
            elsewhere,
        })
    }
}

/// The cluster in detail.
pub(crate) fn cluster_detail(view: &View<'_>) -> Result<ClusterDetail, ApiError> {
    let status = view.cluster_status(Disclosure::EVERYTHING);
    let (cluster, status) = view.cluster.zip(status).ok_or_else(ApiError::no_cluster)?;
    Ok(ClusterDetail {
        status,
        prefix: cluster.settings.prefix.clone(),
        failover_ms: whole_millis(cluster.settings.failover),
        revision: cluster.revision,
        sealing_key: cluster.replica.seal_key().map(hex),
        endpoints: cluster.endpoints.to_vec(),
        replicas: cluster.replicas(),
        claims: cluster.claims(),
        rekey: cluster.rekey.cloned(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::NonZeroU32;
    use std::sync::Arc;
    use std::time::Duration;

    use jiff::Timestamp;
    use prometheus_client::encoding::text::encode;
    use tokio::sync::oneshot;

    use super::*;
    use crate::cluster::replica::{
        Claim as ClaimRecord, Entry, FORMAT, Key, KeyId, Member, Meta, Record, Replica,
        ReplicaSettings, SLOTS, StoreError, StoreRevision, TokenKey,
    };
    use crate::control::{ApiErrorKind, ClaimView, Counts, RekeyView};
    use crate::daemon::inventories::Inventories;
    use crate::daemon::metrics::Metrics;
    use crate::daemon::queries::{ClusterView, MetricsQuery};
    use crate::daemon::tokens::Tokens;
    use crate::settings::{Cluster, KeySource, Settings, load};
    use crate::time::Moment;

    const NOW: Moment = Moment::from_millis(100_000);

    /// The parts of a view. There is no token.
    struct World {
        tokens: Tokens,
        inventories: Inventories,
        settings: Settings,
        metrics: Metrics,
        cluster: Cluster,
        replica: Replica,
        rekey: RekeyView,
    }

    impl World {
        /// keeper-a, which lists 100 tokens and has not read etcd.
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("tokenkeep.toml");
            fs::write(&path, "").expect("room");
            let cluster = Cluster {
                etcd: vec!["http://127.0.0.1:2379".parse().expect("a URL")],
                name: "keeper-a".to_owned(),
                prefix: "/tokenkeep/test".to_owned(),
                user: None,
                ca_file: None,
                client_certificate: None,
                key: KeySource::File("/key".into()),
                old_key: None,
                failover: Duration::from_secs(10),
            };
            let settings = ReplicaSettings {
                name: cluster.name.as_str().into(),
                failover: cluster.failover,
                incarnation: 1,
                boot: 1,
                seen: None,
                keys: vec![KeyId(0xaa)],
                seed: 1,
                claim_on_lease: false,
            };
            let mut replica = Replica::new(settings, NOW);
            for number in 0..100 {
                replica.list(TokenKey::new("sarus", &format!("token-{number}")).hash(), NOW);
            }
            Self {
                tokens: Tokens::new(NonZeroU32::MIN, Duration::ZERO, 1),
                inventories: Inventories::new(),
                settings: load(&path, std::iter::empty()).expect("a configuration").settings,
                metrics: Metrics::new(),
                cluster,
                replica,
                rekey: RekeyView { running: true, done: 1, total: 2, error: None },
            }
        }

        /// etcd has keeper-b with a claim for `quotes`.
        fn with_keeper_b() -> Self {
            let mut world = Self::new();
            let member = Member {
                incarnation: 2,
                format: FORMAT,
                keys: vec![KeyId(0xaa), KeyId(0xbb)],
                digests: Box::new([0; SLOTS]),
                unreachable: Vec::new(),
                wall_ms: 0,
            };
            let claim = ClaimRecord {
                replica: "keeper-b".into(),
                incarnation: 2,
                nonce: 3,
                limit: Duration::from_secs(70),
                taken: (2, NOW),
            };
            let token = TokenKey::new("sarus", "a/b c");
            let entries = [
                (Key::Meta, Record::Meta(Meta { format: FORMAT, key: KeyId(0xaa) })),
                (Key::Member("keeper-b".into()), Record::Member(Arc::new(member))),
                (Key::Claim(token), Record::Claim(claim)),
            ];
            let entry = |(key, record)| Entry { key, record: Some(record), revision: 5 };
            let at = StoreRevision { cluster: 1, revision: 5 };
            world.replica.read_finished(Ok((at, entries.map(entry).to_vec())), NOW);
            world
        }

        /// The replicas that check the tokens, each once.
        fn replicas_of_tokens(&self) -> Vec<&str> {
            let cluster = self.view().cluster.expect("a cluster");
            let replica = |number| cluster.place_of("sarus", &format!("token-{number}")).replica;
            let replicas: std::collections::BTreeSet<_> = (0..100).filter_map(replica).collect();
            replicas.into_iter().collect()
        }

        fn view(&self) -> View<'_> {
            let cluster = ClusterView {
                replica: &self.replica,
                settings: &self.cluster,
                unreachable_since: Some(Timestamp::UNIX_EPOCH),
                held: 3,
                endpoints: &[],
                revision: 5,
                rekey: Some(&self.rekey),
            };
            View {
                tokens: &self.tokens,
                inventories: &self.inventories,
                settings: &self.settings,
                config_rejected: None,
                metrics: &self.metrics,
                dropped_lines: 0,
                cluster: Some(cluster),
            }
        }
    }

    #[tokio::test]
    async fn detail_names_replicas_with_their_keys_and_shares_and_claims_with_their_tokens() {
        let world = World::with_keeper_b();
        let detail = cluster_detail(&world.view()).expect("a cluster");
        assert_eq!(detail.status.members, ["keeper-a", "keeper-b"]);
        assert_eq!(detail.sealing_key.as_deref(), Some("00000000000000aa"));
        let [a, b] = &detail.replicas[..] else { panic!("{detail:?}") };
        assert_eq!([&*a.name, &*b.name], ["keeper-a", "keeper-b"]);
        assert_eq!(a.tokens + b.tokens, 100);
        assert!(a.tokens > 20 && b.tokens > 20, "{detail:?}");
        assert_eq!(b.keys, ["00000000000000aa", "00000000000000bb"]);
        let [claim] = &detail.claims[..] else { panic!("{detail:?}") };
        assert_eq!([&*claim.token, &*claim.server], ["a/b c", "sarus"]);
        assert_eq!(claim.claim.replica, "keeper-b");
        assert_eq!(detail.rekey, Some(world.rekey.clone()));
    }

    #[tokio::test]
    async fn a_token_s_place_is_the_replica_that_checks_it_and_the_claim() {
        let world = World::with_keeper_b();
        let cluster = world.view().cluster.expect("a cluster");
        let claim = cluster.place_of("sarus", "a/b c").claim.expect("a claim");
        assert_eq!(
            claim.view(NOW + Duration::from_secs(12)),
            ClaimView { replica: "keeper-b".to_owned(), age_ms: 12_000 }
        );
        assert!(cluster.place_of("sarus", "token-1").claim.is_none());
        assert_eq!(world.replicas_of_tokens(), ["keeper-a"], "only keeper-a lists tokens");
        let mut world = world;
        for number in 0..100 {
            world.replica.unlist(TokenKey::new("sarus", &format!("token-{number}")).hash(), NOW);
        }
        assert_eq!(world.replicas_of_tokens(), ["keeper-a"], "they are left late");
        world.replica.wake(NOW + Duration::from_secs(10));
        assert_eq!(world.replicas_of_tokens(), ["keeper-a", "keeper-b"], "both list the same");
    }

    #[tokio::test]
    async fn without_a_view_only_this_replica_is_known() {
        let world = World::new();
        let detail = cluster_detail(&world.view()).expect("a cluster");
        assert_eq!(detail.status.members, ["keeper-a"]);
        assert_eq!(detail.replicas.len(), 1);
        assert_eq!(detail.replicas[0].tokens, 100);
        assert_eq!(detail.sealing_key, None);
        assert!(!detail.status.reachable);
        assert_eq!(detail.status.error.as_deref(), Some("etcd has not responded yet"));
        assert_eq!(detail.status.unreachable_since, None);
    }

    #[tokio::test]
    async fn unusable_etcd_is_reported_without_its_error_and_names_to_clients_that_may_not_see_them()
     {
        let mut world = World::new();
        let error = StoreError::Refused("user \"tokenkeep\" has no rights".into());
        world.replica.read_finished(Err(error), NOW);
        let status = |disclosure| world.view().cluster_status(disclosure).expect("a cluster");
        let everything = status(Disclosure::EVERYTHING);
        assert_eq!((everything.reachable, everything.held), (false, 3));
        assert_eq!(everything.error.as_deref(), Some("user \"tokenkeep\" has no rights"));
        assert_eq!(everything.unreachable_since, Some(Timestamp::UNIX_EPOCH));
        let hidden = status(Disclosure { names: false, details: false });
        assert_eq!((hidden.reachable, hidden.error, &*hidden.name), (false, None, ""));
        assert_eq!(hidden.members, Vec::<String>::new());
    }

    #[tokio::test]
    async fn metrics_of_the_cluster_exist_only_in_one() {
        let metrics = |view: &View<'_>| {
            let query = MetricsQuery::new(true, oneshot::channel().0);
            let mut text = String::new();
            encode(&mut text, &query.registry(view, true)).expect("text");
            text
        };
        let world = World::with_keeper_b();
        let text = metrics(&world.view());
        for line in [
            "tokenkeep_cluster_reachable 1",
            "tokenkeep_cluster_members 2",
            "tokenkeep_cluster_claims_total{result=\"granted\"} 0",
            "tokenkeep_cluster_claims_total{result=\"held\"} 0",
            "tokenkeep_cluster_claims_total{result=\"stolen\"} 0",
            "tokenkeep_cluster_claims_total{result=\"lost\"} 0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        let alone = metrics(&View { cluster: None, ..world.view() });
        assert!(!alone.contains("cluster"), "{alone}");
    }

    #[tokio::test]
    async fn a_daemon_alone_shows_no_cluster() {
        let world = World::new();
        let view = View { cluster: None, ..world.view() };
        assert_eq!(view.cluster_status(Disclosure::EVERYTHING), None);
        assert_eq!(cluster_detail(&view).map_err(|error| error.kind), Err(ApiErrorKind::NotFound));
        assert_eq!(view.counts(), Counts::default());
        let in_cluster = Counts { elsewhere: Some(0), ..Counts::default() };
        assert_eq!(world.view().counts(), in_cluster);
        let alone = serde_json::to_string(&Counts::default()).expect("JSON");
        assert!(!alone.contains("elsewhere"), "{alone}");
    }
}
