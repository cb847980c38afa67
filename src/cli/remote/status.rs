//! `tokenkeep status`: how the tokens are.

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::time::{MissedTickBehavior, interval};

use super::screen::Screen;
use super::{Errand, Where, all, monitor, named, paths, story, table};
use crate::cli::{Failure, complain, print, print_text, printed};
use crate::control::client::{Client, ClientFault};
use crate::control::{Counts, Listing, Page, Problem, Story, TokenView};
use crate::lifecycle::State;
use crate::text::printable_lines;

/// Rows of a table without `--all`: what people read at once.
const ROWS: usize = 50;

/// Between two pictures.
const PACE: Duration = Duration::from_secs(1);

/// Another screen, so that the old one is there again afterwards, and no cursor on it.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Tell how the tokens are, the worst first. Exits with 0 if all are alive, with 1 if not
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(in crate::cli) struct Status {
    /// One token, to tell its story, or a pattern such as 'quotes-*'
    name: Option<String>,
    /// Show all tokens, not only the first 50
    #[arg(long)]
    all: bool,
    /// Print JSON, as the control interface gives it
    #[arg(long, conflicts_with_all = ["watch", "monitor"])]
    json: bool,
    /// Draw it anew each second, until Ctrl-C
    #[arg(long, conflicts_with = "monitor")]
    watch: bool,
    /// Speak as a monitoring plugin: one line, and 0 OK, 1 WARNING, 2 CRITICAL or 3 UNKNOWN
    #[arg(long)]
    monitor: bool,
    #[command(flatten)]
    place: Where,
}

/// What is told.
enum Told {
    Page(Page),
    Story(Box<Story>),
}

impl Errand for Status {
    fn place(&self) -> &Where {
        &self.place
    }

    async fn run(self, client: &mut Client) -> Result<u8, Failure> {
        if self.monitor {
            let (line, status) = monitor::render(&self.watched(client).await);
            print_text(&line)?;
            return Ok(status);
        }
        if self.watch {
            return self.watch(client).await;
        }
        let told = self.ask(client).await?;
        if self.json { told.print_json() } else { told.print(Screen::detect()) }?;
        if let (Some(name), true) = (&self.name, told.is_empty()) {
            complain(&format!("no token fits {name:?}"));
            return Ok(1);
        }
        Ok(told.status())
    }
}

impl Status {
    async fn ask(&self, client: &mut Client) -> Result<Told, ClientFault> {
        let story = match &self.name {
            Some(name) => named(client, name).await?,
            None => None,
        };
        match story {
            Some(story) => Ok(Told::Story(story)),
            None => self.page(client).await.map(Told::Page),
        }
    }

    async fn page(&self, client: &mut Client) -> Result<Page, ClientFault> {
        let filter = self.name.as_deref();
        if self.all {
            let mut page = all(client, filter).await?;
            page.tokens.sort_by_key(|token| (rank(&token.state), token.remaining_ms));
            return Ok(page);
        }
        let filter = filter.map(str::to_owned);
        let listing = Listing { filter, limit: Some(ROWS), ..Listing::default() };
        client.get(&paths::tokens(&listing)).await
    }

    /// What a monitoring plugin speaks of: all tokens, or those alone that are asked about.
    async fn watched(&self, client: &mut Client) -> Result<Page, ClientFault> {
        let Some(name) = &self.name else { return self.page(client).await };
        let mut page = all(client, Some(name)).await?;
        if page.tokens.is_empty() {
            return Err(ClientFault::Refused(Problem::no_token(name)));
        }
        page.tokens.sort_by_key(|token| (rank(&token.state), token.remaining_ms));
        page.counts = tally(&page.tokens);
        Ok(page)
    }

    async fn watch(&self, client: &mut Client) -> Result<u8, Failure> {
        if !io::stdout().is_terminal() {
            return Err(Failure::Usage("--watch needs a terminal; try --json".to_owned()));
        }
        let signals = Signals::new([SIGINT, SIGTERM]);
        let mut signals =
            signals.map_err(|error| Failure::System { doing: "catching signals", error })?;
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        print(ENTER)?;
        let mut status = 0;
        let ended = loop {
            tokio::select! {
                _ = signals.next() => break Ok(()),
                _ = pace.tick() => {}
            }
            let screen = Screen::detect();
            let picture = match self.ask(client).await {
                Ok(told) => {
                    status = told.status();
                    told.render(screen)
                }
                Err(fault) => {
                    status = Failure::status_of(&fault);
                    format!("{}\n", printable_lines(&fault.to_string()))
                }
            };
            if let Err(failure) = print(&over(&picture, screen)) {
                break Err(failure);
            }
        };
        print(LEAVE)?;
        ended.map(|()| status)
    }
}

/// A picture drawn over the one before: nothing is cleared that stays, so nothing flickers.
fn over(picture: &str, screen: Screen) -> String {
    let rows = screen.height.map_or(usize::MAX, usize::from).saturating_sub(1);
    let mut text = "\x1b[H".to_owned();
    for line in picture.lines().take(rows) {
        text += line;
        text += "\x1b[K\r\n";
    }
    text + "\x1b[J"
}

impl Told {
    fn render(&self, screen: Screen) -> String {
        match self {
            Self::Page(page) => table::render(page, screen).collect(),
            Self::Story(story) => story::render(story, screen),
        }
    }

    /// Part by part: of a million tokens it is much.
    fn print(&self, screen: Screen) -> Result<(), Failure> {
        match self {
            Self::Page(page) => table::render(page, screen).try_for_each(|part| print(&part)),
            Self::Story(story) => print(&story::render(story, screen)),
        }
    }

    const fn is_empty(&self) -> bool {
        matches!(self, Self::Page(page) if page.tokens.is_empty())
    }

    fn print_json(&self) -> Result<(), Failure> {
        let mut output = BufWriter::new(io::stdout().lock());
        let told = match self {
            Self::Page(page) => serde_json::to_writer_pretty(&mut output, page),
            Self::Story(story) => serde_json::to_writer_pretty(&mut output, story),
        };
        printed(told.map_err(io::Error::from).and_then(|()| output.write_all(b"\n")))?;
        printed(output.flush())
    }

    /// 0 if all that is told of are alive, else 1.
    fn status(&self) -> u8 {
        let lives = |state: &str| matches!(state, "alive" | "retrying");
        let well = match self {
            Self::Page(page) => page.tokens.iter().all(|token| lives(&token.state)),
            Self::Story(story) => lives(&story.token.state),
        };
        u8::from(!well)
    }
}

/// How many of these tokens are in which state.
fn tally(tokens: &[TokenView]) -> Counts {
    let mut counts = Counts { total: tokens.len(), ..Counts::default() };
    for token in tokens {
        let count = match token.state.as_str() {
            "alive" => &mut counts.alive,
            "retrying" => &mut counts.retrying,
            "paused" => &mut counts.paused,
            "expired" => &mut counts.expired,
            "rejected" => &mut counts.rejected,
            "missing" => &mut counts.missing,
            // A word that is not known here says nothing good.
            _ => &mut counts.unverified,
        };
        *count += 1;
    }
    counts
}

/// The worst state first, as the daemon has it.
fn rank(state: &str) -> usize {
    State::ALL.iter().position(|known| known.as_str() == state).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_never_scrolls_the_screen() {
        let screen = Screen { width: 80, height: Some(3), colour: false };
        assert_eq!(over("a\nb\nc\n", screen), "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n\x1b[J");
    }
}
