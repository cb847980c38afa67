//! The envelope that every answer of the API comes in, read liberally.
//!
//! Owns what is taken for what: letter cases, numbers as text, errors as an object or a
//! list. Texts need not be valid: nothing is concluded from them. Concludes nothing; that is left
//! to `interpret`.

use std::time::Duration;

use serde_json::{Map, Value};

use super::json_repair::repair;

/// A JSON object as the API writes it.
pub(super) type Object = Map<String, Value>;

/// The longest life that is believed, in milliseconds: 366 days. The API itself gives a
/// day at most; a number beyond this is a time stamp or a fault, not a life.
pub(super) const MAX_REMAINING_MS: u64 = 366 * 86_400_000;

/// An answer's two parts that matter.
#[derive(Debug)]
pub(super) struct Envelope {
    /// `Result`, where it is an object.
    pub(super) result: Option<Object>,
    /// `Errors`, empty ones left out.
    pub(super) errors: Vec<ApiError>,
}

/// One of the API's `Errors`.
#[derive(Debug, PartialEq)]
pub(super) struct ApiError {
    /// `Status`.
    pub(super) status: Stated,
    /// `Detail`, as the server wrote it: not fit to be printed yet.
    pub(super) detail: Option<String>,
}

/// What an error says of its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stated {
    /// Nothing: the HTTP status stands for it.
    Nothing,
    /// A whole number from 0 to 999.
    Status(u16),
    /// Something that is no status.
    Gibberish,
}

impl Envelope {
    /// Reads a body. What comes back otherwise is the reason why it is no envelope, to
    /// follow "the answer".
    pub(super) fn read(body: &[u8]) -> Result<Self, &'static str> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        if body.trim_ascii().is_empty() {
            return Err("is empty");
        }
        let value = serde_json::from_slice(body).or_else(|_| serde_json::from_slice(&repair(body)));
        match value {
            Ok(Value::Object(envelope)) => {
                let errors = field(&envelope, "Errors").map(read_errors).unwrap_or_default();
                let result = field(&envelope, "Result").and_then(Value::as_object).cloned();
                Ok(Self { result, errors })
            }
            Ok(_) => Err("is JSON, but not an object"),
            Err(_) => Err("is not JSON, or is truncated"),
        }
    }
}

/// The value of `key` in whatever letter case its first letter has; `None` where it is
/// missing or null.
pub(super) fn field<'a>(object: &'a Object, key: &str) -> Option<&'a Value> {
    let other_case: String = key
        .char_indices()
        .map(|(at, c)| if at == 0 { c.to_ascii_lowercase() } else { c })
        .collect();
    [key, &other_case].into_iter().filter_map(|key| object.get(key)).find(|value| !value.is_null())
}

/// A remaining life: a number of milliseconds, or one as text, from 0 to 366 days; a
/// fraction is dropped.
pub(super) fn life(value: &Value) -> Option<Duration> {
    #[expect(clippy::cast_precision_loss, reason = "some 2^35, and exact in 52 bits")]
    const MOST: f64 = MAX_REMAINING_MS as f64;
    let millis = number(value)?;
    if !(0.0..=MOST).contains(&millis) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked just above, and a fraction is to be dropped"
    )]
    Some(Duration::from_millis(millis as u64))
}

/// A status: a whole number from 0 to 999, or one as text.
pub(super) fn status(value: &Value) -> Option<u16> {
    let number = number(value)?;
    if !(0.0..=999.0).contains(&number) || number.fract() != 0.0 {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number from 0 to 999, as checked just above"
    )]
    Some(number as u16)
}

/// A number, or one as text; "inf" and "nan" are caught by the ranges.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// `Errors`: an object, a list of them, or (against the reference) plain text.
fn read_errors(errors: &Value) -> Vec<ApiError> {
    match errors {
        Value::Array(list) => list.iter().filter_map(read_error).collect(),
        single => read_error(single).into_iter().collect(),
    }
}

fn read_error(error: &Value) -> Option<ApiError> {
    if is_empty(error) {
        return None;
    }
    let Value::Object(error) = error else {
        return Some(ApiError { status: Stated::Nothing, detail: text(error) });
    };
    let status = match field(error, "Status") {
        None => Stated::Nothing,
        Some(value) => status(value).map_or(Stated::Gibberish, Stated::Status),
    };
    Some(ApiError { status, detail: field(error, "Detail").and_then(text) })
}

