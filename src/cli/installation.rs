//! The options that choose an installation: `--config`, `--user` and `--system`.

use std::path::PathBuf;

use clap::Args;
use rustix::process::geteuid;

use super::CliError;
use crate::settings::{Installation, Scope};

/// Which installation a command concerns.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct InstallationArgs {
    /// Configuration file; files in `conf.d/*.toml` next to it are read too [default:
    /// /etc/tokenkeep/tokenkeep.toml, or ~/.config/tokenkeep/tokenkeep.toml if that exists and
    /// the user is not root]
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Use the user's own service: the configuration, state and control socket in the user's
    /// directories
    #[arg(long, global = true)]
    user: bool,
    /// Use the system's service, even if the user has a configuration of their own
    #[arg(long, global = true)]
    system: bool,
}

impl InstallationArgs {
    /// The installation that these options choose for the user of this process.
    pub(super) fn choose(self) -> Result<Installation, CliError> {
        let scope = match (self.user, self.system) {
            (true, true) => {
                return Err(CliError::Usage("--user and --system exclude each other".to_owned()));
            }
            (true, false) => Some(Scope::User),
            (false, true) => Some(Scope::System),
            (false, false) => None,
        };
        let variable = |name: &str| std::env::var_os(name);
        Installation::choose(scope, self.config, geteuid().is_root(), &variable)
            .map_err(|error| CliError::Usage(error.to_string()))
    }
}
