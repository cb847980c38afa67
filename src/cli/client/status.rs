//! `status`: shows tokens as a table, in detail, as JSON, or for monitoring.

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::time::{MissedTickBehavior, interval};

use super::terminal::{Screen, Terminal, draw};
use super::times::LocalTime;
use super::{DaemonCommand, SocketArgs, fetch_all, find_token, nagios, table, token_detail, urls};
use crate::cli::{CliError, eprint_message, ignore_broken_pipe, print, print_text};
use crate::control::client::{Client, ControlClientError};
use crate::control::summary::{Level, Summary};
use crate::control::{ApiError, Counts, ListParams, TokenDetail, TokenPage, TokenView};
use crate::lifecycle::State;
use crate::text::printable;

/// Maximum rows without `--all`.
const MAX_ROWS: usize = 50;

/// Lines around the rows of a table: two of the header, two below, and the last line of the screen.
const AROUND_ROWS: usize = 5;

/// Refresh interval of `--watch`.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Show token status, worst first, or one token in detail. Exits 1 unless all tokens are alive
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(in crate::cli) struct Status {
    /// A token to show in detail, or a pattern such as 'quotes-*'
    name: Option<String>,
    /// Show all tokens, not only the first 50
    #[arg(long)]
    all: bool,
    /// Print JSON, as returned by the control socket
    #[arg(long, conflicts_with_all = ["watch", "monitor"])]
    json: bool,
    /// Refresh every second until Ctrl-C
    #[arg(long, conflicts_with = "monitor")]
    watch: bool,
    /// Monitoring plugin output: one line, exit status 0 OK, 1 WARNING, 2 CRITICAL or 3 UNKNOWN
    #[arg(long)]
    monitor: bool,
    #[command(flatten)]
    socket_args: SocketArgs,
}

/// The result to print.
enum Output {
    List(Box<TokenPage>),
    Detail(Box<TokenDetail>),
}

impl DaemonCommand for Status {
    fn socket_args(&self) -> &SocketArgs {
        &self.socket_args
    }

    async fn run(self, client: &mut Client) -> Result<u8, CliError> {
        if self.monitor {
            let (line, status) = nagios::render(&self.monitored(client).await, &LocalTime::now());
            print_text(&line)?;
            return Ok(status);
        }
        if self.watch {
            return self.watch(client).await;
        }
        let output = self.ask(client).await?;
        if self.json { output.print_json() } else { output.print(Terminal::detect()) }?;
        if let (Some(name), true) = (&self.name, output.is_empty()) {
            eprint_message(&format!("no token matches {name:?}"));
            return Ok(1);
        }
        Ok(output.status())
    }
}

impl Status {
    async fn ask(&self, client: &mut Client) -> Result<Output, ControlClientError> {
        let detail = match &self.name {
            Some(name) => find_token(client, name).await?,
            None => None,
        };
        match detail {
            Some(detail) => Ok(Output::Detail(detail)),
            None => self.page(client).await.map(Box::new).map(Output::List),
        }
    }

    async fn page(&self, client: &mut Client) -> Result<TokenPage, ControlClientError> {
        let filter = self.name.as_deref();
        if self.all {
            let mut page = fetch_all(client, filter).await?;
            if filter.is_none() {
                let params = ListParams { limit: Some(1), ..ListParams::default() };
                let worst: TokenPage = client.get(&urls::tokens(&params)).await?;
                page.summary = worst.summary;
            }
            page.tokens.sort_by_key(|token| (state_rank(&token.state), token.remaining_ms));
            return Ok(page);
        }
        let filter = filter.map(str::to_owned);
        let params = ListParams { filter, limit: Some(MAX_ROWS), ..ListParams::default() };
        client.get(&urls::tokens(&params)).await
    }

    /// The tokens for `--monitor`: all tokens, or those that match the name, with their counts
    /// and the sentence about the one of the first rows that is of most concern.
    async fn monitored(&self, client: &mut Client) -> Result<TokenPage, ControlClientError> {
        let Some(name) = &self.name else { return self.page(client).await };
        let mut page = fetch_all(client, Some(name)).await?;
        if page.tokens.is_empty() {
            return Err(ControlClientError::Api(ApiError::no_token(name)));
        }
        page.tokens.sort_by_key(|token| (state_rank(&token.state), token.remaining_ms));
        page.counts = Counts { elsewhere: page.counts.elsewhere.map(|_| 0), ..Counts::default() };
        count_states(&page.tokens, &mut page.counts);
        for token in page.tokens.iter().take(MAX_ROWS) {
            // It may have been removed meanwhile.
            let detail: Option<TokenDetail> = client.get(&urls::token(&token.name, &[])).await.ok();
            let summary = detail.and_then(|detail| detail.summary);
            if level(summary.as_ref()) > level(page.summary.as_ref()) {
                page.summary = summary;
            }
        }
        Ok(page)
    }

