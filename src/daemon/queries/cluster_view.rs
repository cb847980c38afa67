//! What queries read of the cluster of replicas.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::clock;
use crate::cluster::replica::{KeyId, Replica, TokenKey};
use crate::control::{ClaimOf, ClaimView, EndpointView, RekeyView, ReplicaView};
use crate::settings::Cluster;
use crate::time::{Moment, whole_millis};

/// Why etcd cannot be used after the start, until its first response or one `failover`.
const NOT_YET: &str = "etcd has not responded yet";

/// What queries read of the cluster. Costs nothing to make: it is made for each slice of a scan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClusterView<'a> {
    pub(crate) replica: &'a Replica,
    pub(crate) settings: &'a Cluster,
    /// Since when etcd cannot be used; `None` while it can, and until its first response.
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
    /// The replica that checks it: this one, or the computed one. `None` before there is a view.
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
        let token = TokenKey::new(server, name);
        Place {
            replica: self.replica.asker(&token).map(|replica| {
                if self.replica.asks(&token) { self.settings.name.as_str() } else { &**replica }
            }),
            claim: self
                .replica
                .claim_of(token.hash())
                .map(|(replica, seen)| Claim { replica, seen }),
        }
    }

    /// The names of the living replicas; without a view only this one is known to live.
    pub(super) fn members(self) -> Vec<String> {
        let members: Vec<_> = self.replica.members().iter().map(ToString::to_string).collect();
        if members.is_empty() { vec![self.settings.name.clone()] } else { members }
    }

    /// Why etcd cannot be used, if it cannot.
    pub(super) fn unreachable(self) -> Option<&'a str> {
        self.replica.unreachable().or_else(|| (!self.replica.has_view()).then_some(NOT_YET))
    }

    pub(super) fn replicas(self) -> Vec<ReplicaView> {
        let records: HashMap<_, _> = self.replica.member_records().collect();
        let replicas = self.replica.shares().into_iter().map(|(name, tokens)| {
            let record = records.get(&name);
            ReplicaView {
                name: name.to_string(),
                tokens,
                format: record.map(|record| record.format),
                keys: record
                    .into_iter()
                    .flat_map(|record| &record.keys)
                    .map(|key| hex(*key))
                    .collect(),
                unreachable: record
                    .into_iter()
                    .flat_map(|record| &record.unreachable)
                    .filter_map(|server| TokenKey::decode_server(server))
                    .collect(),
            }
        });
        replicas.collect()
    }

    pub(super) fn claims(self) -> Vec<ClaimOf> {
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

/// A key's id as text.
pub(super) fn hex(KeyId(id): KeyId) -> String {
    format!("{id:016x}")
}
