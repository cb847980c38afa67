//! Checks one text against the kind that its key requires: path, name, URL, filter, duration.
//!
//! Texts that could be secrets in the wrong place are never shown.

use std::net::SocketAddr;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use url::{ParseError, Url};

use super::schema::Kind;
use super::setting_error::{SettingError, expected, invalid_value, quoted_list, shortened};
use crate::duration::{self, DurationError};
use crate::similarity::suggest;

/// Checks `text` for a key called `key` of this `kind`.
pub(super) fn check(key: &str, kind: Kind, text: &str) -> Result<(), SettingError> {
    match kind {
        Kind::Path => path(text),
        Kind::AbsolutePath => path(text).and_then(|()| absolute(text)),
        Kind::SocketPath => path(text).and_then(|()| socket_path(text)),
        Kind::Reference | Kind::Credential => name(text),
        Kind::Variable if text.is_empty() || text.contains(['=', '\0']) => Err(invalid_value(
            "is not the name of an environment variable",
            "write a name like QUOTES_TOKEN",
        )),
        Kind::ShellVariable if !is_shell_variable(text) => Err(invalid_value(
            "is not the name of a variable: letters, digits and `_`, not beginning with a digit",
            format!("write a name like {key} = \"QUOTES_TOKEN\""),
        )),
        Kind::Group
            if text.is_empty()
                || text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':') =>
        {
            Err(invalid_value(
                "is not the name of a group",
                format!("write {key} = \"quotes-app\""),
            ))
        }
        Kind::Parameter if text.is_empty() || text.contains(char::is_control) => {
            Err(invalid_value(
                "is empty or contains a control character",
                format!("write {key} = \"...\", or {key} = {{ file = \"/path\" }} for a secret"),
            ))
        }
        Kind::Url => url(text).map(drop),
        Kind::ReplicaName => replica_name(key, text),
        Kind::KeyPrefix => key_prefix(key, text),
        Kind::UserName if text.is_empty() || text.contains(char::is_control) => Err(invalid_value(
            "is empty or contains a control character",
            format!("write {key} = \"tokenkeep\", or leave the key out"),
        )),
        Kind::Filter => filter(text),
        Kind::Address => text.parse::<SocketAddr>().map(drop).map_err(|_| {
            invalid_value(
                format!("must be an IP address with a port, but is {}", shortened(text)),
                "write \"127.0.0.1:9464\", or \"[::1]:9464\"",
            )
        }),
        Kind::Choice(words) if !words.contains(&text) => {
            let remedy = match suggest(text, words.iter().copied()) {
                Some(word) => format!("did you mean {word:?}?"),
                None => format!("write one of {}", quoted_list(words)),
            };
            Err(invalid_value(
                format!("must be {}, but is {}", expected(kind), shortened(text)),
                remedy,
            ))
        }
        Kind::Duration(min, max) => check_duration(key, text, min, max),
        _ => Ok(()),
    }
}

fn path(text: &str) -> Result<(), SettingError> {
    if text.is_empty() {
        Err(invalid_value("must be a path, but is empty", "write a path, or leave the key out"))
    } else if text.contains('\0') {
        Err(invalid_value("contains a NUL character", "remove it"))
    } else if text == "~" || text.starts_with("~/") {
        Err(invalid_value("begins with `~`, which is not expanded here", "write the full path"))
    } else {
        Ok(())
    }
}

fn absolute(text: &str) -> Result<(), SettingError> {
    if text.starts_with('/') {
        return Ok(());
    }
    Err(invalid_value("is a relative path", "write the full path, starting with /"))
}

/// Whether shells and systemd accept `text` as the name of a variable.
fn is_shell_variable(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(fits)
}

fn socket_path(text: &str) -> Result<(), SettingError> {
    /// `sun_path` of a Unix socket's address on Linux, less its closing NUL.
    const LONGEST: usize = 107;
    if text.len() > LONGEST {
        let message = format!("is {} bytes long; a socket's path may have {LONGEST}", text.len());
        return Err(invalid_value(
            message,
            "choose a shorter path, like /run/tokenkeep/control.sock",
        ));
    }
    Ok(())
}

/// Checks a name. Names become parts of file names, log lines and commands.
pub(super) fn name(text: &str) -> Result<(), SettingError> {
    let remedy = "names become file names: write a short one, like \"quotes-1\"";
    name_error(text).map_or(Ok(()), |error| Err(invalid_value(error, remedy)))
}

/// Why `text` is not a valid name of a token, server, re-auth or inventory; `None` if it is valid.
/// The result continues a sentence that begins with the named thing.
///
/// ```
/// use tokenkeep::settings::name_error;
///
/// assert_eq!(name_error("quotes-1"), None);
/// assert_eq!(name_error("a/b"), Some("has a slash in its name"));
/// ```
pub fn name_error(text: &str) -> Option<&'static str> {
    /// A file name has at most 255 bytes. The difference is for suffixes.
    const LONGEST_BYTES: usize = 200;
    const LONGEST: usize = 64;
    if text.is_empty() {
        Some("has an empty name")
    } else if text.len() > LONGEST_BYTES || text.chars().count() > LONGEST {
        Some("has a name longer than 64 characters")
    } else if text.chars().any(char::is_control) {
        Some("has a control character in its name")
    } else if text.contains('/') {
        Some("has a slash in its name")
    } else if text.starts_with('.') {
        Some("has a name that begins with a dot")
    } else {
        None
    }
}

