//! Checks the texts of all files against the schema, key by key, and records key positions.
//!
//! Unknown keys and values of the wrong type are errors. Valid keys are kept, so that one error
//! does not hide another. Keys are not compared with each other here.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use config::{Map, Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::collector::Collector;
use super::finding::{ConfigErrorKind, WarningKind};
use super::key_positions::{KeyPositions, join};
use super::position::Position;
use super::schema::{self, Field, Kind, ROOT, SOURCE, Shape};
use super::source::ConfigSources;
use super::suggestions;
use super::text;
use crate::key_path::element;
use crate::similarity::suggest;

/// The valid keys of one source.
pub(super) type Layer = Map<String, Value>;

/// Checks all files and returns the valid keys of each, in their order.
pub(super) fn check(
    sources: &ConfigSources,
    positions: &mut KeyPositions,
    collector: &mut Collector,
) -> Vec<Layer> {
    let mut definitions = HashMap::new();
    let mut layers = Vec::new();
    for (source, content) in sources.texts() {
        let (document, errors) = DeTable::parse_recoverable(content);
        let damage = Damage::assess(sources, source, content, &errors, collector);
        if damage.structure {
            continue;
        }
        let mut check = SchemaCheck {
            sources,
            source,
            damage,
            definitions: &mut definitions,
            positions,
            collector,
        };
        layers.push(check.table(document.get_ref(), ROOT, ""));
    }
    layers
}

/// The parts of a file that are not TOML.
struct Damage {
    lines: HashSet<usize>,
    /// A table header is invalid, so its keys would be assigned to another table.
    structure: bool,
}

impl Damage {
    /// Reports the syntax errors, except those that follow from another one, and returns the extent
    /// of the damage.
    fn assess(
        sources: &ConfigSources,
        source: usize,
        content: &str,
        errors: &[toml::de::Error],
        collector: &mut Collector,
    ) -> Self {
        let mut damage = Self { lines: HashSet::new(), structure: false };
        let (mut in_open_list, mut second_table) = (false, 0..0);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let position = Position::at(source, span.start);
            let line_number = sources.line(position);
            if !damage.lines.insert(line_number) {
                continue;
            }
            let is_header = sources.line_text(position).trim_start().starts_with('[');
            // Only `message` is used: displaying the error would print the line.
            let message = error.message();
            let follows = in_open_list;
            in_open_list = message.starts_with(suggestions::MISSING_COMMA);
            if (follows && in_open_list) || second_table.contains(&span.start) {
                continue;
            }
            let (message, remedy) = if message == "duplicate key" {
                let what = match header(content, &span) {
                    Some(header) => {
                        let rest = &content[span.end..];
                        let length = rest.find("\n[").unwrap_or(rest.len());
                        second_table = span.end..span.end + length;
                        header
                    }
                    None => content.get(span).unwrap_or_default().to_owned(),
                };
                let first = first_line(content, &what, line_number);
                let first = first.map(|line| format!("; the first is on line {line}"));
                let first = first.unwrap_or_default();
                let message = format!("`{what}` is defined twice in this file{first}");
                (message, "keep one of the two")
            } else {
                damage.structure |= is_header;
                let line = sources.line_text(position);
                suggestions::typographic_quotes(line)
                    .unwrap_or_else(|| suggestions::syntax(message, span.is_empty()))
            };
            collector.syntax(position, message, remedy);
        }
        damage
    }
}

/// The header whose last key is at `key`, without the rest of its line.
fn header(content: &str, key: &Range<usize>) -> Option<String> {
    let before = content.get(..key.end)?;
    let line = before.rsplit('\n').next()?.trim_start();
    (line.starts_with('[') && !line.contains(['=', '{', ','])).then(|| format!("{line}]"))
}

/// Line number, from 1, of the first occurrence of `what`, a header or key that occurs again on
/// line `second`. A key is searched only in its own table.
fn first_line(content: &str, what: &str, second: usize) -> Option<usize> {
    let starts_with_it = |line: &str| {
        let line = line.trim_start();
        let rest = line.strip_prefix(what).map(str::trim_start);
        rest.is_some_and(|rest| what.starts_with('[') || rest.starts_with('='))
    };
    let before: Vec<_> = content.lines().take(second - 1).collect();
    let is_header = |line: &&str| line.trim_start().starts_with('[');
    let table = if what.starts_with('[') { None } else { before.iter().rposition(is_header) };
    let start = table.unwrap_or(0);
    let found = before.iter().skip(start).position(|line| starts_with_it(line));
    found.map(|at| start + at + 1)
}

