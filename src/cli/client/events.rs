//! `events`: the history of events in words, and new events as they happen.

use std::io::{self, Write as _};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::time::sleep;

use super::terminal::{DIM, RED, Terminal, YELLOW};
use super::{DaemonCommand, SocketArgs, find_token, urls};
use crate::cli::{CliError, eprint_message};
use crate::control::client::{Client, ControlClientError};
use crate::control::{Coverage, EventPage, EventParams, MAX_EVENTS, RecordedEvent};
use crate::text::printable;

/// Interval between two requests of `--follow`.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Width of the column with the token, at most; longer names push the message to the right.
const MAX_NAME_WIDTH: usize = 24;

/// Indentation of continuation lines.
const INDENT: usize = 4;

/// Show what has happened, newest last: all events, or those of one token
///
/// The history begins with the start of the daemon and keeps the last 100,000 events. Routine
/// checks are not recorded. Requires the same access as `status`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Events {
    /// A token, or a pattern such as 'quotes-*'
    name: Option<String>,
    /// Show new events as they happen, until Ctrl-C; continues after a restart of the daemon
    #[arg(long, short)]
    follow: bool,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// Maximum number of past events
    #[arg(
        long,
        short = 'n',
        value_name = "N",
        default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(0..=100_000)
    )]
    lines: u32,
    #[command(flatten)]
    socket_args: SocketArgs,
}

/// The past events that are shown first.
struct Past {
    coverage: Coverage,
    /// Oldest first.
    events: Vec<RecordedEvent>,
    /// Whether there are older ones.
    has_more: bool,
    /// The `after` that continues after the newest event.
    next: u64,
}

impl DaemonCommand for Events {
    fn socket_args(&self) -> &SocketArgs {
        &self.socket_args
    }

    async fn run(self, client: &mut Client) -> Result<u8, CliError> {
        let past = self.past(client).await?;
        let is_empty = past.events.is_empty() && !past.has_more;
        if let (Some(name), true, false) = (&self.name, is_empty, self.follow) {
            // Fails if there is no such token. A removed token may have events, and a pattern none.
            find_token(client, name).await?;
        }
        let mut printer = Printer { json: self.json, name_width: 0 };
        let is_read = printer.head(&past)? && printer.events(&past.events)?;
        if let (Some(name), true) = (&self.name, is_empty) {
            eprint_message(&format!("no event of a token that matches {name:?} is recorded"));
        }
        if self.follow && is_read {
            self.follow(client, printer, past.coverage.started, past.next).await?;
        }
        Ok(0)
    }
}

impl Events {
    /// The last events, page by page backwards.
    async fn past(&self, client: &mut Client) -> Result<Past, ControlClientError> {
        let wanted = usize::try_from(self.lines).unwrap_or(usize::MAX);
        // One more, to know whether there are older ones.
        let mut page = self.page_before(client, None, wanted + 1).await?;
        let mut events: Vec<RecordedEvent> = Vec::new();
        let (coverage, next) = (page.coverage.clone(), page.next);
        loop {
            let is_last = page.events.len() < MAX_EVENTS.min(wanted + 1 - events.len());
            page.events.append(&mut events);
            events = page.events;
            let missing = (wanted + 1).saturating_sub(events.len());
            let Some(oldest) = events.first().filter(|_| !is_last && missing > 0) else { break };
            page = self.page_before(client, Some(oldest.seq), missing).await?;
        }
        let has_more = events.len() > wanted;
        events.drain(..events.len().saturating_sub(wanted));
        Ok(Past { coverage, events, has_more, next })
    }

    async fn page_before(
        &self,
        client: &mut Client,
        before: Option<u64>,
        limit: usize,
    ) -> Result<EventPage, ControlClientError> {
        let limit = Some(limit.min(MAX_EVENTS));
        let params = EventParams { token: self.name.clone(), before, limit, after: None };
        client.get(&urls::events(&params)).await
    }

    /// Prints new events until standard output is closed. The daemon may be restarted meanwhile.
    async fn follow(
        &self,
        client: &mut Client,
        mut printer: Printer,
        mut started: Timestamp,
        mut after: u64,
    ) -> Result<(), CliError> {
        let mut is_lost = false;
        loop {
            let params = EventParams {
                token: self.name.clone(),
                after: Some(after),
                limit: Some(MAX_EVENTS),
                before: None,
            };
            let page: Result<EventPage, _> = client.get(&urls::events(&params)).await;
            match page {
                Ok(page) if page.coverage.started != started => {
                    (started, after) = (page.coverage.started, 0);
                    let time = local_time(started);
                    eprint_message(&format!("the daemon has started again at {time}"));
                    is_lost = false;
                    continue;
                }
                Ok(page) => {
                    is_lost = false;
                    after = page.next;
                    if !printer.events(&page.events)? {
                        return Ok(());
                    }
                    if page.events.len() == MAX_EVENTS {
                        continue;
                    }
                }
                Err(error @ ControlClientError::InvalidResponse(_)) => return Err(error.into()),
                Err(error) => {
                    if !std::mem::replace(&mut is_lost, true) {
                        eprint_message(&format!("{error}; waiting for the daemon"));
                    }
                }
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}

/// Prints events to standard output. Its methods return false once its reader is gone.
struct Printer {
    json: bool,
    /// Width of the longest name so far.
    name_width: usize,
}

impl Printer {
    /// The first line, which says what the history covers.
    fn head(&self, past: &Past) -> Result<bool, CliError> {
        if self.json {
            return Ok(true);
        }
        write(&(head(past) + "\n"))
    }

    fn events(&mut self, events: &[RecordedEvent]) -> Result<bool, CliError> {
        if self.json {
            let lines = events.iter().map(|event| serde_json::to_string(event).map(|it| it + "\n"));
            let lines: Result<String, _> = lines.collect();
            let doing = "writing events as JSON";
            let lines = lines.map_err(|error| CliError::System { doing, error: error.into() })?;
            return write(&lines);
        }
        let terminal = Terminal::detect();
        let width = events.iter().map(|event| subject(event).chars().count()).max().unwrap_or(0);
        self.name_width = self.name_width.max(width.min(MAX_NAME_WIDTH));
        let rows = events.iter().map(|event| row(event, self.name_width, terminal));
        write(&rows.collect::<String>())
    }
}

/// Writes `text` at once. Returns false if the reader of standard output is gone.
fn write(text: &str) -> Result<bool, CliError> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CliError::System { doing: "writing to standard output", error }),
    }
}

