//! `init`: writes a minimal configuration with one server.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::files::{StateDirectory, check_writable, not_written, print_written, write_config};
use super::init_text::ServerText;
use super::{check_home, command_line, input, refused, shell_word};
use crate::cli::diagnostics::DiagnosticStyle;
use crate::cli::profile::{self, NATIVE, ProfileArgs};
use crate::cli::{CliError, eprint_message, print_text, unit, warn};
use crate::profile::Profile;
use crate::settings::{FileChange, Installation, Settings, WarningKind, ad_hoc_server};
use crate::token_source::PersistError;

/// Name of the file in `conf.d` if the main file exists.
const DROP_IN: &str = "server.toml";

/// Attempts to enter a URL.
const ATTEMPTS: usize = 3;

/// Write a minimal configuration with one server
///
/// With --profile, also writes the parameters of the profile, and its login as a `reauth` method. A
/// parameter that is not given by --with is read from a file beside the configuration, such as
/// `vault.secret_id`. Asks for the URL of the server on a terminal. Never overwrites a file: if the configuration file
/// exists and defines nothing yet, as after the installation of a package, writes conf.d/server.toml.
#[derive(Debug, Args)]
pub(in crate::cli) struct Init {
    /// Base URL of the server; it may have a path
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Allow plain http to another machine; others on the network can then read the tokens
    #[arg(long)]
    allow_http: bool,
    #[command(flatten)]
    api: ProfileArgs,
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
        let profile = self.profile(installation)?;
        let given = profile::parse_parameters(&self.api.with)?;
        profile::refuse_secrets(&given).map_err(CliError::Usage)?;
        profile::check_parameters(profile.as_deref(), &given).map_err(CliError::Usage)?;
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
        let server =
            ServerText::new(&url, self.allow_http, profile.as_deref(), &given, installation);
        let text = server.text(is_new);
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
        for (name, file) in server.missing_files() {
            let file = file.display();
            print_text(&format!(
                "Put {name} into {file}, alone on one line, with mode 0600 for the service's user\n"
            ))?;
        }
        let lines = server.add_arguments();
        let lines: Vec<_> = lines.iter().map(|line| command_line(installation, line)).collect();
        print_text(&format!("Next: {}\n", lines.join("\n  or: ")))
    }

    /// The profile; `None` for the native API.
    fn profile(&self, installation: &Installation) -> Result<Option<Arc<Profile>>, CliError> {
        let name = &self.api.profile;
        if profile::is_file(name) {
            // Files in conf.d are read only if there is a main file.
            let config = installation.config();
            let target = match config.symlink_metadata() {
                Ok(_) => installation.drop_ins().join("profiles.toml"),
                Err(_) => config.to_owned(),
            };
            return Err(CliError::Usage(format!(
                "--profile {name}: `init` needs the name of a profile; copy [profile.NAME] from the \
                 file to {}, then write --profile NAME",
                target.display()
            )));
        }
        profile::find(name, installation)
    }

    /// Checks a URL. The error does not repeat it.
    fn check_url(&self, url: &str) -> Result<(), String> {
        ad_hoc_server(&self.api.profile, url, self.allow_http, None).map(drop)
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

    /// The user's command, for a remedy.
    fn command(&self) -> String {
        let url = self.url.as_ref();
        let url = url.map(|url| format!(" --url {}", shell_word(url))).unwrap_or_default();
        let profile = match &*self.api.profile {
            NATIVE => String::new(),
            name => format!(" --profile {}", shell_word(name)),
        };
        // Parameters may be secrets.
        let with = if self.api.with.is_empty() { "" } else { " --with ..." };
        let allow_http = if self.allow_http { " --allow-http" } else { "" };
        format!("init{url}{profile}{with}{allow_http}")
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
