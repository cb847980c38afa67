//! Loads the configuration: reads, checks, merges and validates the files and environment
//! variables.
//!
//! The result is [`Settings`]. Each file is read once. Files that the configuration names are not
//! opened, except time zone data. Values that could be secrets are never shown.
//!
//! Stages, in order:
//! 1. `read_files` reads the files into a `source::ConfigSources`.
//! 2. `schema_check` checks each file against the `schema`, key by key. `environment` does the same
//!    for environment variables.
//! 3. `merge` merges the checked layers; later layers win.
//! 4. `validate` compares keys with each other and fills in defaults.
//!
//! Errors and warnings of all stages are collected (`collector`) and reported together.

mod ad_hoc_server;
mod collector;
mod environment;
mod excerpt;
mod find_socket;
mod find_token;
mod finding;
mod installation;
mod json_schema;
mod key_positions;
mod maintenance_window;
mod merge;
mod model;
mod name_pattern;
mod position;
mod print;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;
mod raw;
mod read_files;
mod redaction;
mod schema;
mod schema_check;
mod setting_error;
mod source;
mod suggestions;
#[cfg(test)]
mod tests;
mod text;
mod validate;
mod value;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use ad_hoc_server::ad_hoc_server;
pub use environment::runtime_socket;
pub use excerpt::Excerpt;
pub use find_socket::find_socket;
pub use find_token::{TokenEntry, find_token};
pub use finding::{
    ConfigError, ConfigErrorKind, ConfigErrors, Finding, Location, Warning, WarningKind,
};
pub use installation::{DEFAULT_PATH, Installation, NoHome, Scope};
pub use json_schema::json_schema;
pub use maintenance_window::{MaintenanceWindow, MaintenanceWindowError};
pub use model::{
    ClientCertificate, Cluster, ConfiguredProfile, Control, EnvFile, Inventory, InventorySource,
    KeepAlive, KeySource, Log, LogFormat, Notify, NotifyTarget, Parameter, Reader, Reauth,
    ReauthMethod, Server, Settings, Source, Token, Webhook,
};
pub use name_pattern::NamePattern;
pub use print::{mask_parameters, print};
pub use read_files::FileChange;
pub use suggestions::is_secret_parameter;
pub use text::name_error;

pub use validate::DEFAULT_SOCKET;

use collector::Collector;
use environment::Environment;
use key_positions::KeyPositions;
use position::Position;
use read_files::read_files;
use source::ConfigSources;
use validate::ServiceDirectories;

/// A valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The validated settings.
    pub settings: Settings,
    /// Warnings, in the order of the files and of the lines in them.
    pub warnings: Vec<Warning>,
    /// The files that were read, main file first.
    pub files: Vec<PathBuf>,
}

/// Loads the file at `path`, then `conf.d/*.toml` beside it in the order of their names, then the
/// overrides in `environment` (as returned by [`std::env::vars_os`]). Later sources win. The defaults
/// are those of the system's service.
///
/// # Errors
///
/// All errors, in the order of the sources. If a file cannot be read or is not TOML, errors that
/// depend on several keys are not reported, because a missing key may be in that file.
///
/// ```
/// let path = std::path::Path::new("/nonexistent/tokenkeep.toml");
/// let errors = tokenkeep::settings::load(path, std::iter::empty()).unwrap_err();
/// assert_eq!(errors.count(), 1);
/// assert!(errors.to_string().starts_with("/nonexistent/tokenkeep.toml: "));
/// ```
pub fn load(
    path: &Path,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Loaded, ConfigErrors> {
    Installation::system(path).load(environment)
}

impl Installation {
    /// Like [`load`], for the files and with the defaults of this installation.
    ///
    /// # Errors
    ///
    /// See [`load`].
    pub fn load(
        &self,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, ConfigErrors> {
        self.load_files(&[], None, environment)
    }

    /// Like [`Self::load`], as if `change` had been made.
    ///
    /// # Errors
    ///
    /// See [`load`].
    pub fn load_changed(
        &self,
        change: FileChange<'_>,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, ConfigErrors> {
        self.load_files(&[], Some(change), environment)
    }

    /// Like [`Self::load`], but skips files in `conf.d` that cannot be read and returns their
    /// errors. Used at startup: one unreadable file must not prevent the tokens of all other files
    /// from being checked.
    ///
    /// # Errors
    ///
    /// See [`load`]. Not an error: unreadable files in `conf.d`, if the configuration is valid
    /// without them.
    pub fn load_readable(
        &self,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<(Loaded, Vec<ConfigError>), ConfigErrors> {
        let environment: Vec<_> = environment.collect();
        let errors = match self.load(environment.iter().cloned()) {
            Ok(loaded) => return Ok((loaded, Vec::new())),
            Err(errors) => errors,
        };
        let part = |error: &ConfigError| match (&error.location, error.kind) {
            (Location::File(file), ConfigErrorKind::Unreadable) if file != self.config() => {
                Some(file.clone())
            }
            _ => None,
        };
        let Some(unreadable) = errors.iter().map(part).collect::<Option<Vec<_>>>() else {
            return Err(errors);
        };
        match self.load_files(&unreadable, None, environment.into_iter()) {
            Ok(loaded) => Ok((loaded, errors.into_iter().collect())),
            Err(_) => Err(errors),
        }
    }

    fn load_files(
        &self,
        skipped: &[PathBuf],
        change: Option<FileChange<'_>>,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, ConfigErrors> {
        let mut collector = Collector::default();
        let sources = read_files(self.config(), skipped, change, &mut collector);
        load_sources(sources, self.directories(), environment, collector)
    }
}

/// `defaults`: directories that the environment does not name. `collector`: errors found while the
/// sources were read.
fn load_sources(
    mut sources: ConfigSources,
    defaults: ServiceDirectories,
    environment: impl Iterator<Item = (OsString, OsString)>,
    mut collector: Collector,
) -> Result<Loaded, ConfigErrors> {
    let environment = Environment::gather(environment);
    let mut positions = KeyPositions::default();
    let mut layers = schema_check::check(&sources, &mut positions, &mut collector);
    let overrides = environment.check(&layers, &mut sources, &mut positions, &mut collector);
    layers.push(overrides);
    let mut settings = None;
    if !collector.is_incomplete() {
        let state_directory = environment.state_directory(&mut sources, &mut collector);
        match merge::merge(layers) {
            Ok(raw) => {
                settings = Some(validate::validate(
                    &raw,
                    ServiceDirectories {
                        state: state_directory.or(defaults.state),
                        socket: environment.runtime_socket().or(defaults.socket),
                    },
                    &positions,
                    &mut collector,
                ));
            }
            // The error would show values. Every value has passed the schema, so this happens only
            // if the schema and the raw form disagree.
            Err(_) => collector.unreadable(
                Position::MAIN,
                "the configuration files could not be merged",
                "this is a bug in tokenkeep: please report it",
            ),
        }
    }
    let (errors, warnings) = collector.finish(&sources);
    match settings {
        Some(settings) if errors.is_empty() => {
            Ok(Loaded { settings, warnings, files: sources.files() })
        }
        _ => Err(ConfigErrors::new(errors)),
    }
}
