//! Messages and remedies for keys, tables and values in the wrong place.
//!
//! Messages never quote a value that may be a secret.

use toml::de::DeValue;

use super::finding::WarningKind;
use super::key_positions::join;
use super::schema::{self, Field, Kind, names_a_secret};
use super::setting_error::shortened;
use crate::secret::{looks_secret, mask};
use crate::similarity::suggest;

/// Message and remedy for the unknown key `name` in the table at `path`.
pub(super) fn unknown_key(
    name: &str,
    path: &str,
    fields: &'static [Field],
    is_table: bool,
) -> (String, String) {
    let table = if path.is_empty() { String::new() } else { format!(" in [{path}]") };
    let message = format!("there is no key `{}`{table}", join("", name));
    let mut remedy = Vec::new();
    if !is_table && (names_a_secret(name) || looks_secret(name)) {
        remedy.push(where_secrets_belong(name, path).to_owned());
    }
    let homes = schema::tables_with_key(name);
    if let Some(near) = suggest(name, fields.iter().map(|field| field.name)) {
        remedy.push(format!("did you mean `{near}`?"));
    } else if !homes.is_empty() && !schema::is_source(fields) {
        remedy.push(format!("it belongs to {}", homes.join(" or ")));
    } else if remedy.is_empty() {
        let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
        remedy.push(format!("remove it; known here: {}", known.join(", ")));
    }
    (message, remedy.join("; "))
}

/// Message and remedy for a value at `path`, where a table is required.
pub(super) fn expected_table(path: &str, keys: &[Field]) -> (String, String) {
    if schema::is_source(keys) {
        let name = path.rsplit('.').next().unwrap_or(path);
        let message = format!("`{path}` must be a table that names the source of the secret");
        let remedy = format!(
            "put the secret into a file or a systemd credential: {name} = {{ file = \"/path\" }} or \
             {name} = {{ credential = \"NAME\" }}"
        );
        return (message, remedy);
    }
    (format!("`{path}` must be a table"), format!("write [{path}] on a line, and its keys below"))
}

/// Message and remedy for a value at `path`, where the parameters of a profile are required.
pub(super) fn expected_parameters(path: &str) -> (String, &'static str) {
    let remedy = "write with = { NAME = \"text\", OTHER = { file = \"/path\" } }";
    (format!("`{path}` must be a table of parameters"), remedy)
}

/// Message, which continues a sentence, and remedy if no parameter can be called `name`.
pub(super) fn parameter_name(name: &str) -> Option<(&'static str, &'static str)> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if matches!(name, "token" | "refresh" | "minutes") {
        let message = "has the name of a placeholder with a meaning of its own";
        return Some((message, "choose another name, in the profile too"));
    }
    if name.is_empty() || !name.chars().all(fits) {
        let message = "is no name of a parameter";
        return Some((message, "a name has lower-case letters, digits and `_`"));
    }
    None
}

/// Whether the text of the parameter `name` is probably a secret.
pub fn is_secret_parameter(name: &str, text: &str) -> bool {
    // An ID, such as Vault's `role_id`, is often a UUID, and no secret.
    let is_id = name == "id" || name.ends_with("_id");
    let is_short_secret = ["pin", "otp", "code"].iter().any(|word| {
        name.strip_suffix(word).is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
    });
    let is_named = names_a_secret(name) || name.contains("pass") || is_short_secret;
    !is_id && !text.is_empty() && (is_named || looks_secret(text))
}

/// Warning for the parameter `name` at `path` if its text is probably a secret.
pub(super) fn secret_parameter(path: &str, name: &str, text: &str) -> Option<(String, String)> {
    is_secret_parameter(name, text).then(|| {
        let message = format!(
            "`{path}` is probably a secret, and everyone who may read this file can see it"
        );
        let remedy = format!(
            "put it into a file or a systemd credential: {name} = {{ file = \"/path\" }} or \
             {name} = {{ credential = \"NAME\" }}"
        );
        (message, remedy)
    })
}

/// Message and remedy for a section that does not consist of named tables.
pub(super) fn expected_named_tables(section: &str, is_list: bool) -> (String, String) {
    if is_list {
        let message = format!("`{section}` must not be a list of tables");
        return (message, format!("write [{section}.NAME], in single brackets and with a name"));
    }
    let message = format!("`{section}` must be a table of tables, each with a name");
    (message, named_remedy(section))
}

/// Message and remedy for a `[section.NAME]` that is not a table.
pub(super) fn expected_named_table(
    section: &str,
    name: &str,
    keys: &'static [Field],
) -> (String, String) {
    let path = join(section, name);
    let message = format!("`{path}` must be a table");
    // `[token]` with `server = ...` below it: `server` is a key, and the name is missing.
    if schema::find(keys, name).is_some() {
        let remedy = format!("[{section}] has no name: write [{section}.NAME] above its keys");
        return (message, remedy);
    }
    (message, named_remedy(section))
}

fn named_remedy(section: &str) -> String {
    let write = format!("write [{section}.NAME] on a line, and its keys below");
    if section == "token" {
        return format!("{}; {write}", where_secrets_belong("token", section));
    }
    write
}

/// Where to put a secret that was found in the key `name` of the table at `path`.
pub(super) fn where_secrets_belong(name: &str, path: &str) -> &'static str {
    let name = name.to_lowercase();
    if path.starts_with("cluster") {
        "a secret must not be in the configuration: put it into a file ({ file = \"/path\" }) or a \
         systemd credential ({ credential = \"NAME\" }) of `key`, `old_key` or `password`"
    } else if path.starts_with("reauth") || name.contains("api") || name == "key" {
        "an API key must not be in the configuration: put it into a file (`api_key_file`) or a \
         systemd credential (`api_key_credential`) of a [reauth.NAME]"
    } else {
        "a secret must not be in the configuration: put it into a file (`file`), a systemd \
         credential (`credential`) or an environment variable (`env`) of a [token.NAME]"
    }
}

