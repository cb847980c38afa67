//! `probe`: checks one token without a daemon: its remaining life, and which request renews it.
//!
//! Uses the lifecycle rules of the daemon. This module owns the printed text.

mod api;
mod login;
mod progress;
mod runner;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use self::api::{Api, is_assumed};
pub(super) use self::runner::ProbeResult;
use self::runner::{ProbeRunner, SecretFile, Secrets};
use super::profile::{self, ProfileArgs};
use super::{
    CliError, EX_CONFIG, EX_UNAVAILABLE, EX_USAGE, eprint_message, print_text, runtime, unit,
};
use crate::api::Client;
use crate::clock;
use crate::lifecycle::{Method, Reading, Renewal};
use crate::outcome::{CallError, ENDLESS};
use crate::secret::TokenValue;
use crate::settings::{Installation, Server, Source, ad_hoc_server};
use crate::text::format_duration;
use crate::token_source::read;

/// Name of the server in messages; it has no configured name.
const NAME: &str = "probe";

#[derive(Debug, Args)]
pub(super) struct Probe {
    /// Base URL of the server; it may have a path
    #[arg(long, value_name = "URL")]
    url: String,
    /// File that contains the token; if a renewal returns a new value, it is written to this
    /// file
    #[arg(long, value_name = "PATH")]
    token_file: PathBuf,
    #[command(flatten)]
    api: ProfileArgs,
    /// File that contains the refresh token. A renewal with it spends it, so that the daemon or
    /// another client can no longer use it; the new one is written to this file. Nothing is renewed
    /// without --renewal renew
    #[arg(long, value_name = "PATH")]
    refresh_file: Option<PathBuf>,
    /// Log in by the profile's login call first, and write the new value to the token file, and the
    /// new refresh token to the refresh file
    #[arg(long)]
    login: bool,
    /// Find out which calls renew a token on this server; takes a quarter to a half of the
    /// token's life
    ///
    /// No daemon or other client may use the token meanwhile, or the result is not conclusive
    #[arg(long)]
    prove_renewal: bool,
    /// Permitted calls, as in a [server.NAME]
    #[arg(long, value_enum, default_value = "auto")]
    renewal: RenewalArg,
    /// Time limit of a request [default: 10s]
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// PEM file with the only certificate authority to trust
    #[arg(long, value_name = "PATH")]
    ca_file: Option<PathBuf>,
    /// Allow plain http to another machine; others on the network can then read the token
    #[arg(long)]
    allow_http: bool,
}

/// The words of `renewal` in a configuration.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RenewalArg {
    /// Queries, and renewals where queries do not renew
    Auto,
    /// Queries only
    Query,
    /// Renewals only
    Renew,
}

impl From<RenewalArg> for Renewal {
    fn from(permitted: RenewalArg) -> Self {
        match permitted {
            RenewalArg::Auto => Self::Auto,
            RenewalArg::Query => Self::Query,
            RenewalArg::Renew => Self::Renew,
        }
    }
}

/// Runs a probe and prints the result.
pub(super) fn run(probe: &Probe, installation: &Installation) -> Result<(), CliError> {
    let fail = |status: u8| move |sentence: String| CliError::Failed { sentence, status };
    let mut server = ad_hoc_server(NAME, &probe.url, probe.allow_http, probe.timeout.as_deref())
        .map_err(fail(EX_USAGE))?;
    server.renewal = probe.renewal.into();
    server.ca_file.clone_from(&probe.ca_file);
    server.profile = profile::find(&probe.api.profile, installation)?;
    server.with = profile::parse_parameters(&probe.api.with)?;
    let api = Api::of(&server);
    server.renewal = api.check(probe, &server).map_err(CliError::Usage)?;
    let client = Client::explaining(&server, progress::explain)
        .map_err(|error| fail(EX_CONFIG)(error_words(&error)))?;
    let runtime = runtime()?;
    if probe.login {
        runtime.block_on(login::run(&client, &server, probe))?;
    }
    let secret = |path: &PathBuf| {
        let found = read(&Source::File(path.clone()), &|_| None)
            .map_err(|fault| fail(EX_CONFIG)(fault.to_string()))?;
        for warning in &found.warnings {
            eprint_message(&format!("warning: {warning}"));
        }
        Ok::<_, CliError>(SecretFile { path: path.clone(), value: found.value })
    };
    let renews_with_refresh = server.renewal == Renewal::Renew && api.renews_with_refresh_token();
    let refresh = probe.refresh_file.as_ref().filter(|_| renews_with_refresh);
    let secrets =
        Secrets { token: secret(&probe.token_file)?, refresh: refresh.map(secret).transpose()? };
    let prove = probe.prove_renewal;
    let mut runner = ProbeRunner::new(client, &server, secrets, prove, clock::now());
    let end = runtime.block_on(runner.run())?;
    match end {
        ProbeResult::Alive(reading) => {
            print_text(&format!("{}\n{}", alive(&reading, &server), api.next_check(&reading)))
        }
        ProbeResult::Dead(word, fault) => {
            print_text(&format!("{word}: {}\n", error_text(&fault)))?;
            Err(CliError::TokenDead)
        }
        ProbeResult::RenewsBy(method) => {
            print_text(&format!("{}\n", renews(method, server.renewal, api.renewing_call())))
        }
        ProbeResult::NothingRenews { reading, refused } => print_text(&format!(
            "{}\n",
            nothing_renews(&reading, refused.as_ref(), server.renewal, api.renewing_call())
        )),
        ProbeResult::Misconfigured(fault) => Err(fail(EX_CONFIG)(error_text(&fault))),
        ProbeResult::NoAnswer(fault) => Err(fail(EX_UNAVAILABLE)(error_text(&fault))),
        ProbeResult::OutOfTime => Err(fail(EX_UNAVAILABLE)(
            "no response before the token's last known expiry, so its state is unknown; check that \
             the server is running"
                .to_owned(),
        )),
        ProbeResult::Undecided => Err(fail(EX_UNAVAILABLE)(
            "the result is not conclusive because the responses contradict each other; check \
             whether another client uses the token"
                .to_owned(),
        )),
    }
}

