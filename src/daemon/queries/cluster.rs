//! What clients see of the cluster of replicas.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::digest::Disclosure;
use super::views::View;
use crate::clock;
use crate::cluster::replica::{KeyId, Replica, TokenKey};
use crate::control::{
    ApiError, ClaimOf, ClaimView, ClusterDetail, ClusterStatus, EndpointView, RekeyView,
    ReplicaView,
};
use crate::lifecycle::State;
use crate::settings::Cluster;
use crate::time::{Moment, whole_millis};

/// What queries read of the cluster. Costs nothing to make: it is made for each slice of a scan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClusterView<'a> {
    pub(crate) replica: &'a Replica,
    pub(crate) settings: &'a Cluster,
    /// Since when etcd cannot be used; `None` while it can.
    pub(crate) unreachable_since: Option<Timestamp>,
    /// Number of tokens whose spending is held because etcd cannot be used.
    pub(crate) held: usize,
    /// The configured endpoints, in order.
    pub(crate) endpoints: &'a [EndpointView],
    /// The newest revision of etcd that was seen.
    pub(crate) revision: u64,
    /// The rekey under way, or the last one since the start.
    pub(crate) rekey: Option<&'a RekeyView>,
}

/// Who has to do with a token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The replica that checks it; `None` before there is a view.
    pub(super) replica: Option<&'a str>,
    /// The claim under way.
    pub(super) claim: Option<Claim<'a>>,
}

/// A claim under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) replica: &'a Arc<str>,
    pub(super) seen: Moment,
}

impl Claim<'_> {
    pub(super) fn view(&self, now: Moment) -> ClaimView {
        let age_ms = whole_millis(now.since(self.seen));
        ClaimView { replica: self.replica.to_string(), age_ms }
    }
}

impl<'a> ClusterView<'a> {
    /// Who has to do with the token of this name on `server`.
    pub(super) fn place_of(self, server: &str, name: &str) -> Place<'a> {
        let hash = TokenKey::new(server, name).hash();
        Place {
            replica: self.replica.asker(hash).map(|replica| &**replica),
            claim: self.replica.claim_of(hash).map(|(replica, seen)| Claim { replica, seen }),
        }
    }

    fn replicas(self) -> Vec<ReplicaView> {
        let records: HashMap<_, _> = self.replica.member_records().collect();
        let replicas = self.replica.shares().into_iter().map(|(name, tokens)| {
            let record = records.get(&name);
            ReplicaView {
                name: name.to_string(),
                tokens,
                format: record.map(|record| record.format),
                keys: record.into_iter().flat_map(|record| &record.keys).map(hex).collect(),
            }
        });
        replicas.collect()
    }

    fn claims(self) -> Vec<ClaimOf> {
        let now = clock::now();
        let claims = self.replica.claims().filter_map(|(token, replica, seen)| {
            let (server, token) = token.names()?;
            Some(ClaimOf { token, server, claim: Claim { replica, seen }.view(now) })
        });
        let mut claims: Vec<_> = claims.collect();
        claims.sort_by(|one, other| one.token.cmp(&other.token));
        claims
    }
}

impl View<'_> {
    /// The cluster, if this daemon is a replica. The error and the names of replicas are shown as
    /// those of tokens and servers are.
    pub(crate) fn cluster_status(&self, disclosure: Disclosure) -> Option<ClusterStatus> {
        let cluster = self.cluster?;
        let counts = self.tokens.scheduler.state_counts();
        let elsewhere = counts.of(State::Elsewhere);
        let error = cluster.replica.unreachable();
        let members = || cluster.replica.members().iter().map(ToString::to_string).collect();
        Some(ClusterStatus {
            name: if disclosure.names { cluster.settings.name.clone() } else { String::new() },
            members: if disclosure.names { members() } else { Vec::new() },
            reachable: error.is_none(),
            error: error.filter(|_| disclosure.details).map(str::to_owned),
            unreachable_since: cluster.unreachable_since.filter(|_| error.is_some()),
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
        sealing_key: cluster.replica.seal_key().as_ref().map(hex),
        endpoints: cluster.endpoints.to_vec(),
        replicas: cluster.replicas(),
        claims: cluster.claims(),
        rekey: cluster.rekey.cloned(),
    })
}

fn hex(KeyId(id): &KeyId) -> String {
    format!("{id:016x}")
}
