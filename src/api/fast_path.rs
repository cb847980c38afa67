//! Fast path for the response of almost every check, without building a tree of values: a remaining
//! life and no errors.
//!
//! A body with any other content is left to `envelope`, which reads everything. The two never
//! disagree about a remaining life.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::envelope::MAX_REMAINING_MS;

/// The remaining life, if the body contains a `Result` with an integer `Remaining`, and no `Errors`
/// other than null; `None` for every other body, which may also be valid.
pub(super) fn life(body: &[u8]) -> Option<Duration> {
    let RemainingLife(millis) = serde_json::from_slice::<QueryBody>(body).ok()?.0;
    (millis <= MAX_REMAINING_MS).then(|| Duration::from_millis(millis))
}

/// An envelope.
struct QueryBody(RemainingLife);

/// A `Result`.
struct RemainingLife(u64);

#[derive(serde::Deserialize)]
#[serde(field_identifier)]
enum EnvelopeKey {
    #[serde(rename = "Result", alias = "result")]
    Result,
    #[serde(rename = "Errors", alias = "errors")]
    Errors,
    #[serde(other)]
    Other,
}

#[derive(serde::Deserialize)]
#[serde(field_identifier)]
enum ResultKey {
    #[serde(rename = "Remaining", alias = "remaining")]
    Remaining,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for QueryBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(QueryBodyVisitor)
    }
}

impl<'de> Deserialize<'de> for RemainingLife {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RemainingLifeVisitor)
    }
}

struct QueryBodyVisitor;

