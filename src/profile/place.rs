//! Places in a response: a path in its JSON body, a header field or a cookie.

use std::fmt;

use serde_json::{Map, Value};

/// A place in a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Keys from the top of the JSON body. The first letter of each key may have either case.
    Body(Vec<Box<str>>),
    /// A header field, by its name in any case.
    Header(Box<str>),
    /// A cookie that the response sets.
    Cookie(Box<str>),
}

/// A text that is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is no place in a response; write the keys of the JSON body with dots between them, such as \
     `data.ttl`, or `header NAME` or `cookie NAME`; a list needs no index, as it stands for its \
     elements; put other keys into double quotes"
)]
pub struct PlaceError;

impl Place {
    /// Parses `a.b.c`, `header NAME` or `cookie NAME`. A key must be in double quotes if it contains
    /// dots or spaces, or could be meant as another notation: `errors[0]`, `$.errors`, `/errors/0`,
    /// `errors.0`, `header:X`.
    ///
    /// # Errors
    ///
    /// If the text is none of them.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        if let Some((kind, name)) = text.split_once(' ')
            && !text.contains('"')
        {
            let is_token = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            let name = Some(name).filter(|name| !name.is_empty() && is_token);
            return match (kind, name) {
                ("header", Some(name)) => Ok(Self::Header(name.into())),
                ("cookie", Some(name)) => Ok(Self::Cookie(name.into())),
                _ => Err(PlaceError),
            };
        }
        let keys = keys(text).ok_or(PlaceError)?;
        Ok(Self::Body(keys))
    }
}

/// The keys of `a.b."c.d"`.
fn keys(text: &str) -> Option<Vec<Box<str>>> {
    let mut keys = Vec::new();
    let mut rest = text;
    loop {
        let (key, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        let is_quoted = rest.starts_with('"');
        if key.is_empty() || key.contains(char::is_control) || !is_quoted && !is_bare(key) {
            return None;
        }
        keys.push(key.into());
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None => return after.is_empty().then_some(keys),
        }
    }
}

/// Whether `key` needs no quotes. Characters and indices of other notations, such as JSON Pointer
/// and `JSONPath`, do: a place that is misunderstood as a key never matches anything.
fn is_bare(key: &str) -> bool {
    let is_special = |c: char| c.is_whitespace() || "\".[]$:/".contains(c);
    !key.contains(is_special) && !key.bytes().all(|b| b.is_ascii_digit())
}

/// Passes each value at the path `keys` below `value` to `found`, until it returns true. A list on
/// the path stands for its elements. A null is no value. Returns whether `found` returned true.
pub fn any_at<'v>(
    value: &'v Value,
    keys: &[Box<str>],
    found: &mut dyn FnMut(&'v Value) -> bool,
) -> bool {
    match (value, keys) {
        (Value::Null, _) => false,
        (Value::Array(list), _) => list.iter().any(|element| any_at(element, keys, found)),
        (value, []) => found(value),
        (Value::Object(object), [key, rest @ ..]) => {
            field(object, key).is_some_and(|value| any_at(value, rest, found))
        }
        _ => false,
    }
}

/// Whether the path `keys` leads through objects to a null. A key that is missing leads nowhere.
pub fn is_null_at(value: &Value, keys: &[Box<str>]) -> bool {
    match (value, keys) {
        (value, []) => value.is_null(),
        (Value::Object(object), [key, rest @ ..]) => match field(object, key) {
            Some(value) => is_null_at(value, rest),
            None => rest.is_empty() && object.keys().any(|name| is_same_key(name, key)),
        },
        _ => false,
    }
}

/// The value of `key`, unless it is null. If both cases of the first letter exist, the case of
/// `key` counts.
fn field<'v>(object: &'v Map<String, Value>, key: &str) -> Option<&'v Value> {
    object.get(key).filter(|value| !value.is_null()).or_else(|| {
        let mut others = object.iter();
        others.find(|(name, value)| !value.is_null() && is_same_key(name, key)).map(|(_, v)| v)
    })
}

