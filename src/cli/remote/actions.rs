//! `check`, `reauth`, `pause`, `resume`, `revoke` and `token`.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use tokio::time::sleep;

use super::progress::Progress;
use super::table::short;
use super::{Errand, Where, all, is_pattern, named, paths};
use crate::cli::{EX_DEAD, EX_TEMPFAIL, Failure, complain, print};
use crate::clock;
use crate::control::client::{Client, ClientFault};
use crate::control::{ProblemKind, Story};
use crate::text::printable;
use crate::time::Moment;

/// Between two looks at what came of it.
const PACE: Duration = Duration::from_millis(100);

/// How many tokens a question names.
const NAMED: usize = 5;

/// The tokens that something is asked for.
#[derive(Debug, Args)]
pub(in crate::cli) struct Names {
    /// Tokens, or patterns such as 'quotes-*'
    #[arg(required = true, value_name = "NAME")]
    tokens: Vec<String>,
    /// Do not wait for what comes of it
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    place: Where,
}

/// What is asked for the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Action {
    Check,
    Reauth,
    Pause,
    Resume,
    Revoke,
}

impl Action {
    const fn word(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Reauth => "reauth",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Revoke => "revoke",
        }
    }

    /// How long what comes of it is waited for: as long as it takes by default at most.
    const fn patience(self) -> Duration {
        match self {
            Self::Check | Self::Revoke => Duration::from_secs(15),
            Self::Reauth => Duration::from_secs(75),
            Self::Pause | Self::Resume => Duration::ZERO,
        }
    }
}

impl Names {
    /// With what is asked for them.
    pub(in crate::cli) fn each(self, action: Action) -> Each {
        Each { names: self, action, confirmed: true }
    }
}

/// Have the server end the lives of tokens; where there is a `reauth`, new values follow
#[derive(Debug, Args)]
pub(in crate::cli) struct Revoke {
    #[command(flatten)]
    names: Names,
    /// Revoke all tokens that match a pattern without asking
    #[arg(long)]
    yes: bool,
}

impl Revoke {
    pub(in crate::cli) fn each(self) -> Each {
        Each { names: self.names, action: Action::Revoke, confirmed: self.yes }
    }
}

/// Something that is asked for each of some tokens.
#[derive(Debug)]
pub(in crate::cli) struct Each {
    names: Names,
    action: Action,
    /// A pattern needs no confirmation.
    confirmed: bool,
}

/// Something that was asked for a token.
struct Asked {
    name: String,
    at: Moment,
    timestamp: Timestamp,
}

impl Errand for Each {
    fn place(&self) -> &Where {
        &self.names.place
    }

    async fn run(self, client: &mut Client) -> Result<u8, Failure> {
        let names = chosen(client, &self.names.tokens).await?;
        if names.is_empty() {
            return Err(Failure::Usage("no token fits the pattern".to_owned()));
        }
        if !self.confirmed && !confirm_pattern(self.action, &self.names.tokens, &names)? {
            complain("nothing was done");
            return Ok(EX_DEAD);
        }
        let progress = Progress::of(names.len() * 2);
        let (mut asked, mut failed, mut unknown) = (Vec::new(), false, false);
        for name in names {
            let (at, timestamp) = (clock::now(), clock::wall_clock());
            let path = paths::token(&name, &[self.action.word()]);
            match progress.during(client.post(&path)).await {
                Ok(()) => asked.push(Asked { name, at, timestamp }),
                Err(fault) if is_his_own(&fault) => {
                    progress.say(told(&name, &fault.to_string()).trim_end());
                    failed = true;
                }
                Err(fault) => return Err(fault.into()),
            }
            progress.step();
        }
        for one in asked {
            if !self.names.no_wait {
                let line = progress.during(outcome(client, self.action, &one)).await?;
                progress.hide(|| print(&told(&one.name, &line.text)))?;
                failed |= line.end == End::Bad;
                unknown |= line.end == End::Unknown;
            }
            progress.step();
        }
        Ok(match (failed, unknown) {
            (true, _) => EX_DEAD,
            (false, true) => EX_TEMPFAIL,
            (false, false) => 0,
        })
    }
}

/// What came of it for one token, on a line.
fn told(name: &str, outcome: &str) -> String {
    format!("{}: {}\n", printable(name), printable(outcome))
}

