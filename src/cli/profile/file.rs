//! A profile from a TOML file that is no configuration yet.

use std::fs;
use std::path::Path;

use toml::{Table, Value};

use crate::cli::{CliError, EX_CONFIG};
use crate::profile::{Profile, parse};
use crate::secret::mask;

/// Reads the only profile of the file at `path`. Other tables of the file are not read.
pub(super) fn read(path: &Path) -> Result<Profile, CliError> {
    let shown = path.display();
    let failed = |sentence: String| CliError::Failed { sentence, status: EX_CONFIG };
    let text = fs::read_to_string(path)
        .map_err(|error| failed(format!("{shown}: it cannot be read: {error}")))?;
    let file: Table = text.parse().map_err(|error: toml::de::Error| {
        // The excerpt that the error shows may be a secret.
        let line = error.span().map_or(1, |span| line_of(&text, span.start));
        failed(mask(&format!("{shown}:{line}: {}", error.message())).into_owned())
    })?;
    let profiles = file.get("profile").and_then(Value::as_table);
    let mut profiles = profiles.into_iter().flatten();
    let (name, table) = match (profiles.next(), profiles.next()) {
        (Some((name, Value::Table(table))), None) => (name, table),
        (None, _) => {
            return Err(failed(format!(
                "{shown}: it has no [profile.NAME]; begin one, such as [profile.mine]"
            )));
        }
        (Some((name, _)), None) => {
            return Err(failed(format!("{shown}: `profile.{name}` must be a table")));
        }
        (Some(_), Some(_)) => {
            return Err(failed(format!(
                "{shown}: it has more than one [profile.NAME]; leave one, or name the file with \
                 --config and the profile with --profile NAME"
            )));
        }
    };
    parse(name, table).map_err(|errors| {
        let line = |error| format!("{shown}: [profile.{name}] {error}");
        failed(errors.iter().map(line).collect::<Vec<_>>().join("\n"))
    })
}

/// The number of the line with the byte at `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