/// Queries a server about one value: once, or twice if the first response rejects it. Never renews
/// it, so the value stays as it is.
pub(super) fn query(server: &Server, value: TokenValue) -> Result<ProbeResult, CliError> {
    let server = Server { renewal: Renewal::Query, ..server.clone() };
    let client = Client::with_variables(&server, &unit::variable)
        .map_err(|error| CliError::Failed { sentence: error.to_string(), status: EX_CONFIG })?;
    // Only a renewal writes a value.
    let token = SecretFile { path: PathBuf::new(), value };
    let secrets = Secrets { token, refresh: None };
    let mut runner = ProbeRunner::new(client, &server, secrets, false, clock::now());
    runtime()?.block_on(runner.run())
}

/// Remaining life and expiry, as text.
pub(super) fn alive(reading: &Reading, server: &Server) -> String {
    if reading.remaining() >= ENDLESS {
        return "alive: does not expire".to_owned();
    }
    let assumed = if is_assumed(server) { "assumed " } else { "" };
    let left = reading.expiry().since(clock::now());
    let wall = clock::wall_clock();
    let end =
        jiff::SignedDuration::try_from(left).ok().and_then(|left| wall.checked_add(left).ok());
    let until = end.map(|end| format!(", until {}", end.strftime("%Y-%m-%dT%H:%M:%SZ")));
    let left = format_duration(reading.remaining());
    format!("alive: {assumed}{left} left{}", until.unwrap_or_default())
}

/// The error, in which the server has no name.
fn error_words(error: &impl ToString) -> String {
    error.to_string().replace(&format!("[server.{NAME}]"), "the server")
}

/// The error, with the text of the server if there is one.
pub(super) fn error_text(fault: &CallError) -> String {
    let error = error_words(&fault.error);
    let detail = fault.detail.as_ref().map(|detail| format!(" (server: {detail})"));
    let spent = if fault.may_have_acted {
        "; the refresh token may be spent: do not send it again while the token is needed, because \
         a second use can end both"
    } else {
        ""
    };
    error + &detail.unwrap_or_default() + spent
}

fn renews(method: Method, renewal: Renewal, renewing: &str) -> String {
    match (method, renewal) {
        (Method::Query, _) => {
            "queries renew tokens on this server: `renewal = \"auto\"`, the default, and \
             \"query\" both keep them alive"
                .to_owned()
        }
        (Method::Renew, Renewal::Renew) => format!(
            "{renewing} renews tokens on this server; whether queries renew them was not tested"
        ),
        (Method::Renew, Renewal::Auto | Renewal::Query) => format!(
            "queries do not renew tokens on this server, {renewing} does: `renewal = \"auto\"`, \
             the default, keeps them alive, \"query\" would let them expire"
        ),
    }
}

fn nothing_renews(
    reading: &Reading,
    refused: Option<&CallError>,
    renewal: Renewal,
    renewing: &str,
) -> String {
    let left = format_duration(reading.expiry().since(clock::now()));
    let end = format!(
        "this token expires in {left} and must then be replaced (`reauth`, or earlier with \
         `reauth_before`)"
    );
    match (renewal, refused) {
        (Renewal::Auto, None) => {
            format!("neither queries nor {renewing} renew tokens on this server: {end}")
        }
        (Renewal::Auto, Some(fault)) => format!(
            "queries do not renew tokens on this server, and {renewing} is refused: {}; {end}",
            error_text(fault)
        ),
        (Renewal::Query, _) => format!(
            "queries do not renew tokens on this server; {renewing} was not permitted. \
             With queries alone, {end}"
        ),
        (Renewal::Renew, _) => {
            format!("{renewing} does not renew tokens on this server: {end}")
        }
    }
}
