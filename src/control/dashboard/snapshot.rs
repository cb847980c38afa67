//! What the page shows at one instant, and what differs between two instants.
//!
//! Pure. A row holds moments, not times left: so a life that merely runs down is no change, and
//! the page lets it run down by itself.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::control::Counts;
use crate::time::{Moment, whole_millis};

/// So many tokens are shown, the worst of them; the others are counted.
pub const MAX_ROWS: usize = 10_000;

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Its number, given anew once the token is gone.
    pub id: u32,
    /// Its name, unless names are not to be shown.
    pub name: Option<Arc<str>>,
    /// Its server, as an index into the frame's.
    pub server: usize,
    /// The word for its state.
    pub state: &'static str,
    /// Until when it is known to live, past or ahead; `None` while nothing is known.
    pub until: Option<Moment>,
    /// Its life at the last renewal, in milliseconds.
    pub life_ms: Option<u64>,
    /// When it is asked about next; `None` if that is not planned.
    pub next_check: Option<Moment>,
}

impl TokenRow {
    /// As the stream tells it: number, name, server, state, milliseconds left and of life, and
    /// until the next check.
    pub(super) fn to_wire(&self, now: Moment) -> impl Serialize + use<'_> {
        let ahead = |moment: Moment| whole_millis(moment.since(now));
        let (left, next) = (self.until.map(ahead), self.next_check.map(ahead));
        (self.id, self.name.as_deref(), self.server, self.state, left, self.life_ms, next)
    }
}

/// One server and its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ServerCounts {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Whether it has stopped answering.
    pub down: bool,
    /// Its tokens by state.
    pub states: Counts,
}

/// Something that happened, other than a routine check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventNote {
    /// Counts events since the start.
    pub seq: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The event's name.
    pub event: &'static str,
    /// `info`, `warn` or `error`.
    pub level: &'static str,
    /// The token's name, unless names are not to be shown.
    pub token: Option<Arc<str>>,
    /// The server's name.
    pub server: Option<Arc<str>>,
}

/// All that the page shows, at one instant.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The tokens that are shown, in ascending order of their numbers.
    pub rows: Vec<TokenRow>,
    /// How many more there are.
    pub rest: usize,
    /// All tokens by state.
    pub states: Counts,
    /// The servers, each at the same index for as long as the daemon runs.
    pub servers: Vec<ServerCounts>,
    /// When the next thing is planned.
    pub next_check: Option<Moment>,
    /// The last events, oldest first.
    pub notes: Vec<EventNote>,
    /// When the configuration on disk was rejected, if it was. The error may name tokens.
    pub config_rejected: Option<Timestamp>,
}

impl Snapshot {
    /// The indices of the rows that `before` lacks or had otherwise, and the numbers of those
    /// that are there no longer.
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
    fn a_row_tells_times_from_the_moment_of_telling() {
        let rendered = serde_json::to_string(&row(7).to_wire(Moment::from_millis(2_500)));
        assert_eq!(rendered.expect("JSON"), r#"[7,"token-7",0,"alive",2500,4000,500]"#);
    }

    #[test]
    fn what_is_past_is_told_as_zero_and_what_is_unknown_as_null() {
        let unknown = TokenRow { name: None, life_ms: None, next_check: None, ..row(7) };
        let rendered = serde_json::to_string(&unknown.to_wire(Moment::from_millis(9_000)));
        assert_eq!(rendered.expect("JSON"), r#"[7,null,0,"alive",0,null,null]"#);
    }

    #[test]
    fn a_life_that_runs_down_is_no_change() {
        let (before, after) = (snapshot([row(1), row(2)]), snapshot([row(1), row(2)]));
        assert_eq!(after.diff(&before), (vec![], vec![]));
    }

    #[test]
    fn what_is_new_changed_or_gone_is_found() {
        let before = snapshot([row(1), row(2), row(4), row(9)]);
        let changed = TokenRow { state: "expired", ..row(4) };
        let after = snapshot([row(0), row(2), row(3), changed]);
        assert_eq!(after.diff(&before), (vec![0, 2, 3], vec![1, 9]));
    }

    #[test]
    fn a_number_that_was_given_anew_is_a_change() {
        let other = TokenRow { name: Some("another".into()), ..row(1) };
        assert_eq!(snapshot([other]).diff(&snapshot([row(1)])), (vec![0], vec![]));
    }

    #[test]
    fn everything_is_new_to_who_has_nothing() {
        assert_eq!(snapshot([row(1), row(5)]).diff(&Snapshot::default()), (vec![0, 1], vec![]));
    }
}
