//! Token values that are never printed: `Debug` shows `[redacted]`. A value in a server's text is
//! redacted by `api::redact`.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

mod mistake;
mod shape;

pub use mistake::Mistake;
pub(crate) use mistake::is_invisible;
pub use shape::{MASK, looks_secret, mask};

/// Maximum length of a token value in bytes. A request line with such a value fits into the 8 KiB
/// that common servers and proxies allow.
pub const MAX_VALUE_BYTES: usize = 4096;

/// The value of a session token. Prints as `[redacted]`; its memory is cleared on drop.
#[derive(Clone)]
pub struct TokenValue(SecretString);

/// Why a text is not a token value. Contains nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenValueError {
    /// Only white space.
    #[error("it is empty")]
    Empty,
    /// White space or control characters within the value.
    #[error(
        "it contains a control character, a space or a line break; a token is one word on one \
         line"
    )]
    NotOneWord,
    /// Longer than [`MAX_VALUE_BYTES`].
    #[error("it is longer than {MAX_VALUE_BYTES} bytes; is this really a token?")]
    TooLong,
}

/// A borrowed token value. Prints as `[redacted]`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ValueRef<'a>(&'a str);

impl TokenValue {
    /// Parses `text` as a token value, without a byte-order mark and white space around it.
    ///
    /// # Errors
    ///
    /// The value is empty, longer than [`MAX_VALUE_BYTES`], or not a single word.
    ///
    /// ```
    /// use tokenkeep::secret::{TokenValue, TokenValueError};
    ///
    /// assert_eq!(TokenValue::parse(" abc-123\n").unwrap().expose(), "abc-123");
    /// assert_eq!(TokenValue::parse("\n").unwrap_err(), TokenValueError::Empty);
    /// assert_eq!(TokenValue::parse("a\nb").unwrap_err(), TokenValueError::NotOneWord);
    /// assert_eq!(format!("{:?}", TokenValue::parse("abc").unwrap()), "[redacted]");
    /// ```
    pub fn parse(text: &str) -> Result<Self, TokenValueError> {
        ValueRef::parse(text).map(ValueRef::to_value)
    }

    /// The value itself. Only for the request and the file that need it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The borrowed value.
    pub fn by_ref(&self) -> ValueRef<'_> {
        ValueRef(self.expose())
    }
}

impl<'a> ValueRef<'a> {
    /// Parses `text` by the rules of [`TokenValue::parse`].
    ///
    /// # Errors
    ///
    /// See [`TokenValue::parse`].
    pub fn parse(text: &'a str) -> Result<Self, TokenValueError> {
        let value = text.trim_start_matches('\u{feff}').trim();
        if value.is_empty() {
            return Err(TokenValueError::Empty);
        }
        if value.len() > MAX_VALUE_BYTES {
            return Err(TokenValueError::TooLong);
        }
        if value.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(TokenValueError::NotOneWord);
        }
        Ok(Self(value))
    }

    /// A value that was parsed before and stored elsewhere since.
    pub(crate) const fn from_parsed(text: &'a str) -> Self {
        Self(text)
    }

    /// The value itself; see [`TokenValue::expose`].
    pub const fn expose(self) -> &'a str {
        self.0
    }

    /// An owned copy.
    pub fn to_value(self) -> TokenValue {
        TokenValue(SecretString::from(self.0))
    }
}

impl fmt::Debug for ValueRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl PartialEq for TokenValue {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for TokenValue {}

impl fmt::Debug for TokenValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
