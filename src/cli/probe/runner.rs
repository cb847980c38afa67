//! Runs a probe: drives the lifecycle state machine of one token until it has a result.
//!
//! Owns the loop of requests, waits and writes. The state machine ([`transition`]) decides what a
//! response means and what to do next.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::sleep;

use super::super::CliError;
use super::api::is_assumed;
use super::error_text;
use super::progress::Progress;
use crate::api::Client;
use crate::clock;
use crate::lifecycle::{
    Action, CheckResult, Context, Event, Fraction, Method, Notice, Policy, RandomFraction, Reading,
    Renewal, Resource, Schedule, Token, Validity, transition,
};
use crate::outcome::{CallError, Connection, Outcome};
use crate::secret::TokenValue;
use crate::settings::Server;
use crate::text::format_duration;
use crate::time::Moment;
use crate::token_source::replace;

/// Minimum wait between two requests, as a fraction of the life. Two readings prove a renewal if a
/// fifth of the life has passed between them; the margin covers scheduling delays.
const MIN_FRACTION: f64 = 0.22;
/// Minimum wait if the server reports whole seconds: rounding can hide a renewal of one second.
const MIN_WAIT_WHOLE_SECONDS: Duration = Duration::from_millis(2_300);
/// Maximum wait as a fraction of the life, so that enough is left for further requests.
const MAX_FRACTION: f64 = 0.67;
/// Maximum pause between retries: short, because an operator waits for the result.
const RETRY_MAX: Duration = Duration::from_secs(30);
const RETRY_INITIAL: Duration = Duration::from_secs(1);
/// Interval limits that never apply: only the fraction of the life counts.
const INTERVALS: (Duration, Duration) =
    (Duration::from_millis(1), Duration::from_secs(365 * 86_400));
/// Maximum number of requests: three times what it takes to find that nothing renews.
const MAX_CALLS: u32 = 30;
/// Pause before the next attempt to write a new refresh token.
const RETRY_REFRESH: Duration = Duration::from_secs(5);
/// Refresh interval of the countdown.
const TICK: Duration = Duration::from_secs(1);

/// Result of a probe.
#[derive(Debug)]
pub(in crate::cli) enum ProbeResult {
    /// The token is alive, and renewal was not to be proven.
    Alive(Reading),
    /// The token is dead: `expired` or `rejected`.
    Dead(&'static str, CallError),
    /// This request renews.
    RenewsBy(Method),
    /// No permitted request renews. `refused` is the error if the server refused `RenewSessionToken`.
    NothingRenews { reading: Reading, refused: Option<CallError> },
    /// The configuration or the server must be corrected first.
    Misconfigured(CallError),
    /// The server gave no conclusive response.
    NoAnswer(CallError),
    /// The last known expiry has passed without a further response.
    OutOfTime,
    /// The responses contradict each other.
    Undecided,
}

/// A secret, and the file that it is from.
pub(super) struct SecretFile {
    pub(super) path: PathBuf,
    pub(super) value: TokenValue,
}

/// The token, and the refresh token that renewals spend.
pub(super) struct Secrets {
    pub(super) token: SecretFile,
    pub(super) refresh: Option<SecretFile>,
}

/// Probes one token.
pub(super) struct ProbeRunner {
    client: Client,
    secrets: Secrets,
    policy: Policy,
    prove: bool,
    token: Token,
    calls: u32,
    /// The error if the server refused `RenewSessionToken`.
    refused: Option<CallError>,
    end: Option<ProbeResult>,
    progress: Progress,
}

impl ProbeRunner {
    /// Probes the token value of a file. `prove` also finds out which request renews it.
    pub(super) fn new(
        client: Client,
        server: &Server,
        secrets: Secrets,
        prove: bool,
        now: Moment,
    ) -> Self {
        let policy = Policy {
            schedule: Schedule::default(),
            timeout: server.timeout,
            renewal: server.renewal,
            reauth: None,
            reauth_before: None,
            assumed: is_assumed(server),
            rotates: false,
        };
        let token = Token::with_value(now);
        let progress = Progress::new();
        Self { client, secrets, policy, prove, token, calls: 0, refused: None, end: None, progress }
    }

