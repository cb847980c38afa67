//! Snapshot of the dashboard, and the difference between two snapshots.
//!
//! Pure. A row contains moments instead of remaining times, so that the passing of time is not a
//! change. The page counts down by itself.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::control::summary::Summary;
use crate::control::{ClusterStatus, Counts, LifeBasis};
use crate::time::{Moment, whole_millis};

/// Maximum number of tokens shown, worst first. Further tokens are only counted.
pub const MAX_ROWS: usize = 10_000;

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// The token's id. Ids of removed tokens are reused.
    pub id: u32,
    /// The token's name, unless names are hidden.
    pub name: Option<Arc<str>>,
    /// Index of its server in [`Snapshot::servers`].
    pub server: usize,
    /// The name of its state.
    pub state: &'static str,
    /// The last known expiry, past or future; `None` if unknown.
    pub until: Option<Moment>,
    /// Its life at the last renewal, in milliseconds.
    pub life_ms: Option<u64>,
    /// What `until` is based on.
    pub basis: LifeBasis,
    /// The next check; `None` if none is planned.
    pub next_check: Option<Moment>,
    /// When the server reported the value as expired or rejected, unless another value followed.
    pub dead_since: Option<Timestamp>,
    /// How it gets a new value, if it needs one or an attempt is planned; `None` without `reauth`.
    pub reauth: Option<ReauthRow>,
    /// The replica that checks it; `None` without a cluster, or if names are hidden.
    pub replica: Option<Arc<str>>,
    /// The replica that logs in, renews or revokes at present.
    pub claimed_by: Option<Arc<str>>,
}

/// The re-authentication of one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReauthRow {
    /// Whether an attempt is in progress.
    pub running: bool,
    /// Attempts left in this window.
    pub attempts_left: u32,
    /// When the next attempt starts at the earliest; `None` if none is planned.
    pub next: Option<Moment>,
}

impl TokenRow {
    /// The row in the wire format: id, name, server, state, remaining life (negative after the
    /// expiry), life, time until the next check, when it died, its re-authentication (whether an
    /// attempt is in progress, attempts left, and time until the next one), and what its life is based
    /// on if that is no report of it: `assumed` or `endless`. In a cluster also the pair of the
    /// replica that checks it and the one with a claim. Times are in milliseconds; when it died is in Unix time.
    pub(super) fn to_wire(&self, now: Moment) -> impl Serialize + use<'_> {
        let ahead = |moment: Moment| whole_millis(moment.since(now));
        // One of the two is zero.
        let signed = |moment: Moment| {
            let [left, passed] = [moment.since(now), now.since(moment)]
                .map(|time| i64::try_from(whole_millis(time)).unwrap_or(i64::MAX));
            left - passed
        };
        let (left, next) = (self.until.map(signed), self.next_check.map(ahead));
        let dead = self.dead_since.map(Timestamp::as_millisecond);
        let reauth = self
            .reauth
            .map(|reauth| (reauth.running, reauth.attempts_left, reauth.next.map(ahead)));
        let basis = match self.basis {
            LifeBasis::Reported => None,
            LifeBasis::Assumed => Some("assumed"),
            LifeBasis::Endless => Some("endless"),
        };
        let Self { id, server, state, life_ms, .. } = self;
        let name = self.name.as_deref();
        match &self.replica {
            None => {
                RowWire::Alone((id, name, server, state, left, life_ms, next, dead, reauth, basis))
            }
            Some(replica) => {
                let claimed_by = self.claimed_by.as_deref();
                let place = (&**replica, claimed_by);
                RowWire::InCluster((
                    id, name, server, state, left, life_ms, next, dead, reauth, basis, place,
                ))
            }
        }
    }
}

/// A row in the wire format, which is longer in a cluster.
#[derive(Serialize)]
#[serde(untagged)]
enum RowWire<A, C> {
    Alone(A),
    InCluster(C),
}

/// One server and its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerCounts {
    /// The server's name.
    pub name: Arc<str>,
    /// Its outage, if it is unavailable.
    pub outage: Option<OutageRow>,
    /// Until when the server asked for a pause; may be in the past.
    pub throttled_until: Moment,
    /// Its tokens by state.
    pub states: Counts,
}