struct SchemaCheck<'a> {
    sources: &'a ConfigSources,
    source: usize,
    damage: Damage,
    /// Position of the last definition of each named table, over all files.
    definitions: &'a mut HashMap<String, Position>,
    positions: &'a mut KeyPositions,
    collector: &'a mut Collector,
}

impl SchemaCheck<'_> {
    fn position(&self, span: &Range<usize>) -> Position {
        Position::at(self.source, span.start)
    }

    /// The valid keys of `table` at `path`, which may have these `fields`.
    fn table(&mut self, table: &DeTable<'_>, fields: &'static [Field], path: &str) -> Layer {
        let mut right = Layer::new();
        for (key, value) in table {
            let position = self.position(&key.span());
            if !self.damage.lines.is_empty()
                && self.damage.lines.contains(&self.sources.line(position))
            {
                continue;
            }
            let (name, value) = (key.get_ref().as_ref(), value.get_ref());
            let here = join(path, name);
            let Some(field) = schema::find(fields, name) else {
                self.record_intended_key(name, value, fields, path, position);
                let (message, remedy) =
                    suggestions::unknown_key(name, path, fields, value.is_table());
                self.collector.error(position, ConfigErrorKind::UnknownKey, message, remedy);
                continue;
            };
            let checked = match field.shape {
                Shape::Value(kind) => {
                    let checked = self.collector.checked(name, &here, kind, value, position);
                    self.positions.record_value(here, position);
                    checked
                }
                Shape::Table(keys) => self.child(&here, keys, value, position),
                Shape::Named(keys) => self.named(name, Some(keys), value, position),
                Shape::Profiles => self.named(name, None, value, position),
                Shape::Parameters => self.parameters(&here, value, position),
            };
            if let Some(checked) = checked {
                right.insert(name.to_owned(), checked);
            }
        }
        right
    }

    /// Records the key that an unknown key was probably meant to be, so that it is not reported as
    /// missing too.
    fn record_intended_key(
        &mut self,
        name: &str,
        value: &DeValue<'_>,
        fields: &'static [Field],
        path: &str,
        position: Position,
    ) {
        let Some(near) = suggest(name, fields.iter().map(|field| field.name)) else {
            return;
        };
        let meant = join(path, near);
        self.positions.record_table(&meant, position);
        if let Some(Shape::Named(_)) = schema::find(fields, near).map(|field| &field.shape) {
            for (name, _) in value.as_table().into_iter().flatten() {
                self.positions
                    .record_table(&join(&meant, name.get_ref()), self.position(&name.span()));
            }
        }
    }

    fn child(
        &mut self,
        path: &str,
        keys: &'static [Field],
        value: &DeValue<'_>,
        position: Position,
    ) -> Option<Value> {
        self.positions.record_table(path, position);
        let Some(table) = value.as_table() else {
            let (message, remedy) = suggestions::expected_table(path, keys);
            self.collector.error(position, ConfigErrorKind::WrongType, message, remedy);
            return None;
        };
        Some(Value::from(self.table(table, keys, path)))
    }

    /// Parameters of a profile: texts, or tables with their sources.
    fn parameters(&mut self, path: &str, value: &DeValue<'_>, position: Position) -> Option<Value> {
        self.positions.record_table(path, position);
        let Some(table) = value.as_table() else {
            let (message, remedy) = suggestions::expected_parameters(path);
            self.collector.error(position, ConfigErrorKind::WrongType, message, remedy);
            return None;
        };
        let mut right = Layer::new();
        for (key, value) in table {
            let (name, value) = (key.get_ref().as_ref(), value.get_ref());
            let (here, position) = (join(path, name), self.position(&key.span()));
            if let Some((message, remedy)) = suggestions::parameter_name(name) {
                let message = format!("`{here}` {message}");
                self.collector.error(position, ConfigErrorKind::BadValue, message, remedy);
                continue;
            }
            let checked = if value.is_table() {
                self.child(&here, SOURCE, value, position)
            } else {
                self.positions.record_value(here.clone(), position);
                let text = value.as_str().unwrap_or_default();
                if let Some((message, remedy)) = suggestions::secret_parameter(&here, name, text) {
                    self.collector.warning(position, WarningKind::LooksSecret, message, remedy);
                }
                self.collector.checked(name, &here, Kind::Parameter, value, position)
            };
            if let Some(checked) = checked {
                right.insert(name.to_owned(), checked);
            }
        }
        Some(Value::from(right))
    }

    /// A value of a profile as it is. Records the positions of the keys in it.
    fn any(&mut self, path: &str, value: &DeValue<'_>, position: Position) -> Option<Value> {
        let kind: ValueKind = match value {
            DeValue::String(text) => text.as_ref().into(),
            DeValue::Boolean(value) => (*value).into(),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => number.into(),
                    Err(_) => return self.unusable(path, "a number that is too large", position),
                }
            }
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() => number.into(),
                _ => return self.unusable(path, "a number that is not finite", position),
            },
            DeValue::Datetime(_) => return self.unusable(path, "a date or time", position),
            DeValue::Array(values) => {
                let mut right = Vec::new();
                for (index, value) in values.iter().enumerate() {
                    let (path, position) = (element(path, index), self.position(&value.span()));
                    self.positions.record_value(path.clone(), position);
                    right.extend(self.any(&path, value.get_ref(), position));
                }
                right.into()
            }
            DeValue::Table(table) => {
                let mut right = Layer::new();
                for (key, value) in table {
                    let name = key.get_ref().as_ref();
                    let (path, position) = (join(path, name), self.position(&key.span()));
                    self.positions.record_value(path.clone(), position);
                    if let Some(value) = self.any(&path, value.get_ref(), position) {
                        right.insert(name.to_owned(), value);
                    }
                }
                right.into()
            }
        };
        Some(Value::new(None, kind))
    }

    fn unusable(&mut self, path: &str, what: &str, position: Position) -> Option<Value> {
        let message = format!("`{path}` must not be {what}");
        let remedy = "write it in quotes";
        self.collector.error(position, ConfigErrorKind::WrongType, message, remedy);
        None
    }

    /// The tables of one section, `[section.NAME]`. `keys`: `None` for any keys.
    fn named(
        &mut self,
        section: &str,
        keys: Option<&'static [Field]>,
        value: &DeValue<'_>,
        position: Position,
    ) -> Option<Value> {
        let Some(table) = value.as_table() else {
            let (message, remedy) = suggestions::expected_named_tables(section, value.is_array());
            self.collector.error(position, ConfigErrorKind::WrongType, message, remedy);
            return None;
        };
        let mut right = Layer::new();
        for (key, value) in table {
            let (name, position) = (key.get_ref().as_ref(), self.position(&key.span()));
            let path = join(section, name);
            if !value.get_ref().is_table() {
                let (message, remedy) =
                    suggestions::expected_named_table(section, name, keys.unwrap_or_default());
                self.collector.error(position, ConfigErrorKind::WrongType, message, remedy);
                self.positions.record_table(&path, position);
                continue;
            }
            if let Err(error) = text::name(name) {
                let message = format!("`{path}` {}", error.message);
                self.collector.error(position, error.kind, message, error.remedy);
            }
            if self.may_define(section, &path, position) {
                if let Some(checked) = self.entry(&path, keys, value.get_ref(), position) {
                    right.insert(name.to_owned(), checked);
                }
            } else {
                // Errors in the second table are reported, but its keys are not merged with those
                // of the first.
                let positions = std::mem::take(self.positions);
                self.entry(&path, keys, value.get_ref(), position);
                *self.positions = positions;
            }
        }
        Some(Value::from(right))
    }

    fn entry(
        &mut self,
        path: &str,
        keys: Option<&'static [Field]>,
        value: &DeValue<'_>,
        position: Position,
    ) -> Option<Value> {
        let Some(keys) = keys else {
            self.positions.record_table(path, position);
            return self.any(path, value, position);
        };
        self.child(path, keys, value, position)
    }

    /// Whether `[section.NAME]` may be defined at `position`; reports an error if not.
    /// - A token or inventory may be defined in one file only.
    /// - For a server, re-auth, receiver of events or profile, files in `conf.d` may change keys of the main file, but not of
    ///   each other.
    fn may_define(&mut self, section: &str, path: &str, position: Position) -> bool {
        let Some(earlier) = self.definitions.insert(path.to_owned(), position) else { return true };
        let whole = matches!(section, "token" | "inventory");
        if !whole && earlier.source == Position::MAIN.source {
            return true;
        }
        let message = format!("[{path}] is already defined at {}", self.sources.location(earlier));
        let remedy = if whole {
            "keep one of the two, or give it another name"
        } else {
            "two files in conf.d must not define the same name: remove or rename one of the two"
        };
        self.collector.error(position, ConfigErrorKind::Duplicate, message, remedy);
        false
    }
}
