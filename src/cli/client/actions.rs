//! `check`, `reauth`, `pause`, `resume`, `revoke` and `token`.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use tokio::time::sleep;

use super::progress::Progress;
use super::times::life_left;
use super::{DaemonCommand, SocketArgs, fetch_all, find_token, is_pattern, urls};
use crate::cli::{CliError, EX_DEAD, EX_TEMPFAIL, EX_UNAVAILABLE, eprint_message, print};
use crate::clock;
use crate::control::client::{Client, ControlClientError};
use crate::control::{ApiErrorKind, Health, TokenDetail};
use crate::lifecycle::OperatorRequest;
use crate::text::printable;
use crate::time::Moment;

/// Interval between two queries for the outcome.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum number of tokens that a confirmation prompt names.
const MAX_NAMED: usize = 5;

/// The tokens that something is asked for.
#[derive(Debug, Args)]
pub(in crate::cli) struct TokenArgs {
    /// Token names, or patterns such as 'quotes-*'
    #[arg(required = true, value_name = "NAME")]
    tokens: Vec<String>,
    /// Return at once, without waiting for the result
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    socket_args: SocketArgs,
}

/// How long to wait for the outcome: the default timeouts of the daemon.
const fn wait_timeout(action: OperatorRequest) -> Duration {
    match action {
        OperatorRequest::Check | OperatorRequest::Revoke => Duration::from_secs(15),
        OperatorRequest::Reauth => Duration::from_secs(75),
        OperatorRequest::Pause | OperatorRequest::Resume => Duration::ZERO,
    }
}

impl TokenArgs {
    /// Combines the tokens with an action.
    pub(in crate::cli) fn with_action(self, action: OperatorRequest) -> TokenAction {
        TokenAction { names: self, action, confirmed: true }
    }
}

/// Revoke tokens at the server. Tokens with a `reauth` get new values
#[derive(Debug, Args)]
pub(in crate::cli) struct Revoke {
    #[command(flatten)]
    names: TokenArgs,
    /// Do not ask for confirmation when a pattern matches several tokens
    #[arg(long)]
    yes: bool,
}

impl Revoke {
    pub(in crate::cli) fn with_action(self) -> TokenAction {
        TokenAction { names: self.names, action: OperatorRequest::Revoke, confirmed: self.yes }
    }
}

/// An action for each of the given tokens.
#[derive(Debug)]
pub(in crate::cli) struct TokenAction {
    names: TokenArgs,
    action: OperatorRequest,
    /// Whether patterns need no confirmation.
    confirmed: bool,
}

/// A request that was sent for one token.
struct SentRequest {
    name: String,
    at: Moment,
    timestamp: Timestamp,
}

impl DaemonCommand for TokenAction {
    fn socket_args(&self) -> &SocketArgs {
        &self.names.socket_args
    }

    async fn run(self, client: &mut Client) -> Result<u8, CliError> {
        let names = resolve_names(client, &self.names.tokens).await?;
        if names.is_empty() {
            return Err(CliError::Usage("no token matches the pattern".to_owned()));
        }
        if !self.confirmed && !confirm_pattern(self.action, &self.names.tokens, &names)? {
            eprint_message("nothing was done");
            return Ok(EX_DEAD);
        }
        let progress = Progress::with_steps(names.len() * 2);
        let (mut sent, mut failed, mut elsewhere, mut unknown) = (Vec::new(), false, false, false);
        for name in names {
            let (at, timestamp) = (clock::now(), clock::wall_clock());
            let path = urls::token(&name, &[self.action.as_str()]);
            match progress.during(client.post(&path)).await {
                Ok(()) => sent.push(SentRequest { name, at, timestamp }),
                Err(error) if concerns_one_token(&error) => {
                    progress.print(outcome_line(&name, &error.to_string()).trim_end());
                    let is_elsewhere = error.kind() == Some(ApiErrorKind::Elsewhere);
                    elsewhere |= is_elsewhere;
                    failed |= !is_elsewhere;
                }
                Err(error) => return Err(error.into()),
            }
            progress.step();
        }
        for request in sent {
            if !self.names.no_wait {
                let outcome = outcome(client, self.action, &request, &progress);
                let line = progress.during(outcome).await?;
                progress.hide(|| print(&outcome_line(&request.name, &line.text)))?;
                failed |= line.kind == OutcomeKind::Bad;
                unknown |= line.kind == OutcomeKind::Unknown;
            }
            progress.step();
        }
        Ok(match (failed, elsewhere, unknown) {
            (true, ..) => EX_DEAD,
            (false, true, _) => EX_UNAVAILABLE,
            (false, false, true) => EX_TEMPFAIL,
            (false, false, false) => 0,
        })
    }
}