    /// Runs until there is a result and a new token value, if any, is stored.
    pub(super) async fn run(&mut self) -> Result<ProbeResult, CliError> {
        loop {
            let store = self.token.due_for(Resource::None);
            if store.is_none()
                && let Some(end) = self.end.take()
            {
                self.progress.clear();
                return Ok(end);
            }
            let now = clock::now();
            if self.token.next_deadline_warning().is_some_and(|at| at <= now) {
                self.step(Event::TimerFired)?;
                continue;
            }
            let (resource, due) = match (store, self.token.due_for(Resource::Server)) {
                (Some(store), call) if call.is_none_or(|call| store <= call) => {
                    (Resource::None, store)
                }
                (_, Some(call)) => (Resource::Server, call),
                _ => return Ok(ProbeResult::Undecided),
            };
            if due <= now {
                self.act(resource).await?;
            } else {
                self.progress.waiting(due.since(now));
                let alarm = self.token.next_deadline_warning().unwrap_or(Moment::NEVER);
                sleep(due.min(alarm).since(now).min(TICK)).await;
            }
        }
    }

    async fn act(&mut self, resource: Resource) -> Result<(), CliError> {
        match self.step(Event::Admitted(resource))? {
            Some(Action::Check { method, timeout, connection, .. }) => {
                self.ask(method, timeout, connection).await
            }
            Some(Action::Persist { .. }) => {
                let SecretFile { path, value } = &self.secrets.token;
                let stored = replace(path, value);
                let stored = stored.map_err(|fault| fault.to_string().into());
                self.step(Event::PersistFinished(stored)).map(drop)
            }
            Some(Action::Reauth { .. } | Action::Revoke { .. }) | None => Ok(()),
        }
    }

    async fn ask(
        &mut self,
        method: Method,
        timeout: Duration,
        connection: Connection,
    ) -> Result<(), CliError> {
        self.calls += 1;
        let sent = clock::now();
        let Secrets { token, refresh } = &self.secrets;
        let (outcome, new_value, new_refresh) = match (method, refresh) {
            (Method::Query, _) => {
                (self.client.query(&token.value, timeout, connection).await, None, None)
            }
            (Method::Renew, None) => {
                let renewed = self.client.renew(&token.value, timeout, connection).await;
                (renewed.outcome, renewed.new_value, None)
            }
            (Method::Renew, Some(refresh)) => {
                let renewed = self.client.rotate(&refresh.value, Some(&token.value), timeout).await;
                if let Some(error) = &renewed.refresh_error {
                    self.progress.step(error)?;
                }
                (renewed.outcome, renewed.new_value, renewed.new_refresh)
            }
        };
        let received = clock::now_ceil();
        if let Some(new_refresh) = new_refresh {
            self.keep_refresh_token(new_refresh).await?;
        }
        let replaced = new_value.is_some();
        if let Some(new_value) = new_value {
            self.secrets.token.value = new_value;
        }
        if self.prove {
            self.progress.step(&describe_response(method, &outcome))?;
        }
        if let Outcome::Alive { remaining } = outcome {
            self.policy.schedule = schedule(remaining, received.since(sent));
        }
        let known = self.token.reading().is_some();
        if let (true, Method::Renew, Outcome::Misconfigured(fault)) = (known, method, &outcome) {
            self.refused = Some(fault.clone());
        }
        self.step(Event::CheckFinished(CheckResult {
            sent,
            received,
            outcome: outcome.clone(),
            replaced,
            cannot_renew: false,
        }))?;
        let end = self.result_of(outcome, known);
        self.end = self.end.take().or(end);
        if self.prove && self.end.is_none() {
            self.announce_wait()?;
        }
        Ok(())
    }

    /// Writes the new refresh token to its file. The spent one is useless, so this does not give up.
    async fn keep_refresh_token(&mut self, new: TokenValue) -> Result<(), CliError> {
        let Some(refresh) = &mut self.secrets.refresh else { return Ok(()) };
        refresh.value = new;
        while let Err(error) = replace(&refresh.path, &refresh.value) {
            self.progress.step(&format!(
                "the new refresh token could not be written: {error}; do not stop this now, the \
                 write is retried in {}",
                format_duration(RETRY_REFRESH)
            ))?;
            sleep(RETRY_REFRESH).await;
        }
        self.progress.step(&format!("new refresh token written to {}", refresh.path.display()))
    }

