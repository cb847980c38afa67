//! One line: `{"name": "...", "token": "..."}`, perhaps with a `"refresh"`, without other keys.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::LineError;
use crate::secret::{TokenValue, ValueRef};
use crate::settings::name_error;

/// The longest unknown key that is shown. Together with [`is_harmless`] this excludes tokens.
const LONGEST_SHOWN: usize = 24;

/// Name, value and refresh token of a line; owned if they were written with escapes.
pub(super) struct ParsedLine<'a> {
    name: Cow<'a, str>,
    value: LineValue<'a>,
    refresh: Option<LineValue<'a>>,
}

enum LineValue<'a> {
    Plain(ValueRef<'a>),
    Escaped(TokenValue),
}

impl ParsedLine<'_> {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn value(&self) -> ValueRef<'_> {
        self.value.by_ref()
    }

    pub(super) fn refresh(&self) -> Option<ValueRef<'_>> {
        self.refresh.as_ref().map(LineValue::by_ref)
    }
}

impl LineValue<'_> {
    fn by_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Plain(value) => *value,
            Self::Escaped(value) => value.by_ref(),
        }
    }
}

/// Parses a line that is not blank.
pub(super) fn parse(line: &[u8]) -> Result<ParsedLine<'_>, LineError> {
    let line = str::from_utf8(line).map_err(|_| LineError::NotUtf8)?;
    if !line.trim_start().starts_with('{') {
        return Err(LineError::NotAnObject);
    }
    let mut parser = serde_json::Deserializer::from_str(line);
    let object = parser.deserialize_map(Object).and_then(|object| parser.end().map(|()| object));
    // The parser's message could contain a part of the line.
    object.map_err(|error| LineError::NotJson { column: error.column() })?
}

/// An object with a name and a token.
struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Result<ParsedLine<'de>, LineError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut name, mut token, mut refresh, mut unknown) = (None, None, None, None);
        while let Some(key) = map.next_key_seed(TextSeed(key))? {
            match key {
                Some(LineKey::Name) => {
                    put(&mut name, map.next_value_seed(TextSeed(named))?, "name");
                }
                Some(LineKey::Token) => {
                    put(&mut token, map.next_value_seed(TextSeed(value))?, "token");
                }
                Some(LineKey::Refresh) => {
                    put(&mut refresh, map.next_value_seed(TextSeed(value))?, "refresh");
                }
                Some(LineKey::Other(key)) => {
                    map.next_value::<IgnoredAny>()?;
                    unknown.get_or_insert(LineError::UnknownKey(key));
                }
                None => {}
            }
        }
        Ok(match (unknown, name, token) {
            (Some(fault), _, _) => Err(fault),
            (None, None, _) => Err(LineError::Lacks("name")),
            (None, _, None) => Err(LineError::Lacks("token")),
            (None, Some(name), Some(token)) => name.and_then(|name| {
                Ok(ParsedLine { name, value: token?, refresh: refresh.transpose()? })
            }),
        })
    }
}

/// The value of a key, or why it is invalid.
type Field<T> = Option<Result<T, LineError>>;

/// Stores what was found for `key`; `None` is a value of another type.
fn put<T>(place: &mut Field<T>, found: Field<T>, key: &'static str) {
    let found = found.unwrap_or(Err(LineError::NotText(key)));
    *place = Some(if place.is_some() { Err(LineError::Twice(key)) } else { found });
}

enum LineKey {
    Name,
    Token,
    Refresh,
    /// The key, if it can be shown.
    Other(Option<Box<str>>),
}

fn key(text: JsonText<'_, '_>) -> LineKey {
    match text.as_str() {
        "name" => LineKey::Name,
        "token" => LineKey::Token,
        "refresh" => LineKey::Refresh,
        other => LineKey::Other(is_harmless(other).then(|| other.into())),
    }
}

/// Whether `key` looks like an identifier and not like a secret in the wrong place.
fn is_harmless(key: &str) -> bool {
    let in_words = |c: char| c.is_ascii_lowercase() || c == '_' || c == '-';
    (1..=LONGEST_SHOWN).contains(&key.len()) && key.chars().all(in_words)
}

fn named<'a>(text: JsonText<'a, '_>) -> Result<Cow<'a, str>, LineError> {
    match name_error(text.as_str()) {
        Some(fault) => Err(LineError::Name(fault)),
        None => Ok(match text {
            JsonText::Plain(text) => text.into(),
            JsonText::Escaped(text) => text.to_owned().into(),
        }),
    }
}

fn value<'a>(text: JsonText<'a, '_>) -> Result<LineValue<'a>, LineError> {
    let value = match text {
        JsonText::Plain(text) => ValueRef::parse(text).map(LineValue::Plain),
        JsonText::Escaped(text) => TokenValue::parse(text).map(LineValue::Escaped),
    };
    value.map_err(LineError::Value)
}

/// A string: borrowed from the line, or unescaped in the parser's buffer.
#[derive(Clone, Copy)]
enum JsonText<'de, 'a> {
    Plain(&'de str),
    Escaped(&'a str),
}

impl<'a, 'de: 'a> JsonText<'de, 'a> {
    #[expect(clippy::match_same_arms, reason = "the texts live for different times")]
    fn as_str(self) -> &'a str {
        match self {
            Self::Plain(text) => text,
            Self::Escaped(text) => text,
        }
    }
}