/// Says nothing: null, empty, or made of nothing else.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.iter().all(is_empty),
        Value::Object(object) => object.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(value: &Value) -> Vec<ApiError> {
        Envelope::read(json!({ "Errors": value }).to_string().as_bytes()).expect("read").errors
    }

    #[test]
    fn empty_errors_are_ignored() {
        let nothing = [
            json!(null),
            json!({}),
            json!([]),
            json!(""),
            json!([null, {}]),
            json!({ "Status": null, "Detail": "" }),
        ];
        for value in nothing {
            assert_eq!(errors(&value), [], "{value}");
        }
    }

    #[test]
    fn a_status_may_be_an_integer_a_float_or_text() {
        for value in [json!(410), json!(410.0), json!("410"), json!(" 410.0 ")] {
            let read = errors(&json!({ "Status": value }));
            assert_eq!(read[0].status, Stated::Status(410), "{value}");
        }
    }

    #[test]
    fn status_that_is_no_integer_is_unreadable() {
        for value in [json!(410.5), json!(-1), json!("gone"), json!(true), json!(1e300)] {
            let read = errors(&json!({ "Status": value }));
            assert_eq!(read[0].status, Stated::Gibberish, "{value}");
        }
    }

    #[test]
    fn errors_may_be_a_list_an_object_or_plain_text() {
        let one = ApiError { status: Stated::Status(401), detail: Some("no".into()) };
        assert_eq!(errors(&json!({ "Status": 401, "Detail": "no" })), [one]);
        let list = errors(&json!([{ "Status": 401 }, null, { "Status": 410 }]));
        assert_eq!(list.len(), 2);
        let plain = ApiError { status: Stated::Nothing, detail: Some("no".into()) };
        assert_eq!(errors(&json!("no")), [plain]);
    }

    #[test]
    fn first_letter_of_a_key_is_case_insensitive() {
        let body = br#"{"errors":{"status":410,"detail":"gone"},"result":{"remaining":1}}"#;
        let envelope = Envelope::read(body).expect("read");
        assert_eq!(envelope.errors[0].status, Stated::Status(410));
        let result = envelope.result.expect("a result");
        assert_eq!(field(&result, "Remaining"), Some(&json!(1)));
    }

    #[test]
    fn null_does_not_hide_the_same_key_in_the_other_case() {
        let object = json!({ "Errors": null, "errors": 1 });
        assert_eq!(field(object.as_object().expect("object"), "Errors"), Some(&json!(1)));
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert!(Envelope::read(b"\xef\xbb\xbf{\"Result\":{}}").is_ok());
    }

    #[test]
    fn value_that_is_no_object_is_no_envelope() {
        for body in ["", " \n", "<html>", "[]", "\"x\"", "{\"Result\":{\"Rem", "{} {}"] {
            assert!(Envelope::read(body.as_bytes()).is_err(), "{body:?}");
        }
    }

    #[test]
    fn envelope_with_an_invalid_text_is_read() {
        for text in [&b"caf\xe9"[..], b"\\ud800", b"a\x01b", b"C:\\path"] {
            let body = [b"{\"Errors\":{\"Status\":410,\"Detail\":\"", text, b"\"}}"].concat();
            let envelope = Envelope::read(&body).expect("read");
            assert_eq!(envelope.errors[0].status, Stated::Status(410), "{:?}", text.escape_ascii());
            assert!(envelope.errors[0].detail.is_some());
        }
    }

    #[test]
    fn deep_nesting_neither_hides_an_error_nor_makes_one() {
        let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
        let read = |body: String| Envelope::read(body.as_bytes()).expect("read");
        let beside = read(format!(r#"{{"New":{deep},"Result":{{"Remaining":5,"New":{deep}}}}}"#));
        assert!(beside.errors.is_empty());
        assert_eq!(field(&beside.result.expect("a result"), "Remaining"), Some(&json!(5)));
        assert_eq!(read(format!(r#"{{"Errors":{deep}}}"#)).errors.len(), 1);
        let status = read(format!(r#"{{"Errors":{{"Status":{deep}}}}}"#)).errors[0].status;
        assert_eq!(status, Stated::Gibberish);
    }

    #[test]
    fn life_may_be_an_integer_a_float_or_a_string_and_is_truncated() {
        let same = [json!(1_800_000), json!(1_800_000.0), json!(1_800_000.9)];
        for value in same.into_iter().chain([json!("1800000"), json!(" 1800000.5 ")]) {
            assert_eq!(life(&value), Some(Duration::from_secs(1800)), "{value}");
        }
        assert_eq!(life(&json!(0)), Some(Duration::ZERO));
    }

    #[test]
    fn implausible_life_is_rejected() {
        let absurd = [
            json!(-1),
            json!(-0.5),
            json!("NaN"),
            json!("inf"),
            json!(""),
            json!("soon"),
            json!(true),
            json!(null),
            json!([1]),
            json!(366_u64 * 86_400_000 + 1),
            json!(u64::MAX),
        ];
        for value in absurd {
            assert_eq!(life(&value), None, "{value}");
        }
        assert!(life(&json!(366_u64 * 86_400_000)).is_some());
    }
}
