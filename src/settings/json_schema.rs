//! JSON Schema of the configuration, for editors that complete keys and mark errors.
//!
//! Generated from `schema` and the comments in the shipped file. Relations between keys are not
//! included, because an editor sees each file of `conf.d` as a configuration of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::schema::{Field, Kind, ROOT, SOURCE, Shape};
use crate::event::EventName;
use crate::profile::keys::{self, Content, Key};

const SHIPPED: &str = include_str!("../../config/tokenkeep.toml");

/// Pattern of names; see [`name_error`](super::name_error).
const NAME: &str = r"^[^./\x00-\x1f\x7f-\x9f][^/\x00-\x1f\x7f-\x9f]{0,63}$";

/// The schema as text that ends in a line break. Draft 7, because editors support it.
///
/// ```
/// let schema: serde_json::Value =
///     serde_json::from_str(&tokenkeep::settings::json_schema()).unwrap();
/// assert_eq!(schema["properties"]["max_hooks"]["maximum"], 1_000);
/// ```
pub fn json_schema() -> String {
    let comments = comments();
    let mut schema = table(ROOT, "", &comments);
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!("tokenkeep.toml"));
    format!("{:#}\n", Value::Object(schema))
}

/// The schema of the table at `path`; `path` does not contain user-defined names.
fn table(fields: &[Field], path: &str, comments: &Comments) -> Map<String, Value> {
    let dot = if path.is_empty() { "" } else { "." };
    let property = |field: &Field| {
        let path = format!("{path}{dot}{}", field.name);
        let mut property = match field.shape {
            Shape::Value(kind) => value(kind),
            Shape::Table(keys) => table(keys, &path, comments),
            Shape::Named(keys) => object(json!({
                "type": "object",
                "propertyNames": { "pattern": NAME },
                "additionalProperties": table(keys, &path, comments),
            })),
            Shape::Parameters => parameters(),
            Shape::Profiles => object(json!({
                "type": "object",
                "propertyNames": { "pattern": NAME },
                "additionalProperties": profile_table(keys::PROFILE, &path, comments),
            })),
        };
        if let Some(comment) = comment(&path, comments) {
            property.insert("description".to_owned(), json!(comment.text));
            if let Some(example) = &comment.example {
                property.insert("examples".to_owned(), json!([example]));
            }
        }
        (field.name.to_owned(), Value::Object(property))
    };
    let properties: Map<String, Value> = fields.iter().map(property).collect();
    object(json!({ "type": "object", "additionalProperties": false, "properties": properties }))
}

/// The schema of the parameters of a profile.
fn parameters() -> Map<String, Value> {
    let sources: Map<String, Value> = SOURCE
        .iter()
        .filter_map(|field| match field.shape {
            Shape::Value(kind) => {
                let mut property = value(kind);
                property.insert("description".to_owned(), json!("Source of the value."));
                Some((field.name.to_owned(), Value::Object(property)))
            }
            _ => None,
        })
        .collect();
    object(json!({
        "type": "object",
        "propertyNames": { "pattern": "^[a-z0-9_]+$" },
        "additionalProperties": {
            "type": ["string", "object"],
            "additionalProperties": false,
            "properties": sources,
            "minLength": 1,
        },
    }))
}

/// The schema of a profile, or of a call or rule in it.
fn profile_table(keys: &[Key], path: &str, comments: &Comments) -> Map<String, Value> {
    let property = |key: &Key| {
        let path = format!("{path}.{}", key.name);
        let mut property = match key.content {
            Content::Call => profile_table(keys::CALL, &path, comments),
            Content::Rule(keys) => profile_table(keys, &path, comments),
            Content::Rules(keys) => {
                let rule = profile_table(keys, &path, comments);
                object(json!({ "type": "array", "items": rule }))
            }
            content => profile_value(content),
        };
        if let Some(comment) = comment(&path, comments) {
            property.insert("description".to_owned(), json!(comment.text));
        } else if let Some(text) = of_rule(key.name) {
            property.insert("description".to_owned(), json!(text));
        }
        (key.name.to_owned(), Value::Object(property))
    };
    let properties: Map<String, Value> = keys.iter().map(property).collect();
    object(json!({ "type": "object", "additionalProperties": false, "properties": properties }))
}

/// The description of the key `name` of a rule.
fn of_rule(name: &str) -> Option<&'static str> {
    match name {
        "status" => Some("The HTTP status. Default: any."),
        "at" => Some("The place whose value is compared."),
        "is" => Some("What the value must be equal to."),
        "has" => Some("A part of the text that the value must be."),
        "without" => Some("A place at which there must be nothing. Default: none."),
        "means" => Some("What the response means."),
        _ => None,
    }
}

fn profile_value(content: Content) -> Map<String, Value> {
    let text = json!({ "type": "string" });
    object(match content {
        Content::Text => text,
        Content::Duration => return value(Kind::Duration(Duration::ZERO, Duration::MAX)),
        Content::Choice(words) => json!({ "enum": words }),
        Content::Boolean => json!({ "type": "boolean" }),
        Content::Integer(min, max) => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        Content::Scalar => json!({ "type": ["string", "number", "boolean"] }),
        Content::Places => json!({ "type": ["string", "array"], "items": text }),
        Content::Pair => json!({ "type": "array", "items": text, "maxItems": 2 }),
        Content::Texts => json!({ "type": "object", "additionalProperties": text }),
        Content::Json | Content::Call | Content::Rule(_) | Content::Rules(_) => {
            json!({ "type": "object" })
        }
    })
}