/// Converts a string without copying it; `None` for other types.
struct TextSeed<'de, T>(fn(JsonText<'de, '_>) -> T);

impl<'de, T> DeserializeSeed<'de> for TextSeed<'de, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Self::Value, D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de, T> Visitor<'de> for TextSeed<'de, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(self.0(JsonText::Plain(text))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(self.0(JsonText::Escaped(text))))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_seq(list).map(|_| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_map(map).map(|_| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::TokenValueError;

    fn fault(line: &str) -> LineError {
        parse(line.as_bytes()).err().expect(line)
    }

    #[test]
    fn line_contains_a_name_and_a_value() {
        for line in [
            r#"{"name":"quotes","token":"abc-123"}"#,
            r#" { "token" : "abc-123" , "name" : "quotes" } "#,
            r#"{"name":"quot\u0065s","token":"abc-123\n"}"#,
        ] {
            let entry = parse(line.as_bytes()).expect(line);
            assert_eq!((entry.name(), entry.value().expose()), ("quotes", "abc-123"));
        }
    }

    #[test]
    fn line_may_contain_a_refresh_token() {
        for line in [
            r#"{"name":"a","token":"b","refresh":"r-1"}"#,
            r#"{"refresh":"r-\u0031","name":"a","token":"b"}"#,
        ] {
            let entry = parse(line.as_bytes()).expect(line);
            assert_eq!(entry.refresh().map(ValueRef::expose), Some("r-1"));
        }
        assert_eq!(parse(br#"{"name":"a","token":"b"}"#).expect("a line").refresh(), None);
    }

    #[test]
    fn value_that_is_no_object_is_distinguished_from_broken_json() {
        assert_eq!(fault("quotes abc-123"), LineError::NotAnObject);
        assert_eq!(fault(r#"["quotes", "abc-123"]"#), LineError::NotAnObject);
        assert_eq!(fault(r#"{"name": "quotes", "tok"#), LineError::NotJson { column: 23 });
        assert_eq!(fault(r#"{"name":"a","token":"b"} x"#), LineError::NotJson { column: 26 });
        assert_eq!(parse(b"{\"name\": \"\xff\"}").err(), Some(LineError::NotUtf8));
    }

    #[test]
    fn unknown_key_is_named_unless_it_could_be_a_secret() {
        let unknown = |key: &str| fault(&format!(r#"{{"name":"a","token":"b","{key}":[{{}}]}}"#));
        assert_eq!(unknown("server"), LineError::UnknownKey(Some("server".into())));
        for key in ["S3CR3T", "7f3d-11", "averyveryveryverylongword", ""] {
            assert_eq!(unknown(key), LineError::UnknownKey(None), "{key}");
        }
    }

    #[test]
    fn missing_duplicate_or_mistyped_key_is_named() {
        for (line, expected) in [
            (r#"{"token":"b"}"#, LineError::Lacks("name")),
            (r#"{"name":"a"}"#, LineError::Lacks("token")),
            ("{}", LineError::Lacks("name")),
            (r#"{"name":"a","name":"a","token":"b"}"#, LineError::Twice("name")),
            (r#"{"name":"a","token":"b","token":"c"}"#, LineError::Twice("token")),
            (r#"{"name":1,"token":"b"}"#, LineError::NotText("name")),
            (r#"{"name":"a","token":null}"#, LineError::NotText("token")),
            (r#"{"name":"a","token":"b","refresh":null}"#, LineError::NotText("refresh")),
            (
                r#"{"name":"a","token":"b","refresh":"c","refresh":"c"}"#,
                LineError::Twice("refresh"),
            ),
            (r#"{"name":"a","token":{"x":["b"]}}"#, LineError::NotText("token")),
        ] {
            assert_eq!(fault(line), expected, "{line}");
        }
    }

    #[test]
    fn names_and_values_follow_the_rules_of_all_tokens() {
        assert_eq!(
            fault(r#"{"name":"a/b","token":"c"}"#),
            LineError::Name("has a slash in its name")
        );
        for (token, expected) in [
            ("", TokenValueError::Empty),
            ("a b", TokenValueError::NotOneWord),
            ("a\\u0000b", TokenValueError::NotOneWord),
        ] {
            let line = format!(r#"{{"name":"a","token":"{token}"}}"#);
            assert_eq!(fault(&line), LineError::Value(expected));
        }
    }

    #[test]
    fn no_error_contains_a_part_of_the_line() {
        for line in [
            r#"{"name":"S3CR3T/","token":"S3CR3T S3CR3T"}"#,
            r#"{"name":"a","token":"S3CR3T S3CR3T"}"#,
            r#"{"S3CR3T":"a"}"#,
            r#"{"name":"a","token":"S3CR3T"#,
            r#"{"name":"a","token":S3CR3T}"#,
            "S3CR3T",
        ] {
            let fault = fault(line);
            assert!(!format!("{fault} {fault:?}").contains("S3CR3T"), "{fault}");
        }
    }
}
