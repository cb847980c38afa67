//! The demo on a terminal: the table of `status --watch`, with what has just happened below it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use super::DEMO_DURATION;
use super::servers::DemoToken;
use crate::cli::CliError;
use crate::cli::client::terminal::{DIM, GREEN, RED, Screen, Terminal, YELLOW, draw};
use crate::cli::client::times::LocalTime;
use crate::cli::client::{table, urls};
use crate::clock;
use crate::control::client::{Client, ControlClientError};
use crate::control::{EventView, ListParams, TokenDetail, TokenPage};
use crate::text::printable;
use crate::time::Moment;

/// Time between two frames: lives are a few seconds.
const FRAME_INTERVAL: Duration = Duration::from_millis(250);

/// The tokens, in the order of the screen, and what is special about each.
const TOKENS: [(&str, &str); 4] = [
    ("queried", "its server renews a token at every query"),
    ("renewed", "its server renews a token at RenewSessionToken only"),
    ("relogged", "nothing renews it; a re-auth command gets new ones"),
    ("rejected", "its server forgets it after 8 s"),
];

/// What is said when it is known how a token is renewed.
const PROOFS: [(&str, &str); 2] = [
    ("queried", "renewal proven: queries renew it"),
    ("renewed", "renewal proven: RenewSessionToken renews it, queries do not"),
];

/// Width of the names of tokens, with the space behind them.
const NAMES: usize = 10;

/// Width of a time of day, with the space behind it.
const CLOCK: usize = 10;

/// Events that are repeated at the end.
const MAX_REPEATED: usize = 40;

/// Lines for events that must fit before the explanations are shown.
const MIN_EVENTS: usize = 3;

/// What has happened to a token, in words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Happening {
    at: Timestamp,
    token: String,
    level: String,
    sentence: String,
}

/// The screen, and what it has shown so far.
pub(super) struct LiveScreen {
    client: Client,
    page_url: Option<String>,
    since: Moment,
    happenings: Vec<Happening>,
    /// The renewals that have been proven, which are events of servers.
    proofs: BTreeMap<&'static str, Happening>,
    page: Option<TokenPage>,
}

impl LiveScreen {
    pub(super) fn new(socket: &Path, page_url: Option<String>) -> Self {
        Self {
            client: Client::new(socket),
            page_url,
            since: clock::now(),
            happenings: Vec::new(),
            proofs: BTreeMap::new(),
            page: None,
        }
    }

    /// Draws frames until the terminal is gone. The screen is restored when the future is dropped.
    pub(super) async fn run(&mut self) -> Result<(), CliError> {
        let _screen = Screen::enter()?;
        let mut pace = interval(FRAME_INTERVAL);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            // Until the control socket is open, and while the daemon stops, the last state remains.
            let _ = self.update().await;
            let terminal = Terminal::detect();
            draw(&self.frame(terminal, &LocalTime::now()), terminal)?;
        }
    }

    /// Reads the state and the events of the tokens.
    async fn update(&mut self) -> Result<(), ControlClientError> {
        let mut page: TokenPage = self.client.get(&urls::tokens(&ListParams::default())).await?;
        let position = |name: &str| TOKENS.iter().position(|(token, _)| *token == name);
        page.tokens.sort_by_key(|token| position(&token.name));
        for (name, sentence) in PROOFS {
            let token = page.tokens.iter().find(|token| token.name == name);
            if token.is_some_and(|token| token.renews_by.is_some()) {
                let proof = || Happening::new(clock::wall_clock(), name, "info", sentence);
                self.proofs.entry(name).or_insert_with(proof);
            }
        }
        self.page = Some(page);
        let mut happenings: Vec<_> = self.proofs.values().cloned().collect();
        for (name, _) in TOKENS {
            let detail: TokenDetail = self.client.get(&urls::token(name, &[])).await?;
            happenings.extend(happenings_of(name, &detail.events));
        }
        happenings.sort();
        self.happenings = happenings;
        Ok(())
    }

    fn frame(&self, terminal: Terminal, time: &LocalTime) -> String {
        let left = DEMO_DURATION.saturating_sub(clock::now().since(self.since)).as_secs();
        let title = match &self.page_url {
            None => format!("tokenkeep demo, {left} s left; Ctrl-C ends it"),
            Some(url) => format!("tokenkeep demo, with its page at {url}; Ctrl-C ends it"),
        };
        let mut frame = format!("{}\n\n", terminal.paint(DIM, &terminal.wrap(&title, 0, 0)));
        if let Some(page) = &self.page {
            frame += &table::heading(page, terminal, time);
            frame += &format!("{}\n\n", table::rows(&page.tokens, terminal, time));
        }
        let height = terminal.height.map_or(usize::MAX, usize::from);
        let mut room = height.saturating_sub(frame.lines().count() + 1);
        let explanations: String =
            TOKENS.iter().map(|(name, special)| explain(name, special, terminal)).collect();
        let height = explanations.lines().count() + 1;
        if room >= height + MIN_EVENTS {
            frame += &format!("{explanations}\n");
            room -= height;
        }
        // The last events that fit.
        let mut events = Vec::new();
        for what in self.happenings.iter().rev() {
            let line = what.line(terminal, time);
            let Some(left) = room.checked_sub(line.lines().count()) else { break };
            room = left;
            events.push(line);
        }
        events.reverse();
        frame + &events.concat()
    }

    /// Everything that has happened, and a verdict for each token.
    pub(super) fn finish(&self, tokens: &[DemoToken]) -> String {
        let (terminal, time) = (Terminal::detect(), LocalTime::now());
        let mut text = "tokenkeep demo: what happened\n\n".to_owned();
        if self.happenings.is_empty() {
            text += "nothing so far\n";
        }
        let left_out = self.happenings.len().saturating_sub(MAX_REPEATED);
        for what in &self.happenings[left_out..] {
            text += &what.line(terminal, &time);
        }
        text += "\nand how it ended, as the servers saw it\n\n";
        for token in tokens {
            text += &verdict_line(token, terminal);
        }
        text + "\nNext: tokenkeep init\n"
    }
}

