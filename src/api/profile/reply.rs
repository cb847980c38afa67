//! Finds values in a response, and compares them with the rules of a profile.

use std::time::{Duration, SystemTime};

use hyper::http::header::SET_COOKIE;
use jiff::Timestamp;
use serde_json::Value;

use super::super::envelope::{self, is_empty};
use super::super::interpret::{Body, RawResponse};
use super::super::json_repair::repair;
use super::Values;
use crate::outcome::ENDLESS;
use crate::profile::{
    Condition, Place, Rule, Unit, any_at, is_null_at, number as number_of, text_of,
};

/// 2001 to 9999, in milliseconds since 1970. A number outside is no time of an expiry, but a
/// duration, a sentinel, or in another unit.
const TIMES_MS: std::ops::RangeInclusive<f64> = 1e12..=253_402_300_799_000.0;

/// The year 3000, in milliseconds since 1970: APIs write a time such as 9999-12-31 for "never".
const NEVER_MS: f64 = 32_503_680_000_000.0;

/// Up to 31 years, in seconds. A number outside is a time, a sentinel, or in another unit.
const LIVES_S: std::ops::Range<f64> = 0.0..1e9;

/// A response with its body as JSON.
pub(super) struct Reply<'r> {
    pub(super) response: &'r RawResponse,
    /// The JSON value at the beginning of the body.
    json: Option<Value>,
    /// Whether there is nothing but white space behind it.
    is_whole: bool,
}

/// How much of a body a reader accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accept {
    /// Only a body that is one JSON value. Whatever is concluded about a token needs this.
    Whole,
    /// A JSON value with anything behind it.
    Beginning,
}

/// What a rule concludes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// That the token is dead: `without` demands that there is nothing at all.
    Death,
    /// That the token is alive: `without` ignores values without content.
    Success,
    /// That the error is not about the token. Text behind the JSON value is accepted.
    Deferral,
}

impl Purpose {
    const fn accept(self) -> Accept {
        match self {
            Self::Death | Self::Success => Accept::Whole,
            Self::Deferral => Accept::Beginning,
        }
    }
}

impl<'r> Reply<'r> {
    pub(super) fn of(response: &'r RawResponse) -> Self {
        let body = match &response.body {
            Body::Whole(body) => body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body),
            Body::TooLong => b"",
        };
        let json = leading(body).or_else(|| leading(&repair(body)));
        let (json, is_whole) = json.map_or((None, false), |(json, whole)| (Some(json), whole));
        Self { response, json, is_whole }
    }

    /// The body, if all of it is one JSON value.
    pub(super) fn whole(&self) -> Option<&Value> {
        self.json.as_ref().filter(|_| self.is_whole)
    }

    /// Why nothing can be concluded from the body, to continue "it"; `None` if it is JSON.
    pub(super) fn problem(&self) -> Option<&'static str> {
        match (&self.response.body, &self.json) {
            (Body::TooLong, _) => Some("is longer than 64 KiB"),
            (Body::Whole(body), None) if body.trim_ascii().is_empty() => Some("is empty"),
            (Body::Whole(_), None) => Some("is not JSON, or is truncated"),
            (Body::Whole(_), Some(_)) if !self.is_whole => Some("has text behind its JSON value"),
            (Body::Whole(_), Some(_)) => None,
        }
    }

    /// Whether the body is an object or a list that is not empty.
    pub(super) fn has_content(&self) -> bool {
        self.is_whole && self.begins_with_content()
    }

    /// Whether the body begins with an object or a list that is not empty. No page of a proxy does.
    pub(super) fn begins_with_content(&self) -> bool {
        match &self.json {
            Some(Value::Object(object)) => !object.is_empty(),
            Some(Value::Array(list)) => !list.is_empty(),
            _ => false,
        }
    }

    /// Whether nothing was sent but a status and headers.
    pub(super) fn is_bodiless(&self) -> bool {
        matches!(&self.response.body, Body::Whole(body) if body.is_empty())
    }

    /// Whether the body is white space at most.
    pub(super) fn is_blank(&self) -> bool {
        matches!(&self.response.body, Body::Whole(body) if body.trim_ascii().is_empty())
    }

    /// Passes each value at `place` to `found`, until it returns true. Returns whether it did.
    pub(super) fn any(
        &self,
        place: &Place,
        accept: Accept,
        found: &mut dyn FnMut(&Value) -> bool,
    ) -> bool {
        let headers = &self.response.headers;
        match place {
            Place::Body(keys) => match self.json.as_ref() {
                Some(json) if self.is_whole || accept == Accept::Beginning => {
                    any_at(json, keys, found)
                }
                _ => false,
            },
            Place::Header(name) => {
                let mut values = headers.get_all(&**name).iter();
                values.any(|value| value.to_str().is_ok_and(|text| found(&text.trim().into())))
            }
            Place::Cookie(name) => headers.get_all(SET_COOKIE).iter().any(|cookie| {
                let pair = cookie.to_str().ok().and_then(|text| text.split(';').next());
                let pair = pair.and_then(|pair| pair.split_once('='));
                let value = pair.filter(|(key, _)| key.trim() == &**name);
                value.is_some_and(|(_, value)| found(&value.trim().trim_matches('"').into()))
            }),
        }
    }

    /// The first text at `place`.
    pub(super) fn text_at(&self, place: &Place, accept: Accept) -> Option<String> {
        let mut first = None;
        self.any(place, accept, &mut |value| {
            first = value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
            first.is_some()
        });
        first
    }

    /// All texts at `place`.
    pub(super) fn texts_at(&self, place: &Place, accept: Accept) -> String {
        let mut texts = String::new();
        self.any(place, accept, &mut |value| {
            let text = text_of(value);
            if !text.is_empty() {
                texts.push_str(if texts.is_empty() { "" } else { "; " });
                texts.push_str(&text);
            }
            false
        });
        texts
    }

    /// Whether there is a null at `place`.
    pub(super) fn is_null_at(&self, place: &Place) -> bool {
        match (place, self.whole()) {
            (Place::Body(keys), Some(json)) => is_null_at(json, keys),
            _ => false,
        }
    }

    /// Whether the response meets `rule`.
    pub(super) fn meets(&self, rule: &Rule, purpose: Purpose, values: &Values<'_>) -> bool {
        let accept = purpose.accept();
        let value = |placeholder: &_| values.get(placeholder);
        let meets = &mut |found: &Value| match &rule.condition {
            Condition::Is(scalar) => scalar.is(found, value),
            Condition::Has(part) => part.text(value).is_some_and(|part| {
                let is_text = matches!(found, Value::Bool(_) | Value::Number(_) | Value::String(_));
                part.is_empty() || is_text && text_of(found).contains(&part)
            }),
        };
        rule.status.is_none_or(|status| status == self.response.status)
            && self.any(&rule.at, accept, meets)
            && rule.without.as_ref().is_none_or(|place| {
                // A body that cannot be read says nothing about what is missing in it.
                let is_readable = !matches!(place, Place::Body(_)) || self.whole().is_some();
                let counts = &mut |found: &_| purpose == Purpose::Death || !is_empty(found);
                is_readable && !self.any(place, accept, counts)
            })
    }

    /// The shortest life at `places`. `Ok(None)` if all of them are missing.
    ///
    /// # Errors
    ///
    /// If a value is no life, the place of it.
    pub(super) fn life<'p>(
        &self,
        places: &'p [Place],
        unit: Unit,
    ) -> Result<Option<Duration>, &'p Place> {
        let answered = self.response.answered();
        let mut shortest: Option<Duration> = None;
        for place in places {
            let is_invalid = self.any(place, Accept::Whole, &mut |value| {
                let life = life(value, unit, answered);
                shortest = shortest.into_iter().chain(life).min();
                life.is_none()
            });
            if is_invalid {
                return Err(place);
            }
        }
        Ok(shortest)
    }
}

