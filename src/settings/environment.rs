//! Environment variables that override single keys, such as `TOKENKEEP__SCHEDULE__JITTER=0.2`.
//!
//! Maps the name of a variable to a key. Values are checked like those in files. A variable can
//! change a server, re-auth, token or inventory, but not define one.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use config::{Value, ValueKind};
use toml::de::DeValue;

use super::collector::Collector;
use super::finding::{ConfigErrorKind, WarningKind};
use super::key_positions::{KeyPositions, join};
use super::schema::{self, Field, Kind, ROOT, Shape};
use super::schema_check::Layer;
use super::source::ConfigSources;
use super::suggestions;
use crate::similarity::suggest;

const PREFIX: &str = "TOKENKEEP__";
/// Separates the parts of a name; keys contain single underscores.
const SEPARATOR: &str = "__";
/// Prefix of names that are similar to overrides, but may belong to another program.
const NEAR_PREFIX: &str = "TOKENKEEP_";
/// The variable of `control.socket`.
pub(super) const SOCKET: &str = "TOKENKEEP__CONTROL__SOCKET";
/// Set by systemd for a service with `StateDirectory=`.
const STATE_DIRECTORY: &str = "STATE_DIRECTORY";
/// Set by systemd for a service with `RuntimeDirectory=`.
const RUNTIME_DIRECTORY: &str = "RUNTIME_DIRECTORY";

/// The default socket of a service: in the first directory of `$RUNTIME_DIRECTORY`, if the variable
/// is set.
///
/// ```
/// use std::path::Path;
///
/// let variables = [("RUNTIME_DIRECTORY".into(), "/run/tokenkeep/a:/run/b".into())];
/// let socket = tokenkeep::settings::runtime_socket(variables.into_iter());
/// assert_eq!(socket.as_deref(), Some(Path::new("/run/tokenkeep/a/control.sock")));
/// ```
pub fn runtime_socket(environment: impl Iterator<Item = (OsString, OsString)>) -> Option<PathBuf> {
    Environment::gather(environment).runtime_socket()
}

/// The environment variables that concern the configuration.
#[derive(Default)]
pub(super) struct Environment {
    variables: Vec<(String, OsString)>,
    /// Names similar to those of overrides.
    near: Vec<String>,
    state_directory: Option<OsString>,
    runtime_directory: Option<OsString>,
}

