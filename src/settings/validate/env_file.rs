//! `env_file` of a `[token.NAME]`, with `env_name` and `env_group`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::super::finding::ConfigErrorKind;
use super::super::key_positions::join;
use super::super::model::{
    EnvFile, InventorySource, KeySource, Parameter, ReauthMethod, Settings, Source,
};
use super::super::raw::RawToken;
use super::Validator;

impl Validator<'_> {
    pub(super) fn env_file(&mut self, name: &str, token: &RawToken) -> Option<EnvFile> {
        let table = join("token", name);
        for key in ["env_name", "env_group"] {
            self.reject_unless_beside(&table, key, &["env_file"]);
        }
        Some(EnvFile {
            path: token.env_file.as_ref()?.into(),
            variable: token.env_name.clone().unwrap_or_else(|| default_variable(name)),
            group: token.env_group.clone(),
        })
    }

    /// Rejects each `env_file` that another key names too: it would overwrite that file.
    pub(super) fn reject_shared_env_files(&mut self, settings: &Settings) {
        if settings.tokens.iter().all(|token| token.env_file.is_none()) {
            return;
        }
        let mut files = named_files(settings);
        for token in &settings.tokens {
            if let Some(Source::File(path)) = &token.refresh {
                files.insert(path, join(&join("token", &token.name), "refresh"));
            }
        }
        for token in &settings.tokens {
            let Some(EnvFile { path, .. }) = &token.env_file else { continue };
            let table = join("token", &token.name);
            let key = join(&table, "env_file");
            let other = files.insert(path, key.clone());
            let conflict = match other.or_else(|| folder_of_tokens(path, settings)) {
                Some(other) => format!("`{key}` is already used by `{other}`"),
                None => continue,
            };
            self.collector.error(
                self.positions.nearest(&table, "env_file"),
                ConfigErrorKind::Conflict,
                conflict,
                "write a path of its own: the file is overwritten with each new value",
            );
        }
    }
}

/// The name of the variable for the token `name`, unless `env_name` is another one.
fn default_variable(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    // No variable begins with a digit.
    let before = if name.starts_with(|c: char| c.is_ascii_digit()) { "_" } else { "" };
    format!("{before}{}_TOKEN", name.chars().map(fits).collect::<String>())
}

/// The files that the configuration names, `env_file` aside, with their keys.
pub(super) fn named_files(settings: &Settings) -> HashMap<&Path, String> {
    fn file(source: &KeySource) -> Option<&PathBuf> {
        match source {
            KeySource::File(path) => Some(path),
            KeySource::Credential(_) => None,
        }
    }
    let mut files: HashMap<&Path, String> = HashMap::new();
    files.insert(&settings.control.socket, "control.socket".to_owned());
    if let Some(cluster) = &settings.cluster {
        let certificate = cluster.client_certificate.as_ref();
        let named = [
            ("ca_file", cluster.ca_file.as_ref()),
            ("client_cert_file", certificate.and_then(|pair| file(&pair.cert))),
            ("client_key_file", certificate.and_then(|pair| file(&pair.key))),
            ("password", cluster.user.as_ref().and_then(|(_, password)| file(password))),
            ("key", file(&cluster.key)),
            ("old_key", cluster.old_key.as_ref().and_then(file)),
        ];
        files.extend(
            named.into_iter().filter_map(|(key, path)| Some((&**path?, join("cluster", key)))),
        );
    }
    for server in &settings.servers {
        let certificate = server.client_certificate.as_ref();
        let named = [
            ("ca_file", server.ca_file.as_ref()),
            ("client_cert_file", certificate.and_then(|pair| file(&pair.cert))),
            ("client_key_file", certificate.and_then(|pair| file(&pair.key))),
            ("proxy_credentials_file", server.proxy_credentials.as_ref().and_then(file)),
        ];
        let table = join("server", &server.name);
        files.extend(
            named.into_iter().filter_map(|(key, path)| Some((&**path?, join(&table, key)))),
        );
        add_parameters(&table, &server.with, &mut files);
    }
    for reauth in &settings.reauths {
        let table = join("reauth", &reauth.name);
        match &reauth.method {
            ReauthMethod::ApiKey { key: KeySource::File(path), .. } => {
                files.insert(path, join(&table, "api_key_file"));
            }
            ReauthMethod::Login { with, .. } => add_parameters(&table, with, &mut files),
            ReauthMethod::ApiKey { .. } | ReauthMethod::Command(_) => {}
        }
    }
    for inventory in &settings.inventories {
        if let InventorySource::File { path, .. } = &inventory.source {
            files.insert(path, join(&join("inventory", &inventory.name), "file"));
        }
    }
    for token in &settings.tokens {
        if let Source::File(path) = &token.source {
            files.insert(path, join(&join("token", &token.name), "file"));
        }
    }
    files
}

/// Adds the files in `with` of `table`.
fn add_parameters<'a>(
    table: &str,
    with: &'a BTreeMap<String, Parameter>,
    files: &mut HashMap<&'a Path, String>,
) {
    for (name, parameter) in with {
        if let Parameter::File(path) = parameter {
            files.insert(path, join(&join(table, "with"), name));
        }
    }
}

/// The key of the inventory that takes each file in the folder of `path` as a token.
pub(super) fn folder_of_tokens(path: &Path, settings: &Settings) -> Option<String> {
    let inventory = settings.inventories.iter().find(|inventory| match &inventory.source {
        InventorySource::Dir(folder) => path.parent() == Some(folder),
        InventorySource::File { .. } | InventorySource::Command { .. } => false,
    })?;
    Some(join(&join("inventory", &inventory.name), "dir"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_variable_is_the_name_in_capitals_with_token_behind_it() {
        for (name, variable) in [
            ("quotes", "QUOTES_TOKEN"),
            ("quotes-1.b", "QUOTES_1_B_TOKEN"),
            ("b\u{f6}rse", "B_RSE_TOKEN"),
            ("1st", "_1ST_TOKEN"),
        ] {
            assert_eq!(default_variable(name), variable);
        }
    }
}
