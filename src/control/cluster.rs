//! Response types about the cluster of replicas. Absent from all responses of a daemon alone.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The cluster as this replica sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Name of this replica.
    pub name: String,
    /// Names of the living replicas, sorted, with this one; as last seen if etcd cannot be used.
    pub members: Vec<String>,
    /// Whether etcd can be used.
    pub reachable: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// Since when not, as RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unreachable_since: Option<Timestamp>,
    /// Number of tokens whose login, renewal or revocation waits for etcd.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub held: usize,
    /// Number of tokens that this replica checks.
    pub asked: usize,
    /// Number of tokens that other replicas check.
    pub elsewhere: usize,
}

/// The cluster in detail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterDetail {
    /// The cluster.
    #[serde(flatten)]
    pub status: ClusterStatus,
    /// Prefix of all keys in etcd.
    pub prefix: String,
    /// Time after which a silent replica no longer counts.
    pub failover_ms: u64,
    /// The newest revision of etcd that this replica has seen.
    pub revision: u64,
    /// Id of the key that seals new values; `None` if it is not known.
    pub sealing_key: Option<String>,
    /// The configured endpoints of etcd, in order.
    pub endpoints: Vec<EndpointView>,
    /// The living replicas, by name.
    pub replicas: Vec<ReplicaView>,
    /// The claims under way, by name of the token.
    pub claims: Vec<ClaimOf>,
    /// The rekey under way, or the last one since the start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rekey: Option<RekeyView>,
}

/// An endpoint of etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointView {
    /// Its URL.
    pub url: String,
    /// Version of its etcd; `None` if it does not respond.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// Why it does not respond.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// A living replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaView {
    /// Its name.
    pub name: String,
    /// Number of tokens that it checks. Tokens that the responding replica does not list are not counted.
    pub tokens: usize,
    /// The newest format of the records that it can write; `None` if it is not known.
    pub format: Option<u32>,
    /// Ids of the keys that it can open.
    pub keys: Vec<String>,
    /// Names of the servers that it cannot reach: other replicas check its tokens on them as well.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unreachable: Vec<String>,
}

/// A replica spends for a token: it logs in, renews with a refresh token, or revokes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimView {
    /// Name of the replica.
    pub replica: String,
    /// Time since the claim was seen.
    pub age_ms: u64,
}

/// A claim, with its token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimOf {
    /// Name of the token.
    pub token: String,
    /// Name of its server.
    pub server: String,
    /// The claim.
    #[serde(flatten)]
    pub claim: ClaimView,
}

/// Re-encryption of all values in etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RekeyView {
    /// Whether it is under way.
    pub running: bool,
    /// Number of values that are encrypted with the new key.
    pub done: usize,
    /// Number of values.
    pub total: usize,
    /// Why it has failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(number: &usize) -> bool {
    *number == 0
}
