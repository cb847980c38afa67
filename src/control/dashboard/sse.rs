//! What one browser is sent: first everything, then what differs, once a second.
//!
//! Made from frames alone, outside of the daemon's loop and in pieces of at most 1,000 rows, so
//! that nobody waits for it. A browser that is slow gets fewer frames, never a queue of them.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::response::sse::Event;
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::watch;

use super::{Broadcaster, EventNote, ServerCounts, Snapshot, TokenRow};
use crate::clock;
use crate::control::Counts;
use crate::time::{Moment, whole_millis};

/// A thousand rows are 60 KB, made in a third of a millisecond.
const ROWS_PER_CHUNK: usize = 1_000;

/// What a browser is told first.
#[derive(Debug, Clone, Serialize)]
pub(in crate::control) struct Hello {
    /// The daemon's version.
    pub(in crate::control) version: &'static str,
    /// Whether tokens are shown by their names.
    pub(in crate::control) names: bool,
}

/// A part of a snapshot or of what has changed.
#[derive(Serialize)]
struct RowChunk<R> {
    rows: Vec<R>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gone: Vec<u32>,
    more: bool,
}

/// What is told each second whatever has changed: so a browser notices when it stops.
#[derive(Serialize)]
struct Overview<'a> {
    states: &'a Counts,
    rest: usize,
    servers: &'a [ServerCounts],
    next_check_ms: Option<u64>,
    config_rejected_at_ms: Option<i64>,
}

/// The events for one browser, for as long as it listens.
pub(in crate::control) fn stream(
    broadcaster: &Broadcaster,
    hello: &Hello,
) -> impl Stream<Item = Event> + Send + use<> {
    let mut client = SseClient::new(broadcaster.subscribe());
    client.push_event("hello", hello);
    unfold(client, async |mut client| {
        let event = client.next().await?;
        Some((event, client))
    })
}

/// What one browser knows.
struct SseClient {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// What it was sent last, or is being sent.
    snapshot: Option<Arc<Snapshot>>,
    /// The rows of the frame that are still to be sent, by index, last first.
    rows: Vec<usize>,
    gone: Vec<u32>,
    /// The rows belong to the first frame.
    first: bool,
    /// The last note that was sent.
    last_seq: u64,
    events: VecDeque<Event>,
}

impl SseClient {
    fn new(snapshots: watch::Receiver<Option<Arc<Snapshot>>>) -> Self {
        Self {
            snapshots,
            snapshot: None,
            rows: Vec::new(),
            gone: Vec::new(),
            first: true,
            last_seq: 0,
            events: VecDeque::new(),
        }
    }

