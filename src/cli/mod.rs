//! Command line: parses arguments, dispatches commands, and maps errors to exit statuses.
//!
//! Exit statuses follow `sysexits.h`.

mod check_config;
mod client;
mod cluster;
mod completions;
mod demo;
mod diagnostics;
mod doctor;
mod installation;
mod inventory_summary;
mod manual;
mod probe;
mod profile;
mod setup;
mod unit;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use tokio::runtime::{Builder, Runtime};

use self::diagnostics::DiagnosticStyle;
use self::installation::InstallationArgs;
use crate::api::Client;
use crate::control::{self, InheritedSockets, client::ControlClientError};
use crate::daemon::control::GROUP;
use crate::daemon::{Daemon, DaemonError, Loader};
use crate::event_log::{self, InitError, StdoutKind};
use crate::lifecycle::OperatorRequest;
use crate::process;
use crate::secret::mask;
use crate::settings::{
    self, Cluster, ConfigError, ConfigErrors, Installation, Loaded, Log, LogFormat, Server, Warning,
};
use crate::systemd;
use crate::text::printable_lines;
use crate::token_source::SourceErrorKind;

/// Keeps session tokens alive.
#[derive(Debug, Parser)]
#[command(name = "tokenkeep", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    installation: InstallationArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon: keep the configured tokens alive. SIGHUP reloads the configuration,
    /// SIGTERM stops it
    Run,
    /// Check the configuration and show the plan for each token
    CheckConfig {
        /// Show the plan for every token, even if there are many
        #[arg(long)]
        all: bool,
    },
    Doctor(doctor::Doctor),
    Init(setup::Init),
    Add(setup::Add),
    Remove(setup::Remove),
    /// Show token status, worst first, or one token in detail. Exits 1 unless all tokens are
    /// alive
    Status(client::Status),
    Events(client::Events),
    /// Check tokens now and show the result
    Check(client::TokenArgs),
    /// Get new values for tokens now; these attempts count toward `max_attempts`
    Reauth(client::TokenArgs),
    /// Stop checks and re-authentication of tokens until `resume` or a restart of the daemon; in a
    /// cluster on all replicas, until `resume`
    Pause(client::TokenArgs),
    /// Resume paused tokens, starting with a check
    Resume(client::TokenArgs),
    Revoke(client::Revoke),
    /// Print a token's value, for root, the daemon's user and the token's `readers`. Exits 1 if
    /// the token has expired or was rejected
    Token(client::Token),
    Cluster(client::Cluster),
    /// Reload the daemon's configuration
    Reload(client::Reload),
    /// Query a server about one token, without a daemon, and show its remaining life
    Probe(probe::Probe),
    Profile(profile::ShowProfile),
    Demo(demo::Demo),
    /// Print the effective configuration: all files, defaults and overrides applied
    PrintConfig,
    /// Print the JSON schema of the configuration, for editors
    Schema,
    /// Print the completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// What those call: prints the names of tokens that may stand at the cursor
    #[command(hide = true)]
    CompleteNames(completions::CompletionArgs),
    /// Print a manual page, to be shown by `man -l -`
    Man {
        /// Which one
        #[arg(default_value = "tokenkeep")]
        page: manual::ManPage,
    },
    /// The demo's re-auth command: logs in to the simulated API and prints the token
    #[command(hide = true)]
    DemoLogin {
        /// File that contains the API key
        #[arg(long, value_name = "PATH")]
        key_file: PathBuf,
    },
}