    /// The result, if one response decides it. `known`: the token was alive in an earlier response.
    fn result_of(&self, outcome: Outcome, known: bool) -> Option<ProbeResult> {
        match (self.token.validity(), outcome) {
            (Validity::Expired, Outcome::Expired(fault)) => {
                Some(ProbeResult::Dead("expired", fault))
            }
            (Validity::Rejected, Outcome::Rejected(fault)) => {
                Some(ProbeResult::Dead("rejected", fault))
            }
            (Validity::Alive(reading), _) if !self.prove => Some(ProbeResult::Alive(reading)),
            (_, Outcome::Misconfigured(fault)) if !known => Some(ProbeResult::Misconfigured(fault)),
            (_, Outcome::Throttled { fault, .. } | Outcome::Unavailable(fault)) if !known => {
                Some(ProbeResult::NoAnswer(fault))
            }
            _ => (self.calls >= MAX_CALLS).then_some(ProbeResult::Undecided),
        }
    }

    fn announce_wait(&self) -> Result<(), CliError> {
        let due = self.token.due_for(Resource::Server).unwrap_or_default();
        let wait = due.since(clock::now());
        if wait < TICK / 10 {
            return Ok(());
        }
        if self.token.is_failing() {
            return self.progress.step(&format!("next query in {}", format_duration(wait)));
        }
        self.progress.step(&format!(
            "next query in {}, to compare the remaining life",
            format_duration(wait)
        ))
    }

    fn step(&mut self, event: Event) -> Result<Option<Action>, CliError> {
        let draw = RandomFraction::new(fastrand::f64());
        let context =
            Context { policy: &self.policy, renews_by: None, draw, server_in_doubt: false };
        let mut notices = Vec::new();
        let (token, action) = transition(self.token, event, clock::now(), &context, &mut notices);
        self.token = token;
        for notice in notices {
            self.on_notice(notice)?;
        }
        Ok(action)
    }

    fn on_notice(&mut self, notice: Notice) -> Result<(), CliError> {
        let end = match notice {
            Notice::RenewsBy(method) => Some(ProbeResult::RenewsBy(method)),
            Notice::Checked { renewed: Some(true), .. } => match self.policy.renewal {
                Renewal::Auto => None,
                Renewal::Query => Some(ProbeResult::RenewsBy(Method::Query)),
                Renewal::Renew => Some(ProbeResult::RenewsBy(Method::Renew)),
            },
            Notice::RenewalNotObserved { .. } => self.token.reading().map(|reading| {
                ProbeResult::NothingRenews { reading, refused: self.refused.take() }
            }),
            Notice::Unverified => Some(ProbeResult::OutOfTime),
            Notice::StoreFailed { error, retry_in_ms } => {
                let wait = format_duration(Duration::from_millis(retry_in_ms));
                self.progress.step(&format!(
                    "the renewed token has a new value, which could not be written: {error}; do \
                     not stop this now, the write is retried in {wait}"
                ))?;
                None
            }
            _ => None,
        };
        self.end = self.end.take().or(end);
        Ok(())
    }
}

/// A schedule whose next request comes as soon as its reading can be compared with the previous
/// one. `took` is the duration of the previous request.
fn schedule(remaining: Duration, took: Duration) -> Schedule {
    let is_whole = remaining.subsec_nanos() == 0;
    let min_wait = if is_whole { MIN_WAIT_WHOLE_SECONDS } else { Duration::ZERO };
    let wait = min_wait.max(remaining.mul_f64(MIN_FRACTION) + took);
    let fraction = wait.as_secs_f64() / remaining.as_secs_f64().max(f64::MIN_POSITIVE);
    let fraction = fraction.clamp(MIN_FRACTION, MAX_FRACTION);
    let fractions = (Fraction::try_new(fraction), Fraction::try_new(0.0));
    let (Ok(check_after), Ok(jitter)) = fractions else { return Schedule::default() };
    let retries = (RETRY_INITIAL, RETRY_MAX);
    Schedule::try_new(check_after, jitter, INTERVALS, retries).unwrap_or_default()
}

/// Describes a response in one line.
fn describe_response(method: Method, outcome: &Outcome) -> String {
    let call = match method {
        Method::Query => "query",
        Method::Renew => "renewal",
    };
    match outcome {
        Outcome::Alive { remaining } => {
            format!("{call}: alive, {} left", format_duration(*remaining))
        }
        Outcome::Expired(fault)
        | Outcome::Rejected(fault)
        | Outcome::Throttled { fault, .. }
        | Outcome::Misconfigured(fault)
        | Outcome::Unavailable(fault) => format!("{call}: {}", error_text(fault)),
    }
}
