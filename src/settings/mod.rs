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

mod advice;
mod duration;
mod environment;
mod excerpt;
mod fault;
mod json_schema;
mod layers;
mod lenient;
mod lone;
mod marks;
mod model;
mod print;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;
mod quiet;
mod raw;
mod report;
mod schema;
mod source;
mod strict;
#[cfg(test)]
mod tests;
mod text;
mod validate;
mod value;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use environment::runtime_socket;
pub use excerpt::Excerpt;
pub use fault::{Fault, FaultKind, Faults, Finding, Place, Warning, WarningKind};
pub use json_schema::json_schema;
pub use lenient::find_socket;
pub use lone::lone_server;
pub use model::{
    ClientCertificate, Control, Inventory, InventorySource, KeySource, Log, LogFormat, Reader,
    Reauth, ReauthMethod, Server, Settings, Source, Token, Upkeep,
};
pub use print::print;
pub use quiet::{QuietFault, QuietWindow};
pub use text::name_fault;

pub use validate::DEFAULT_SOCKET;

use environment::Environment;
use marks::Marks;
use report::Report;
use source::{Sources, Spot};
use validate::Directories;

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
/// let faults = tokenkeep::settings::load(path, std::iter::empty()).unwrap_err();
/// assert_eq!(faults.count(), 1);
/// assert!(faults.to_string().starts_with("/nonexistent/tokenkeep.toml: "));
/// ```
pub fn load(
    path: &Path,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Faults> {
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
) -> Result<(Loaded, Vec<Fault>), Faults> {
    let environment: Vec<_> = environment.collect();
    let faults = match load(path, environment.iter().cloned()) {
        Ok(loaded) => return Ok((loaded, Vec::new())),
        Err(faults) => faults,
    };
    let part = |fault: &Fault| match (&fault.place, fault.kind) {
        (Place::File(file), FaultKind::Unreadable) if file != path => Some(file.clone()),
        _ => None,
    };
    let Some(unreadable) = faults.iter().map(part).collect::<Option<Vec<_>>>() else {
        return Err(faults);
    };
    match load_without(&unreadable, path, environment.into_iter()) {
        Ok(loaded) => Ok((loaded, faults.into_iter().collect())),
        Err(_) => Err(faults),
    }
}

fn load_without(
    skipped: &[PathBuf],
    path: &Path,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Faults> {
    let mut report = Report::default();
    let sources = Sources::read(path, skipped, &mut report);
    load_sources(sources, environment, report)
}

/// `report`: what is wrong with the sources themselves.
fn load_sources(
    mut sources: Sources,
    environment: impl Iterator<Item = (OsString, OsString)>,
    mut report: Report,
) -> Result<Loaded, Faults> {
    let environment = Environment::gather(environment);
    let mut marks = Marks::default();
    let mut layers = strict::check(&sources, &mut marks, &mut report);
    let overrides = environment.check(&layers, &mut sources, &mut marks, &mut report);
    layers.push(overrides);
    let mut settings = None;
    if !report.is_incomplete() {
        let state_directory = environment.state_directory(&mut sources, &mut report);
        match layers::merge(layers) {
            Ok(raw) => {
                settings = Some(validate::validate(
                    &raw,
                    Directories { state: state_directory, socket: environment.runtime_socket() },
                    &marks,
                    &mut report,
                ));
            }
            // The error would show values; all of them passed the schema, so that only a
            // schema at odds with the raw form leads here.
            Err(_) => report.unreadable(
                Spot::MAIN,
                "the layers of the configuration do not fit together",
                "this is a fault of tokenkeep: please report it",
            ),
        }
    }
    let (faults, warnings) = report.finish(&sources);
    match settings {
        Some(settings) if faults.is_empty() => {
            Ok(Loaded { settings, warnings, files: sources.files() })
        }
        _ => Err(Faults::new(faults)),
    }
}
