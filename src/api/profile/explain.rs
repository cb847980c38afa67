//! Explains how a response is read, for people who write a profile. Pure.

use jiff::Timestamp;
use serde_json::Value;

use super::super::interpret::{Body, RawResponse};
use super::Exchange;
use super::reply::{Accept, Purpose, Reply};
use crate::profile::{DeathMeaning, DeferralMeaning, Place, any_at, number, text_of};

/// Characters of a value that are shown.
const MAX_VALUE: usize = 40;

/// The largest number that is shown: the year 9999, in milliseconds since 1970.
const LARGEST: f64 = 253_402_300_799_000.0;

/// Keys of a JSON object that are shown.
const MAX_KEYS: usize = 12;

/// The status, the rules that match, and what is at the places of the call, in one line. Contains no
/// secret that was sent, and no value or refresh token of the response.
pub(super) fn explain(exchange: &Exchange<'_>, response: &RawResponse) -> String {
    let reply = Reply::of(response);
    let (call, values) = (exchange.call, exchange.values);
    let mut parts = vec![format!("HTTP {}", response.status)];
    parts.extend(body(&reply));
    let later = call.later.iter().enumerate();
    let later =
        later.filter(|(_, deferral)| reply.meets(&deferral.rule, Purpose::Deferral, values));
    let later = later.map(|(at, deferral)| (format!("later[{at}]"), deferral_name(deferral.means)));
    let dead = call.dead.iter().enumerate();
    let dead = dead.filter(|(_, death)| reply.meets(&death.rule, Purpose::Death, values));
    let dead = dead.take(1).map(|(at, death)| (format!("dead[{at}]"), death_name(death.means)));
    let matched: Vec<_> = later.chain(dead).collect();
    for (rule, meaning) in &matched {
        parts.push(format!("`{rule}` matches: {meaning}"));
    }
    if !matched.is_empty() {
        return parts.join("; ");
    }
    if response.status / 100 != 2 {
        let keys = keys(exchange, &reply, &[]);
        parts.push(format!("no rule of `later` or `dead` matches{keys}"));
        return parts.join("; ");
    }
    if let Some(rule) = &call.alive {
        let is_met = reply.meets(rule, Purpose::Success, values);
        parts.push(if is_met { "`alive` is met" } else { "`alive` is not met" }.to_owned());
        if !is_met {
            parts.push(found(exchange, &reply, "alive", &rule.at, Show::Value));
        }
    }
    if let Some(place) = &call.endless
        && reply.is_null_at(place)
    {
        parts.push(format!("`endless`: null at {place}"));
        return parts.join("; ");
    }
    for place in &call.life {
        parts.push(found(exchange, &reply, "life", place, Show::Value));
    }
    for (key, place) in [("value", &call.value), ("refresh", &call.refresh)] {
        parts.extend(
            place.as_ref().map(|place| found(exchange, &reply, key, place, Show::Presence)),
        );
    }
    parts.join("; ")
}

/// What is shown of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    /// The value itself.
    Value,
    /// Only that there is one: it is a secret.
    Presence,
}

/// What is at the place of `key`.
fn found(
    exchange: &Exchange<'_>,
    reply: &Reply<'_>,
    key: &str,
    place: &Place,
    show: Show,
) -> String {
    let mut first = None;
    reply.any(place, Accept::Whole, &mut |value| {
        first = Some(shown(value));
        true
    });
    match (first, place) {
        (Some(_), _) if show == Show::Presence => format!("`{key}`: found at {place}"),
        (Some(value), _) => {
            let value = exchange.context.clean(&value);
            let shown: String = value.chars().take(MAX_VALUE).collect();
            format!("`{key}`: {shown} at {place}")
        }
        (None, Place::Body(path)) => {
            format!("`{key}`: nothing at {place}{}", keys(exchange, reply, path))
        }
        (None, Place::Header(_) | Place::Cookie(_)) => format!("`{key}`: nothing at {place}"),
    }
}

/// A number, a time or a boolean; the kind of other values. A text may be a secret.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if number(text).is_none() && text.parse::<Timestamp>().is_err() => {
            "a text that is no number or time".to_owned()
        }
        // Such as the ID of a lease, which is a token.
        Value::Number(_) | Value::String(_)
            if number(&text_of(value)).is_some_and(|number| number.abs() > LARGEST) =>
        {
            "a number that is no life or time".to_owned()
        }
        Value::Object(_) => "an object".to_owned(),
        Value::Null | Value::Array(_) => "a list".to_owned(),
        Value::Number(_) | Value::Bool(_) | Value::String(_) => text_of(value).into_owned(),
    }
}

/// Why nothing is found in the body, if that is so.
fn body(reply: &Reply<'_>) -> Option<String> {
    match (&reply.response.body, reply.whole()) {
        (_, Some(_)) => None,
        (Body::TooLong, _) => Some("the body is too long".to_owned()),
        (Body::Whole(body), None) if body.is_empty() => Some("no body".to_owned()),
        (Body::Whole(_), None) => Some("the body is not one JSON value".to_owned()),
    }
}

/// The keys of the deepest object on the way to `path`, as the end of a sentence.
fn keys(exchange: &Exchange<'_>, reply: &Reply<'_>, path: &[Box<str>]) -> String {
    let Some(json) = reply.whole() else { return String::new() };
    for depth in (0..path.len().max(1)).rev() {
        let parents = &path[..depth];
        let mut keys = Vec::new();
        any_at(json, parents, &mut |value| {
            keys.extend(value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()));
            !keys.is_empty()
        });
        if keys.is_empty() {
            continue;
        }
        let more = if keys.len() > MAX_KEYS { ", …" } else { "" };
        keys.truncate(MAX_KEYS);
        let keys = exchange.context.clean(&keys.join(", "));
        let parent = if depth == 0 { "the body".to_owned() } else { parents.join(".") };
        return format!(" ({parent} has {keys}{more})");
    }
    String::new()
}

const fn death_name(means: DeathMeaning) -> &'static str {
    match means {
        DeathMeaning::Expired => "expired",
        DeathMeaning::Rejected => "rejected",
    }
}

const fn deferral_name(means: DeferralMeaning) -> &'static str {
    match means {
        DeferralMeaning::Throttled => "throttled",
        DeferralMeaning::Unavailable => "unavailable",
        DeferralMeaning::Misconfigured => "misconfigured",
    }
}