fn head(past: &Past) -> String {
    let Past { coverage: Coverage { since, dropped, .. }, events, has_more, .. } = past;
    let begin = match dropped {
        0 => ", the start of the daemon".to_owned(),
        1 => "; 1 older event is not kept".to_owned(),
        dropped => format!("; {dropped} older events are not kept"),
    };
    let shown = match (has_more, events.len()) {
        (false, _) | (true, 0) => String::new(),
        (true, 1) => "; the last event (-n shows more)".to_owned(),
        (true, shown) => format!("; the last {shown} events (-n shows more)"),
    };
    format!("since {}{begin}{shown}", local_time(*since))
}

/// What an event is about: a token, else a server, else the daemon.
fn subject(event: &RecordedEvent) -> String {
    let name = event.token.as_deref().or(event.server.as_deref()).unwrap_or("-");
    printable(name).into_owned()
}

/// Time, token, level and message. On a terminal a long message is wrapped; elsewhere each event
/// is one line.
fn row(event: &RecordedEvent, name_width: usize, terminal: Terminal) -> String {
    let level = &*event.event.level;
    let time = event.event.at.parse().map_or_else(|_| event.event.at.clone(), local_time);
    let (time, padded) = (printable(&time), format!("{:<5}", printable(level)));
    let name = format!("{:<name_width$}", subject(event));
    let before = time.chars().count() + name.chars().count() + 5 + 6;
    let message = terminal.wrap(&printable(&event.event.message), before, INDENT);
    let level = match level {
        "error" => terminal.paint(RED, &padded),
        "warn" => terminal.paint(YELLOW, &padded),
        _ => padded,
    };
    format!("{}  {name}  {level}  {message}\n", terminal.paint(DIM, &time))
}

/// Date and time of day in the local time zone.
fn local_time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%F %T").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::EventView;

    fn event(token: Option<&str>, message: &str) -> RecordedEvent {
        let event = EventView {
            at: "2026-11-29T10:00:00.123Z".to_owned(),
            level: "warn".to_owned(),
            event: "check_failed".to_owned(),
            message: message.to_owned(),
        };
        RecordedEvent { seq: 7, token: token.map(str::to_owned), server: None, event }
    }

    fn past(dropped: u64, shown: usize, has_more: bool) -> String {
        let at = Timestamp::UNIX_EPOCH;
        let coverage = Coverage { started: at, since: at, dropped };
        let events = (0..shown).map(|_| event(None, "")).collect();
        let head = head(&Past { coverage, events, has_more, next: 9 });
        let time = local_time(at);
        head.strip_prefix(&format!("since {time}")).unwrap().to_owned()
    }

    #[test]
    fn first_line_says_what_the_history_covers() {
        assert_eq!(past(0, 3, false), ", the start of the daemon");
        assert_eq!(past(5, 3, false), "; 5 older events are not kept");
        assert_eq!(
            past(0, 50, true),
            ", the start of the daemon; the last 50 events (-n shows more)"
        );
    }

    #[test]
    fn event_is_one_line_with_its_time_token_level_and_message() {
        let terminal = Terminal { width: 80, height: None, colour: false };
        let line = row(&event(Some("quotes"), &"word ".repeat(40)), 8, terminal);
        assert!(line.contains("  quotes    warn   word word"), "{line}");
        assert_eq!(line.lines().count(), 1);
        let line = row(&event(None, "stopping\x1b[2J"), 1, terminal);
        assert!(line.contains("  -  warn   stopping"), "{line}");
        assert!(!line.contains('\x1b'), "{line}");
    }

    #[test]
    fn long_message_is_wrapped_on_a_terminal() {
        let terminal = Terminal { width: 60, height: Some(24), colour: true };
        let line = row(&event(Some("quotes"), &"word ".repeat(20)), 6, terminal);
        assert!(line.lines().count() > 2 && line.contains("\x1b[33mwarn "), "{line}");
    }

    #[test]
    fn message_on_a_narrow_terminal_is_never_broken_inside_a_word() {
        let message = "the server reports that the token has expired";
        for width in 30..60 {
            let terminal = Terminal { width, height: Some(24), colour: false };
            let text = row(&event(Some("quotes"), message), 6, terminal);
            let mut lines = text.lines();
            let begin = lines.next().unwrap();
            assert!(begin.chars().count() <= usize::from(width).max(36), "{width}: {text}");
            assert!(
                lines.all(|line| line.chars().count() <= usize::from(width)),
                "{width}: {text}"
            );
            assert!(text.split_whitespace().collect::<Vec<_>>().join(" ").ends_with(message));
        }
    }
}
