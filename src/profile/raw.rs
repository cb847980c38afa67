//! A profile as written in TOML: access to the keys of its tables, with errors collected.
//!
//! An error names the key below the profile's table. It never shows a value that may be a secret.

use std::fmt;

use toml::{Table, Value};

use super::keys::{CALL, CALLS, Key, PROFILE};
use crate::key_path::join;
use crate::secret::mask;
use crate::similarity::suggest;
use crate::text::shortened;

/// An error in a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileError {
    /// The kind, for code to match on.
    pub kind: ProfileErrorKind,
    /// The key below the profile's table, such as `query.dead[0].at`; empty for the table itself.
    pub key: String,
    /// What is wrong. Continues a sentence that begins with the key.
    pub message: String,
    /// How to correct it.
    pub remedy: String,
}

/// The kind of a [`ProfileError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProfileErrorKind {
    /// An unknown key.
    UnknownKey,
    /// A value of the wrong type.
    WrongType,
    /// An invalid value of the right type.
    BadValue,
    /// A required key is missing.
    Missing,
    /// Two keys that exclude or contradict each other.
    Conflict,
}

impl fmt::Display for ProfileError {
    /// One line, with possible secrets masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, message, remedy, .. } = self;
        let subject = if key.is_empty() { "the profile".to_owned() } else { format!("`{key}`") };
        f.write_str(&mask(&format!("{subject} {message}; {remedy}")))
    }
}

/// The errors found so far.
#[derive(Default)]
pub(super) struct Errors(pub(super) Vec<ProfileError>);

impl Errors {
    pub(super) fn add(
        &mut self,
        kind: ProfileErrorKind,
        key: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (key, message, remedy) = (key.into(), message.into(), remedy.into());
        self.0.push(ProfileError { kind, key, message, remedy });
    }

    pub(super) fn bad_value(
        &mut self,
        key: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(ProfileErrorKind::BadValue, key, message, remedy);
    }

    /// Reports that `value` is not what the key requires.
    pub(super) fn wrong_type(&mut self, key: String, expected: &str, value: &Value, remedy: &str) {
        let message = format!("must be {expected}, but is {}", described(value));
        self.add(ProfileErrorKind::WrongType, key, message, remedy);
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

/// A table, with its path below the profile's.
#[derive(Clone)]
pub(super) struct RawTable<'a> {
    path: String,
    table: &'a Table,
}

impl<'a> RawTable<'a> {
    /// The table of the profile itself.
    pub(super) const fn profile(table: &'a Table) -> Self {
        Self { path: String::new(), table }
    }

    /// The table `value` at `path`.
    pub(super) fn new(
        path: String,
        value: &'a Value,
        example: &str,
        errors: &mut Errors,
    ) -> Option<Self> {
        if let Some(table) = value.as_table() {
            return Some(Self { path, table });
        }
        errors.wrong_type(path, "a table", value, example);
        None
    }

    /// Path of the table.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Path of `key`.
    pub(super) fn key(&self, key: &str) -> String {
        join(&self.path, key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.table.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.table.iter()
    }

    pub(super) fn text(&self, key: &str, errors: &mut Errors) -> Option<&'a str> {
        let value = self.get(key)?;
        if value.as_str().is_none() {
            let remedy = format!("write it in quotes: {key} = \"...\"");
            errors.wrong_type(self.key(key), "text in quotes", value, &remedy);
        }
        value.as_str()
    }

    pub(super) fn boolean(&self, key: &str, errors: &mut Errors) -> Option<bool> {
        let value = self.get(key)?;
        if value.as_bool().is_none() {
            let remedy = format!("write {key} = true or {key} = false, without quotes");
            errors.wrong_type(self.key(key), "true or false", value, &remedy);
        }
        value.as_bool()
    }

    /// The meaning of the word at `key`, which is one of `words`.
    pub(super) fn choice<T: Copy, const N: usize>(
        &self,
        key: &str,
        words: [&'static str; N],
        meanings: [T; N],
        errors: &mut Errors,
    ) -> Option<T> {
        let text = self.text(key, errors)?;
        if let Some(at) = words.iter().position(|word| *word == text) {
            return Some(meanings[at]);
        }
        let all = words.map(|word| format!("{word:?}")).join(", ");
        let remedy = match suggest(text, words) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("write one of {all}"),
        };
        let message = format!("must be one of {all}, but is {}", shortened(text));
        errors.bad_value(self.key(key), message, remedy);
        None
    }

    /// Reports keys that are not in `known`.
    pub(super) fn reject_unknown(&self, known: &[Key], errors: &mut Errors) {
        let names = || known.iter().map(|key| key.name);
        for (name, _) in self.iter().filter(|(name, _)| !names().any(|known| known == *name)) {
            let is_in = |keys: &[Key]| keys.iter().any(|key| key.name == name);
            let remedy = if let Some(near) = suggest(name, names()) {
                format!("did you mean `{near}`?")
            } else if self.path.is_empty() && is_in(CALL) {
                format!("it belongs into a call: {}", CALLS.map(|c| format!("`{c}`")).join(", "))
            } else if CALLS.contains(&self.path.as_str()) && is_in(PROFILE) {
                "it belongs to the whole profile, not to a call".to_owned()
            } else {
                format!("remove it; known here: {}", names().collect::<Vec<_>>().join(", "))
            };
            errors.add(ProfileErrorKind::UnknownKey, self.key(name), "is no known key", remedy);
        }
    }
}

/// The type of `value`, with its content if it is no text: a text may be a secret.
pub(super) fn described(value: &Value) -> String {
    match value {
        Value::String(_) => "text".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Datetime(_) => "a date or time".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}
