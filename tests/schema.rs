//! The schema for editors is current and agrees with loading.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tokenkeep::profile::BUILTIN;
use tokenkeep::settings::{json_schema, load};

const CONFIGURATION: &str = include_str!("../config/tokenkeep.toml");
const SHIPPED: &str = include_str!("../config/tokenkeep.schema.json");

/// The shipped configuration with its examples enabled.
fn examples() -> String {
    let uncomment = |line: &'static str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        _ => line,
    };
    CONFIGURATION.lines().map(uncomment).collect::<Vec<_>>().join("\n")
}

/// The parts of `value` that the schema rejects, by path. Supports only the keywords that this
/// schema uses, except patterns.
fn refused(value: &Value, schema: &Value, path: &str, all: &mut Vec<String>) {
    const KNOWN: &[&str] = &[
        "$schema",
        "title",
        "description",
        "examples",
        "type",
        "properties",
        "additionalProperties",
        "items",
        "propertyNames",
        "enum",
        "pattern",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minLength",
        "maxLength",
    ];
    for (word, wanted) in schema.as_object().expect("a schema") {
        let number = |fits: fn(f64, f64) -> bool| {
            let wanted = wanted.as_f64().expect("a number");
            value.as_f64().is_none_or(|number| fits(number, wanted))
        };
        let length = |fits: fn(usize, usize) -> bool| {
            let wanted = wanted.as_u64().and_then(|wanted| wanted.try_into().ok());
            value.as_str().is_none_or(|text| fits(text.len(), wanted.expect("a number")))
        };
        let fits = match word.as_str() {
            "type" => {
                let is = |wanted: &Value| match wanted.as_str() {
                    Some("object") => value.is_object(),
                    Some("array") => value.is_array(),
                    Some("string") => value.is_string(),
                    Some("boolean") => value.is_boolean(),
                    Some("integer") => value.is_i64(),
                    Some("number") => value.is_number(),
                    other => panic!("{other:?}"),
                };
                wanted.as_array().map_or_else(|| is(wanted), |all| all.iter().any(is))
            }
            "enum" => wanted.as_array().expect("a list").contains(value),
            "minimum" => number(|number, wanted| number >= wanted),
            "maximum" => number(|number, wanted| number <= wanted),
            "exclusiveMinimum" => number(|number, wanted| number > wanted),
            "exclusiveMaximum" => number(|number, wanted| number < wanted),
            "minLength" => length(|length, wanted| length >= wanted),
            "maxLength" => length(|length, wanted| length <= wanted),
            "maxItems" => {
                value.as_array().is_none_or(|items| Some(items.len() as u64) <= wanted.as_u64())
            }
            "minItems" => value.as_array().is_some_and(|items| !items.is_empty()),
            word => {
                assert!(KNOWN.contains(&word), "{word} is not understood here");
                true
            }
        };
        if !fits {
            all.push(path.to_owned());
        }
    }
    for item in value.as_array().into_iter().flatten() {
        refused(item, &schema["items"], path, all);
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}{}{key}", if path.is_empty() { "" } else { "." });
        let named = Some(&schema["additionalProperties"]).filter(|schema| schema.is_object());
        match schema["properties"].get(key).or(named) {
            Some(schema) => refused(value, schema, &path, all),
            None if schema["additionalProperties"] == false => all.push(path),
            None => {}
        }
    }
}

fn faults(text: &str) -> Vec<String> {
    let schema = serde_json::from_str(SHIPPED).expect("JSON");
    let value: toml::Table = toml::from_str(text).expect("TOML");
    let mut all = Vec::new();
    refused(&serde_json::to_value(value).expect("JSON"), &schema, "", &mut all);
    all
}

#[test]
fn shipped_schema_equals_the_printed_one() {
    assert!(
        SHIPPED == json_schema(),
        "config/tokenkeep.schema.json is out of date: \
         run `cargo run -- schema > config/tokenkeep.schema.json`"
    );
}

#[test]
fn schema_accepts_the_shipped_configuration_and_its_examples() {
    for text in ["", CONFIGURATION, &examples()] {
        assert_eq!(faults(text), [""; 0]);
    }
}

#[test]
fn typing_errors_are_rejected_by_the_schema_and_by_loading() {
    for (text, path) in [
        ("jitter = 0.1", "jitter"),
        ("[schedule]\njitterr = 0.1", "schedule.jitterr"),
        ("max_hooks = 0", "max_hooks"),
        ("max_hooks = \"3\"", "max_hooks"),
        ("keep_removed = 60", "keep_removed"),
        ("[schedule]\ncheck_after = 1", "schedule.check_after"),
        ("[log]\nformat = \"jsn\"", "log.format"),
        ("[server.s]\nurl = 5", "server.s.url"),
        ("[server.s]\nurl = \"https://h\"\nschedule.jitter = 2", "server.s.schedule.jitter"),
        ("[reauth.r]\ncommand = []", "reauth.r.command"),
        ("[reauth.r]\ncommand = [5]", "reauth.r.command"),
        ("[token]\nserver = \"s\"", "token.server"),
        ("[token.t]\nrefresh = \"/f\"", "token.t.refresh"),
        ("[token.t.refresh]\nfiel = \"/f\"", "token.t.refresh.fiel"),
        ("[server.s]\nwith = { a = 5 }", "server.s.with.a"),
        ("[server.s]\nwith = { a = { fiel = \"/f\" } }", "server.s.with.a.fiel"),
        ("[reauth.r]\nlogin = \"yes\"", "reauth.r.login"),
        ("[profile.p]\nunti = \"s\"", "profile.p.unti"),
        ("[profile.p]\nunit = \"seconds\"", "profile.p.unit"),
        ("[profile.p]\nassume = 20", "profile.p.assume"),
        ("[profile.p]\nrequest = \"GET s\"", "profile.p.request"),
        ("[profile.p]\nbasic = [\"a\", \"b\", \"c\"]", "profile.p.basic"),
        ("[profile.p.query]\nrequest = 5", "profile.p.query.request"),
        ("[profile.p.query]\nlife = 5", "profile.p.query.life"),
        ("[profile.p.query.query]\na = 5", "profile.p.query.query.a"),
        ("[profile.p.query]\nalive = { means = \"expired\" }", "profile.p.query.alive.means"),
        ("[profile.p]\ndead = [{ status = 99 }]", "profile.p.dead.status"),
        ("[profile.p]\ndead = [{ means = \"throttled\" }]", "profile.p.dead.means"),
    ] {
        assert_eq!(faults(text), [path], "{text}");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tokenkeep.toml");
        fs::write(&file, text).expect("room");
        assert!(load(Path::new(&file), std::iter::empty()).is_err(), "{text}");
    }
}

#[test]
fn schema_accepts_every_shipped_profile() {
    let contributed = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/profiles");
    let contributed = fs::read_dir(contributed).expect("the folder");
    let contributed = contributed.map(|entry| fs::read_to_string(entry.expect("a file").path()));
    let contributed = contributed.map(|text| text.expect("a profile"));
    let built_in = BUILTIN.iter().map(|built_in| built_in.toml.to_owned());
    for text in built_in.chain(contributed) {
        assert_eq!(faults(&text), [""; 0], "{text}");
    }
}
