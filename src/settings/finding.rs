//! Errors and warnings about a configuration, with location, message and remedy.
//!
//! No finding contains the value of a key that may hold a secret.

use std::fmt;
use std::path::PathBuf;

use super::excerpt::Excerpt;

/// A location in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// A key or a table in a file.
    Text {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
    },
    /// A file or directory as a whole.
    File(PathBuf),
    /// An environment variable, by name.
    Variable(String),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { file, line, column } => write!(f, "{}:{line}:{column}", file.display()),
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// A [`ConfigError`] or a [`Warning`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding<K> {
    /// The kind, for code to match on.
    pub kind: K,
    /// The location.
    pub location: Location,
    /// What is wrong, in one sentence. Quotes the value unless it may be a secret.
    pub message: String,
    /// How to correct it.
    pub remedy: String,
    /// The line at the location, with possible secrets masked; `None` if the location has no line.
    pub excerpt: Option<Excerpt>,
}

impl<K> fmt::Display for Finding<K> {
    /// Two lines: location and message, then the remedy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n    {}", self.location, self.message, self.remedy)
    }
}

/// An error that makes the configuration invalid.
pub type ConfigError = Finding<ConfigErrorKind>;

/// A probable mistake in a valid configuration.
pub type Warning = Finding<WarningKind>;

/// The kind of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConfigErrorKind {
    /// A file or directory that is missing, not readable, of the wrong kind, too large or not
    /// UTF-8.
    Unreadable,
    /// The text is not TOML. Includes a key that occurs twice in a file.
    Syntax,
    /// An unknown key, table or variable.
    UnknownKey,
    /// A value of the wrong type.
    WrongType,
    /// An invalid value of the right type.
    BadValue,
    /// A required key is missing.
    Missing,
    /// Two keys that exclude or contradict each other.
    Conflict,
    /// The same token, inventory, server or re-auth in two files.
    Duplicate,
    /// A reference to a server or re-auth that is not configured.
    UnknownName,
}

/// The kind of a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WarningKind {
    /// No token is configured.
    NoTokens,
    /// A server or re-auth that no token uses.
    Unused,
    /// Two tokens take their value from the same source.
    SharedSource,
    /// The check is so late that little time is left for retries.
    LittleRetryRoom,
    /// Token values travel over plain http.
    PlainHttp,
    /// A client certificate that has expired or is not yet valid.
    ClientCertificate,
    /// A token is revoked at each shutdown and has no re-authentication.
    RevokedForGood,
    /// Readers whom the user namespace of the process does not map.
    UnmappedReaders,
    /// A value that looks like a secret in a key that takes a name.
    LooksSecret,
    /// A relative path, which depends on the working directory of the daemon.
    RelativePath,
    /// A URL that ends in the name of an API call.
    EndpointInUrl,
    /// A name or pattern of tokens that matches no token.
    UnmatchedPattern,
    /// An event that no `[notify.NAME]` receives.
    NeverDelivered,
    /// A server whose API reports no life of a token, so that renewal cannot be proven.
    AssumedLife,
    /// A token may die before another replica takes it over.
    ShortLife,
    /// An endpoint of etcd without a port.
    EndpointPort,
    /// An environment variable with a name similar to an override.
    IgnoredVariable,
}

/// All errors of a configuration; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Panics in debug builds if `errors` is empty.
    pub(super) fn new(errors: Vec<ConfigError>) -> Self {
        debug_assert!(!errors.is_empty(), "without a fault there is a configuration");
        Self(errors)
    }

    /// The errors, in the order of the files and of the lines in them, then those of environment
    /// variables.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }

    /// The number of errors; at least 1.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The first error on one line, with the number of other errors.
    pub fn first_line(&self) -> String {
        let Some(ConfigError { location, message, .. }) = self.0.first() else {
            return self.summary();
        };
        match self.count() {
            1 => format!("{location}: {message}"),
            count => format!("{location}: {message} (and {} more)", count - 1),
        }
    }

    /// The number of errors, as a sentence.
    pub fn summary(&self) -> String {
        match self.count() {
            1 => "1 error in the configuration".to_owned(),
            count => format!("{count} errors in the configuration"),
        }
    }
}

impl fmt::Display for ConfigErrors {
    /// One paragraph for each error, then the number of errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in self {
            write!(f, "{error}\n\n")?;
        }
        f.write_str(&self.summary())
    }
}

impl std::error::Error for ConfigErrors {}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for ConfigErrors {
    type Item = ConfigError;
    type IntoIter = std::vec::IntoIter<ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