/// The line for the outcome of one token.
fn outcome_line(name: &str, outcome: &str) -> String {
    format!("{}: {}\n", printable(name), printable(outcome))
}

/// Asks for confirmation on the terminal if `given` contains patterns: they may match more tokens
/// than the operator expects.
fn confirm_pattern(
    action: OperatorRequest,
    given: &[String],
    names: &[String],
) -> Result<bool, CliError> {
    if names.iter().all(|name| given.contains(name)) {
        return Ok(true);
    }
    let (word, count) = (action.as_str(), names.len());
    let shown = names.iter().take(MAX_NAMED).map(|name| printable(name)).collect::<Vec<_>>();
    let mut shown = shown.join(", ");
    if count > MAX_NAMED {
        shown += &format!(" and {} more", count - MAX_NAMED);
    }
    let tokens = if count == 1 { "1 token" } else { &format!("{count} tokens") };
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(CliError::Usage(format!(
            "{word}: a pattern matches {tokens} ({shown}); add --yes to {word} them without \
             confirmation"
        )));
    }
    let ask = |error| CliError::System { doing: "asking on the terminal", error };
    let mut stderr = io::stderr().lock();
    write!(stderr, "{word} {tokens} ({shown})? [y/N] ").map_err(ask)?;
    stderr.flush().map_err(ask)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(ask)?;
    if !answer.ends_with('\n') {
        writeln!(stderr).map_err(ask)?;
    }
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Whether an error concerns one token only, so that the other tokens are still processed.
fn concerns_one_token(error: &ControlClientError) -> bool {
    let kinds = [ApiErrorKind::NotFound, ApiErrorKind::Conflict, ApiErrorKind::Elsewhere];
    error.kind().is_some_and(|kind| kinds.contains(&kind))
}

/// Resolves names and patterns to token names, without duplicates.
async fn resolve_names(
    client: &mut Client,
    names: &[String],
) -> Result<Vec<String>, ControlClientError> {
    let mut resolved = Vec::new();
    for name in names {
        if is_pattern(name) && find_token(client, name).await?.is_none() {
            let page = fetch_all(client, Some(name)).await?;
            resolved.extend(page.tokens.into_iter().map(|token| token.name));
        } else {
            resolved.push(name.clone());
        }
    }
    resolved.sort_unstable();
    resolved.dedup();
    Ok(resolved)
}

/// Outcome of an action for one token.
struct Outcome {
    text: String,
    kind: OutcomeKind,
}

/// Kind of outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutcomeKind {
    Good,
    Bad,
    /// The action did not end within the timeout.
    Unknown,
}

/// Waits for the outcome. If it is not there at once and the server is unavailable, prints why it
/// takes longer.
async fn outcome(
    client: &mut Client,
    action: OperatorRequest,
    sent: &SentRequest,
    progress: &Progress,
) -> Result<Outcome, ControlClientError> {
    let mut polls = 0;
    loop {
        let detail: TokenDetail = client.get(&urls::token(&sent.name, &[])).await?;
        let passed = clock::now().since(sent.at);
        if let Some(outcome) = find_outcome(action, &detail, sent.timestamp, passed) {
            return Ok(outcome);
        }
        if passed >= wait_timeout(action) {
            let (text, kind) = match action {
                OperatorRequest::Pause | OperatorRequest::Resume => {
                    (state_after(action, &detail), OutcomeKind::Good)
                }
                OperatorRequest::Check | OperatorRequest::Reauth | OperatorRequest::Revoke => {
                    let more = format!("see `tokenkeep status {}`", sent.name);
                    (format!("still in progress; {more}"), OutcomeKind::Unknown)
                }
            };
            return Ok(Outcome { text, kind });
        }
        if polls == 1 && is_unavailable(client, &detail.token.server).await {
            let (name, server) = (printable(&sent.name), printable(&detail.token.server));
            progress.print(&format!("{name}: waiting, because server {server} is unavailable"));
        }
        polls += 1;
        sleep(POLL_INTERVAL).await;
    }
}

