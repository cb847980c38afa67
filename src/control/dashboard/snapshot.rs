//! Snapshot of the dashboard, and the difference between two snapshots.
//!
//! Pure. A row contains moments instead of remaining times, so that the passing of time is not a
//! change. The page counts down by itself.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::control::Counts;
use crate::control::summary::Summary;
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
    /// The next check; `None` if none is planned.
    pub next_check: Option<Moment>,
}

impl TokenRow {
    /// The row in the wire format: id, name, server, state, remaining life, life, and time until the
    /// next check, in milliseconds.
    pub(super) fn to_wire(&self, now: Moment) -> impl Serialize + use<'_> {
        let ahead = |moment: Moment| whole_millis(moment.since(now));
        let (left, next) = (self.until.map(ahead), self.next_check.map(ahead));
        (self.id, self.name.as_deref(), self.server, self.state, left, self.life_ms, next)
    }
}

/// One server and its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ServerCounts {
    /// The server's name.
    pub name: Arc<str>,
    /// Whether the server is unavailable.
    pub down: bool,
    /// Its tokens by state.
    pub states: Counts,
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
    use super::*;

    pub(in super::super) fn row(id: u32) -> TokenRow {
        TokenRow {
            id,
            name: Some(format!("token-{id}").into()),
            server: 0,
            state: "alive",
            until: Some(Moment::from_millis(5_000)),
            life_ms: Some(4_000),
            next_check: Some(Moment::from_millis(3_000)),
        }
    }

    pub(in super::super) fn snapshot(rows: impl IntoIterator<Item = TokenRow>) -> Snapshot {
        Snapshot { rows: rows.into_iter().collect(), ..Snapshot::default() }
    }

    #[test]
    fn wire_rows_contain_times_relative_to_now() {
        let rendered = serde_json::to_string(&row(7).to_wire(Moment::from_millis(2_500)));
        assert_eq!(rendered.expect("JSON"), r#"[7,"token-7",0,"alive",2500,4000,500]"#);
    }

    #[test]
    fn past_times_are_zero_and_unknown_times_are_null() {
        let unknown = TokenRow { name: None, life_ms: None, next_check: None, ..row(7) };
        let rendered = serde_json::to_string(&unknown.to_wire(Moment::from_millis(9_000)));
        assert_eq!(rendered.expect("JSON"), r#"[7,null,0,"alive",0,null,null]"#);
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
