//! What to tell people about a key that does not belong where it stands.
//!
//! Owns the words. It never sees a value, and so cannot give one away.

use super::marks::join;
use super::schema::{self, Field};

/// Sentence and remedy for the key `name` that the table at `path` does not know.
pub(super) fn unknown_key(
    name: &str,
    path: &str,
    fields: &'static [Field],
    is_table: bool,
) -> (String, String) {
    let table = if path.is_empty() { String::new() } else { format!(" in [{path}]") };
    let message = format!("there is no key `{}`{table}", join("", name));
    let mut remedy = Vec::new();
    if !is_table && looks_secret(name) {
        remedy.push(where_secrets_belong(name, path).to_owned());
    }
    let homes = schema::homes(name);
    if let Some(near) = schema::suggest(name, fields.iter().map(|field| field.name)) {
        remedy.push(format!("did you mean `{near}`?"));
    } else if !homes.is_empty() {
        remedy.push(format!("it belongs to {}", homes.join(" or ")));
    } else if remedy.is_empty() {
        let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
        remedy.push(format!("remove it; known here: {}", known.join(", ")));
    }
    (message, remedy.join("; "))
}

/// For something else than a table at `path`, where a table with fixed keys belongs.
pub(super) fn no_table(path: &str) -> (String, String) {
    (format!("`{path}` must be a table"), format!("write [{path}] on a line, and its keys below"))
}

/// For something else than tables under a section.
pub(super) fn no_section(section: &str, is_list: bool) -> (String, String) {
    if is_list {
        let message = format!("`{section}` must not be a list of tables");
        return (message, format!("write [{section}.NAME], in single brackets and with a name"));
    }
    let message = format!("`{section}` must be a table of tables, each with a name");
    (message, named_remedy(section))
}

/// For something else than a table as `[section.NAME]`.
pub(super) fn no_named_table(
    section: &str,
    name: &str,
    keys: &'static [Field],
) -> (String, String) {
    let path = join(section, name);
    let message = format!("`{path}` must be a table");
    // [token] with `server = ...` below it: the name was forgotten, `server` is none.
    if schema::find(keys, name).is_some() {
        let remedy = format!("[{section}] lacks a name: write [{section}.NAME] above its keys");
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

/// Whether people would put a secret behind a key of this name.
pub(super) fn looks_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    ["token", "key", "passw", "secret", "value", "credential", "bearer"]
        .iter()
        .any(|part| name.contains(part))
}

fn where_secrets_belong(name: &str, path: &str) -> &'static str {
    let name = name.to_lowercase();
    if path.starts_with("reauth") || name.contains("api") || name == "key" {
        "an API key never stands in the configuration: put it into a file (`api_key_file`) or a \
         systemd credential (`api_key_credential`) of a [reauth.NAME]"
    } else {
        "a secret never stands in the configuration: put it into a file (`file`), a systemd \
         credential (`credential`) or an environment variable (`env`) of a [token.NAME]"
    }
}

/// How the parser's message begins where a list is not closed; it comes again for each
/// line until something closes it.
pub(super) const MISSING_COMMA: &str = "missing comma between array elements";

/// Sentence and remedy for a line that is not TOML. `message` is the parser's, which speaks
/// of the form and never of the text; `nothing_there`: it stumbled over the lack of something.
pub(super) fn syntax(message: &str, nothing_there: bool) -> (String, &'static str) {
    let unquoted = message.starts_with("string values must be quoted");
    let (message, remedy) = if unquoted && nothing_there {
        ("a value is missing here", "write a value after `=`, text in quotes")
    } else if unquoted {
        (message, "put quotes around text; numbers, true and false go without")
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