/// Errors of a command.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error("{0}")]
    Configuration(#[from] ConfigErrors),
    #[error("{0}")]
    Log(#[from] InitError),
    #[error("{0}")]
    Daemon(#[from] DaemonError),
    #[error("the demo cannot run: {0}")]
    Demo(String),
    #[error("{sentence}")]
    Failed { sentence: String, status: u8 },
    #[error("{0}")]
    Control(#[from] ControlClientError),
    #[error("{0}")]
    Usage(String),
    /// The error was printed already.
    #[error("not all is well")]
    AlreadyReported { status: u8 },
    /// The token has expired or was rejected, which was printed already.
    #[error("the token is dead")]
    TokenDead,
    #[error("{doing}: {error}")]
    System { doing: &'static str, error: io::Error },
}

impl CliError {
    /// The exit status, following `sysexits.h`.
    const fn status(&self) -> u8 {
        match self {
            Self::TokenDead => EX_DEAD,
            Self::Failed { status, .. } | Self::AlreadyReported { status } => *status,
            Self::Control(fault) => Self::status_of(fault),
            Self::Usage(_) => EX_USAGE,
            Self::Configuration(_)
            | Self::Log(InitError::Filter(_))
            | Self::Daemon(DaemonError::Client { .. } | DaemonError::Cluster(_)) => EX_CONFIG,
            Self::Daemon(DaemonError::Locked(_) | DaemonError::NameTaken { .. })
            | Self::Demo(_) => EX_UNAVAILABLE,
            Self::Log(InitError::Stdout(_) | InitError::Thread(_) | InitError::Twice)
            | Self::Daemon(DaemonError::System { .. })
            | Self::System { .. } => EX_SOFTWARE,
        }
    }
}

/// A negative result, as with `grep` and `cmp`.
const EX_DEAD: u8 = 1;
const EX_USAGE: u8 = 64;
const EX_UNAVAILABLE: u8 = 69;
const EX_SOFTWARE: u8 = 70;
/// The outcome is unknown: the action may still succeed.
const EX_TEMPFAIL: u8 = 75;
const EX_NOPERM: u8 = 77;
const EX_CONFIG: u8 = 78;

/// Runs the command that `arguments` (program name first) specify. Returns the exit status.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // An error of standard error cannot be reported anywhere.
            let _ = error.print();
            return if error.use_stderr() { EX_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let style = DiagnosticStyle::choose(matches!(arguments.command, Command::CheckConfig { .. }));
    match dispatch(arguments, style) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match &error {
                CliError::Configuration(faults) => eprint_text(&style.faults(faults)),
                CliError::TokenDead | CliError::AlreadyReported { .. } => {}
                // These errors may quote configuration text, which may be a misplaced secret.
                CliError::Daemon(_) | CliError::Log(_) => eprint_message(&mask(&error.to_string())),
                _ => eprint_message(&error.to_string()),
            }
            error.status().into()
        }
    }
}

fn dispatch(arguments: Arguments, style: DiagnosticStyle) -> Result<(), CliError> {
    let installation = arguments.installation.choose()?;
    match arguments.command {
        Command::Run => run(installation),
        Command::CheckConfig { all } => run_check_config(&installation, all, style),
        Command::Doctor(doctor) => doctor::run(&doctor, &installation, style),
        Command::Init(init) => init.run(&installation, style),
        Command::Add(add) => add.run(&installation, style),
        Command::Remove(remove) => remove.run(&installation, style),
        Command::Status(status) => client::run(status, &installation),
        Command::Events(events) => client::run(events, &installation),
        Command::Check(names) => {
            client::run(names.with_action(OperatorRequest::Check), &installation)
        }
        Command::Reauth(names) => {
            client::run(names.with_action(OperatorRequest::Reauth), &installation)
        }
        Command::Pause(names) => {
            client::run(names.with_action(OperatorRequest::Pause), &installation)
        }
        Command::Resume(names) => {
            client::run(names.with_action(OperatorRequest::Resume), &installation)
        }
        Command::Revoke(revoke) => client::run(revoke.with_action(), &installation),
        Command::Token(token) => client::run(token, &installation),
        Command::Cluster(cluster) => client::run(cluster, &installation),
        Command::Reload(reload) => client::run(reload, &installation),
        Command::Probe(probe) => probe::run(&probe, &installation),
        Command::Profile(profile) => profile.run(&installation),
        Command::Demo(demo) => demo::run(&demo),
        Command::DemoLogin { key_file } => demo::log_in(key_file),
        Command::PrintConfig => {
            let mut loaded = installation.load(std::env::vars_os())?;
            warn(&loaded.warnings, style);
            settings::mask_parameters(&mut loaded.settings);
            let text = mask_values(&settings::print(&loaded.settings));
            // Redirected output must remain a valid configuration.
            if io::stdout().is_terminal() { print_text(&text) } else { print(&text) }
        }
        Command::Schema => print(&settings::json_schema()),
        Command::Completions { shell } => print(&completions::script(shell)),
        Command::CompleteNames(typed) => completions::run(&typed),
        Command::Man { page } => {
            let page = page.render(Arguments::command());
            print(&page.map_err(|error| CliError::System { doing: "making the page", error })?)
        }
    }
}

fn run(installation: Installation) -> Result<(), CliError> {
    process::prepare().map_err(|error| CliError::System {
        doing: "starting a thread",
        error: thread_error(&error),
    })?;
    systemd::connect();
    // Before the log starts its thread.
    let mut inherited = Some(control::inherited());
    let ended = run_daemon(installation, &mut inherited);
    if let (Err(error), Some(inherited)) = (&ended, inherited)
        && let Ok(runtime) = runtime()
    {
        let cause = match error {
            CliError::Configuration(faults) => faults.first_line(),
            other => other.to_string(),
        };
        runtime.block_on(control::serve_startup_error(inherited, &mask(&cause)));
    }
    ended
}

/// Runs the daemon. Takes `inherited` unless startup fails.
fn run_daemon(
    installation: Installation,
    inherited: &mut Option<InheritedSockets>,
) -> Result<(), CliError> {
    let loaded = installation.load_readable(std::env::vars_os());
    let (mut loaded, unread) = loaded.inspect_err(log_faults)?;
    loaded.warnings.extend(control::unmapped_readers(&loaded));
    let Loaded { settings, warnings, .. } = loaded;
    let log = event_log::init(&settings.log, StdoutKind::detect())?;
    if installation.is_user() {
        setup::create_socket_directory(&settings.control.socket, &installation);
    }
    let loader: Arc<Loader> = Arc::new(move || installation.load(std::env::vars_os()));
    let runtime =
        runtime().inspect_err(|error| event_log::emit_failed_start(&error.to_string()))?;
    let ended = runtime.block_on(async {
        let mut daemon = Daemon::new(settings, loader, Some(log))?;
        daemon.warn(&warnings);
        daemon.report_unread(&unread);
        daemon.open_control(inherited.take().unwrap_or_default());
        Ok(Box::pin(daemon.run(std::future::pending())).await?)
    });
    // A hung file system must not block the exit.
    runtime.shutdown_background();
    ended
}

/// Logs configuration errors with default log settings, because there is no valid configuration. On
/// a terminal, standard error shows them instead.
fn log_faults(faults: &ConfigErrors) {
    let stdout = StdoutKind::detect();
    let log = Log { format: LogFormat::Auto, level: "error".to_owned() };
    if stdout == StdoutKind::Terminal {
        return;
    }
    // Standard error shows the errors in any case.
    let Ok(_log) = event_log::init(&log, stdout) else { return };
    let reported = faults.iter().take(MAX_LOGGED_ERRORS).map(|fault| {
        let ConfigError { location: place, message, remedy, .. } = fault;
        format!("{place}: {message}; {remedy}")
    });
    let mut error = reported.collect::<Vec<_>>().join(" | ");
    if let more @ 1.. = faults.count().saturating_sub(MAX_LOGGED_ERRORS) {
        error = format!("{error} | and {more} more");
    }
    event_log::emit_failed_start(&error);
}

/// How many errors of a configuration a log line lists before it only counts.
const MAX_LOGGED_ERRORS: usize = 10;

/// `error` with its remedy.
fn thread_error(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{error}; {}", process::thread_limit_remedy()))
}

/// A single-threaded runtime: the work is mostly waiting, and more threads would cost more than they
/// gain.
fn runtime() -> Result<Runtime, CliError> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::System { doing: "starting the runtime", error })
}

