//! Setting up the log: once, at the start of the process.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::format::Format;
use super::journald::{self, JournalSocket};
use super::lines::{Lines, loss};
use super::queue::{Queue, queue};
use super::{Fields, Name, emit, filter};
use crate::clock::wall_clock;
use crate::settings::{Log, LogFormat};
use crate::text::colours_wanted;

/// What standard output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StdoutKind {
    /// Somebody is watching.
    Terminal,
    /// systemd has connected it to its journal.
    Journal,
    /// A file, a pipe, anything else.
    Other,
}

impl StdoutKind {
    /// What standard output is now.
    pub fn detect() -> Self {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            return Self::Terminal;
        }
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let journal = rustix::fs::fstat(&stdout)
            .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino));
        if journal { Self::Journal } else { Self::Other }
    }
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// `log.level` cannot be used.
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
    /// Another part of the process has set up a log already.
    #[error("the log is set up already; do so once in a process")]
    Twice,
}

/// Keeps the log running. Dropped last, it writes out everything that waits.
pub struct Guard {
    filter: reload::Handle<EnvFilter, Registry>,
    queue: Queue,
}

impl Guard {
    /// Puts another filter in the place of the one in force.
    ///
    /// # Errors
    ///
    /// [`InitError::Filter`]; the old filter stays in force.
    pub fn reload_filter(&self, level: &str) -> Result<(), InitError> {
        let filter = filter::parse(level).map_err(InitError::Filter)?;
        self.filter.reload(filter).map_err(|error| InitError::Filter(error.to_string()))
    }

    /// How many lines were lost because they could not be written in time, or at all.
    pub fn dropped_lines(&self) -> u64 {
        self.queue.lost()
    }
}

/// Sets up the log of the whole process as `log` says.
///
/// Where the journal is asked for but does not listen, JSON lines go to standard output, and
/// the first of them says so.
///
/// # Errors
///
/// When the filter is no filter, standard output cannot be used, or a log is set up already.
pub fn init(log: &Log, stdout: StdoutKind) -> Result<Guard, InitError> {
    let filter = filter::parse(&log.level).map_err(InitError::Filter)?;
    let (filter, handle) = reload::Layer::new(filter);
    let wanted = choose(log.format, stdout, colours_wanted());
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
    let report = move |lost| format.render(&loss(lost, wall_clock()));
    let (front, queue) = queue(writer, Box::new(report)).map_err(InitError::Thread)?;
    let lines = Lines::new(format, wall_clock, move |line| front.add(line));
    tracing::subscriber::set_global_default(Registry::default().with(filter).with(lines))
        .map_err(|_| InitError::Twice)?;
    if let Some(error) = refused {
        let fields = Fields {
            error: Some(&error.to_string()),
            path: Some(journald::SOCKET),
            ..Fields::default()
        };
        let message = "the journal does not listen; logging JSON to standard output instead";
        emit(Name::ConfigWarning, Name::ConfigWarning.severity(), message, &fields);
    }
    Ok(Guard { filter: handle, queue })
}

/// The format that is really used.
fn choose(format: LogFormat, stdout: StdoutKind, colour: bool) -> Format {
    let colour = colour && stdout == StdoutKind::Terminal;
    match (format, stdout) {
        (LogFormat::Json, _) | (LogFormat::Auto, StdoutKind::Other) => Format::Json,
        (LogFormat::Logfmt, _) => Format::Logfmt,
        (LogFormat::Text, _) | (LogFormat::Auto, StdoutKind::Terminal) => Format::Text { colour },
        (LogFormat::Journald, _) | (LogFormat::Auto, StdoutKind::Journal) => Format::Journald,
    }
}

/// Standard output without the library's lock and buffer: a `println!` elsewhere must not
/// wait for a log line that nobody reads.
fn stdout_file() -> Result<File, InitError> {
    let owned = io::stdout().as_fd().try_clone_to_owned().map_err(InitError::Stdout)?;
    Ok(File::from(owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_means_the_journal_a_terminal_s_text_or_json() {
        let auto = |stdout| choose(LogFormat::Auto, stdout, true);
        assert_eq!(auto(StdoutKind::Journal), Format::Journald);
        assert_eq!(auto(StdoutKind::Terminal), Format::Text { colour: true });
        assert_eq!(auto(StdoutKind::Other), Format::Json);
    }

    #[test]
    fn colours_are_for_terminals_only() {
        assert_eq!(
            choose(LogFormat::Text, StdoutKind::Other, true),
            Format::Text { colour: false }
        );
    }

    #[test]
    fn a_format_that_is_named_is_used_wherever_output_goes() {
        assert_eq!(choose(LogFormat::Json, StdoutKind::Terminal, true), Format::Json);
        assert_eq!(choose(LogFormat::Journald, StdoutKind::Other, true), Format::Journald);
    }
}
