//! Reads a token value or an API key from its source.
//!
//! A source may be empty, incomplete, a directory or a pipe without a writer. Each case is an error
//! with its remedy, and none blocks. Nothing is written.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::{DISK_TIMEOUT, sandbox_hint};
use crate::file;
use crate::process;
use crate::secret::{Mistake, TokenValue, TokenValueError, mask};
use crate::settings::{KeySource, Parameter, Source};
use crate::systemd::advice;

/// Maximum size of a source: sixteen times the longest token.
const MAX_BYTES: u64 = 64 * 1024;

/// Permission bits: readable or writable by other users.
const OTHERS_READ_OR_WRITE: u32 = 0o006;

/// Looks up environment variables: `&|name| std::env::var_os(name)`, or a replacement in tests.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A value that was read from a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T = TokenValue> {
    /// The value.
    pub value: T,
    /// Warnings about the source.
    pub warnings: Vec<SourceWarning>,
}

impl<T> Found<T> {
    /// A value without warnings.
    const fn of(value: T) -> Self {
        Self { value, warnings: Vec::new() }
    }
}

/// A problem of a source that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceWarning {
    /// Every user of the machine can read or write the secret.
    #[error(
        "{}: every user of this machine may read it (mode {mode:04o}); run `chmod 600` on it, and \
         replace the secret if others may have read it",
        path.display()
    )]
    OpenToAll {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The value is used, but is probably not a token.
    #[error("{location}: {mistake}")]
    Mistaken {
        /// The file's path, or the variable's name.
        location: Box<str>,
        /// What it looks like.
        mistake: Mistake,
    },
}

impl SourceWarning {
    fn of_value(location: &dyn fmt::Display, value: &TokenValue) -> Option<Self> {
        let mistake = Mistake::of(value.expose())?;
        Some(Self::Mistaken { location: location.to_string().into(), mistake })
    }

    /// The warning for a file with a secret at `path` that has this mode, if any.
    pub(crate) fn of(path: &Path, mode: u32) -> Option<Self> {
        let mode = mode & 0o7777;
        (mode & OTHERS_READ_OR_WRITE != 0).then(|| Self::OpenToAll { path: path.to_owned(), mode })
    }
}

/// A source without a usable value.
#[derive(Debug, thiserror::Error)]
#[error("{location}: {kind}{hint}")]
pub struct SourceError {
    /// The file's path, or the variable's or credential's name.
    pub location: Box<str>,
    /// The reason.
    pub kind: SourceErrorKind,
    /// A hint at another possible reason, beginning with "; "; may be empty.
    pub hint: Box<str>,
}

impl SourceError {
    fn new(location: impl Into<Box<str>>, kind: SourceErrorKind) -> Self {
        Self { location: location.into(), kind, hint: Box::default() }
    }

    /// The read did not end within [`DISK_TIMEOUT`].
    pub(crate) fn timed_out(source: &Source) -> Self {
        Self::new(describe(source), SourceErrorKind::TimedOut)
    }
}

/// Why a source has no usable value.
#[derive(Debug, thiserror::Error)]
pub enum SourceErrorKind {
    /// There is no such file.
    #[error("there is no such file; create it with the secret alone on one line")]
    Missing,
    /// The file cannot be opened or read.
    #[error(
        "it cannot be read ({0}); {remedy}",
        remedy = remedy_for_unreadable(.0)
    )]
    Unreadable(io::Error),
    /// The disk did not respond in time. The value may still be there.
    #[error(
        "the disk did not respond within {} s; check the disk, or the server of a network file \
         system",
        DISK_TIMEOUT.as_secs()
    )]
    TimedOut,
    /// The file is empty or contains only white space. It may be in the middle of a write.
    #[error("it is empty; write the secret into it, alone on one line")]
    Empty,
    /// The path is a directory.
    #[error("it is a directory; name the file in it that contains the secret")]
    IsDirectory,
    /// A pipe, a socket or a device.
    #[error("it is not a regular file; write the secret into a regular file")]
    NotRegular,
    /// Longer than any secret.
    #[error("it is longer than {MAX_BYTES} bytes, so it cannot be a secret; check the path")]
    TooLarge,
    /// The content is not text.
    #[error("its content is not UTF-8 text; write the secret into it, alone on one line")]
    NotUtf8,
    /// The content is not one line of text.
    #[error("its content is not one line of text; write the secret into it, alone on one line")]
    NotOneLine,
    /// The content is not one word on one line.
    #[error("its content is not a token: {0}")]
    NotAToken(TokenValueError),
    /// The content is not one word on one line, but something recognizable.
    #[error("its content is not a token: {0}")]
    Mistaken(Mistake),
    /// systemd provided no credentials.
    #[error("{}", no_credentials())]
    NoCredentialsDirectory,
    /// The name of a credential is not a plain file name.
    #[error("this is not a credential name; it must be a file name without a directory")]
    NotACredentialName,
    /// The environment variable is not set.
    #[error(
        "the environment variable is not set; {}",
        advice("set it for the service, and restart it", "set it, and restart tokenkeep")
    )]
    VariableUnset,
}