/// An outage of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutageRow {
    /// The class of the error, in fixed words: it contains nothing that the server or the
    /// configuration says.
    pub reason: Box<str>,
    /// Since when, if that is known.
    pub since: Option<Timestamp>,
}

impl ServerCounts {
    /// The server in the wire format.
    pub(super) fn to_wire(&self, now: Moment) -> impl Serialize + use<'_> {
        let outage = self.outage.as_ref();
        ServerWire {
            name: &self.name,
            down: outage.is_some(),
            reason: outage.map(|outage| &*outage.reason),
            down_since_ms: outage.and_then(|outage| outage.since).map(Timestamp::as_millisecond),
            pause_ms: whole_millis(self.throttled_until.since(now)),
            states: self.states,
        }
    }
}

#[derive(Serialize)]
struct ServerWire<'a> {
    name: &'a str,
    down: bool,
    reason: Option<&'a str>,
    down_since_ms: Option<i64>,
    pause_ms: u64,
    states: Counts,
}

/// An event other than a routine check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventNote {
    /// Sequence number since the start.
    pub seq: u64,
    /// Unix time in milliseconds.
    pub at_ms: i64,
    /// The event's name.
    pub event: &'static str,
    /// `info`, `warn` or `error`.
    pub level: &'static str,
    /// The token's name, unless names are hidden.
    pub token: Option<Arc<str>>,
    /// The server's name.
    pub server: Option<Arc<str>>,
    /// The replica's name, for an event of a replica, unless names are hidden.
    pub replica: Option<Arc<str>>,
}

/// The content of the dashboard at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The sentence about all tokens, without paths and messages.
    pub summary: Summary,
    /// The tokens shown, by ascending id.
    pub rows: Vec<TokenRow>,
    /// Number of further tokens.
    pub rest: usize,
    /// All tokens by state.
    pub states: Counts,
    /// The servers, each at the same index for as long as the daemon runs.
    pub servers: Vec<ServerCounts>,
    /// The next planned check.
    pub next_check: Option<Moment>,
    /// The last events, oldest first.
    pub notes: Vec<EventNote>,
    /// When the configuration on disk was rejected, if it was. The error may name tokens.
    pub config_rejected: Option<Timestamp>,
    /// The cluster of replicas, if there is one.
    pub cluster: Option<ClusterStatus>,
}

impl Snapshot {
    /// The indices of rows that are new or changed since `before`, and the ids of removed rows.
    pub(super) fn diff(&self, before: &Self) -> (Vec<usize>, Vec<u32>) {
        let (mut changed, mut gone) = (Vec::new(), Vec::new());
        let mut old = before.rows.iter().peekable();
        for (index, row) in self.rows.iter().enumerate() {
            while let Some(left) = old.next_if(|old| old.id < row.id) {
                gone.push(left.id);
            }
            if old.next_if(|old| old.id == row.id) != Some(row) {
                changed.push(index);
            }
        }
        gone.extend(old.map(|old| old.id));
        (changed, gone)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in super::super) fn row(id: u32) -> TokenRow {
        TokenRow {
            id,
            name: Some(format!("token-{id}").into()),
            server: 0,
            state: "alive",
            until: Some(Moment::from_millis(5_000)),
            life_ms: Some(4_000),
            basis: LifeBasis::Reported,
            next_check: Some(Moment::from_millis(3_000)),
            dead_since: None,
            reauth: None,
            replica: None,
            claimed_by: None,
        }
    }

    pub(in super::super) fn snapshot(rows: impl IntoIterator<Item = TokenRow>) -> Snapshot {
        Snapshot { rows: rows.into_iter().collect(), ..Snapshot::default() }
    }

    #[test]
    fn wire_rows_contain_times_relative_to_now() {
        let rendered = serde_json::to_string(&row(7).to_wire(Moment::from_millis(2_500)));
        assert_eq!(
            rendered.expect("JSON"),
            r#"[7,"token-7",0,"alive",2500,4000,500,null,null,null]"#
        );
    }

