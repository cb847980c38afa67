//! Requests: method, path, header fields, parameters, bodies. Refuses secrets in them.

use toml::Value;

use super::super::model::RequestBody;
use super::super::raw::ProfileErrorKind::{Conflict, WrongType};
use super::super::raw::{Errors, RawTable, described};
use super::super::template::{JsonTemplate, Template};
use super::rule::template;
use crate::key_path::{element, join};
use crate::secret::looks_secret;
use crate::text::shortened;

/// Names with values.
pub(super) type Pairs = Vec<(String, Template)>;

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// Header fields that belong to the connection or the body, which the client sets, or that would
/// change the response so that it cannot be read.
const RESERVED_HEADERS: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Method and path of `request`.
pub(super) fn method_and_path(
    table: &RawTable<'_>,
    errors: &mut Errors,
) -> Option<(String, Template)> {
    const EXAMPLE: &str = "write the method and the path below the server's `url`, such as \
                           \"GET v1/session\"";
    let (text, key) = (table.text("request", errors)?, table.key("request"));
    let mut words = text.split_whitespace();
    let (Some(method), Some(path), None) = (words.next(), words.next(), words.next()) else {
        errors.bad_value(key, "must be a method and a path, with one space between them", EXAMPLE);
        return None;
    };
    if !METHODS.contains(&method) {
        let remedy = match method.to_ascii_uppercase() {
            upper if METHODS.contains(&upper.as_str()) => format!("write {upper}, in capitals"),
            _ => format!("write one of {}", METHODS.join(", ")),
        };
        let message = format!("begins with {}, which is no usable method", shortened(method));
        errors.bad_value(key, message, remedy);
        return None;
    }
    let path = path.strip_prefix('/').unwrap_or(path);
    if let Some((message, remedy)) = path_error(path) {
        errors.bad_value(key, message, remedy);
        return None;
    }
    let template = template(path, key.clone(), errors)?;
    refuse_secrets(&template, &key, errors);
    Some((method.to_owned(), template))
}

/// Why `path` may not be appended to the server's URL, and the remedy.
fn path_error(path: &str) -> Option<(&'static str, &'static str)> {
    let is_dots = |segment: &str| {
        matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
    };
    let below = "write a path below it; another base belongs into the `url` of a [server.NAME]";
    if path.is_empty() {
        Some(("has an empty path", "move the last part of the server's `url` here"))
    } else if path.contains("://") || path.starts_with('/') {
        Some(("leaves the server's `url`", below))
    } else if path.split('/').any(is_dots) {
        Some(("leaves the server's `url` with `..` or `.`", below))
    } else if path.contains("//") {
        Some(("has an empty part between two slashes", "write one slash"))
    } else if path.contains('?') {
        let remedy = "write the parameters as query = { NAME = \"VALUE\" } beside `request`";
        Some(("contains parameters (`?...`)", remedy))
    } else if path.contains('#') {
        Some(("contains a fragment (`#...`)", "remove it: no fragment is ever sent"))
    } else if !path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\\"<>^`|".contains(&byte)) {
        Some(("contains a character that no path may have", "write it percent-encoded, like %20"))
    } else {
        None
    }
}

/// The table of texts at `key`.
pub(super) fn pairs(table: &RawTable<'_>, key: &str, errors: &mut Errors) -> Option<Pairs> {
    let example = format!("write {key} = {{ NAME = \"VALUE\" }}");
    let entries = RawTable::new(table.key(key), table.get(key)?, &example, errors)?;
    let mut pairs = Pairs::new();
    for (name, value) in entries.iter() {
        let path = entries.key(name);
        let Value::String(text) = value else {
            let remedy = "write it in quotes, also a number";
            errors.wrong_type(path, "text in quotes", value, remedy);
            continue;
        };
        let Some(template) = template(text, path.clone(), errors) else { continue };
        refuse_secrets(&template, &path, errors);
        if key != "headers" && names_a_password(name) {
            refuse_literal(&template, &path, errors);
        }
        pairs.push((name.clone(), template));
    }
    Some(pairs)
}

/// `headers`.
pub(super) fn headers(table: &RawTable<'_>, errors: &mut Errors) -> Option<Pairs> {
    let pairs = pairs(table, "headers", errors)?;
    let mut seen = Vec::new();
    for (name, value) in &pairs {
        let (path, lower) = (join(&table.key("headers"), name), name.to_ascii_lowercase());
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(is_token) {
            let remedy = "write a name such as X-Auth-Token";
            errors.bad_value(path, "is no name of a header field", remedy);
            continue;
        }
        if RESERVED_HEADERS.contains(&lower.as_str()) {
            let remedy = "remove it: the client sets it for the connection and the body";
            errors.bad_value(path, "may not be set by a profile", remedy);
            continue;
        }
        let is_visible = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if !value.literals().all(is_visible) {
            let message = "contains a character that a header field may not have";
            errors.bad_value(path.clone(), message, "write visible ASCII characters only");
        }
        if is_credential(&lower) {
            refuse_literal(value, &path, errors);
        }
        if seen.contains(&lower) {
            let message = "is the same field as another one: case makes no difference";
            errors.add(Conflict, path, message, "keep one of the two");
        }
        seen.push(lower);
    }
    Some(pairs)
}