/// Checks the name of a replica. It becomes part of a key in etcd, of log lines and of commands.
fn replica_name(key: &str, text: &str) -> Result<(), SettingError> {
    if is_replica_name(text) {
        return Ok(());
    }
    Err(invalid_value(
        "must have 1 to 64 letters (a to z), digits and `.`, `_`, `-`",
        format!("write {key} = \"keeper-a\", another one on each machine"),
    ))
}

/// Whether a replica can have this name.
pub(super) fn is_replica_name(text: &str) -> bool {
    const LONGEST: usize = 64;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.len() <= LONGEST && text.chars().all(fits)
}

fn key_prefix(key: &str, text: &str) -> Result<(), SettingError> {
    const LONGEST: usize = 200;
    let remedy = || format!("write {key} = \"/tokenkeep\"");
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let message = if !text.starts_with('/') {
        "must begin with a slash"
    } else if text.trim_end_matches('/').is_empty() {
        "must not be the root of all keys, which other programs use too"
    } else if text.contains("//") {
        "contains two slashes in a row"
    } else if !text.chars().all(fits) {
        "must have only letters (a to z), digits and `.`, `_`, `-`, `/`"
    } else if text.len() > LONGEST {
        "is longer than 200 characters"
    } else {
        return Ok(());
    };
    Err(invalid_value(message, remedy()))
}

/// The URL of an endpoint, which has no path. The result continues a sentence.
pub(super) fn endpoint(text: &str) -> Result<Url, SettingError> {
    let example = "write it like \"https://10.0.0.1:2379\"";
    let url = url(text).map_err(|error| {
        // Its example has a path.
        let has_example = error.remedy.starts_with("write");
        if has_example { invalid_value(error.message, example) } else { error }
    })?;
    if url.path() != "/" {
        return Err(invalid_value("contains a path", example));
    }
    Ok(url)
}

fn url(text: &str) -> Result<Url, SettingError> {
    let example = "write it like \"https://api.example.net\"";
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(invalid_value("contains white space", "remove it"));
    }
    let url = Url::parse(text).map_err(|error| match error {
        ParseError::RelativeUrlWithoutBase => {
            invalid_value("is not a URL: it does not begin with https:// or http://", example)
        }
        error => invalid_value(format!("is not a URL ({error})"), example),
    })?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(invalid_value("must begin with https:// or http:// and a host", example));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid_value(
            "contains a user name or password",
            "secrets are not allowed here: remove it",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid_value(
            "contains a query or fragment (`?...`, `#...`)",
            "write only the base URL; it may have a path",
        ));
    }
    Ok(url)
}

fn filter(text: &str) -> Result<(), SettingError> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = text.trim();
    let is_word = !text.is_empty() && !text.contains(['=', ',', '[', '/']);
    let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text));
    // A single word that is not a level would be parsed as the name of a module and silence the
    // rest.
    if text.is_empty() || (is_word && !is_level) {
        let remedy = match suggest(text, LEVELS) {
            Some(level) => format!("did you mean {level:?}?"),
            None => format!(
                "write one of {}, or a filter like \"info,hyper=debug\"",
                quoted_list(&LEVELS)
            ),
        };
        return Err(invalid_value(
            format!("must be a level or a tracing filter, but is {}", shortened(text)),
            remedy,
        ));
    }
    // The library panics at some characters outside ASCII. Names of modules have none.
    if text.is_ascii() && EnvFilter::builder().parse(text).is_ok() {
        return Ok(());
    }
    Err(invalid_value(
        format!("is not a tracing filter: {}", shortened(text)),
        "write a level like \"info\", or directives like \"info,hyper=debug\"",
    ))
}

fn check_duration(key: &str, text: &str, min: Duration, max: Duration) -> Result<(), SettingError> {
    let example = || format!("write a number with its unit, like {key} = \"90s\" or \"2h 30m\"");
    match duration::parse(text) {
        Ok(duration) if (min..=max).contains(&duration) => Ok(()),
        Ok(_) => {
            let (min, max) = (duration::show(min), duration::show(max));
            let message =
                format!("must be a duration from {min} to {max}, but is {}", shortened(text));
            Err(invalid_value(
                message,
                format!("write a duration within these, like {key} = {min:?}"),
            ))
        }
        Err(DurationError::NoUnit) => {
            let number = text.trim().trim_start_matches('-');
            let message = format!("must be a duration with its unit, but is {}", shortened(text));
            Err(invalid_value(message, format!("write {key} = \"{number}s\" if these are seconds")))
        }
        Err(DurationError::Negative) => Err(invalid_value(
            format!("must be a duration above zero, but is {}", shortened(text)),
            example(),
        )),
        Err(DurationError::Unreadable) => {
            Err(invalid_value(format!("is not a valid duration: {}", shortened(text)), example()))
        }
    }
}
