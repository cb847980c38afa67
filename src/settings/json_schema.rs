//! The configuration's JSON schema, for editors that complete keys and mark faults.
//!
//! Made from the `schema` that files are held against, and the remarks of the shipped file;
//! so it says nothing of its own. What keys must be to each other it leaves out: each file of
//! `conf.d` is a configuration of its own to an editor.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::schema::{Field, Kind, ROOT, Shape};

const SHIPPED: &str = include_str!("../../config/tokenkeep.toml");

/// What a name must be: see [`name_error`](super::name_fault).
const NAME: &str = r"^[^./\x00-\x1f\x7f-\x9f][^/\x00-\x1f\x7f-\x9f]{0,63}$";

/// The schema (JSON Schema, draft 7: what editors know) as text, with a line break at its end.
///
/// ```
/// let schema: serde_json::Value =
///     serde_json::from_str(&tokenkeep::settings::json_schema()).unwrap();
/// assert_eq!(schema["properties"]["max_hooks"]["maximum"], 1_000);
/// ```
pub fn json_schema() -> String {
    let remarks = remarks();
    let mut schema = table(ROOT, "", &remarks);
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!("tokenkeep.toml"));
    format!("{:#}\n", Value::Object(schema))
}

/// The table at `path`, the names of the user's choice left out of that.
fn table(fields: &[Field], path: &str, remarks: &Remarks) -> Map<String, Value> {
    let dot = if path.is_empty() { "" } else { "." };
    let property = |field: &Field| {
        let path = format!("{path}{dot}{}", field.name);
        let mut property = match field.shape {
            Shape::Value(kind) => value(kind),
            Shape::Table(keys) => table(keys, &path, remarks),
            Shape::Named(keys) => object(json!({
                "type": "object",
                "propertyNames": { "pattern": NAME },
                "additionalProperties": table(keys, &path, remarks),
            })),
        };
        if let Some(remark) = remark(&path, remarks) {
            property.insert("description".to_owned(), json!(remark.text));
            if let Some(example) = &remark.example {
                property.insert("examples".to_owned(), json!([example]));
            }
        }
        (field.name.to_owned(), Value::Object(property))
    };
    let properties: Map<String, Value> = fields.iter().map(property).collect();
    object(json!({ "type": "object", "additionalProperties": false, "properties": properties }))
}

/// What a single value must be. It may let pass what loading refuses, never the other way.
fn value(kind: Kind) -> Map<String, Value> {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let texts = |item: Value| json!({ "type": "array", "items": item });
    object(match kind {
        Kind::Path => text("^[^~]|^~[^/]"),
        Kind::SocketPath => json!({ "type": "string", "minLength": 1, "maxLength": 107 }),
        Kind::Reference | Kind::Credential => text(NAME),
        Kind::Variable => text("^[^=]+$"),
        Kind::Filter => text(r"\S"),
        Kind::Url => text(r"^[hH][tT][tT][pP][sS]?:[^\s?#]+$"),
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
        Kind::Hosts => texts(text("^[A-Za-z0-9._-]+$")),
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

/// What the shipped file says of keys and tables, by path.
type Remarks = BTreeMap<String, Remark>;

struct Remark {
    text: String,
    /// What is written there: the default of what all have, else an example.
    example: Option<Value>,
}

/// The remark on `path`; a schedule is explained once, for all places that it may stand in.
fn remark<'a>(path: &str, remarks: &'a Remarks) -> Option<&'a Remark> {
    let general = path.find(".schedule").map(|at| &path[at + 1..]);
    remarks.get(path).or_else(|| remarks.get(general?))
}

fn remarks() -> Remarks {
    let (mut remarks, mut table) = (Remarks::new(), String::new());
    let mut remark: Vec<&str> = Vec::new();
    for line in SHIPPED.lines() {
        if let Some(words) = line.strip_prefix("# ") {
            remark.push(words.trim());
            continue;
        }
        let setting = line.strip_prefix('#').unwrap_or("");
        let said = std::mem::take(&mut remark).join(" ");
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
        if !said.is_empty() {
            remarks.entry(path).or_insert(Remark { text: said, example });
        }
    }
    remarks
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
    fn every_key_is_explained_with_what_the_shipped_file_says_of_it() {
        let schema: Value = serde_json::from_str(&json_schema()).unwrap();
        assert_eq!(unexplained(&schema, ""), [""; 0]);
        let jitter = &schema["properties"]["server"]["additionalProperties"]["properties"]["schedule"]
            ["properties"]["jitter"];
        let said = jitter["description"].as_str().unwrap();
        assert!(said.starts_with("Up to this share of the wait"), "{said}");
    }
}
