//! Finds the `[token.NAME]` that defines a token, for commands that edit the configuration.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::collector::Collector;
use super::finding::Location;
use super::position::Position;
use super::read_files::read_files;

/// Where a token is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenEntry {
    /// The file.
    pub file: PathBuf,
    /// The line of its header, from 1.
    pub line: usize,
    /// The keys of its table, sorted.
    pub keys: Vec<String>,
    /// Whether the file defines nothing else.
    pub is_alone: bool,
}

/// The entry of the token `name` in the file at `path` or in `conf.d`. `None` if no file defines
/// it. In a valid configuration, one file does.
pub fn find_token(path: &Path, name: &str) -> Option<TokenEntry> {
    let sources = read_files(path, &[], None, &mut Collector::default());
    sources.texts().find_map(|(source, text)| {
        let (document, _) = DeTable::parse_recoverable(text);
        let root = document.get_ref();
        let tokens = root.get("token")?.get_ref().as_table()?;
        let (header, entry) = tokens.iter().find(|(known, _)| known.get_ref() == name)?;
        let entry = entry.get_ref().as_table()?;
        let mut keys: Vec<_> = entry.keys().map(|key| key.get_ref().to_string()).collect();
        keys.sort();
        let position = Position::at(source, header.span().start);
        let Location::Text { file, line, .. } = sources.location(position) else { return None };
        Some(TokenEntry { file, line, keys, is_alone: root.len() == 1 && tokens.len() == 1 })
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn entry_is_found_in_any_file_with_its_line_and_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenkeep.toml");
        let drop_in = folder.path().join("conf.d/b.toml");
        fs::create_dir(folder.path().join("conf.d")).unwrap();
        fs::write(&path, "max_hooks = 3\n[token.a]\nserver = \"s\"\n").unwrap();
        fs::write(&drop_in, "# comment\n[token.'b c']\nserver = \"s\"\nfile = \"/f\"\n").unwrap();
        let keys = |keys: &[&str]| keys.iter().map(ToString::to_string).collect();
        assert_eq!(
            find_token(&path, "a"),
            Some(TokenEntry {
                file: path.clone(),
                line: 2,
                keys: keys(&["server"]),
                is_alone: false
            })
        );
        assert_eq!(
            find_token(&path, "b c"),
            Some(TokenEntry {
                file: drop_in,
                line: 2,
                keys: keys(&["file", "server"]),
                is_alone: true
            })
        );
        assert_eq!(find_token(&path, "c"), None);
    }
}
