//! `init`: writes a minimal configuration with one server.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::files::{StateDirectory, check_writable, not_written, print_written, write_config};
use super::{check_home, command_line, input, refused, shell_word};
use crate::cli::diagnostics::DiagnosticStyle;
use crate::cli::{CliError, eprint_message, print_text, unit, warn};
use crate::settings::{FileChange, Installation, Settings, WarningKind, ad_hoc_server};
use crate::token_source::{CONFIG_PREFIX, PersistError};

/// Name of the file in `conf.d` if the main file exists.
const DROP_IN: &str = "server.toml";

/// Attempts to enter a URL.
const ATTEMPTS: usize = 3;

/// Begins with [`CONFIG_PREFIX`].
const HEADER: &str = "\
# tokenkeep's configuration. All keys: tokenkeep.toml(5). Test it with `tokenkeep check-config`.
# Add tokens with `tokenkeep add NAME`: it stores the value and writes conf.d/NAME.toml.
";

const LISTEN: &str = "
# Status page, metrics and health checks, for this machine only: remove the `#`.
#[control]
#listen = \"127.0.0.1:9464\"
";

/// Write a minimal configuration with one server
///
/// Asks for the URL of the server on a terminal. Never overwrites a file: if the configuration file
/// exists and defines nothing yet, as after the installation of a package, writes conf.d/server.toml.
#[derive(Debug, Args)]
pub(in crate::cli) struct Init {
    /// Base URL of the server; it may have a path
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Allow plain http to another machine; others on the network can then read the tokens
    #[arg(long)]
    allow_http: bool,
    /// API of the server
    #[arg(long, value_enum, default_value = "sarus")]
    profile: Profile,
}

/// A known API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// The Sarus market data API
    Sarus,
}

impl Profile {
    /// The name of the `[server.NAME]`.
    const fn server(self) -> &'static str {
        match self {
            Self::Sarus => "sarus",
        }
    }
}

impl Init {
    /// Runs the command.
    pub(in crate::cli) fn run(
        self,
        installation: &Installation,
        style: DiagnosticStyle,
    ) -> Result<(), CliError> {
        check_home(installation)?;
        // First: messages quote the command, and a URL that is refused may contain a secret.
        if let Some(url) = &self.url {
            self.check_url(url).map_err(CliError::Usage)?;
        }
        let overrides = unit::overrides(installation);
        let config = installation.config();
        let is_new = config.symlink_metadata().is_err();
        let path = if is_new {
            config.to_owned()
        } else {
            let loaded = installation.load(unit::environment(&overrides))?;
            drop_in(&loaded.settings, installation)?
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        check_writable(folder, installation, &self.command())?;

        let url = self.url(installation)?;
        let text = self.text(&url, is_new);
        let change = FileChange::Write(&path, &text);
        let mut loaded = installation.load_changed(change, unit::environment(&overrides))?;
        let is_expected = |kind| matches!(kind, WarningKind::NoTokens | WarningKind::Unused);
        loaded.warnings.retain(|warning| !is_expected(warning.kind));
        warn(&loaded.warnings, style);
        if loaded.warnings.iter().any(|warning| warning.kind == WarningKind::EndpointInUrl) {
            return Err(CliError::Usage(
                "the URL is not a base URL; nothing was written".to_owned(),
            ));
        }
        write_config(installation, &path, &text, false)
            .and_then(|()| create_state(&loaded.settings, installation))
            .map_err(|error| not_written(&error, installation, &self.command()))?;
        print_written(&path)?;
        print_text(&format!("Next: {}\n", command_line(installation, "add NAME")))
    }

    /// Checks a URL. The error does not repeat it.
    fn check_url(&self, url: &str) -> Result<(), String> {
        ad_hoc_server(self.profile.server(), url, self.allow_http, None).map(drop)
    }

    /// The URL from the option, which was checked, or the terminal.
    fn url(&self, installation: &Installation) -> Result<String, CliError> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let line = command_line(installation, "init --url URL");
        let missing = || CliError::Usage(format!("the URL of the server is missing: run `{line}`"));
        if !io::stdin().is_terminal() {
            return Err(missing());
        }
        for _ in 0..ATTEMPTS {
            let prompt = "URL of the server, such as https://api.example.net: ";
            let Some(url) = input::read_line(prompt)? else { break };
            match self.check_url(&url) {
                Ok(()) => return Ok(url),
                Err(error) => eprint_message(&error.replace("--url", "the URL")),
            }
        }
        Err(missing())
    }

    /// The text of the file. `is_whole`: of the main file.
    fn text(&self, url: &str, is_whole: bool) -> String {
        let server = self.profile.server();
        let url = toml::Value::from(url);
        let allow_http = if self.allow_http { "allow_http = true\n" } else { "" };
        let table = format!("\n[server.{server}]\nurl = {url}\n{allow_http}");
        let more = if is_whole { LISTEN } else { "" };
        debug_assert!(HEADER.starts_with(CONFIG_PREFIX));
        format!("{HEADER}{table}{more}")
    }

    /// The user's command, for a remedy.
    fn command(&self) -> String {
        let url = self.url.as_ref();
        let url = url.map(|url| format!(" --url {}", shell_word(url))).unwrap_or_default();
        format!("init{url}{}", if self.allow_http { " --allow-http" } else { "" })
    }
}

/// The file to write if the main file exists.
fn drop_in(settings: &Settings, installation: &Installation) -> Result<PathBuf, CliError> {
    let Settings { servers, reauths, tokens, inventories, .. } = settings;
    let is_empty =
        servers.is_empty() && reauths.is_empty() && tokens.is_empty() && inventories.is_empty();
    let path = installation.drop_ins().join(DROP_IN);
    if is_empty && path.symlink_metadata().is_err() {
        return Ok(path);
    }
    let names = servers.iter().map(|server| server.name.as_str()).collect::<Vec<_>>().join(", ");
    let servers = if names.is_empty() { String::new() } else { format!(" (servers: {names})") };
    Err(refused(format!(
        "{} already defines a configuration{servers}; it was not changed; add a token with `{}`",
        installation.config().display(),
        command_line(installation, "add NAME")
    )))
}

/// Creates the state directory of a user's own service. systemd or the package creates the system's.
fn create_state(settings: &Settings, installation: &Installation) -> Result<(), PersistError> {
    if !installation.is_user() {
        return Ok(());
    }
    let path = &settings.state_dir;
    let state = StateDirectory::find(path, installation)
        .map_err(|error| PersistError::new(path, "finding it", error))?;
    state.create()
}