    /// The next event; `None` when there will be none.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if !self.rows.is_empty() || !self.gone.is_empty() {
                // Others have their turn between two pieces.
                tokio::task::yield_now().await;
                self.push_chunk(clock::now());
                continue;
            }
            self.snapshots.changed().await.ok()?;
            let snapshot = self.snapshots.borrow_and_update().clone();
            if let Some(snapshot) = snapshot {
                self.start_snapshot(snapshot, clock::now());
            }
        }
    }

    /// Goes on to `snapshot`: counts first, as rows refer to the servers in them.
    fn start_snapshot(&mut self, snapshot: Arc<Snapshot>, now: Moment) {
        let next_check_ms = snapshot.next_check.map(|next| whole_millis(next.since(now)));
        let Snapshot { states, rest, servers, .. } = &*snapshot;
        let overview = Overview {
            states,
            rest: *rest,
            servers,
            next_check_ms,
            config_rejected_at_ms: snapshot.config_rejected.map(jiff::Timestamp::as_millisecond),
        };
        self.push_event("counts", &overview);
        self.first = self.snapshot.is_none();
        (self.rows, self.gone) = match &self.snapshot {
            Some(before) => snapshot.diff(before),
            None => snapshot.diff(&Snapshot::default()),
        };
        self.rows.reverse();
        let unknown = |note: &&EventNote| note.seq > self.last_seq;
        let notes: Vec<&EventNote> = snapshot.notes.iter().filter(unknown).collect();
        if let Some(last) = notes.last().map(|note| note.seq) {
            self.last_seq = last;
            for note in notes {
                self.push_event("note", note);
            }
        }
        self.snapshot = Some(snapshot);
    }

    /// Makes an event of the next rows that are due.
    fn push_chunk(&mut self, now: Moment) {
        let Some(snapshot) = self.snapshot.clone() else { return };
        let at = self.rows.len().saturating_sub(ROWS_PER_CHUNK);
        let indices = self.rows.split_off(at);
        let rendered =
            |index: &usize| snapshot.rows.get(*index).map(|row: &TokenRow| row.to_wire(now));
        let rows: Vec<_> = indices.iter().rev().filter_map(rendered).collect();
        let gone = std::mem::take(&mut self.gone);
        let name = if self.first { "snapshot" } else { "change" };
        self.push_event(name, &RowChunk { rows, gone, more: !self.rows.is_empty() });
    }

    fn push_event(&mut self, name: &str, data: &impl Serialize) {
        // What is told is made of numbers, words and lists: it always is JSON.
        if let Ok(data) = serde_json::to_string(data) {
            self.events.push_back(Event::default().event(name).data(data));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use axum::body::to_bytes;
    use axum::response::{IntoResponse as _, Sse};
    use futures_util::StreamExt as _;

    use super::*;
    use crate::control::dashboard::snapshot::tests::{row, snapshot};

    const HELLO: Hello = Hello { version: "1.2.3", names: true };

    /// What a browser is sent that watches while the daemon shows these frames: the events'
    /// names and data.
    async fn sent(
        snapshots: impl IntoIterator<Item = Snapshot>,
    ) -> Vec<(String, serde_json::Value)> {
        let broadcaster = Broadcaster::new();
        let events = stream(&broadcaster, &HELLO).map(Ok::<_, std::convert::Infallible>);
        let body = Sse::new(events).into_response().into_body();
        let snapshots = RefCell::new(snapshots.into_iter());
        let producing = async move {
            broadcaster.run(async || snapshots.borrow_mut().next()).await;
        };
        let (bytes, ()) = tokio::join!(to_bytes(body, usize::MAX), producing);
        let text = String::from_utf8(bytes.expect("a body").to_vec()).expect("UTF-8");
        let events = text.split_terminator("\n\n").map(|event| {
            let (name, data) = event.split_once('\n').expect("two lines");
            let name = name.strip_prefix("event: ").expect("a name").to_owned();
            let data = data.strip_prefix("data: ").expect("data");
            (name, serde_json::from_str(data).expect("JSON"))
        });
        events.collect()
    }

    fn names(events: &[(String, serde_json::Value)]) -> Vec<&str> {
        events.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn note(seq: u64) -> EventNote {
        let (event, level) = ("token_expired", "error");
        EventNote { seq, at_ms: 0, event, level, token: None, server: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_browser_is_greeted_and_then_sent_everything() {
        let events = sent([snapshot([row(1), row(2)])]).await;
        assert_eq!(names(&events), ["hello", "counts", "snapshot"]);
        assert_eq!(events[0].1["version"], "1.2.3");
        assert_eq!(events[2].1["rows"].as_array().map(Vec::len), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_comes_in_pieces_of_a_thousand_rows_in_their_order() {
        let events = sent([snapshot((0..2_500).map(row))]).await;
        let pieces: Vec<_> = events.iter().filter(|(name, _)| name == "snapshot").collect();
        let sizes = pieces.iter().map(|(_, piece)| piece["rows"].as_array().map(Vec::len));
        assert_eq!(sizes.collect::<Vec<_>>(), [Some(1_000), Some(1_000), Some(500)]);
        let more = pieces.iter().map(|(_, piece)| piece["more"].as_bool());
        assert_eq!(more.collect::<Vec<_>>(), [Some(true), Some(true), Some(false)]);
        assert_eq!(pieces[2].1["rows"][499][0], 2_499);
    }

    #[tokio::test(start_paused = true)]
    async fn later_it_is_sent_only_what_differs() {
        let dead = TokenRow { state: "expired", until: None, ..row(2) };
        let events = sent([snapshot([row(1), row(2), row(3)]), snapshot([row(1), dead])]).await;
        let (name, change) = events.last().expect("events");
        assert_eq!(name, "change");
        assert_eq!(change["rows"].as_array().map(Vec::len), Some(1));
        assert_eq!(change["rows"][0][3], "expired");
        assert_eq!(change["gone"], serde_json::json!([3]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_without_a_change_is_told_all_the_same() {
        let events = sent([snapshot([row(1)]), snapshot([row(1)])]).await;
        assert_eq!(names(&events), ["hello", "counts", "snapshot", "counts"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_note_is_sent_once() {
        let with = |notes: Vec<EventNote>| Snapshot { notes, ..Snapshot::default() };
        let events = sent([with(vec![note(1), note(2)]), with(vec![note(2), note(3)])]).await;
        let rendered = events.iter().filter(|(name, _)| name == "note");
        let rendered: Vec<_> =
            rendered.map(|(_, note)| note["seq"].as_u64().expect("a number")).collect();
        assert_eq!(rendered, [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_browser_that_was_slow_is_sent_the_newest_frame_only() {
        let broadcaster = Broadcaster::new();
        let mut client = SseClient::new(broadcaster.subscribe());
        let snapshots = RefCell::new([snapshot([row(1)]), snapshot([row(1), row(2)])].into_iter());
        let over = tokio::time::sleep(Duration::from_secs(10));
        tokio::select! {
            () = broadcaster.run(async || snapshots.borrow_mut().next()) => {}
            () = over => {}
        }
        while client.rows.is_empty() {
            drop(client.next().await.expect("an event"));
        }
        assert_eq!(client.rows, [1, 0]);
    }
}
