//! The schema, the raw form and the shipped file have the same keys.

use std::collections::BTreeSet;

use super::schema::{Field, Kind, ROOT, Shape, is_source};
use crate::profile::keys::{CALL, Content, Key, PROFILE};

/// Every key of the schema, as `table key`, with an example of a value.
fn keys(fields: &[Field], table: &str) -> Vec<(String, &'static str, &'static str)> {
    let mut all = Vec::new();
    for field in fields {
        match field.shape {
            Shape::Value(kind) => all.push((table.to_owned(), field.name, example(kind))),
            Shape::Table(inner) if table.is_empty() => all.extend(keys(inner, field.name)),
            // Shown as an inline table.
            Shape::Table(inner) if is_source(inner) => {
                all.push((table.to_owned(), field.name, "{ file = \"/path\" }"));
            }
            Shape::Table(inner) => all.extend(keys(inner, &format!("{table}.{}", field.name))),
            Shape::Named(inner) => all.extend(keys(inner, &format!("{}.x", field.name))),
            Shape::Parameters => all.push((table.to_owned(), field.name, "{ a = \"text\" }")),
            // Any table is a raw profile.
            Shape::Profiles => {}
        }
    }
    all
}

fn example(kind: Kind) -> &'static str {
    match kind {
        Kind::Path
        | Kind::AbsolutePath
        | Kind::SocketPath
        | Kind::Reference
        | Kind::Credential
        | Kind::Variable
        | Kind::ShellVariable
        | Kind::Group
        | Kind::Filter
        | Kind::Url
        | Kind::ReplicaName
        | Kind::KeyPrefix
        | Kind::UserName
        | Kind::Address
        | Kind::Parameter
        | Kind::Choice(_)
        | Kind::Duration(..) => "\"text\"",
        Kind::Command
        | Kind::MaintenanceWindows
        | Kind::Readers
        | Kind::Hosts
        | Kind::Endpoints
        | Kind::Events
        | Kind::TokenPatterns => "[\"text\"]",
        Kind::Fraction | Kind::OpenFraction => "0.5",
        Kind::Integer(..) => "1",
        Kind::Boolean => "true",
    }
}

#[test]
fn raw_form_accepts_every_key_of_the_schema() {
    for (table, key, value) in keys(ROOT, "") {
        let header = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
        let text = format!("{header}{key} = {value}\n");
        if let Err(error) = toml::from_str::<super::raw::Raw>(&text) {
            panic!("{table} {key}: {error}");
        }
    }
}

#[test]
fn the_shipped_file_shows_every_key_of_the_schema() {
    let shipped = include_str!("../../config/tokenkeep.toml");
    let (mut table, mut shown) = (String::new(), BTreeSet::new());
    for line in shipped.lines().filter_map(|line| line.strip_prefix('#')) {
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let mut parts: Vec<&str> = header.split('.').collect();
            if let Some(name) = parts.get_mut(1) {
                *name = "x";
            }
            table = parts.join(".");
        } else if let Some((key, _)) = line.split_once(" = ") {
            shown.insert(format!("{table} {key}"));
        }
    }
    let missing: Vec<String> = keys(ROOT, "")
        .into_iter()
        // Shown once, as [schedule].
        .filter(|(table, ..)| !table.ends_with(".schedule"))
        .map(|(table, key, _)| format!("{table} {key}"))
        .filter(|key| !shown.contains(key))
        .collect();
    assert!(missing.is_empty(), "not in the shipped file: {missing:?}");
    let shown_in_profiles: BTreeSet<&str> = shown
        .iter()
        .filter_map(|shown| shown.split_once(' '))
        .filter(|(table, _)| table.starts_with("profile.x"))
        .map(|(_, key)| key)
        .collect();
    let is_call = |key: &&Key| matches!(key.content, Content::Call);
    let of_profiles = PROFILE.iter().filter(|key| !is_call(key)).chain(CALL);
    let missing: Vec<&str> =
        of_profiles.map(|key| key.name).filter(|key| !shown_in_profiles.contains(key)).collect();
    assert!(missing.is_empty(), "not in the shipped file: {missing:?}");
}