/// The state after a pause or a resumption, which hold for all replicas.
fn state_after(action: OperatorRequest, detail: &TokenDetail) -> String {
    let state = &detail.token.state;
    match (&detail.token.replica, action) {
        (None, _) => state.clone(),
        (Some(_), OperatorRequest::Resume) => format!("resumed on all replicas; {state} here"),
        (Some(_), _) => format!("{state} on all replicas"),
    }
}

/// Whether the daemon reports the server as unavailable.
async fn is_unavailable(client: &Client, server: &str) -> bool {
    let health: Result<Health, _> = client.get("/v1/health").await;
    health.is_ok_and(|health| {
        health.servers.iter().any(|known| known.name == server && !known.available)
    })
}

/// Finds the outcome of a request that was sent `passed` ago in the token's events; `None` if there is
/// none yet.
fn find_outcome(
    action: OperatorRequest,
    detail: &TokenDetail,
    since: Timestamp,
    passed: Duration,
) -> Option<Outcome> {
    let later = detail
        .events
        .iter()
        .filter(|event| event.at.parse::<Timestamp>().is_ok_and(|at| at >= since));
    let ends: &[&str] = match action {
        OperatorRequest::Check => {
            &["check_failed", "token_expired", "token_rejected", "token_missing"]
        }
        OperatorRequest::Reauth => {
            &["reauth_succeeded", "reauth_failed", "reauth_exhausted", "reauth_held"]
        }
        OperatorRequest::Revoke => &["token_revoked"],
        OperatorRequest::Pause | OperatorRequest::Resume => return None,
    };
    let end = later.rev().find(|event| ends.contains(&event.event.as_str()));
    if let Some(end) = end {
        let text = said_once(&end.message).to_owned();
        let kind = match (&*end.event, &*end.level) {
            // It begins as soon as it may.
            ("reauth_held", _) => OutcomeKind::Unknown,
            (_, "info") => OutcomeKind::Good,
            _ => OutcomeKind::Bad,
        };
        return Some(Outcome { text, kind });
    }
    let checked =
        detail.token.last_check_ms.is_some_and(|ago| Duration::from_millis(ago) <= passed);
    (action == OperatorRequest::Check && checked).then(|| {
        let text = format!("{}, {}", detail.token.state, life_left(&detail.token));
        Outcome { text, kind: OutcomeKind::Good }
    })
}

/// `message` without its reason, if that is only that the server reports the message.
fn said_once(message: &str) -> &str {
    match message.split_once(": the server reports that ") {
        Some((what, reason)) if what == reason => what,
        Some(_) | None => message,
    }
}

/// Print a token's value, for root, the daemon's user and the token's `readers`
#[derive(Debug, Args)]
pub(in crate::cli) struct Token {
    /// The token
    name: String,
    #[command(flatten)]
    socket_args: SocketArgs,
}

impl DaemonCommand for Token {
    fn socket_args(&self) -> &SocketArgs {
        &self.socket_args
    }

    async fn run(self, client: &mut Client) -> Result<u8, CliError> {
        let path = urls::token(&self.name, &["value"]);
        let (value, verified) = client.get_value(&path).await?;
        if !verified {
            eprint_message(&format!(
                "warning: {}: this value is unverified: no response has confirmed it, or its last \
                 known expiry has passed",
                self.name
            ));
        }
        print(&value)?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_repeats_the_message_is_omitted() {
        let expired = "the token has expired";
        let repeated = format!("{expired}: the server reports that {expired}");
        assert_eq!(said_once(&repeated), expired);
        for other in [expired.to_owned(), format!("{repeated} since long"), "a: b".to_owned()] {
            assert_eq!(said_once(&other), other);
        }
    }
}