fn run_check_config(
    installation: &Installation,
    all: bool,
    style: DiagnosticStyle,
) -> Result<(), CliError> {
    let overrides = unit::overrides(installation);
    if !overrides.is_empty() {
        let names = overrides.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let unit = unit::UNIT;
        eprint_message(&format!("{unit} sets these variables, which are checked as well: {names}"));
    }
    let loaded = installation.load(unit::environment(&overrides))?;
    warn(&loaded.warnings, style);
    for server in &loaded.settings.servers {
        let name = server.name.clone();
        // Parameters may be readable for the service alone. Files that do not exist are warnings.
        let server = Server { with: BTreeMap::new(), ..server.clone() };
        let client = Client::new(&server).map_err(|error| DaemonError::Client { name, error })?;
        if let Some(warning) = client.certificate_warning() {
            eprint_message(&format!("warning: {}; {}", warning.message, warning.remedy));
        }
    }
    let mut more = doctor::missing_files(&loaded.settings);
    more.extend(control::unusable_readers(&loaded.settings, GROUP));
    more.extend(doctor::env_files::warnings(&loaded.settings));
    let plan = check_config::Plan::of(&loaded);
    more.extend(plan.warnings());
    if let Some(cluster) = &loaded.settings.cluster {
        more.extend(check_cluster(cluster)?);
    }
    for warning in &more {
        eprint_message(&mask(&format!("warning: {warning}")));
    }
    print_text(&check_config::describe(&plan, loaded.warnings.len() + more.len(), all))
}

