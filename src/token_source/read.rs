//! Reading a token's value, or an API key, from where the configuration says it is.
//!
//! A source may be empty, half written, a directory or a pipe without end: each is a fault with
//! its remedy, and none of them blocks. Nothing is written here.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::sandbox_hint;
use crate::file;
use crate::process;
use crate::secret::{Mistake, TokenValue, TokenValueError, mask};
use crate::settings::{KeySource, Source};
use crate::systemd::advice;

/// The most that is read: sixteen times the longest token. A bigger file is not one.
const MAX_BYTES: u64 = 64 * 1024;

/// Readable or writable by everybody.
const OTHERS_READ_OR_WRITE: u32 = 0o006;

/// How environment variables are looked up: `&|name| std::env::var_os(name)`, or a test's own.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What a source holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T = TokenValue> {
    /// The value.
    pub value: T,
    /// What should be mended all the same.
    pub warnings: Vec<SourceWarning>,
}

/// What is wrong with a source that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceWarning {
    /// Every user of the machine may read the secret, or write it.
    #[error(
        "{}: it is open to every user of this machine (mode {mode:04o}); run `chmod 600` on it, and replace the secret if that may have been used",
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
        /// What it looks like instead.
        mistake: Mistake,
    },
}

impl SourceWarning {
    fn of_value(location: &dyn fmt::Display, value: &TokenValue) -> Option<Self> {
        let mistake = Mistake::of(value.expose())?;
        Some(Self::Mistaken { location: location.to_string().into(), mistake })
    }

    /// What is to be said of a file with a secret at `path` that has this mode.
    pub(crate) fn of(path: &Path, mode: u32) -> Option<Self> {
        let mode = mode & 0o7777;
        (mode & OTHERS_READ_OR_WRITE != 0).then(|| Self::OpenToAll { path: path.to_owned(), mode })
    }
}

/// Why a source holds no value, and where it is.
#[derive(Debug, thiserror::Error)]
#[error("{location}: {kind}{hint}")]
pub struct SourceError {
    /// The file's path, or the variable's or credential's name.
    pub location: Box<str>,
    /// What is the matter.
    pub kind: SourceErrorKind,
    /// What else may be the reason, beginning with "; "; empty for nothing.
    pub hint: Box<str>,
}

impl SourceError {
    fn new(location: impl Into<Box<str>>, kind: SourceErrorKind) -> Self {
        Self { location: location.into(), kind, hint: Box::default() }
    }
}

/// What keeps a source from holding a value.
#[derive(Debug, thiserror::Error)]
pub enum SourceErrorKind {
    /// There is no such file.
    #[error("there is no such file; put the secret there, alone on one line")]
    Missing,
    /// The file may not be opened or read.
    #[error(
        "it cannot be read ({0}); {remedy}",
        remedy = remedy_for_unreadable(.0)
    )]
    Unreadable(io::Error),
    /// The file is empty, or only white space; perhaps it is just being written.
    #[error("it is empty; put the secret there, alone on one line")]
    Empty,
    /// A directory stands in its place.
    #[error("it is a directory; name the file within it that holds the secret")]
    IsDirectory,
    /// A pipe, a socket or a device.
    #[error("it is not a regular file; put the secret into one")]
    NotRegular,
    /// Longer than any secret is.
    #[error("it is longer than {MAX_BYTES} bytes, so it is no secret; check the path")]
    TooLarge,
    /// What it holds is not text.
    #[error("its content is not UTF-8 text; put the secret there, alone on one line")]
    NotUtf8,
    /// What it holds is not one word on one line.
    #[error("its content is no token: {0}")]
    NotAToken(TokenValueError),
    /// What it holds is not one word on one line, but something else.
    #[error("its content is no token: {0}")]
    Mistaken(Mistake),
    /// systemd handed no credentials over.
    #[error("{}", no_credentials())]
    NoCredentialsDirectory,
    /// A credential's name leads out of the credentials directory.
    #[error("this is no name of a credential; it is a file name, without a folder")]
    NotACredentialName,
    /// The environment variable is not set.
    #[error(
        "the environment variable is not set; {}",
        advice("set it for the service, and restart it", "set it, and restart tokenkeep")
    )]
    VariableUnset,
}

/// What to do about a file that cannot be opened or read.
fn remedy_for_unreadable(error: &io::Error) -> &'static str {
    if process::is_out_of_descriptors(error) {
        return process::descriptor_limit_remedy();
    }
    advice(
        "check that the service's user may read it and enter its folders",
        "check that the user of this process may read it and enter its folders",
    )
}

/// Why no credential can be read, and the remedy.
pub(crate) fn no_credentials() -> &'static str {
    advice(
        "$CREDENTIALS_DIRECTORY is not set; give the unit `LoadCredential=` or \
         `SetCredentialEncrypted=` for this name",
        "$CREDENTIALS_DIRECTORY is not set, as systemd does not run this process as a service; put \
         the secret into a file instead, or start a unit that has `LoadCredential=` for this name",
    )
}

