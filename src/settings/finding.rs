//! What is wrong with a configuration, said so that it can be mended.
//!
//! Owns the words of a finding: kind, place, sentence, remedy. It never holds the value of a
//! key that may carry a secret.

use std::fmt;
use std::path::PathBuf;

use super::excerpt::Excerpt;

/// Where something stands in the configuration.
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
    /// A file or folder as a whole.
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

/// One thing found in a configuration: a [`ConfigError`] or a [`Warning`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding<K> {
    /// What code may match on.
    pub kind: K,
    /// Where it stands.
    pub location: Location,
    /// What is the matter, in one sentence, with the value unless that may be a secret.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// The line that it stands on, fit to be shown; `None` where it stands on none.
    pub excerpt: Option<Excerpt>,
}

impl<K> fmt::Display for Finding<K> {
    /// Two lines: place and sentence, then the remedy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n    {}", self.location, self.message, self.remedy)
    }
}

/// Something that makes a configuration unusable.
pub type ConfigError = Finding<ConfigErrorKind>;

/// Something that a working configuration should do without.
pub type Warning = Finding<WarningKind>;

/// What kind of fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConfigErrorKind {
    /// A file or folder is missing, not permitted, of the wrong kind, too large or not UTF-8.
    Unreadable,
    /// The text is not TOML; a key that stands twice in a file is one of these.
    Syntax,
    /// A key, table or variable that does not exist.
    UnknownKey,
    /// A value of the wrong type.
    WrongType,
    /// A value of the right type that cannot be.
    BadValue,
    /// A key that must be there is not.
    Missing,
    /// Two keys that exclude or contradict each other.
    Conflict,
    /// The same token, inventory, server or re-auth in two files.
    Duplicate,
    /// A reference to a server or re-auth that is not configured.
    UnknownName,
}

/// What kind of warning it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WarningKind {
    /// No token is configured.
    NoTokens,
    /// A server or re-auth that no token uses.
    Unused,
    /// Two tokens take their value from the same source.
    SharedSource,
    /// So late a check leaves little time for retries.
    LittleRetryRoom,
    /// Token values travel over plain http.
    PlainHttp,
    /// A client certificate that is not valid at this time.
    ClientCertificate,
    /// A token is revoked at each stop, and nothing gets it a new value.
    RevokedForGood,
    /// Readers whom the user namespace of the process does not map.
    UnmappedReaders,
    /// A value that looks like a secret, where the name of something belongs.
    LooksSecret,
    /// A path that depends on the directory in which the daemon is started.
    RelativePath,
    /// A URL that ends in the name of an API call.
    EndpointInUrl,
    /// An environment variable whose name is almost that of an override.
    IgnoredVariable,
}

/// Every fault of a configuration; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Takes all `errors` together; there must be one.
    pub(super) fn new(errors: Vec<ConfigError>) -> Self {
        debug_assert!(!errors.is_empty(), "without a fault there is a configuration");
        Self(errors)
    }

    /// The faults, in the order of the files and of the lines in them, then the environment's.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }

    /// How many there are; at least 1.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The first one on a line, with the number of the others.
    pub fn first_line(&self) -> String {
        let Some(ConfigError { location, message, .. }) = self.0.first() else {
            return self.summary();
        };
        match self.count() {
            1 => format!("{location}: {message}"),
            count => format!("{location}: {message} (and {} more)", count - 1),
        }
    }

    /// Their number in words.
    pub fn summary(&self) -> String {
        match self.count() {
            1 => "1 fault in the configuration".to_owned(),
            count => format!("{count} faults in the configuration"),
        }
    }
}

impl fmt::Display for ConfigErrors {
    /// Every fault in a paragraph of its own, then their number.
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