/// Reads the secrets and certificates of `[cluster]` as far as this user may. Returns warnings;
/// prints errors.
fn check_cluster(cluster: &Cluster) -> Result<Vec<String>, CliError> {
    let mut findings = cluster::check_secrets(cluster);
    match cluster::check_certificates(cluster) {
        Ok(warning) => findings.warnings.extend(warning),
        Err(error) => findings.errors.push(error),
    }
    for error in &findings.errors {
        eprint_message(&format!("error: {error}"));
    }
    if !findings.errors.is_empty() {
        return Err(CliError::AlreadyReported { status: EX_CONFIG });
    }
    // The others may be readable for the service alone.
    let missing = |(kind, text)| matches!(kind, SourceErrorKind::Missing).then_some(text);
    let missing = findings.unreadable.into_iter().filter_map(missing);
    let files = cluster::missing_files(cluster);
    Ok(findings.warnings.into_iter().chain(missing).chain(files).collect())
}

/// Masks values in TOML that look like secrets. Names stay visible.
fn mask_values(toml: &str) -> String {
    let line = |line: &str| match line.split_once(" = ") {
        Some((key, value)) => format!("{key} = {}\n", mask(value)),
        None => format!("{line}\n"),
    };
    toml.lines().map(line).collect()
}

/// Prints text for people, with control characters escaped.
fn print_text(text: &str) -> Result<(), CliError> {
    print(&printable_lines(text))
}

/// Prints `text` as it is, and at once even if it does not end with a line.
fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    ignore_broken_pipe(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Ignores a broken pipe: the reader may stop reading at any time.
fn ignore_broken_pipe(result: io::Result<()>) -> Result<(), CliError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::System { doing: "writing to standard output", error })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn warn(warnings: &[Warning], style: DiagnosticStyle) {
    if !warnings.is_empty() {
        eprint_text(style.warnings(warnings).trim_end());
    }
}

fn eprint_message(text: &str) {
    eprint_text(&format!("tokenkeep: {}", printable_lines(text)));
}

fn eprint_text(text: &str) {
    // An error of standard error cannot be reported anywhere.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