    #[test]
    fn past_expiry_is_negative_and_unknown_times_are_null() {
        let unknown = TokenRow { name: None, life_ms: None, next_check: None, ..row(7) };
        let rendered = serde_json::to_string(&unknown.to_wire(Moment::from_millis(9_000)));
        assert_eq!(rendered.expect("JSON"), r#"[7,null,0,"alive",-4000,null,null,null,null,null]"#);
    }

    #[test]
    fn wire_row_says_if_the_life_is_assumed_or_endless() {
        for (basis, word) in [(LifeBasis::Assumed, "assumed"), (LifeBasis::Endless, "endless")] {
            let row = TokenRow { basis, ..row(7) };
            let rendered = serde_json::to_value(row.to_wire(Moment::from_millis(2_500)));
            assert_eq!(rendered.expect("JSON")[9], word);
        }
    }

    #[test]
    fn wire_row_of_a_dead_token_contains_the_next_reauth_attempt() {
        let next = Some(Moment::from_millis(4_500));
        let reauth = ReauthRow { running: false, attempts_left: 2, next };
        let dead = TokenRow {
            state: "expired",
            until: None,
            next_check: None,
            dead_since: Some(Timestamp::UNIX_EPOCH),
            reauth: Some(reauth),
            ..row(7)
        };
        let rendered = serde_json::to_string(&dead.to_wire(Moment::from_millis(2_500)));
        let expected = r#"[7,"token-7",0,"expired",null,4000,null,0,[false,2,2000],null]"#;
        assert_eq!(rendered.expect("JSON"), expected);
    }

    #[test]
    fn wire_row_in_a_cluster_ends_with_the_replica_and_the_claim() {
        let elsewhere = TokenRow {
            state: "elsewhere",
            until: None,
            next_check: None,
            replica: Some("keeper-b".into()),
            ..row(7)
        };
        let claimed = TokenRow { claimed_by: Some("keeper-b".into()), ..elsewhere.clone() };
        for (row, place) in
            [(elsewhere, json!(["keeper-b", null])), (claimed, json!(["keeper-b", "keeper-b"]))]
        {
            let rendered = serde_json::to_value(row.to_wire(Moment::from_millis(2_500)));
            let expected =
                json!([7, "token-7", 0, "elsewhere", null, 4000, null, null, null, null]);
            let mut expected = expected.as_array().expect("a list").clone();
            expected.push(place);
            assert_eq!(rendered.expect("JSON"), serde_json::Value::Array(expected));
        }
    }

    #[test]
    fn wire_server_contains_the_class_of_the_outage_and_the_pause() {
        let outage = OutageRow { reason: "status 503".into(), since: Some(Timestamp::UNIX_EPOCH) };
        let server = ServerCounts {
            name: "sarus".into(),
            outage: Some(outage),
            throttled_until: Moment::from_millis(9_001),
            ..ServerCounts::default()
        };
        let rendered = serde_json::to_value(server.to_wire(Moment::from_millis(5_001)));
        let rendered = rendered.expect("JSON");
        assert_eq!([&rendered["down"], &rendered["reason"]], [&json!(true), &json!("status 503")]);
        assert_eq!([&rendered["down_since_ms"], &rendered["pause_ms"]], [0, 4_000]);
    }

    #[test]
    fn equal_snapshots_have_no_difference() {
        let (before, after) = (snapshot([row(1), row(2)]), snapshot([row(1), row(2)]));
        assert_eq!(after.diff(&before), (vec![], vec![]));
    }

    #[test]
    fn new_changed_and_removed_rows_are_found() {
        let before = snapshot([row(1), row(2), row(4), row(9)]);
        let changed = TokenRow { state: "expired", ..row(4) };
        let after = snapshot([row(0), row(2), row(3), changed]);
        assert_eq!(after.diff(&before), (vec![0, 2, 3], vec![1, 9]));
    }

    #[test]
    fn a_reused_id_is_a_change() {
        let other = TokenRow { name: Some("another".into()), ..row(1) };
        assert_eq!(snapshot([other]).diff(&snapshot([row(1)])), (vec![0], vec![]));
    }

    #[test]
    fn all_rows_are_new_compared_to_an_empty_snapshot() {
        assert_eq!(snapshot([row(1), row(5)]).diff(&Snapshot::default()), (vec![0, 1], vec![]));
    }
}
