//! One text against what its key wants: paths, names, URLs, filters, durations.
//!
//! Never shows a text that could be a secret put in the wrong place.

use std::net::SocketAddr;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use url::Url;

use super::duration::{self, DurationFault};
use super::schema::{self, Kind};
use super::value::{Problem, bad, expected, quoted_list, shortened};

/// Takes `text` for the value of a key called `key` that wants `kind`.
pub(super) fn check(key: &str, kind: Kind, text: &str) -> Result<(), Problem> {
    match kind {
        Kind::Path => path(text),
        Kind::SocketPath => path(text).and_then(|()| socket_path(text)),
        Kind::Reference | Kind::Credential => name(text),
        Kind::Variable if text.is_empty() || text.contains(['=', '\0']) => {
            Err(bad("is not the name of an environment variable", "write a name like QUOTES_TOKEN"))
        }
        Kind::Url => url(text),
        Kind::Filter => filter(text),
        Kind::Address => text.parse::<SocketAddr>().map(drop).map_err(|_| {
            bad(
                format!("must be an IP address with a port, but is {}", shortened(text)),
                "write \"127.0.0.1:9464\", or \"[::1]:9464\"",
            )
        }),
        Kind::Choice(words) if !words.contains(&text) => {
            let remedy = match schema::suggest(text, words.iter().copied()) {
                Some(word) => format!("did you mean {word:?}?"),
                None => format!("write one of {}", quoted_list(words)),
            };
            Err(bad(format!("must be {}, but is {}", expected(kind), shortened(text)), remedy))
        }
        Kind::Duration(min, max) => check_duration(key, text, min, max),
        _ => Ok(()),
    }
}

fn path(text: &str) -> Result<(), Problem> {
    if text.is_empty() {
        Err(bad("must be a path, but is empty", "write a path, or leave the key out"))
    } else if text.contains('\0') {
        Err(bad("holds a NUL character", "remove it"))
    } else if text == "~" || text.starts_with("~/") {
        Err(bad("begins with `~`, which nobody expands here", "write the whole path"))
    } else {
        Ok(())
    }
}

fn socket_path(text: &str) -> Result<(), Problem> {
    /// `sun_path` of a Unix socket's address on Linux, less its closing NUL.
    const LONGEST: usize = 107;
    if text.len() > LONGEST {
        let message = format!("is {} bytes long; a socket's path may have {LONGEST}", text.len());
        return Err(bad(message, "choose a shorter path, like /run/tokenkeep/control.sock"));
    }
    Ok(())
}

/// What a name must be: it becomes a part of file names, of log lines, and of commands.
pub(super) fn name(text: &str) -> Result<(), Problem> {
    let remedy = "names become file names: write a short one, like \"quotes-1\"";
    name_fault(text).map_or(Ok(()), |fault| Err(bad(fault, remedy)))
}

/// Why `text` cannot be the name of a token, a server, a re-auth or an inventory: the rest of
/// a sentence that begins with what it should have named; `None` if it can.
///
/// ```
/// use tokenkeep::settings::name_fault;
///
/// assert_eq!(name_fault("quotes-1"), None);
/// assert_eq!(name_fault("a/b"), Some("has a slash in its name"));
/// ```
pub fn name_fault(text: &str) -> Option<&'static str> {
    /// With a suffix of ours it must still pass for a file's name, which ends at 255 bytes.
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

fn url(text: &str) -> Result<(), Problem> {
    let example = "write it like \"https://api.example.net\"";
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(bad("holds white space", "remove it"));
    }
    let url = Url::parse(text).map_err(|error| bad(format!("is not a URL ({error})"), example))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(bad("must begin with https:// or http:// and a host", example));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("holds a user name or password", "a secret never stands here: remove it"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad(
            "holds a query or fragment (`?...`, `#...`)",
            "write the base URL alone; a path is fine",
        ));
    }
    Ok(())
}

fn filter(text: &str) -> Result<(), Problem> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = text.trim();
    let is_word = !text.is_empty() && !text.contains(['=', ',', '[', '/']);
    let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text));
    // A lone word that is no level would pass for the name of a module, and silence the rest.
    if text.is_empty() || (is_word && !is_level) {
        let remedy = match schema::suggest(text, LEVELS) {
            Some(level) => format!("did you mean {level:?}?"),
            None => format!(
                "write one of {}, or a filter like \"info,hyper=debug\"",
                quoted_list(&LEVELS)
            ),
        };
        return Err(bad(
            format!("must be a level or a tracing filter, but is {}", shortened(text)),
            remedy,
        ));
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(bad(
            format!("is not a tracing filter: {}", shortened(text)),
            "write a level like \"info\", or directives like \"info,hyper=debug\"",
        )),
    }
}

fn check_duration(key: &str, text: &str, min: Duration, max: Duration) -> Result<(), Problem> {
    let example = || format!("write a number with its unit, like {key} = \"90s\" or \"2h 30m\"");
    match duration::parse(text) {
        Ok(duration) if (min..=max).contains(&duration) => Ok(()),
        Ok(_) => {
            let (min, max) = (duration::show(min), duration::show(max));
            let message =
                format!("must be a duration from {min} to {max}, but is {}", shortened(text));
            Err(bad(message, format!("write a duration within these, like {key} = {min:?}")))
        }
        Err(DurationFault::NoUnit) => {
            let number = text.trim().trim_start_matches('-');
            let message = format!("must be a duration with its unit, but is {}", shortened(text));
            Err(bad(message, format!("write {key} = \"{number}s\" if these are seconds")))
        }
        Err(DurationFault::Negative) => Err(bad(
            format!("must be a duration above zero, but is {}", shortened(text)),
            example(),
        )),
        Err(DurationFault::Unreadable) => {
            Err(bad(format!("is no duration: {}", shortened(text)), example()))
        }
    }
}