impl Environment {
    pub(super) fn gather(all: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in all {
            let Ok(name) = name.into_string() else { continue };
            let prefix = name.get(..PREFIX.len());
            if prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX)) {
                environment.variables.push((name, value));
            } else if name.to_uppercase().starts_with(NEAR_PREFIX) {
                environment.near.push(name);
            } else if name == STATE_DIRECTORY {
                environment.state_directory = Some(value);
            } else if name == RUNTIME_DIRECTORY {
                environment.runtime_directory = Some(value);
            }
        }
        environment.variables.sort();
        environment.near.sort();
        environment
    }

    /// See [`runtime_socket`].
    pub(super) fn runtime_socket(&self) -> Option<PathBuf> {
        let list = self.runtime_directory.as_ref()?.as_bytes();
        let first = list.split(|byte| *byte == b':').next()?;
        let directory = Path::new(OsStr::from_bytes(first));
        directory.is_absolute().then(|| directory.join("control.sock"))
    }

    /// The first directory in `$STATE_DIRECTORY`, if there is one.
    pub(super) fn state_directory(
        &self,
        sources: &mut ConfigSources,
        collector: &mut Collector,
    ) -> Option<String> {
        let Some(list) = self.state_directory.as_ref()?.to_str() else {
            let position = sources.add_variable(STATE_DIRECTORY);
            let remedy = "set it to a directory in UTF-8, or set `state_dir` in the file";
            collector.error(position, ConfigErrorKind::BadValue, "its value is not UTF-8", remedy);
            return None;
        };
        list.split(':').next().filter(|first| !first.is_empty()).map(str::to_owned)
    }

    /// Checks all variables and returns the valid keys as a layer above all `files`.
    pub(super) fn check(
        &self,
        files: &[Layer],
        sources: &mut ConfigSources,
        positions: &mut KeyPositions,
        collector: &mut Collector,
    ) -> Layer {
        for name in &self.near {
            let Some(meant) = meant(name) else { continue };
            let position = sources.add_variable(name);
            let message = "it is ignored: two underscores separate the parts of a name";
            let remedy = format!("did you mean {meant}?");
            collector.warning(position, WarningKind::IgnoredVariable, message, remedy);
        }
        let mut right = Layer::new();
        let mut names = Names { files, known: HashMap::new() };
        for (variable, value) in &self.variables {
            let position = sources.add_variable(variable);
            let target = match names.resolve(&variable[PREFIX.len()..]) {
                Ok(target) => target,
                Err(Unknown::Name { .. }) if collector.is_incomplete() => continue,
                Err(unknown) => {
                    let (message, remedy) = unknown.explain();
                    collector.error(position, ConfigErrorKind::UnknownKey, message, remedy);
                    continue;
                }
            };
            let path = target.path.iter().fold(String::new(), |path, key| {
                // A table that is in no file is where its first variable is.
                if !path.is_empty() {
                    positions.record_table(&path, position);
                }
                join(&path, key)
            });
            if let Some(text) = value.to_str() {
                let value = as_toml(target.kind, text);
                let checked = collector.checked(variable, &path, target.kind, &value, position);
                if let Some(checked) = checked {
                    put(&mut right, &target.path, checked);
                }
            } else {
                let (message, remedy) = ("its value is not UTF-8", "write it in UTF-8");
                collector.error(position, ConfigErrorKind::BadValue, message, remedy);
            }
            positions.record_value(path, position);
        }
        right
    }
}

/// Text is used unchanged; numbers, lists and other kinds are parsed as TOML.
fn as_toml(kind: Kind, text: &str) -> DeValue<'_> {
    let parsed = if kind.is_text() { None } else { DeValue::parse(text.trim()).ok() };
    parsed.map_or_else(|| DeValue::String(text.into()), toml::Spanned::into_inner)
}

/// The override that a variable with too few underscores was probably meant to be.
fn meant(name: &str) -> Option<String> {
    let name = name.get(NEAR_PREFIX.len()..)?.to_lowercase().replace(SEPARATOR, "_");
    let parts = ROOT.iter().find_map(|field| match field.shape {
        Shape::Value(_) => (name == field.name).then(|| vec![field.name.to_owned()]),
        Shape::Table(keys) => {
            let key = name.strip_prefix(field.name)?.strip_prefix('_')?;
            let mut parts = vec![field.name.to_owned()];
            parts.extend(table_parts(keys, key)?);
            Some(parts)
        }
        Shape::Named(keys) => {
            let rest = name.strip_prefix(field.name)?.strip_prefix('_')?;
            let mut parts = vec![field.name.to_owned()];
            parts.extend(named_parts(keys, rest)?);
            Some(parts)
        }
        Shape::Parameters | Shape::Profiles => None,
    })?;
    Some(format!("{PREFIX}{}", parts.join(SEPARATOR).to_uppercase()))
}

/// Splits `key` or `child_key`.
fn table_parts(keys: &'static [Field], text: &str) -> Option<Vec<String>> {
    if let Some((key, _)) = find_value(keys, text) {
        return Some(vec![key]);
    }
    keys.iter().find_map(|child| match child.shape {
        Shape::Table(inner) => {
            let key = text.strip_prefix(child.name)?.strip_prefix('_')?;
            Some(vec![child.name.to_owned(), find_value(inner, key)?.0])
        }
        _ => None,
    })
}