/// Whether two keys are equal, apart from the case of an ASCII letter at the beginning.
fn is_same_key(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.as_bytes().get(1..) == b.as_bytes().get(1..)
        && a.as_bytes().iter().zip(b.as_bytes()).all(|(a, b)| a.eq_ignore_ascii_case(b))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(keys) => {
                let quoted =
                    |key: &str| if is_bare(key) { key.to_owned() } else { format!("\"{key}\"") };
                let keys: Vec<_> = keys.iter().map(|key| quoted(key)).collect();
                f.write_str(&keys.join("."))
            }
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys(place: &str) -> Vec<Box<str>> {
        super::keys(place).expect("keys")
    }

    fn all_at(value: &Value, place: &str) -> Vec<Value> {
        let mut all = Vec::new();
        any_at(value, &keys(place), &mut |value| {
            all.push(value.clone());
            false
        });
        all
    }

    #[test]
    fn first_letter_of_each_key_is_case_insensitive_and_the_rest_is_not() {
        let body = json!({ "Data": { "ttl": 5 }, "data": null });
        assert_eq!(all_at(&body, "data.ttl"), [json!(5)]);
        assert_eq!(all_at(&body, "data.Ttl"), [json!(5)]);
        assert!(all_at(&body, "data.tTL").is_empty());
        assert_eq!(all_at(&json!({ "a": 1, "A": 2 }), "A"), [json!(2)]);
        assert_eq!(all_at(&json!({ "a": 1, "A": 2 }), "a"), [json!(1)]);
    }

    #[test]
    fn list_stands_for_its_elements_wherever_it_is_on_the_path() {
        let body = json!({ "e": [{ "s": 1 }, null, { "s": [2, 3] }, 7, { "t": 4 }] });
        assert_eq!(all_at(&body, "e.s"), [json!(1), json!(2), json!(3)]);
        assert_eq!(all_at(&json!([{ "a": 1 }]), "a"), [json!(1)]);
    }

    #[test]
    fn missing_and_null_values_are_not_found() {
        for body in [json!({}), json!(null), json!({ "a": null }), json!({ "a": 5 }), json!("a")] {
            assert!(all_at(&body, "a.b").is_empty(), "{body}");
        }
    }

    #[test]
    fn null_counts_only_where_its_key_is_present() {
        let is_null = |body: Value| is_null_at(&body, &keys("data.end"));
        assert!(is_null(json!({ "data": { "end": null } })));
        assert!(is_null(json!({ "Data": { "End": null } })));
        for body in [
            json!({}),
            json!(null),
            json!([]),
            json!({ "data": null }),
            json!({ "data": {} }),
            json!({ "data": "end" }),
            json!({ "data": [{ "end": null }] }),
            json!({ "data": { "end": "2030-01-01T00:00:00Z" } }),
            json!({ "data": { "end": null, "End": 5 } }),
            json!({ "end": null }),
        ] {
            assert!(!is_null(body.clone()), "{body}");
        }
    }

    #[test]
    fn place_is_a_path_or_a_header_or_a_cookie() {
        for text in [
            "ttl",
            "data.ttl",
            "header X-Auth-Token",
            "cookie api",
            "error.\"@Message.ExtendedInfo\".MessageId",
            "\"a b\"",
            "errors.\"0\".\"$code\"",
            "\"/errors/0\"",
            "\"header:X\".\"a[0]\"",
            "a1.@type.x-y_z",
        ] {
            assert_eq!(Place::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn key_in_quotes_may_contain_dots() {
        let body = json!({ "error": { "@Message.ExtendedInfo": [{ "MessageId": "x" }] } });
        let place = "error.\"@Message.ExtendedInfo\".MessageId";
        assert_eq!(all_at(&body, place), [json!("x")]);
    }

    #[test]
    fn other_notations_are_no_places() {
        for text in [
            "errors[0].code",
            "errors[*]",
            "$.errors.code",
            "$",
            "errors.0.code",
            "/errors/0",
            "errors/code",
            "header:X",
            "cookie:session",
            "\"a\".b[0]",
        ] {
            assert_eq!(Place::parse(text), Err(PlaceError), "{text:?}");
        }
    }

    #[test]
    fn other_texts_are_no_places() {
        let texts = ["", ".", "a.", ".a", "a..b", "a b", "header ", "header X Y", "cookie a;b"];
        for text in texts.into_iter().chain(["\"", "\"\"", "\"a", "a\"", "\"a\"b", "a.\"b\"."]) {
            assert_eq!(Place::parse(text), Err(PlaceError), "{text:?}");
        }
    }
}
