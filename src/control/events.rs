//! The recorded events, as the control API returns them.
//!
//! The main loop examines a bounded number of events for each [`EventScan`], so that a search of
//! the whole history delays no check. A request repeats the command until its page is full.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ApiError, ApiErrorKind, EventView};
use crate::settings::NamePattern;

/// Events of a page without a limit.
const DEFAULT_LIMIT: usize = 100;

/// Events of the longest page.
pub const MAX_EVENTS: usize = 1_000;

/// Query parameters of a page of events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventParams {
    /// Only events of tokens with this name, or whose names match this pattern: `*` is any text,
    /// `?` any character.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The first events with a higher sequence number, to follow the history without a gap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// The last events with a lower sequence number, to read the history backwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Maximum number of events, 1 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A recorded event with the token or server that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedEvent {
    /// Its number since the start of the daemon, from 1.
    pub seq: u64,
    /// The token's name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<String>,
    /// The server's name, for an event of a server.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub server: Option<String>,
    /// Time, level, name and message.
    #[serde(flatten)]
    pub event: EventView,
}

/// What the history covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// When the daemon started, in UTC. Another value means that it was restarted: the sequence
    /// numbers began again.
    pub started: Timestamp,
    /// The history is complete from this time on.
    pub since: Timestamp,
    /// Older events of this run, which are not kept any more.
    pub dropped: u64,
}

/// One page of events, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPage {
    /// What the history covers.
    #[serde(flatten)]
    pub coverage: Coverage,
    /// The events.
    pub events: Vec<RecordedEvent>,
    /// The value of `after` that continues after this page; for a request without `after`, that
    /// continues after the newest event.
    pub next: u64,
}

/// Where a scan continues, by the sequence numbers of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventCursor {
    /// Forwards, with the next higher one.
    After(u64),
    /// Backwards, with the next lower one.
    Before(u64),
}

/// A step of a search in the history.
#[derive(Debug)]
pub struct EventScan {
    /// The tokens; `None` for all events.
    pub filter: Option<NamePattern>,
    /// Where to continue.
    pub cursor: EventCursor,
    /// Maximum number of events that are returned.
    pub limit: usize,
}

/// The result of a step.
#[derive(Debug)]
pub struct EventScanResult {
    /// What the history covers.
    pub coverage: Coverage,
    /// The events that were found, in the order of the scan.
    pub events: Vec<RecordedEvent>,
    /// Where the scan continues; `None` at its end.
    pub cursor: Option<EventCursor>,
    /// The last event that a forward scan has examined; of a backward scan, the newest event.
    pub last: u64,
}

/// Reads a page. `step` sends a scan to the main loop.
pub(super) async fn read_page<F>(
    params: EventParams,
    mut step: impl FnMut(EventScan) -> F,
) -> Result<EventPage, ApiError>
where
    F: Future<Output = Result<EventScanResult, ApiError>>,
{
    let bad = |message: &str| ApiError::new(ApiErrorKind::BadRequest, message);
    let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_EVENTS).contains(&limit) {
        return Err(bad("limit: must be a number from 1 to 1000"));
    }
    let mut cursor = match (params.after, params.before) {
        (Some(_), Some(_)) => return Err(bad("after and before exclude each other")),
        (Some(after), None) => EventCursor::After(after),
        (None, before) => EventCursor::Before(before.unwrap_or(u64::MAX)),
    };
    let is_backward = matches!(cursor, EventCursor::Before(_));
    let filter = params.token.as_deref().map(NamePattern::parse).transpose();
    let filter = filter.map_err(|error| bad(&format!("token: {error}")))?;
    let mut page: Option<EventPage> = None;
    loop {
        let found = page.as_ref().map_or(0, |page| page.events.len());
        let scan = EventScan { filter: filter.clone(), cursor, limit: limit - found };
        let EventScanResult { coverage, events, cursor: next, last } = step(scan).await?;
        let page = page.get_or_insert(EventPage { coverage, events: Vec::new(), next: last });
        page.events.extend(events);
        if !is_backward {
            page.next = last;
        }
        match next.filter(|_| page.events.len() < limit) {
            Some(next) => cursor = next,
            None => break,
        }
    }
    let mut page = page.ok_or_else(ApiError::stopping)?;
    if is_backward {
        page.events.reverse();
    }
    Ok(page)
}