/// The JSON value at the beginning of `body`, and whether it is all of it.
fn leading(body: &[u8]) -> Option<(Value, bool)> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter();
    let value = values.next()?.ok()?;
    let rest = body.get(values.byte_offset()..).unwrap_or_default();
    Some((value, rest.trim_ascii().is_empty()))
}

/// A life of at most 366 days, in whole milliseconds. A longer one counts as a little less than
/// [`ENDLESS`], unless it is a sentinel for "never".
fn life(value: &Value, unit: Unit, answered: SystemTime) -> Option<Duration> {
    let number = || matches!(value, Value::Number(_) | Value::String(_)).then(|| text_of(value));
    let number = || number().and_then(|text| number_of(&text));
    match unit {
        Unit::Milliseconds => envelope::life(value),
        Unit::Seconds => {
            let seconds = number().filter(|seconds| LIVES_S.contains(seconds))?;
            Some(finite(Duration::from_secs_f64(seconds)))
        }
        Unit::Epoch => until(number()? * 1e3, answered),
        Unit::EpochMilliseconds => until(number()?, answered),
        Unit::Rfc3339 => {
            let text = value.as_str()?.trim();
            // A sentinel for "never", and later than the library's last day.
            if text.starts_with("9999-12-31T") {
                return Some(ENDLESS);
            }
            let time: Timestamp = text.parse().ok()?;
            #[expect(clippy::cast_precision_loss, reason = "exact until the year 287396")]
            until(time.as_millisecond() as f64, answered)
        }
    }
}

/// A life that ends, however long it is.
fn finite(life: Duration) -> Duration {
    let longest = ENDLESS.saturating_sub(Duration::from_millis(1));
    Duration::from_millis(crate::time::whole_millis(life)).min(longest)
}

/// The time from a second after `answered` until a point in time in milliseconds since 1970. The
/// clock of a response is in whole seconds, rounded down.
fn until(time: f64, answered: SystemTime) -> Option<Duration> {
    if !TIMES_MS.contains(&time) {
        return None;
    }
    if time >= NEVER_MS {
        return Some(ENDLESS);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    let until = SystemTime::UNIX_EPOCH + Duration::from_millis(time as u64);
    let now = answered + Duration::from_secs(1);
    Some(finite(until.duration_since(now).unwrap_or_default()))
}