/// Asks on the terminal whether to go on, if `names` are not exactly those that were `given`:
/// patterns match tokens that the operator may not have thought of.
fn confirm_pattern(action: Action, given: &[String], names: &[String]) -> Result<bool, Failure> {
    if names.iter().all(|name| given.contains(name)) {
        return Ok(true);
    }
    let (word, count) = (action.word(), names.len());
    let shown = names.iter().take(NAMED).map(|name| printable(name)).collect::<Vec<_>>();
    let mut shown = shown.join(", ");
    if count > NAMED {
        shown += &format!(" and {} more", count - NAMED);
    }
    let tokens = if count == 1 { "1 token" } else { &format!("{count} tokens") };
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::Usage(format!(
            "{word}: a pattern matches {tokens} ({shown}); add --yes to {word} them without being \
             asked"
        )));
    }
    let ask = |error| Failure::System { doing: "asking on the terminal", error };
    let mut stderr = io::stderr().lock();
    write!(stderr, "{word} {tokens} ({shown})? [y/N] ").map_err(ask)?;
    stderr.flush().map_err(ask)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(ask)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Whether a refusal concerns the one token only.
fn is_his_own(fault: &ClientFault) -> bool {
    matches!(fault.kind(), Some(ProblemKind::NotFound | ProblemKind::Conflict))
}

/// The tokens that are named, each once.
async fn chosen(client: &mut Client, names: &[String]) -> Result<Vec<String>, ClientFault> {
    let mut chosen = Vec::new();
    for name in names {
        if is_pattern(name) && named(client, name).await?.is_none() {
            let page = all(client, Some(name)).await?;
            chosen.extend(page.tokens.into_iter().map(|token| token.name));
        } else {
            chosen.push(name.clone());
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    Ok(chosen)
}

/// What came of it, for people.
struct Outcome {
    text: String,
    end: End,
}

/// Whether it is what was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Good,
    Bad,
    /// It was not waited for any longer.
    Unknown,
}

async fn outcome(
    client: &mut Client,
    action: Action,
    asked: &Asked,
) -> Result<Outcome, ClientFault> {
    loop {
        let story: Story = client.get(&paths::token(&asked.name, &[])).await?;
        let passed = clock::now().since(asked.at);
        if let Some(outcome) = judge(action, &story, asked.timestamp, passed) {
            return Ok(outcome);
        }
        if passed >= action.patience() {
            let (text, end) = match action {
                Action::Pause | Action::Resume => (story.token.state, End::Good),
                Action::Check | Action::Reauth | Action::Revoke => {
                    let more = format!("`tokenkeep status {}` tells more", asked.name);
                    (format!("still under way; {more}"), End::Unknown)
                }
            };
            return Ok(Outcome { text, end });
        }
        sleep(PACE).await;
    }
}

/// What a token's story says came of what was asked for `passed` ago; `None` if nothing yet.
fn judge(action: Action, story: &Story, since: Timestamp, passed: Duration) -> Option<Outcome> {
    let later = story
        .events
        .iter()
        .filter(|event| event.at.parse::<Timestamp>().is_ok_and(|at| at >= since));
    let ends: &[&str] = match action {
        Action::Check => &["check_failed", "token_expired", "token_rejected", "token_missing"],
        Action::Reauth => &["reauth_succeeded", "reauth_failed", "reauth_exhausted"],
        Action::Revoke => &["token_revoked"],
        Action::Pause | Action::Resume => return None,
    };
    let end = later.rev().find(|event| ends.contains(&event.event.as_str()));
    if let Some(end) = end {
        let text = end.message.clone();
        let end = if end.level == "info" { End::Good } else { End::Bad };
        return Some(Outcome { text, end });
    }
    let checked = story.token.last_check_ms.is_some_and(|ago| Duration::from_millis(ago) <= passed);
    (action == Action::Check && checked).then(|| {
        let left = story.token.remaining_ms.unwrap_or_default();
        let left = short(u64::try_from(left).unwrap_or_default());
        Outcome { text: format!("{}, {left} left", story.token.state), end: End::Good }
    })
}

/// Print a token's value, for root, the daemon's user and the token's `readers`
#[derive(Debug, Args)]
pub(in crate::cli) struct Token {
    /// The token
    name: String,
    #[command(flatten)]
    place: Where,
}

impl Errand for Token {
    fn place(&self) -> &Where {
        &self.place
    }

    async fn run(self, client: &mut Client) -> Result<u8, Failure> {
        let path = paths::token(&self.name, &["value"]);
        let (value, verified) = client.get_value(&path).await?;
        if !verified {
            complain(&format!(
                "warning: {}: this value may be dead: no answer about it has come yet, or none \
                 before the end of its reported life",
                self.name
            ));
        }
        print(&value)?;
        Ok(0)
    }
}