/// Remedy for a file that cannot be opened or read.
fn remedy_for_unreadable(error: &io::Error) -> &'static str {
    if process::is_out_of_descriptors(error) {
        return process::descriptor_limit_remedy();
    }
    advice(
        "check that the service's user may read it and search its directories",
        "check that the user of this process may read it and enter its folders",
    )
}

/// Message and remedy if there is no credentials directory.
pub(crate) fn no_credentials() -> &'static str {
    advice(
        "$CREDENTIALS_DIRECTORY is not set; add `LoadCredential=` or `SetCredentialEncrypted=` for \
         this name to the unit",
        "$CREDENTIALS_DIRECTORY is not set, as systemd does not run this process as a service; put \
         the secret into a file instead, or start a unit that has `LoadCredential=` for this name",
    )
}

/// Reads the token value of `source`.
///
/// # Errors
///
/// See [`SourceErrorKind`].
///
/// ```
/// use tokenkeep::settings::Source;
/// use tokenkeep::token_source::{SourceErrorKind, read};
///
/// let found = read(&Source::Env("QUOTES".into()), &|_| Some("abc-123\n".into())).unwrap();
/// assert_eq!(found.value.expose(), "abc-123");
///
/// let error = read(&Source::Env("QUOTES".into()), &|_| None).unwrap_err();
/// assert!(matches!(error.kind, SourceErrorKind::VariableUnset));
/// ```
pub fn read(source: &Source, variables: Variables<'_>) -> Result<Found, SourceError> {
    match source {
        Source::File(path) => read_file(path),
        Source::Credential(name) => read_credential(name, variables),
        Source::Env(name) => read_variable(name, variables)
            .map_err(|kind| SourceError::new(format!("${}", mask(name)), kind)),
    }
}

/// `source` for people: the path of a file, or kind and name. A secret that was pasted in place of
/// a name is masked.
pub fn describe(source: &Source) -> String {
    match source {
        Source::File(path) => describe_file(path),
        Source::Credential(name) => format!("credential {}", mask(name)),
        Source::Env(name) => format!("${}", mask(name)),
    }
}

/// A relative path may be a token that was pasted in its place.
fn describe_file(path: &Path) -> String {
    let shown = path.display().to_string();
    if path.is_absolute() { shown } else { mask(&shown).into_owned() }
}

/// Reads the API key of `source`. The rules are those for token values.
///
/// # Errors
///
/// See [`SourceErrorKind`].
pub fn read_key(
    source: &KeySource,
    variables: Variables<'_>,
) -> Result<Found<SecretString>, SourceError> {
    let found = match source {
        KeySource::File(path) => read_file(path),
        KeySource::Credential(name) => read_credential(name, variables),
    }?;
    Ok(Found { value: SecretString::from(found.value.expose()), warnings: found.warnings })
}

/// Reads a parameter of a profile: one line of text, which may contain spaces, as a password may.
/// A byte-order mark and the end of the line are not part of it.
///
/// # Errors
///
/// See [`SourceErrorKind`].
pub fn read_parameter(
    parameter: &Parameter,
    variables: Variables<'_>,
) -> Result<Found<SecretString>, SourceError> {
    let path = match parameter {
        Parameter::Text(text) => return Ok(Found::of(SecretString::from(text.as_str()))),
        Parameter::Env(name) => {
            let text = variable(name, variables).and_then(|text| line(text.as_bytes()));
            let value = text.map_err(|kind| SourceError::new(format!("${}", mask(name)), kind))?;
            return Ok(Found::of(value));
        }
        Parameter::File(path) => path.clone(),
        Parameter::Credential(name) => credential_path(name, variables)?,
    };
    let (content, mode) = content(&path).map_err(|kind| file_error(&path, kind))?;
    let value = line(&content).map_err(|kind| file_error(&path, kind))?;
    Ok(Found { value, warnings: SourceWarning::of(&path, mode).into_iter().collect() })
}

/// One line of text, without its end.
fn line(content: &[u8]) -> Result<SecretString, SourceErrorKind> {
    let text = str::from_utf8(content).map_err(|_| SourceErrorKind::NotUtf8)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.trim().is_empty() {
        Err(SourceErrorKind::Empty)
    } else if line.contains(char::is_control) {
        Err(SourceErrorKind::NotOneLine)
    } else {
        Ok(SecretString::from(line))
    }
}

