//! `tracing` layer that renders each event as one line.
//!
//! Events of libraries arrive through tracing. The daemon's own events are passed to the layer
//! directly, so that their fields are not looked up by name.

use jiff::Timestamp;
use tracing::{Event, Level, Subscriber, dispatcher};
use tracing_subscriber::layer::{Context, Layer};

use super::format::Format;
use super::record::{Record, Values};
use super::writer::Line;
use super::{EventName, Severity};

/// Renders events and passes each line to a sink that does not block.
pub(super) struct LogLayer {
    format: Format,
    clock: fn() -> Timestamp,
    sink: Box<dyn Fn(Line) + Send + Sync>,
}

impl LogLayer {
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

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        self.add(&Record::from_library(event, (self.clock)()));
    }
}

/// Writes one of the daemon's own events, which has passed the filter and happened `at` this time;
/// `None`: now. Does nothing if the log is not set up.
pub(super) fn write(
    at: Option<Timestamp>,
    name: EventName,
    severity: Severity,
    message: &str,
    mut fields: Values,
) {
    dispatcher::get_default(|log| {
        if let Some(lines) = log.downcast_ref::<LogLayer>() {
            let (at, fields) = (at.unwrap_or_else(lines.clock), std::mem::take(&mut fields));
            lines.add(&Record::from_event(name, severity.into(), at, message.to_owned(), fields));
        }
    });
}

/// The record that reports dropped lines.
pub(super) fn dropped_lines_record(dropped: u64, now: Timestamp) -> Record {
    let message = format!("{dropped} log lines were lost because they could not be written");
    let fields = vec![("suppressed".into(), dropped.into())];
    Record::from_event(EventName::EventsSuppressed, Level::WARN, now, message, fields)
}
