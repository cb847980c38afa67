//! Initializes the event log, once per process.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::format::Format;
use super::journald::{self, JournalSocket};
use super::layer::{LogLayer, dropped_lines_record};
use super::writer::{WriterHandle, spawn_writer};
use super::{EventName, Fields, emit, filter};
use crate::clock::wall_clock;
use crate::settings::{Log, LogFormat};
use crate::systemd;
use crate::text::colors_enabled;
use crate::time::Moment;

/// Kind of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StdoutKind {
    /// A terminal.
    Terminal,
    /// A stream that systemd has connected to its journal.
    Journal,
    /// A file, a pipe, anything else.
    Other,
}

impl StdoutKind {
    /// Detects the kind of standard output.
    pub fn detect() -> Self {
        if io::stdout().is_terminal() {
            return Self::Terminal;
        }
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        if systemd::stdout_is_journal(&stream) { Self::Journal } else { Self::Other }
    }
}

/// Reasons why the log cannot be initialized.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// `log.level` is not a valid filter.
    #[error("log.level: {0}")]
    Filter(String),
    /// Standard output cannot be written to.
    #[error(
        "standard output cannot be used for the log: {0}; connect it to a file, a pipe or the journal"
    )]
    Stdout(#[source] io::Error),
    /// The thread that writes the log cannot be started.
    #[error(
        "starting the thread that writes the log: {0}; raise the limit on threads or processes"
    )]
    Thread(#[source] io::Error),
    /// The process has initialized a log already.
    #[error("logging is already initialised; initialise it once in a process")]
    Twice,
}

/// Keeps the log running. Must be dropped last: dropping it flushes the queued lines.
pub struct Guard {
    filter: reload::Handle<EnvFilter, Registry>,
    writer: WriterHandle,
}

impl Guard {
    /// Replaces the level filter.
    ///
    /// # Errors
    ///
    /// [`InitError::Filter`]; the previous filter stays active.
    pub fn reload_filter(&self, level: &str) -> Result<(), InitError> {
        let filter = filter::parse(level).map_err(InitError::Filter)?;
        self.filter.reload(filter).map_err(|error| InitError::Filter(error.to_string()))
    }

    /// When to [retry](Self::retry); `None` if nothing has failed.
    pub fn due(&self) -> Option<Moment> {
        self.writer.due()
    }

    /// Writes the lines that wait because no thread could be started, if that is due again.
    pub fn retry(&self) {
        self.writer.retry();
    }

    /// Number of lines that were dropped because the output was too slow or failed.
    pub fn dropped_lines(&self) -> u64 {
        self.writer.dropped()
    }
}

/// Initializes the log of the process.
///
/// If the journal is configured but not reachable, the log writes JSON lines to standard output;
/// the first line reports that.
///
/// # Errors
///
/// If the filter is invalid, standard output cannot be used, or a log is initialized already.
pub fn init(log: &Log, stdout: StdoutKind) -> Result<Guard, InitError> {
    let filter = filter::parse(&log.level).map_err(InitError::Filter)?;
    let (filter, handle) = reload::Layer::new(filter);
    let wanted = choose(log.format, stdout, colors_enabled());
    let mut refused = None;
    let (format, writer): (Format, Box<dyn Write + Send>) = match wanted {
        Format::Journald => match JournalSocket::connect(Path::new(journald::SOCKET)) {
            Ok(socket) => (wanted, Box::new(socket)),
            Err(error) => {
                refused = Some(error);
                (Format::Json, Box::new(stdout_file()?))
            }
        },
        Format::Json | Format::Logfmt | Format::Text { .. } => (wanted, Box::new(stdout_file()?)),
    };
    let report = move |dropped| format.render(&dropped_lines_record(dropped, wall_clock()));
    let (sender, writer) = spawn_writer(writer, Box::new(report)).map_err(InitError::Thread)?;
    let lines = LogLayer::new(format, wall_clock, move |line| sender.add(line));
    tracing::subscriber::set_global_default(Registry::default().with(filter).with(lines))
        .map_err(|_| InitError::Twice)?;
    if let Some(error) = refused {
        let fields = Fields {
            error: Some(&error.to_string()),
            path: Some(journald::SOCKET),
            ..Fields::default()
        };
        let message = "the systemd journal is not available; logging JSON to standard output \
        instead";
        emit(EventName::ConfigWarning, EventName::ConfigWarning.severity(), message, &fields);
    }
    Ok(Guard { filter: handle, writer })
}

/// The effective format.
fn choose(format: LogFormat, stdout: StdoutKind, colour: bool) -> Format {
    let colour = colour && stdout == StdoutKind::Terminal;
    match (format, stdout) {
        (LogFormat::Json, _) | (LogFormat::Auto, StdoutKind::Other) => Format::Json,
        (LogFormat::Logfmt, _) => Format::Logfmt,
        (LogFormat::Text, _) | (LogFormat::Auto, StdoutKind::Terminal) => Format::Text { colour },
        (LogFormat::Journald, _) | (LogFormat::Auto, StdoutKind::Journal) => Format::Journald,
    }
}

/// Standard output without the lock and buffer of the standard library: a `println!` must not
/// block on a stalled log.
fn stdout_file() -> Result<File, InitError> {
    let owned = io::stdout().as_fd().try_clone_to_owned().map_err(InitError::Stdout)?;
    Ok(File::from(owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_selects_journal_text_or_json_by_the_kind_of_output() {
        let auto = |stdout| choose(LogFormat::Auto, stdout, true);
        assert_eq!(auto(StdoutKind::Journal), Format::Journald);
        assert_eq!(auto(StdoutKind::Terminal), Format::Text { colour: true });
        assert_eq!(auto(StdoutKind::Other), Format::Json);
    }

    #[test]
    fn colors_are_used_on_terminals_only() {
        assert_eq!(
            choose(LogFormat::Text, StdoutKind::Other, true),
            Format::Text { colour: false }
        );
    }

    #[test]
    fn an_explicit_format_is_used_for_any_output() {
        assert_eq!(choose(LogFormat::Json, StdoutKind::Terminal, true), Format::Json);
        assert_eq!(choose(LogFormat::Journald, StdoutKind::Other, true), Format::Journald);
    }
}
