//! Server-sent events (SSE) for one dashboard client: a full snapshot first, then the changes once
//! a second.
//!
//! Events are made from snapshots outside of the main loop, in chunks of at most 1,000 rows, so that
//! they block nothing. A slow client skips snapshots; they are never queued.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::response::sse::Event;
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::watch;

use super::{Broadcaster, EventNote, Snapshot, TokenRow};
use crate::clock;
use crate::control::summary::Summary;
use crate::control::{ClusterStatus, Counts};
use crate::time::{Moment, whole_millis};

/// Rows per chunk: 60 KB, encoded in a third of a millisecond.
const ROWS_PER_CHUNK: usize = 1_000;

/// The first event of a stream.
#[derive(Debug, Clone, Serialize)]
pub(in crate::control) struct Hello {
    /// The daemon's version.
    pub(in crate::control) version: &'static str,
    /// Whether token names are shown.
    pub(in crate::control) names: bool,
}

/// A chunk of a snapshot or of a change.
#[derive(Serialize)]
struct RowChunk<R> {
    rows: Vec<R>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gone: Vec<u32>,
    more: bool,
}

/// Sent each second even without changes, so that the client notices a lost connection.
#[derive(Serialize)]
struct Overview<'a, S> {
    summary: &'a Summary,
    states: &'a Counts,
    rest: usize,
    servers: Vec<S>,
    next_check_ms: Option<u64>,
    config_rejected_at_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a ClusterStatus>,
    /// The daemon's clock, in Unix time.
    now_ms: i64,
}

/// The event stream for one client.
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

/// State of one client.
struct SseClient {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// The snapshot that was sent last or is being sent.
    snapshot: Option<Arc<Snapshot>>,
    /// Indices of the rows that are still to be sent, in reverse order.
    rows: Vec<usize>,
    gone: Vec<u32>,
    /// Whether the rows belong to the first snapshot.
    first: bool,
    /// Sequence number of the last event that was sent.
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

    /// The next SSE event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if !self.rows.is_empty() || !self.gone.is_empty() {
                // Let other tasks run between two chunks.
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

    /// Starts to send `snapshot`. The counts come first, because rows refer to the servers in them.
    fn start_snapshot(&mut self, snapshot: Arc<Snapshot>, now: Moment) {
        let next_check_ms = snapshot.next_check.map(|next| whole_millis(next.since(now)));
        let Snapshot { summary, states, rest, servers, .. } = &*snapshot;
        self.push_event(
            "counts",
            &Overview {
                summary,
                states,
                rest: *rest,
                servers: servers.iter().map(|server| server.to_wire(now)).collect(),
                next_check_ms,
                config_rejected_at_ms: snapshot
                    .config_rejected
                    .map(jiff::Timestamp::as_millisecond),
                cluster: snapshot.cluster.as_ref(),
                now_ms: clock::wall_clock().as_millisecond(),
            },
        );
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

    /// Queues an event with the next chunk of rows.
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
        // Serialization of numbers, strings and lists cannot fail.
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

    /// The names and data of the events that a client gets for these snapshots.
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
        EventNote { seq, at_ms: 0, event, level, token: None, server: None, replica: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_begins_with_hello_and_a_full_snapshot() {
        let events = sent([snapshot([row(1), row(2)])]).await;
        assert_eq!(names(&events), ["hello", "counts", "snapshot"]);
        assert_eq!(events[0].1["version"], "1.2.3");
        assert_eq!(events[2].1["rows"].as_array().map(Vec::len), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_is_sent_in_ordered_chunks_of_a_thousand_rows() {
        let events = sent([snapshot((0..2_500).map(row))]).await;
        let pieces: Vec<_> = events.iter().filter(|(name, _)| name == "snapshot").collect();
        let sizes = pieces.iter().map(|(_, piece)| piece["rows"].as_array().map(Vec::len));
        assert_eq!(sizes.collect::<Vec<_>>(), [Some(1_000), Some(1_000), Some(500)]);
        let more = pieces.iter().map(|(_, piece)| piece["more"].as_bool());
        assert_eq!(more.collect::<Vec<_>>(), [Some(true), Some(true), Some(false)]);
        assert_eq!(pieces[2].1["rows"][499][0], 2_499);
    }

    #[tokio::test(start_paused = true)]
    async fn later_snapshots_are_sent_as_changes() {
        let dead = TokenRow { state: "expired", until: None, ..row(2) };
        let events = sent([snapshot([row(1), row(2), row(3)]), snapshot([row(1), dead])]).await;
        let (name, change) = events.last().expect("events");
        assert_eq!(name, "change");
        assert_eq!(change["rows"].as_array().map(Vec::len), Some(1));
        assert_eq!(change["rows"][0][3], "expired");
        assert_eq!(change["gone"], serde_json::json!([3]));
    }

    #[tokio::test(start_paused = true)]
    async fn counts_are_sent_each_second_without_a_change() {
        let events = sent([snapshot([row(1)]), snapshot([row(1)])]).await;
        assert_eq!(names(&events), ["hello", "counts", "snapshot", "counts"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_sent_once() {
        let with = |notes: Vec<EventNote>| Snapshot { notes, ..Snapshot::default() };
        let events = sent([with(vec![note(1), note(2)]), with(vec![note(2), note(3)])]).await;
        let rendered = events.iter().filter(|(name, _)| name == "note");
        let rendered: Vec<_> =
            rendered.map(|(_, note)| note["seq"].as_u64().expect("a number")).collect();
        assert_eq!(rendered, [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_gets_the_newest_snapshot_only() {
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