/// Splits `NAME_key` or `NAME_schedule_key`.
fn named_parts(keys: &'static [Field], text: &str) -> Option<Vec<String>> {
    let parts = |field: &Field, before: &str| {
        let name = before.strip_suffix('_').filter(|name| !name.is_empty())?;
        Some(vec![name.to_owned(), field.name.to_owned()])
    };
    let schedule = schema::find(keys, "schedule").and_then(|field| match field.shape {
        Shape::Table(keys) => Some(keys),
        _ => None,
    });
    let in_schedule = schedule.into_iter().flatten().find_map(|field| {
        let name = text.strip_suffix(field.name)?.strip_suffix("_schedule_")?;
        let parts = [name, "schedule", field.name].map(str::to_owned).to_vec();
        (!name.is_empty()).then_some(parts)
    });
    // If the text ends in several keys, the longest counts: `connect_timeout`, not `timeout`.
    let values = keys.iter().filter(|field| matches!(field.shape, Shape::Value(_)));
    let fitting = values.filter(|field| text.ends_with(field.name));
    in_schedule.or_else(|| {
        let field = fitting.max_by_key(|field| field.name.len())?;
        parts(field, &text[..text.len() - field.name.len()])
    })
}

fn put(table: &mut Layer, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => {
            table.insert(key.clone(), value);
        }
        [key, rest @ ..] => {
            let child = table.entry(key.clone()).or_insert_with(|| Value::from(Layer::new()));
            if let ValueKind::Table(child) = &mut child.kind {
                put(child, rest, value);
            }
        }
    }
}

struct Target {
    path: Vec<String>,
    kind: Kind,
}

/// Why a variable does not name a key.
enum Unknown {
    Key {
        table: String,
        key: String,
        fields: &'static [Field],
    },
    /// No table in this section has this name.
    Name {
        section: &'static str,
        near: Option<String>,
    },
    /// Several tables in this section have the same name in the notation of variables.
    Ambiguous {
        section: &'static str,
        names: Vec<String>,
    },
    /// No parameter of a profile can have this name.
    Parameter {
        message: &'static str,
        remedy: &'static str,
    },
    /// A key of a profile.
    Profile,
}

impl Unknown {
    fn explain(self) -> (String, String) {
        match self {
            Self::Key { table, key, fields } => {
                suggestions::unknown_key(&key, &table, fields, false)
            }
            Self::Name { section, near } => {
                let message = format!("it matches no [{section}.NAME] in the files");
                let remedy = near.map_or_else(
                    || format!("define [{section}.NAME] in a file; a variable changes single keys of it"),
                    |near| format!("did you mean [{}]?", join(section, &near)),
                );
                (message, remedy)
            }
            Self::Parameter { message, remedy } => (format!("it {message}"), remedy.to_owned()),
            Self::Profile => {
                let message = "a variable cannot change a profile".to_owned();
                (message, "change [profile.NAME] in a file".to_owned())
            }
            Self::Ambiguous { section, names } => {
                let tables: Vec<String> =
                    names.iter().map(|name| format!("[{}]", join(section, name))).collect();
                let message = format!("it is ambiguous: it may mean {}", tables.join(" and "));
                (message, "set the key in a file instead".to_owned())
            }
        }
    }
}

/// The table names in the files, in the notation of variables.
struct Names<'a> {
    files: &'a [Layer],
    known: HashMap<&'static str, HashMap<String, BTreeSet<String>>>,
}