impl<'de> Visitor<'de> for QueryBodyVisitor {
    type Value = QueryBody;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an envelope")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<QueryBody, A::Error> {
        let mut life = None;
        while let Some(key) = map.next_key()? {
            match key {
                EnvelopeKey::Result => only(&mut life, map.next_value()?)?,
                EnvelopeKey::Errors => map.next_value()?,
                EnvelopeKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        life.map(QueryBody).ok_or_else(|| A::Error::missing_field("Result"))
    }
}

struct RemainingLifeVisitor;

impl<'de> Visitor<'de> for RemainingLifeVisitor {
    type Value = RemainingLife;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a result")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RemainingLife, A::Error> {
        let mut remaining = None;
        while let Some(key) = map.next_key()? {
            match key {
                ResultKey::Remaining => only(&mut remaining, map.next_value()?)?,
                ResultKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        remaining.map(RemainingLife).ok_or_else(|| A::Error::missing_field("Remaining"))
    }
}

/// Stores the first value of a key. Duplicate keys are left to `envelope`.
fn only<T, E: Error>(place: &mut Option<T>, found: T) -> Result<(), E> {
    match place.replace(found) {
        None => Ok(()),
        Some(_) => Err(E::custom("twice")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::envelope::{self, Envelope, field};
    use super::*;

    /// The result of reading the complete envelope.
    fn read_whole(body: &[u8]) -> Option<Duration> {
        let envelope = Envelope::read(body).ok()?;
        envelope.errors.is_empty().then_some(())?;
        envelope::life(field(&envelope.result?, "Remaining")?)
    }

    #[test]
    fn usual_response_takes_the_fast_path() {
        let body = json!({
            "ServerDateTime": "2026-01-05T09:30:00Z",
            "TimeStamp": 2_461_045.895_833_333,
            "ExecutionTime": 0.06,
            "Result": { "Remaining": 1_800_000 },
            "Errors": null,
        });
        assert_eq!(life(body.to_string().as_bytes()), Some(Duration::from_secs(1_800)));
    }

    #[test]
    fn unusual_body_is_left_to_the_envelope() {
        let closer = [
            r#"{"Result":{"Remaining":5},"Errors":{"Status":410}}"#,
            r#"{"Result":{"Remaining":5},"errors":[]}"#,
            r#"{"Result":{"Remaining":5},"result":{"Remaining":6}}"#,
            r#"{"Result":{"Remaining":5,"remaining":6}}"#,
            r#"{"Result":{"Remaining":5.0}}"#,
            r#"{"Result":{"Remaining":"5"}}"#,
            r#"{"Result":{"Remaining":-5}}"#,
            r#"{"Result":{"Remaining":18446744073709551615}}"#,
            r#"{"Result":[5]}"#,
            r#"[{"Remaining":5}]"#,
            r#"{"Result":{"Remaining":5}} {}"#,
            r#"{"Result":{"Remaining":5}"#,
            "",
        ];
        for body in closer {
            assert_eq!(life(body.as_bytes()), None, "{body}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<u64>().prop_map(|number| json!(number % 40_000_000_000)),
            any::<f64>().prop_map(|number| json!(number)),
            "[0-9]{1,4}".prop_map(|text| json!(text)),
            any::<bool>().prop_map(|flag| json!(flag)),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            let key = prop::sample::select(vec![
                "Result",
                "result",
                "Errors",
                "errors",
                "Remaining",
                "remaining",
                "Status",
                "x",
            ]);
            let object = prop::collection::vec((key, inner.clone()), 0..4).prop_map(|entries| {
                entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            });
            prop_oneof![
                object.prop_map(Value::Object),
                prop::collection::vec(inner, 0..3).prop_map(Value::Array),
            ]
        })
    }

    /// Bytes inserted into a body that a parser could overlook when it skips strings.
    const ODD: [&[u8]; 14] = [
        b"\xe9", b"\xff", b"\x00", b"\n", b"\\ud800", b"\\udc00", b"\\x", b"\\", b"\"", b"1e400",
        b"[", b"]", b"{\"x\":", b"}",
    ];

    #[test]
    fn envelope_reads_strings_and_nesting_that_the_fast_path_skips() {
        let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth)).into_bytes();
        let odd: Vec<Vec<u8>> = [&b"\"caf\xe9\""[..], b"\"\\ud800\"", b"1e400", b"{\"\xff\":1}"]
            .iter()
            .map(|odd| odd.to_vec())
            .chain([deep(127), deep(128), deep(20_000)])
            .collect();
        for odd in odd {
            for (before, after) in [
                (r#"{"New":"#, r#","Result":{"Remaining":5}}"#),
                (r#"{"Result":{"New":"#, r#","Remaining":5}}"#),
            ] {
                let body = [before.as_bytes(), &odd, after.as_bytes()].concat();
                assert_eq!(life(&body), Some(Duration::from_millis(5)), "{:?}", odd.escape_ascii());
                assert_eq!(read_whole(&body), life(&body), "{:?}", odd.escape_ascii());
            }
        }
    }

    proptest! {
        #[test]
        fn fast_path_never_invents_a_life(result in values(), errors in values()) {
            for body in [
                json!({ "Result": result, "Errors": errors }),
                json!({ "result": { "Remaining": result }, "errors": errors }),
                json!({ "Result": { "Remaining": result } }),
                result.clone(),
            ] {
                let text = body.to_string();
                let seen = life(text.as_bytes());
                prop_assert!(seen.is_none() || seen == read_whole(text.as_bytes()), "{}", text);
            }
        }

        #[test]
        fn fast_path_agrees_with_the_envelope_on_modified_bodies(
            other in values(),
            spoilt in prop::collection::vec((any::<prop::sample::Index>(), 0..ODD.len()), 0..4),
        ) {
            let body = json!({ "Result": { "Remaining": 5, "x": other }, "y": other });
            let mut body = body.to_string().into_bytes();
            for (at, odd) in spoilt {
                let at = at.index(body.len() + 1);
                body.splice(at..at, ODD[odd].iter().copied());
            }
            let seen = life(&body);
            prop_assert!(seen.is_none() || seen == read_whole(&body), "{:?}", body.escape_ascii());
        }
    }
}