/// Reads the credential `name`, which contains one line of text. Surrounding white space is removed.
///
/// # Errors
///
/// See [`SourceErrorKind`].
pub fn read_line(name: &str, variables: Variables<'_>) -> Result<Zeroizing<String>, SourceError> {
    let path = credential_path(name, variables)?;
    let error = |kind| SourceError::new(describe_file(&path), kind);
    let (content, _) = content(&path).map_err(error)?;
    let text = str::from_utf8(&content).map_err(|_| error(SourceErrorKind::NotUtf8))?;
    match text.trim() {
        "" => Err(error(SourceErrorKind::Empty)),
        line => Ok(Zeroizing::new(line.to_owned())),
    }
}

fn credential_path(name: &str, variables: Variables<'_>) -> Result<PathBuf, SourceError> {
    let error = |kind| SourceError::new(format!("credential {}", mask(name)), kind);
    if Path::new(name).file_name() != Some(name.as_ref()) {
        return Err(error(SourceErrorKind::NotACredentialName));
    }
    let folder = variables("CREDENTIALS_DIRECTORY")
        .ok_or_else(|| error(SourceErrorKind::NoCredentialsDirectory))?;
    Ok(Path::new(&folder).join(name))
}

fn read_credential(name: &str, variables: Variables<'_>) -> Result<Found, SourceError> {
    read_file(&credential_path(name, variables)?)
}

fn read_variable(name: &str, variables: Variables<'_>) -> Result<Found, SourceErrorKind> {
    let text = variable(name, variables)?;
    let value = token(text.as_bytes())?;
    let warnings =
        SourceWarning::of_value(&format_args!("${}", mask(name)), &value).into_iter().collect();
    Ok(Found { value, warnings })
}

fn variable(name: &str, variables: Variables<'_>) -> Result<Zeroizing<String>, SourceErrorKind> {
    let text = variables(name).ok_or(SourceErrorKind::VariableUnset)?;
    text.into_string().map(Zeroizing::new).map_err(|_| SourceErrorKind::NotUtf8)
}

/// The error of the file at `path`.
fn file_error(path: &Path, kind: SourceErrorKind) -> SourceError {
    let is_hidden = matches!(kind, SourceErrorKind::Missing | SourceErrorKind::Unreadable(_));
    let hint = if is_hidden { sandbox_hint(path) } else { None };
    let error = SourceError::new(describe_file(path), kind);
    SourceError { hint: hint.unwrap_or_default().into(), ..error }
}

fn read_file(path: &Path) -> Result<Found, SourceError> {
    let error = |kind| file_error(path, kind);
    let (content, mode) = content(path).map_err(error)?;
    let value = token(&content).map_err(error)?;
    let warnings =
        [SourceWarning::of(path, mode), SourceWarning::of_value(&path.display(), &value)];
    Ok(Found { value, warnings: warnings.into_iter().flatten().collect() })
}

/// Content and permission bits of the file at `path`.
fn content(path: &Path) -> Result<(Zeroizing<Vec<u8>>, u32), SourceErrorKind> {
    let file = file::open(path).map_err(open_error)?;
    let metadata = file.metadata().map_err(SourceErrorKind::Unreadable)?;
    if metadata.is_dir() {
        return Err(SourceErrorKind::IsDirectory);
    }
    if !metadata.is_file() {
        return Err(SourceErrorKind::NotRegular);
    }
    if metadata.len() > MAX_BYTES {
        return Err(SourceErrorKind::TooLarge);
    }
    // The full capacity from the start: reallocation would leave copies of the secret in memory.
    let room = usize::try_from(metadata.len()).unwrap_or(0) + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    // The file may be growing, so its size is not reliable.
    file.take(MAX_BYTES + 1).read_to_end(&mut content).map_err(SourceErrorKind::Unreadable)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(SourceErrorKind::TooLarge);
    }
    Ok((content, metadata.mode() & 0o7777))
}

fn open_error(error: io::Error) -> SourceErrorKind {
    if error.kind() == io::ErrorKind::NotFound {
        SourceErrorKind::Missing
    } else if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) {
        // The kernel's error for a socket, and for a device that does not exist.
        SourceErrorKind::NotRegular
    } else {
        SourceErrorKind::Unreadable(error)
    }
}

fn token(content: &[u8]) -> Result<TokenValue, SourceErrorKind> {
    let text = str::from_utf8(content).map_err(|_| SourceErrorKind::NotUtf8)?;
    TokenValue::parse(text).map_err(|error| match (error, Mistake::of(text)) {
        (TokenValueError::Empty, _) => SourceErrorKind::Empty,
        (_, Some(mistake)) => SourceErrorKind::Mistaken(mistake),
        (TokenValueError::NotOneWord | TokenValueError::TooLong, None) => {
            SourceErrorKind::NotAToken(error)
        }
    })
}

#[cfg(test)]
mod tests;