impl Names<'_> {
    /// The key that `name` stands for, case-insensitive.
    fn resolve(&mut self, name: &str) -> Result<Target, Unknown> {
        let name = name.to_lowercase();
        let parts: Vec<&str> = name.split(SEPARATOR).collect();
        let unknown = |table: &str, key: &str, fields| {
            Err(Unknown::Key { table: table.to_owned(), key: key.to_owned(), fields })
        };
        let Some(field) = schema::find(ROOT, parts[0]) else {
            return unknown("", parts[0], ROOT);
        };
        match (&field.shape, &parts[1..]) {
            (Shape::Value(kind), []) => {
                Ok(Target { path: vec![field.name.to_owned()], kind: *kind })
            }
            (Shape::Table(keys), [key]) => find_value(keys, key)
                .map(|(key, kind)| Target { path: vec![field.name.to_owned(), key], kind })
                .map_or_else(|| unknown(field.name, key, keys), Ok),
            (Shape::Table(keys), [child, key]) => {
                let Some(Field { name: child, shape: Shape::Table(inner) }) =
                    schema::find(keys, child)
                else {
                    return unknown(field.name, child, keys);
                };
                let path = |key| vec![field.name.to_owned(), (*child).to_owned(), key];
                find_value(inner, key)
                    .map(|(key, kind)| Target { path: path(key), kind })
                    .map_or_else(|| unknown(&join(field.name, child), key, inner), Ok)
            }
            (Shape::Named(keys), rest @ [_, _, ..]) => self.resolve_named(field.name, keys, rest),
            (Shape::Profiles, _) => Err(Unknown::Profile),
            _ => unknown("", &parts.join("."), ROOT),
        }
    }

    /// The key in `[section.NAME]` or in a table in it, such as `schedule`. NAME may contain separators.
    fn resolve_named(
        &mut self,
        section: &'static str,
        keys: &'static [Field],
        parts: &[&str],
    ) -> Result<Target, Unknown> {
        let (key, before) = parts.split_last().unwrap_or((&"", &[]));
        let mut tries = vec![(before, keys, None)];
        if let [name @ .., child] = before {
            match schema::find(keys, child) {
                Some(Field { name: child, shape: Shape::Table(keys) }) => {
                    tries.insert(0, (name, keys, Some(*child)));
                }
                Some(Field { name: child, shape: Shape::Parameters }) => {
                    if let Some(name) = self.find(section, &name.join(SEPARATOR))? {
                        if let Some((message, remedy)) = suggestions::parameter_name(key) {
                            return Err(Unknown::Parameter { message, remedy });
                        }
                        let path = [section, &name, child, key].map(str::to_owned).to_vec();
                        return Ok(Target { path, kind: Kind::Parameter });
                    }
                }
                _ => {}
            }
        }
        for (name, keys, child) in tries {
            let Some(name) = self.find(section, &name.join(SEPARATOR))? else { continue };
            let mut path = vec![section.to_owned(), name.clone()];
            path.extend(child.map(str::to_owned));
            let Some((key, kind)) = find_value(keys, key) else {
                let table = path[1..].iter().fold(section.to_owned(), |path, key| join(&path, key));
                return Err(Unknown::Key { table, key: (*key).to_owned(), fields: keys });
            };
            path.push(key);
            return Ok(Target { path, kind });
        }
        let known = self.known[section].keys().map(String::as_str);
        let near = suggest(&before.join(SEPARATOR), known);
        let near = near.and_then(|near| self.known[section][near].first().cloned());
        Err(Unknown::Name { section, near })
    }

    fn find(&mut self, section: &'static str, name: &str) -> Result<Option<String>, Unknown> {
        let known = self.known.entry(section).or_insert_with(|| {
            let mut known = HashMap::<String, BTreeSet<String>>::new();
            for layer in self.files {
                let Some(Value { kind: ValueKind::Table(tables), .. }) = layer.get(section) else {
                    continue;
                };
                for name in tables.keys() {
                    known.entry(folded(name)).or_default().insert(name.clone());
                }
            }
            known
        });
        let Some(names) = known.get(&folded(name)) else { return Ok(None) };
        if names.len() > 1 {
            return Err(Unknown::Ambiguous { section, names: names.iter().cloned().collect() });
        }
        Ok(names.first().cloned())
    }
}

/// `name` in the notation of variables: `api-eu.1` becomes `API_EU_1`.
fn folded(name: &str) -> String {
    let fold = |c: char| if c.is_alphanumeric() { c } else { '_' };
    name.to_lowercase().chars().map(fold).collect()
}

fn find_value(fields: &'static [Field], name: &str) -> Option<(String, Kind)> {
    match schema::find(fields, name)? {
        Field { name, shape: Shape::Value(kind) } => Some(((*name).to_owned(), *kind)),
        _ => None,
    }
}
