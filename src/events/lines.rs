//! From an event to bytes: one event, one line.
//!
//! It is a layer of tracing for the events of libraries. Our own events go to the same layer
//! directly, so that their fields are never looked up by name.

use jiff::Timestamp;
use tracing::{Event, Level, Subscriber, dispatcher};
use tracing_subscriber::layer::{Context, Layer};

use super::format::Format;
use super::queue::Line;
use super::record::{Record, Values};
use super::{Name, Severity};

/// Renders every event that reaches it, and hands each line to a sink that does not block.
pub(super) struct Lines {
    format: Format,
    clock: fn() -> Timestamp,
    sink: Box<dyn Fn(Line) + Send + Sync>,
}

impl Lines {
    pub(super) fn new(
        format: Format,
        clock: fn() -> Timestamp,
        sink: impl Fn(Line) + Send + Sync + 'static,
    ) -> Self {
        Self { format, clock, sink: Box::new(sink) }
    }

    fn add(&self, record: &Record) {
        let is_error = record.level == Level::ERROR && record.event.is_some();
        (self.sink)(Line { bytes: self.format.render(record), is_error });
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        self.add(&Record::of(event, (self.clock)()));
    }
}

/// Writes an event of ours, which the filter has let through; without a log, does nothing.
pub(super) fn write(name: Name, severity: Severity, message: &str, mut fields: Values) {
    dispatcher::get_default(|log| {
        if let Some(lines) = log.downcast_ref::<Lines>() {
            let (now, fields) = ((lines.clock)(), std::mem::take(&mut fields));
            lines.add(&Record::own(name, severity.into(), now, message.to_owned(), fields));
        }
    });
}

/// The record that reports lines that were lost.
pub(super) fn loss(lost: u64, now: Timestamp) -> Record {
    let message =
        format!("{lost} log lines were lost: they could not be written in time, or at all");
    let fields = vec![("suppressed".into(), lost.into())];
    Record::own(Name::EventsSuppressed, Level::WARN, now, message, fields)
}