/// The line about what is special about a token.
fn explain(name: &str, special: &str, terminal: Terminal) -> String {
    let special = terminal.wrap(special, NAMES, NAMES);
    format!("{}\n", terminal.paint(DIM, &format!("{name:<NAMES$}{special}")))
}

/// The sentences about the events of a token: one for each thing that happened, even if several
/// events report it.
fn happenings_of(token: &str, events: &[EventView]) -> Vec<Happening> {
    let is_rejected = events.iter().any(|event| event.event == "token_rejected");
    let sentences = events.iter().filter_map(|event| {
        let sentence = match event.event.as_str() {
            "reauth_started" | "token_replaced" | "token_recovered" => return None,
            "check_failed" if is_rejected => return None,
            "token_expired" => "expired; its re-auth command is started",
            "token_rejected" => "rejected: two queries agree that its server does not know it",
            "reauth_succeeded" => "the re-auth command got a new token, which is alive",
            _ => &event.message,
        };
        Some(Happening::new(event.at.parse().ok()?, token, &event.level, sentence))
    });
    sentences.collect()
}

impl Happening {
    fn new(at: Timestamp, token: &str, level: &str, sentence: &str) -> Self {
        Self { at, token: token.into(), level: level.into(), sentence: sentence.into() }
    }

    fn line(&self, terminal: Terminal, time: &LocalTime) -> String {
        let name = format!("{:<NAMES$}", self.token);
        let indent = CLOCK + NAMES;
        let sentence = terminal.wrap(&printable(&self.sentence), indent, indent);
        let sentence = match self.level.as_str() {
            "error" => terminal.paint(RED, &sentence),
            "warn" => terminal.paint(YELLOW, &sentence),
            _ => sentence,
        };
        let clock = terminal.paint(DIM, &time.seconds(self.at));
        format!("{clock}  {name}{sentence}\n")
    }
}

fn verdict_line(token: &DemoToken, terminal: Terminal) -> String {
    let (word, style) = if token.left.is_some() { ("alive", GREEN) } else { ("dead", RED) };
    let sentence = terminal.wrap(&verdict(token), NAMES + 7, NAMES + 7);
    format!("{:<NAMES$}{}  {sentence}\n", token.name, terminal.paint(style, &format!("{word:<5}")))
}

/// What the requests that its server has seen say about a token.
fn verdict(token: &DemoToken) -> String {
    let DemoToken { name, left, queries, renewals, logins } = token;
    match (*name, left) {
        ("queried", Some(_)) if *queries > 1 => {
            format!("kept by {queries} queries; each renewed it")
        }
        ("renewed", Some(_)) if *renewals > 0 => {
            let calls = if *renewals == 1 { "1 call" } else { &format!("{renewals} calls") };
            format!("kept by {calls} of RenewSessionToken; queries do not renew it")
        }
        ("relogged", _) if *logins == 1 => {
            "expired once; its re-auth command got a new token".to_owned()
        }
        ("relogged", _) if *logins > 1 => {
            format!("expired {logins} times; its re-auth command got a new token each time")
        }
        ("rejected", None) => "its server forgot it; it needs a new token from you".to_owned(),
        (_, Some(_)) => "nothing has happened to it yet".to_owned(),
        (_, None) => "it should be alive; please report this".to_owned(),
    }
}