/// The token value that `source` holds now.
///
/// # Errors
///
/// When there is none, or it cannot be had: see [`SourceErrorKind`].
///
/// ```
/// use tokenkeep::settings::Source;
/// use tokenkeep::token_source::{SourceErrorKind, read};
///
/// let found = read(&Source::Env("QUOTES".into()), &|_| Some("abc-123\n".into())).unwrap();
/// assert_eq!(found.value.expose(), "abc-123");
///
/// let fault = read(&Source::Env("QUOTES".into()), &|_| None).unwrap_err();
/// assert!(matches!(fault.kind, SourceErrorKind::VariableUnset));
/// ```
pub fn read(source: &Source, variables: Variables<'_>) -> Result<Found, SourceError> {
    match source {
        Source::File(path) => read_file(path),
        Source::Credential(name) => read_credential(name, variables),
        Source::Env(name) => read_variable(name, variables)
            .map_err(|kind| SourceError::new(format!("${}", mask(name)), kind)),
    }
}

/// `source` for people: the path of a file, or the kind and the name. A secret that was pasted in
/// place of a name is masked.
pub fn describe(source: &Source) -> String {
    match source {
        Source::File(path) => describe_file(path),
        Source::Credential(name) => format!("credential {}", mask(name)),
        Source::Env(name) => format!("${}", mask(name)),
    }
}

/// A relative path may be a token that was pasted in place of one.
fn describe_file(path: &Path) -> String {
    let shown = path.display().to_string();
    if path.is_absolute() { shown } else { mask(&shown).into_owned() }
}

/// The API key that `source` holds now, under the same rules as a token's value.
///
/// # Errors
///
/// When there is none, or it cannot be had: see [`SourceErrorKind`].
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

fn read_credential(name: &str, variables: Variables<'_>) -> Result<Found, SourceError> {
    let fault = |kind| SourceError::new(format!("credential {}", mask(name)), kind);
    if Path::new(name).file_name() != Some(name.as_ref()) {
        return Err(fault(SourceErrorKind::NotACredentialName));
    }
    let folder = variables("CREDENTIALS_DIRECTORY")
        .ok_or_else(|| fault(SourceErrorKind::NoCredentialsDirectory))?;
    read_file(&Path::new(&folder).join(name))
}

fn read_variable(name: &str, variables: Variables<'_>) -> Result<Found, SourceErrorKind> {
    let text = variables(name).ok_or(SourceErrorKind::VariableUnset)?;
    let text = text.into_string().map_err(|_| SourceErrorKind::NotUtf8)?;
    let text = Zeroizing::new(text);
    let value = token(text.as_bytes())?;
    let warnings =
        SourceWarning::of_value(&format_args!("${}", mask(name)), &value).into_iter().collect();
    Ok(Found { value, warnings })
}

fn read_file(path: &Path) -> Result<Found, SourceError> {
    let fault = |kind| {
        let is_hidden = matches!(kind, SourceErrorKind::Missing | SourceErrorKind::Unreadable(_));
        let hint = if is_hidden { sandbox_hint(path) } else { None };
        let fault = SourceError::new(describe_file(path), kind);
        SourceError { hint: hint.unwrap_or_default().into(), ..fault }
    };
    let (content, mode) = content(path).map_err(fault)?;
    let value = token(&content).map_err(fault)?;
    let warnings =
        [SourceWarning::of(path, mode), SourceWarning::of_value(&path.display(), &value)];
    Ok(Found { value, warnings: warnings.into_iter().flatten().collect() })
}

/// What the file at `path` holds, and its permission bits.
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
    // Room for all of it at once: a buffer that grew would leave copies of the secret behind.
    let room = usize::try_from(metadata.len()).unwrap_or(0) + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    // The size is no promise: the file may be growing.
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
        // So says the kernel of a socket, and of a device that is not there.
        SourceErrorKind::NotRegular
    } else {
        SourceErrorKind::Unreadable(error)
    }
}

fn token(content: &[u8]) -> Result<TokenValue, SourceErrorKind> {
    let text = str::from_utf8(content).map_err(|_| SourceErrorKind::NotUtf8)?;
    TokenValue::parse(text).map_err(|fault| match (fault, Mistake::of(text)) {
        (TokenValueError::Empty, _) => SourceErrorKind::Empty,
        (_, Some(mistake)) => SourceErrorKind::Mistaken(mistake),
        (TokenValueError::NotOneWord | TokenValueError::TooLong, None) => {
            SourceErrorKind::NotAToken(fault)
        }
    })
}

#[cfg(test)]
mod tests;
