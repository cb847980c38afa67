//! From tracing's event to bytes in a writer: one event, one write.

use std::io::Write;
use std::sync::Arc;

use jiff::Timestamp;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer};

use super::Name;
use super::format::Format;
use super::queue::Losses;
use super::record::{Record, Value};

/// Writes every event that reaches it.
pub(super) struct Lines<W> {
    format: Format,
    writer: W,
    losses: Arc<Losses>,
    clock: fn() -> Timestamp,
}

/// A layer that renders events and hands each to `writer` as one piece.
///
/// A line that was lost on its way (see [`Losses`]) is owned up to by the next one.
pub(super) fn layer<W>(
    format: Format,
    writer: W,
    losses: Arc<Losses>,
    clock: fn() -> Timestamp,
) -> Lines<W>
where
    W: for<'w> MakeWriter<'w> + 'static,
{
    Lines { format, writer, losses, clock }
}

impl<W: for<'w> MakeWriter<'w>> Lines<W> {
    /// The writer is lossy by design, and there is nobody to tell but the log itself.
    fn put(&self, record: &Record) {
        let _ = self.writer.make_writer().write_all(&self.format.render(record));
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let now = (self.clock)();
        if let Some(lost) = self.losses.take() {
            self.put(&loss(lost, now));
        }
        self.put(&Record::of(event, now));
    }
}

fn loss(lost: u64, now: Timestamp) -> Record {
    let mut record = Record::own(Name::EventsSuppressed, Level::WARN, now, loss_message(lost));
    record.fields.push(("suppressed".into(), Value::Unsigned(lost)));
    record
}

/// What is said of lines that were lost.
pub(super) fn loss_message(lost: u64) -> String {
    format!("{lost} log lines were lost: the reader of the log stalled or went away")
}
