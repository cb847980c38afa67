//! Finds the control socket in a configuration that has errors, for commands that only need to
//! reach the daemon.
//!
//! Reads whatever can be parsed and validates nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::collector::Collector;
use super::environment::SOCKET;
use super::read_files::read_files;

/// The value of `control.socket` in the file at `path`, in `conf.d` or in `environment`, as far as
/// they can be parsed. Later sources win. `None` if no source sets it.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("tokenkeep.toml");
/// std::fs::write(&path, "max_hooks = = 1\n[control]\nsocket = \"/run/other.sock\"\n")?;
/// let found = tokenkeep::settings::find_socket(&path, std::iter::empty());
/// assert_eq!(found.as_deref(), Some(std::path::Path::new("/run/other.sock")));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn find_socket(
    path: &Path,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Option<PathBuf> {
    let mut environment = environment.filter(|(name, _)| name.eq_ignore_ascii_case(SOCKET));
    let variable = environment.next().map(|(_, value)| PathBuf::from(value));
    variable.or_else(|| {
        // Errors are ignored.
        let sources = read_files(path, &[], None, &mut Collector::default());
        sources.texts().filter_map(|(_, text)| in_text(text)).last().map(PathBuf::from)
    })
}

fn in_text(text: &str) -> Option<String> {
    let (document, _) = DeTable::parse_recoverable(text);
    let control =
        document.get_ref().get("control").and_then(|control| control.get_ref().as_table());
    let socket = control.and_then(|control| control.get("socket")?.get_ref().as_str());
    // No other table has a key of this name, so an invalid header above it does not matter.
    socket.map(str::to_owned).or_else(|| text.lines().rev().find_map(in_line))
}

fn in_line(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    if !matches!(key.trim(), "socket" | "control.socket") {
        return None;
    }
    let value = value.split('#').next().unwrap_or_default().trim();
    match DeValue::parse(value).ok()?.into_inner() {
        DeValue::String(path) => Some(path.into_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_is_found_in_text_with_errors() {
        for text in [
            "[control]\nsocket = \"/s\"\n[log\nlevel = 1\n",
            "[control\nsocket = \"/s\" # here\n",
            "x = \n[control]\nsocket = '/s'\n",
            "control.socket = \"/s\"\nlevel = \"open\n",
            "control = { socket = \"/s\" }\n[schedule]\njitter = = 1\n",
            "a = \"\"\"\n[control]\nsocket = \"/s\"\n",
            "\u{201c}\n[control]\nsocket = \"/s\"",
        ] {
            assert_eq!(in_text(text).as_deref(), Some("/s"), "{text}");
        }
        for text in ["", "[control]\nsocket = 5", "[control]\n#socket = \"/s\"", "socket = /s"] {
            assert_eq!(in_text(text), None, "{text}");
        }
    }
}