/// The schema of one value. It may accept what loading rejects, never the reverse.
fn value(kind: Kind) -> Map<String, Value> {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let texts = |item: Value| json!({ "type": "array", "items": item });
    object(match kind {
        Kind::Path => text("^[^~]|^~[^/]"),
        Kind::AbsolutePath => text("^/"),
        Kind::SocketPath => json!({ "type": "string", "minLength": 1, "maxLength": 107 }),
        Kind::Reference | Kind::Credential => text(NAME),
        Kind::Variable => text("^[^=]+$"),
        Kind::ShellVariable => text("^[A-Za-z_][A-Za-z0-9_]*$"),
        Kind::Group => text(r"^[^\s:]+$"),
        Kind::Filter => text(r"\S"),
        Kind::Url => text(r"^[hH][tT][tT][pP][sS]?:[^\s?#]+$"),
        Kind::Endpoints => {
            let mut urls = object(texts(text(r"^[hH][tT][tT][pP][sS]?:[^\s?#]+$")));
            urls.insert("minItems".to_owned(), json!(1));
            Value::Object(urls)
        }
        Kind::ReplicaName => text("^[A-Za-z0-9._-]{1,64}$"),
        Kind::KeyPrefix => text("^/[A-Za-z0-9._/-]+$"),
        Kind::UserName => text("."),
        Kind::Address => text(":[0-9]{1,5}$"),
        Kind::Command => {
            let mut command = object(texts(json!({ "type": "string" })));
            command.insert("minItems".to_owned(), json!(1));
            Value::Object(command)
        }
        Kind::MaintenanceWindows => {
            texts(text(r"^\s*[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}\s+\S+\s*$"))
        }
        Kind::Readers => texts(text(r"\S")),
        Kind::Events => {
            let names: Vec<_> = EventName::ALL.iter().map(|name| name.as_str()).collect();
            texts(json!({ "enum": names }))
        }
        Kind::TokenPatterns => texts(text(".")),
        Kind::Hosts => texts(text("^[A-Za-z0-9._-]+$")),
        Kind::Parameter => json!({ "type": "string" }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Duration(..) => text(r"[0-9]\s*[A-Za-zµ]"),
        Kind::Fraction => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Kind::OpenFraction => {
            json!({ "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1 })
        }
        Kind::Integer(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Boolean => json!({ "type": "boolean" }),
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// Comments of the shipped file on keys and tables, by path.
type Comments = BTreeMap<String, Comment>;

struct Comment {
    text: String,
    /// The value in the shipped file: a default or an example.
    example: Option<Value>,
}

/// The comment on `path`. Schedules are explained once for all tables that may contain one. A key
/// of a call is explained for one of the calls, or for the profile.
fn comment<'a>(path: &str, comments: &'a Comments) -> Option<&'a Comment> {
    // The keys of a source are explained with the key that has one.
    if let Some((key, "file" | "credential" | "env")) = path.rsplit_once('.')
        && let Some(comment) = comments.get(key).filter(|comment| comment.example.is_some())
    {
        return Some(comment);
    }
    let schedule = path.find(".schedule").map(|at| path[at + 1..].to_owned());
    let key = path.strip_prefix("profile.").map(|rest| rest.split_once('.').unwrap_or(("", rest)));
    let of_a_call = keys::CALLS.into_iter().map(|call| Some(format!("profile.{call}.{}", key?.1)));
    let of_a_profile = key.map(|(_, key)| format!("profile.{key}"));
    let mut general = std::iter::once(schedule).chain(of_a_call).chain([of_a_profile]).flatten();
    comments.get(path).or_else(|| general.find_map(|path| comments.get(&path)))
}

fn comments() -> Comments {
    let (mut comments, mut table) = (Comments::new(), String::new());
    let mut comment: Vec<&str> = Vec::new();
    for line in SHIPPED.lines() {
        if let Some(words) = line.strip_prefix("# ") {
            comment.push(words.trim());
            continue;
        }
        let setting = line.strip_prefix('#').unwrap_or("");
        let text = std::mem::take(&mut comment).join(" ");
        let (path, example) = if let Some(header) = setting.strip_prefix('[') {
            let mut parts = header.trim_end_matches(']').split('.');
            let section = parts.next().unwrap_or_default();
            table = parts.skip(1).fold(section.to_owned(), |path, part| path + "." + part);
            (table.clone(), None)
        } else if let Some((key, _)) = setting.split_once(" = ") {
            let dot = if table.is_empty() { "" } else { "." };
            let example = toml::from_str::<Map<String, Value>>(setting).ok();
            (format!("{table}{dot}{key}"), example.and_then(|mut example| example.remove(key)))
        } else {
            continue;
        };
        if !text.is_empty() {
            comments.entry(path).or_insert(Comment { text, example });
        }
    }
    comments
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths below `schema` that have no description.
    fn unexplained(schema: &Value, path: &str) -> Vec<String> {
        let mut all = Vec::new();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if property["type"] != "object" && property["description"].is_null() {
                all.push(path.clone());
            }
            all.extend(unexplained(property, &path));
            all.extend(unexplained(&property["additionalProperties"], &path));
        }
        all
    }

    #[test]
    fn every_key_has_the_description_of_the_shipped_file() {
        let schema: Value = serde_json::from_str(&json_schema()).unwrap();
        assert_eq!(unexplained(&schema, ""), [""; 0]);
        let jitter = &schema["properties"]["server"]["additionalProperties"]["properties"]["schedule"]
            ["properties"]["jitter"];
        let text = jitter["description"].as_str().unwrap();
        assert!(text.starts_with("Up to this share of the wait"), "{text}");
    }
}