/// `form` or `json`.
pub(super) fn body(table: &RawTable<'_>, errors: &mut Errors) -> Option<RequestBody> {
    if table.has("form") && table.has("json") {
        let message = "cannot be sent together with `form`: a request has one body";
        errors.add(Conflict, table.key("json"), message, "keep one of the two");
        return None;
    }
    if let Some(form) = pairs(table, "form", errors) {
        return Some(RequestBody::Form(form));
    }
    let (value, path) = (table.get("json")?, table.key("json"));
    if !value.is_table() {
        errors.wrong_type(path, "a table", value, "write json = { NAME = \"VALUE\" }");
        return None;
    }
    json("", value, path, errors).map(RequestBody::Json)
}

/// `value`, which has the key `name`, as the template of a JSON value.
fn json(name: &str, value: &Value, path: String, errors: &mut Errors) -> Option<JsonTemplate> {
    Some(match value {
        Value::String(text) => {
            let template = template(text, path.clone(), errors)?;
            refuse_secrets(&template, &path, errors);
            if names_a_password(name) {
                refuse_literal(&template, &path, errors);
            }
            JsonTemplate::Text(template)
        }
        Value::Integer(number) => JsonTemplate::Other((*number).into()),
        Value::Float(number) if number.is_finite() => JsonTemplate::Other((*number).into()),
        Value::Boolean(value) => JsonTemplate::Other((*value).into()),
        Value::Float(_) | Value::Datetime(_) => {
            let message = format!("is {}, which JSON does not have", described(value));
            errors.add(WrongType, path, message, "write it in quotes");
            return None;
        }
        Value::Array(values) => {
            let values = values.iter().enumerate();
            let values = values.map(|(at, value)| json(name, value, element(&path, at), errors));
            JsonTemplate::List(values.collect::<Option<_>>()?)
        }
        Value::Table(table) => {
            let entry = |(name, value): (&String, &Value)| {
                Some((name.clone(), json(name, value, join(&path, name), errors)?))
            };
            JsonTemplate::Object(table.iter().map(entry).collect::<Option<_>>()?)
        }
    })
}

/// `basic`: user name and password, or nothing.
pub(super) fn basic(table: &RawTable<'_>, errors: &mut Errors) -> Option<Vec<Template>> {
    let (value, path) = (table.get("basic")?, table.key("basic"));
    let texts: Option<Vec<&str>> =
        value.as_array().and_then(|values| values.iter().map(Value::as_str).collect());
    match texts.as_deref() {
        Some([]) => Some(Vec::new()),
        Some([user, password]) => {
            let user = template(user, element(&path, 0), errors)?;
            let password = template(password, element(&path, 1), errors)?;
            refuse_secrets(&user, &element(&path, 0), errors);
            refuse_literal(&password, &element(&path, 1), errors);
            Some(vec![user, password])
        }
        _ => {
            let expected = "a list of two texts, user name and password";
            let remedy = "write basic = [\"{user}\", \"{password}\"], or basic = [] for none";
            errors.wrong_type(path, expected, value, remedy);
            None
        }
    }
}

/// Header fields that carry credentials. One with `token` in its name may be a constant, such as
/// `X-CSRF-Token: fetch`.
fn is_credential(lower: &str) -> bool {
    lower == "authorization"
        || ["secret", "passw", "api-key", "apikey"].iter().any(|part| lower.contains(part))
}

/// Whether a parameter called `name` is a password or the like. `token_type` and `grant_type` are
/// not, so a part such as `token` says nothing.
fn names_a_password(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["passw", "secret", "api_key", "apikey"].iter().any(|part| name.contains(part))
}

const SECRET_REMEDY: &str = "write a placeholder such as {api_key}, and its source in `with` of \
                             the [server.NAME]: with = { api_key = { file = \"/path\" } }";

/// Reports a template that is a constant, at a place for secrets.
fn refuse_literal(template: &Template, path: &str, errors: &mut Errors) {
    let is_constant = template.placeholders().next().is_none();
    if is_constant && template.literals().any(|text| !text.is_empty()) {
        let message = "is a secret that stands in the profile itself";
        errors.bad_value(path, message, SECRET_REMEDY);
    }
}

/// Reports literal words that look like a secret.
fn refuse_secrets(template: &Template, path: &str, errors: &mut Errors) {
    let is_word_end = |c: char| c.is_whitespace() || "/=&;,".contains(c);
    let mut words = template.literals().flat_map(|text| text.split(is_word_end));
    if words.any(looks_secret) {
        let message = "contains something that looks like a secret";
        errors.bad_value(path, message, SECRET_REMEDY);
    }
}
