//! Collects errors and warnings, so that all of them are reported together and in order.

use config::Value;
use toml::de::DeValue;

use super::finding::{ConfigError, ConfigErrorKind, Finding, Warning, WarningKind};
use super::position::Position;
use super::schema::Kind;
use super::source::ConfigSources;
use super::{suggestions, value};
use crate::secret::mask;

/// Errors and warnings found so far.
#[derive(Default)]
pub(super) struct Collector {
    errors: Vec<Entry<ConfigErrorKind>>,
    warnings: Vec<Entry<WarningKind>>,
    incomplete: bool,
}

struct Entry<K> {
    position: Position,
    kind: K,
    message: String,
    remedy: String,
}

impl<K> Entry<K> {
    /// `is_key`: a key or table name begins at the position.
    fn into_finding(self, sources: &ConfigSources, is_key: bool) -> Finding<K> {
        let Self { position, kind, message, remedy } = self;
        let (location, excerpt) = (sources.location(position), sources.excerpt(position, is_key));
        // Message and remedy quote names and values, which could be a token pasted in the wrong
        // place.
        let (message, remedy) = (mask(&message).into_owned(), mask(&remedy).into_owned());
        Finding { kind, location, message, remedy, excerpt }
    }
}

impl Collector {
    pub(super) fn error(
        &mut self,
        position: Position,
        kind: ConfigErrorKind,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (message, remedy) = (message.into(), remedy.into());
        self.errors.push(Entry { position, kind, message, remedy });
    }

    /// Adds an error that hides a part of the configuration.
    pub(super) fn unreadable(
        &mut self,
        position: Position,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.incomplete = true;
        self.error(position, ConfigErrorKind::Unreadable, message, remedy);
    }

    /// Like [`Self::unreadable`], for text that is not TOML.
    pub(super) fn syntax(
        &mut self,
        position: Position,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.incomplete = true;
        self.error(position, ConfigErrorKind::Syntax, message, remedy);
    }

    pub(super) fn warning(
        &mut self,
        position: Position,
        kind: WarningKind,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (message, remedy) = (message.into(), remedy.into());
        self.warnings.push(Entry { position, kind, message, remedy });
    }

    /// Checks the value of the key at `path`, and reports an error of it or what is probably a
    /// mistake. `name`: the key or the variable that has this value.
    pub(super) fn checked(
        &mut self,
        name: &str,
        path: &str,
        kind: Kind,
        value: &DeValue<'_>,
        position: Position,
    ) -> Option<Value> {
        match value::check(name, kind, value) {
            Ok(checked) => {
                let mistake = suggestions::likely_mistake(path, kind, value);
                if let Some((kind, message, remedy)) = mistake {
                    self.warning(position, kind, message, remedy);
                }
                Some(checked)
            }
            Err(error) => {
                let pasted = suggestions::pasted_secret(path, kind, value);
                let more = pasted.map(|(_, remedy)| format!("; {remedy}")).unwrap_or_default();
                let message = format!("`{path}` {}", error.message);
                // A shell allows no spaces around the equals sign.
                let is_variable = !path.ends_with(name);
                let remedy =
                    if is_variable { error.remedy.replace(" = ", "=") } else { error.remedy };
                self.error(position, error.kind, message, remedy + &more);
                None
            }
        }
    }

    /// Whether a part of the configuration is unknown. Keys that seem to be missing may be in that
    /// part.
    pub(super) const fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// All errors and warnings, in the order of the sources and of the lines in them.
    pub(super) fn finish(mut self, sources: &ConfigSources) -> (Vec<ConfigError>, Vec<Warning>) {
        self.errors.sort_by_key(|entry| entry.position);
        self.warnings.sort_by_key(|entry| entry.position);
        let error = |entry: Entry<ConfigErrorKind>| {
            let is_key =
                !matches!(entry.kind, ConfigErrorKind::Syntax | ConfigErrorKind::Unreadable);
            entry.into_finding(sources, is_key)
        };
        (
            self.errors.into_iter().map(error).collect(),
            self.warnings.into_iter().map(|entry| entry.into_finding(sources, true)).collect(),
        )
    }
}