/// Message and remedy for a value that looks like a secret in a key whose `kind` allows none.
pub(super) fn pasted_secret(
    path: &str,
    kind: Kind,
    value: &DeValue<'_>,
) -> Option<(String, String)> {
    let expected = match kind {
        Kind::Variable | Kind::ShellVariable => "the name of an environment variable",
        Kind::Credential => "the name of a systemd credential",
        Kind::Reference => "a name of the configuration",
        Kind::Path | Kind::AbsolutePath | Kind::SocketPath => "a path",
        Kind::Readers => "names of users and groups",
        Kind::Group => "the name of a group",
        Kind::Hosts => "names of hosts",
        Kind::Events => "names of events",
        Kind::TokenPatterns => "names of tokens",
        Kind::Filter => "a level or a filter",
        Kind::Url => "a URL without secrets",
        Kind::Endpoints => "URLs without secrets",
        Kind::KeyPrefix => "a prefix of keys",
        Kind::ReplicaName => "the name of a replica",
        Kind::UserName => "the name of a user",
        Kind::Command => "a program and its arguments (every user of this machine can see them)",
        _ => return None,
    };
    let is_path =
        matches!(kind, Kind::Path | Kind::AbsolutePath | Kind::SocketPath | Kind::Command);
    let suspicious = |text: &str| !(is_path && text.starts_with('/')) && mask(text) != text;
    let found = match value {
        DeValue::String(text) => suspicious(text),
        DeValue::Array(texts) => {
            texts.iter().filter_map(|text| text.get_ref().as_str()).any(suspicious)
        }
        _ => false,
    };
    let message = format!("`{path}` looks like a secret, but must be {expected}");
    let name = path.rsplit('.').next().unwrap_or(path);
    found.then(|| (message, where_secrets_belong(name, path).to_owned()))
}

/// Warning for a valid value that is probably a mistake.
pub(super) fn likely_mistake(
    path: &str,
    kind: Kind,
    value: &DeValue<'_>,
) -> Option<(WarningKind, String, String)> {
    // Tenant names in URLs and host names are often random.
    let is_often_random =
        matches!(kind, Kind::Url | Kind::Endpoints | Kind::Hosts | Kind::ReplicaName);
    if let Some((message, remedy)) = pasted_secret(path, kind, value).filter(|_| !is_often_random) {
        return Some((WarningKind::LooksSecret, message, remedy));
    }
    let program =
        || value.as_array()?.first()?.get_ref().as_str().filter(|text| text.contains('/'));
    let file = match kind {
        Kind::Path | Kind::SocketPath => value.as_str(),
        Kind::Command => program(),
        _ => None,
    };
    if let Some(file) = file.filter(|file| !file.starts_with('/')) {
        let message = format!(
            "`{path}` is a relative path, {}: it depends on the directory in which the daemon is \
             started, which is / for a service",
            shortened(file)
        );
        let remedy = "write the full path, starting with /".to_owned();
        return Some((WarningKind::RelativePath, message, remedy));
    }
    let url = value.as_str().filter(|_| matches!(kind, Kind::Url) && path.ends_with("url"))?;
    let (base, last) = url.trim_end_matches('/').rsplit_once('/')?;
    let is_call = last.len() > "SessionToken".len() && last.ends_with("SessionToken");
    is_call.then(|| {
        let message = format!(
            "`{path}` ends in the endpoint name {last}, which is appended for each request"
        );
        (WarningKind::EndpointInUrl, message, format!("write only the base URL: \"{base}\""))
    })
}

/// Start of the parser's message for a list that is not closed. The parser repeats it for each line
/// until something closes the list.
pub(super) const MISSING_COMMA: &str = "missing comma between array elements";

/// Message and remedy for typographic quotation marks, which word processors insert.
pub(super) fn typographic_quotes(line: &str) -> Option<(String, &'static str)> {
    let quotes = [
        '\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{201a}', '\u{ab}', '\u{bb}',
    ];
    let code = line.split('#').next().unwrap_or_default();
    let quote = code.chars().find(|c| quotes.contains(c))?;
    let message = format!("this is not TOML: {quote} is not a quotation mark");
    Some((message, "write straight quotation marks: \" or '"))
}

/// Message and remedy for a line that is not TOML. `message` is the parser's; it describes the
/// syntax and never quotes the text. `nothing_there`: the parser expected something and found
/// nothing.
pub(super) fn syntax(message: &str, nothing_there: bool) -> (String, &'static str) {
    let unquoted = message.starts_with("string values must be quoted");
    let (message, remedy) = if unquoted && nothing_there {
        ("a value is missing here", "write a value after `=`, text in quotes")
    } else if unquoted {
        (message, "put quotes around text; write numbers, true and false without quotes")
    } else if message.starts_with(MISSING_COMMA) {
        (message, "close the list with `]`, or put a comma between its values")
    } else if message.contains("unclosed") {
        (message, "close what is opened here")
    } else if message.contains("string") {
        (
            message,
            "close the text with the quotes that it begins with; write `\\\\` for a backslash",
        )
    } else if message.contains("fraction") || message.contains("mantissa") {
        (message, "write digits on both sides of the point, like 0.5")
    } else {
        (message, "write `key = value`, text in quotes, or a [header] on a line of its own")
    };
    (format!("this is not TOML: {message}"), remedy)
}