    async fn watch(&self, client: &mut Client) -> Result<u8, CliError> {
        if !io::stdout().is_terminal() {
            return Err(CliError::Usage("--watch needs a terminal; try --json".to_owned()));
        }
        let signals = Signals::new([SIGINT, SIGTERM]);
        let mut signals =
            signals.map_err(|error| CliError::System { doing: "catching signals", error })?;
        let mut pace = interval(REFRESH_INTERVAL);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let screen = Screen::enter()?;
        let mut status = 0;
        let ended = loop {
            tokio::select! {
                _ = signals.next() => break Ok(()),
                _ = pace.tick() => {}
            }
            let terminal = Terminal::detect();
            let frame = match self.ask(client).await {
                Ok(mut output) => {
                    status = output.status();
                    output.fit(terminal);
                    output.render(terminal)
                }
                Err(error) => {
                    status = CliError::status_of(&error);
                    format!("{}\n", terminal.wrap(&printable(&error.to_string()), 0, 0))
                }
            };
            if let Err(error) = draw(&frame, terminal) {
                break Err(error);
            }
        };
        drop(screen);
        ended.map(|()| status)
    }
}

impl Output {
    fn render(&self, terminal: Terminal) -> String {
        let time = LocalTime::now();
        match self {
            Self::List(page) => table::render(page, terminal, &time).collect(),
            Self::Detail(detail) => token_detail::render(detail, terminal, &time),
        }
    }

    /// Drops the rows that have no place on the screen; they are counted as left out.
    fn fit(&mut self, terminal: Terminal) {
        if let (Self::List(page), Some(height)) = (self, terminal.height) {
            let heading = table::heading(page, terminal, &LocalTime::now()).lines().count();
            page.tokens.truncate(usize::from(height).saturating_sub(heading + AROUND_ROWS).max(1));
        }
    }

    /// Prints in parts, to bound the memory for a million tokens.
    fn print(&self, terminal: Terminal) -> Result<(), CliError> {
        match self {
            Self::List(page) => {
                table::render(page, terminal, &LocalTime::now()).try_for_each(|part| print(&part))
            }
            Self::Detail(_) => print(&self.render(terminal)),
        }
    }

    const fn is_empty(&self) -> bool {
        matches!(self, Self::List(page) if page.tokens.is_empty())
    }

    fn print_json(&self) -> Result<(), CliError> {
        let mut output = BufWriter::new(io::stdout().lock());
        let written = match self {
            Self::List(page) => serde_json::to_writer_pretty(&mut output, page),
            Self::Detail(detail) => serde_json::to_writer_pretty(&mut output, detail),
        };
        ignore_broken_pipe(
            written.map_err(io::Error::from).and_then(|()| output.write_all(b"\n")),
        )?;
        ignore_broken_pipe(output.flush())
    }

    /// The exit status: 0 if all shown tokens are alive, but for those that other replicas check;
    /// else 1.
    fn status(&self) -> u8 {
        let is_alive = |state: &str| matches!(state, "alive" | "retrying" | "elsewhere");
        let all_alive = match self {
            Self::List(page) => page.tokens.iter().all(|token| is_alive(&token.state)),
            Self::Detail(detail) => is_alive(&detail.token.state),
        };
        u8::from(!all_alive)
    }
}

/// Counts the tokens by state.
fn count_states(tokens: &[TokenView], counts: &mut Counts) {
    counts.total = tokens.len();
    for token in tokens {
        let count = match token.state.as_str() {
            "alive" => &mut counts.alive,
            "retrying" => &mut counts.retrying,
            "paused" => &mut counts.paused,
            "expired" => &mut counts.expired,
            "rejected" => &mut counts.rejected,
            "missing" => &mut counts.missing,
            "elsewhere" => counts.elsewhere.get_or_insert(0),
            // An unknown state of a newer daemon counts as not alive.
            _ => &mut counts.unverified,
        };
        *count += 1;
    }
}

/// Sort key: worst state first, in the order of the daemon.
fn state_rank(state: &str) -> usize {
    State::ALL.iter().position(|known| known.as_str() == state).unwrap_or(0)
}

fn level(summary: Option<&Summary>) -> Option<Level> {
    summary.map(|summary| summary.level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(state: &str) -> Output {
        let detail = serde_json::json!({
            "name": "quotes", "server": "sarus", "state": state, "remaining_ms": null,
            "life_ms": null, "last_check_ms": null, "next_check_ms": null, "busy": false,
            "renews_by": null, "retry_room_ms": null, "failures": 0, "reauth": null, "events": [],
        });
        Output::Detail(Box::new(serde_json::from_value(detail).expect("a token")))
    }

    #[test]
    fn exit_status_is_1_unless_all_tokens_that_are_checked_here_are_alive() {
        for (state, status) in
            [("alive", 0), ("retrying", 0), ("elsewhere", 0), ("paused", 1), ("expired", 1)]
        {
            assert_eq!(detail(state).status(), status, "{state}");
        }
    }
}
