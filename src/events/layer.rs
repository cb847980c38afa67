//! From tracing's event to bytes: one event, one line.

use jiff::Timestamp;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::Name;
use super::format::Format;
use super::queue::Line;
use super::record::{Record, Value};

/// Renders every event that reaches it.
pub(super) struct Lines<F> {
    format: Format,
    clock: fn() -> Timestamp,
    sink: F,
}

/// A layer that renders events and hands each line to `sink`, which does not block.
pub(super) fn layer<F>(format: Format, clock: fn() -> Timestamp, sink: F) -> Lines<F>
where
    F: Fn(Line) + Send + Sync + 'static,
{
    Lines { format, clock, sink }
}

impl<S, F> Layer<S> for Lines<F>
where
    S: Subscriber,
    F: Fn(Line) + Send + Sync + 'static,
{
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let record = Record::of(event, (self.clock)());
        let is_error = record.level == Level::ERROR && record.event.is_some();
        (self.sink)(Line { bytes: self.format.render(&record), is_error });
    }
}

/// The record that reports lines that were lost.
pub(super) fn loss(lost: u64, now: Timestamp) -> Record {
    let message =
        format!("{lost} log lines were lost: they could not be written in time, or at all");
    let mut record = Record::own(Name::EventsSuppressed, Level::WARN, now, message);
    record.fields.push(("suppressed".into(), Value::Unsigned(lost)));
    record
}
