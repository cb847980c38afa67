//! The configuration: read, merged, validated.
//!
//! Owns everything between the files an operator writes and the [`Settings`] the daemon
//! runs by. It reads each file once, opens nothing that a file names but the data of a
//! time zone, and never shows a value that could be a secret.
//!
//! The stages, in order: `source` reads texts; `strict` holds each against the `schema`,
//! key by key, and `environment` does the same for variables; `layers` lays over each
//! other what is right; `validate` compares keys with each other and fills in defaults.
//! What is wrong is collected through all of them and said at once.

mod ad_hoc_server;
mod collector;
mod duration;
mod environment;
mod excerpt;
mod find_socket;
mod finding;
mod json_schema;
mod key_positions;
mod maintenance_window;
mod merge;
mod model;
mod position;
mod print;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;
mod raw;
mod read_files;
mod schema;
mod schema_check;
mod setting_error;
mod similarity;
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
pub use finding::{
    ConfigError, ConfigErrorKind, ConfigErrors, Finding, Location, Warning, WarningKind,
};
pub use json_schema::json_schema;
pub use maintenance_window::{MaintenanceWindow, MaintenanceWindowError};
pub use model::{
    ClientCertificate, Control, Inventory, InventorySource, KeepAlive, KeySource, Log, LogFormat,
    Reader, Reauth, ReauthMethod, Server, Settings, Source, Token,
};
pub use print::print;
pub use text::name_error;

pub use validate::DEFAULT_SOCKET;

use collector::Collector;
use environment::Environment;
use key_positions::KeyPositions;
use position::Position;
use read_files::read_files;
use source::ConfigSources;
use validate::ServiceDirectories;

/// Where the configuration is, unless another path is given.
pub const DEFAULT_PATH: &str = "/etc/tokenkeep/tokenkeep.toml";

/// A configuration that can be run by.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// What it should do without, in the order of the files and of the lines in them.
    pub warnings: Vec<Warning>,
    /// The files that were read, the main one first.
    pub files: Vec<PathBuf>,
}

/// Loads the file at `path`, `conf.d/*.toml` beside it in the order of their names, and
/// what `environment` (as of [`std::env::vars_os`]) overrides; the later wins.
///
/// # Errors
///
/// Every fault that there is, in the order of the sources. Where a file cannot be read or
/// is not TOML, faults that lie between the keys of several places are left for the next
/// time, as what seems missing may stand in that file.
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
    load_without(&[], path, environment)
}

/// As [`load`], but goes without files of `conf.d` that cannot be read, and returns what is wrong
/// with them. For a start: one file must not keep the tokens of all others from being checked.
///
/// # Errors
///
/// As for [`load`], unless unreadable files of `conf.d` are all that is wrong and the rest is a
/// valid configuration without them.
pub fn load_readable(
    path: &Path,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(Loaded, Vec<ConfigError>), ConfigErrors> {
    let environment: Vec<_> = environment.collect();
    let errors = match load(path, environment.iter().cloned()) {
        Ok(loaded) => return Ok((loaded, Vec::new())),
        Err(errors) => errors,
    };
    let part = |error: &ConfigError| match (&error.location, error.kind) {
        (Location::File(file), ConfigErrorKind::Unreadable) if file != path => Some(file.clone()),
        _ => None,
    };
    let Some(unreadable) = errors.iter().map(part).collect::<Option<Vec<_>>>() else {
        return Err(errors);
    };
    match load_without(&unreadable, path, environment.into_iter()) {
        Ok(loaded) => Ok((loaded, errors.into_iter().collect())),
        Err(_) => Err(errors),
    }
}

fn load_without(
    skipped: &[PathBuf],
    path: &Path,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Loaded, ConfigErrors> {
    let mut collector = Collector::default();
    let sources = read_files(path, skipped, &mut collector);
    load_sources(sources, environment, collector)
}

/// `collector`: what is wrong with the sources themselves.
fn load_sources(
    mut sources: ConfigSources,
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
                        state: state_directory,
                        socket: environment.runtime_socket(),
                    },
                    &positions,
                    &mut collector,
                ));
            }
            // The error would show values; all of them passed the schema, so that only a
            // schema at odds with the raw form leads here.
            Err(_) => collector.unreadable(
                Position::MAIN,
                "the layers of the configuration do not fit together",
                "this is a fault of tokenkeep: please report it",
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
