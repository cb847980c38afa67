//! Rules: `alive`, `dead`, `later`; and places.

use toml::Value;

use super::super::keys::{DEATH, DEATHS, DEFERRAL, DEFERRALS, Key, RULE};
use super::super::model::{
    Condition, Death, DeathMeaning, Deferral, DeferralMeaning, Rule, Scalar,
};
use super::super::place::Place;
use super::super::raw::ProfileErrorKind::{Conflict, Missing};
use super::super::raw::{Errors, RawTable, described};
use super::super::template::Template;
use crate::key_path::element;
use crate::text::shortened;

/// The place at `key`.
pub(super) fn place(table: &RawTable<'_>, key: &str, errors: &mut Errors) -> Option<Place> {
    parse_place(table.text(key, errors)?, table.key(key), errors)
}

/// The place or the list of places at `key`.
pub(super) fn places(table: &RawTable<'_>, key: &str, errors: &mut Errors) -> Option<Vec<Place>> {
    match table.get(key)? {
        Value::String(text) => Some(vec![parse_place(text, table.key(key), errors)?]),
        Value::Array(values) => {
            let mut places = Vec::new();
            for (index, value) in values.iter().enumerate() {
                let path = element(&table.key(key), index);
                match value {
                    Value::String(text) => places.extend(parse_place(text, path, errors)),
                    _ => errors.wrong_type(path, "a place in quotes", value, PLACE_EXAMPLE),
                }
            }
            Some(places)
        }
        value => {
            let expected = "a place in quotes, or a list of places";
            errors.wrong_type(table.key(key), expected, value, PLACE_EXAMPLE);
            None
        }
    }
}

const PLACE_EXAMPLE: &str = "write the keys of the JSON body with dots between them, such as \
                             \"data.ttl\", or \"header NAME\" or \"cookie NAME\"; a list needs no \
                             index, as it stands for its elements; put other keys into double \
                             quotes: 'data.\"a/b\"'";

fn parse_place(text: &str, path: String, errors: &mut Errors) -> Option<Place> {
    Place::parse(text)
        .map_err(|_| {
            let message = format!("is no place in a response: {}", shortened(text));
            errors.bad_value(path, message, PLACE_EXAMPLE);
        })
        .ok()
}

/// `alive`.
pub(super) fn alive(table: &RawTable<'_>, errors: &mut Errors) -> Option<Rule> {
    let example = "write alive = { at = \"PLACE\", is = \"...\" }";
    let rule = RawTable::new(table.key("alive"), table.get("alive")?, example, errors)?;
    parse_rule(&rule, RULE, "a proxy in front of the server can send the same status", errors)
}

/// `dead`.
pub(super) fn dead(table: &RawTable<'_>, errors: &mut Errors) -> Option<Vec<Death>> {
    let example =
        "write dead = [{ status = 401, at = \"PLACE\", is = \"...\", means = \"rejected\" }]";
    let rules = rules(table, "dead", example, errors)?.into_iter().filter_map(|table| {
        let why = "a status alone does not prove a death, because a proxy in front of the server \
                   can send it too, and a living token would be given up";
        let rule = parse_rule(&table, DEATH, why, errors);
        let meanings = [DeathMeaning::Expired, DeathMeaning::Rejected];
        let means = means(&table, DEATHS, meanings, errors);
        let death = Death { rule: rule?, means: means? };
        if death.means == DeathMeaning::Expired && !death.rule.reads_body() {
            let message = "concludes from a header or a cookie alone that the token has expired, \
                           which is final at once: a proxy in front of the server may send it too";
            let remedy = "write means = \"rejected\", which is confirmed by a second request, or add \
                          `without` with a place in the body";
            errors.bad_value(table.key("means"), message, remedy);
        }
        Some(death)
    });
    Some(rules.collect())
}

/// `later`.
pub(super) fn later(table: &RawTable<'_>, errors: &mut Errors) -> Option<Vec<Deferral>> {
    let example = "write later = [{ at = \"PLACE\", is = \"...\", means = \"unavailable\" }]";
    let rules = rules(table, "later", example, errors)?.into_iter().filter_map(|table| {
        let why = "the HTTP status alone needs no rule";
        let rule = parse_rule(&table, DEFERRAL, why, errors);
        let meanings = [
            DeferralMeaning::Throttled,
            DeferralMeaning::Unavailable,
            DeferralMeaning::Misconfigured,
        ];
        let means = means(&table, DEFERRALS, meanings, errors);
        Some(Deferral { rule: rule?, means: means? })
    });
    Some(rules.collect())
}

/// The tables in the list at `key`.
fn rules<'a>(
    table: &RawTable<'a>,
    key: &str,
    example: &str,
    errors: &mut Errors,
) -> Option<Vec<RawTable<'a>>> {
    let value = table.get(key)?;
    let Value::Array(values) = value else {
        errors.wrong_type(table.key(key), "a list of rules", value, example);
        return None;
    };
    let path = |index| element(&table.key(key), index);
    let rules = values.iter().enumerate();
    Some(rules.filter_map(|(at, rule)| RawTable::new(path(at), rule, example, errors)).collect())
}

fn means<T: Copy, const N: usize>(
    rule: &RawTable<'_>,
    words: [&'static str; N],
    meanings: [T; N],
    errors: &mut Errors,
) -> Option<T> {
    if !rule.has("means") {
        let remedy = format!("add means = {}", words.map(|word| format!("{word:?}")).join(" or "));
        errors.add(Missing, rule.path(), "has no `means`", remedy);
    }
    rule.choice("means", words, meanings, errors)
}

/// `why`: why a rule needs a condition.
fn parse_rule(table: &RawTable<'_>, keys: &[Key], why: &str, errors: &mut Errors) -> Option<Rule> {
    table.reject_unknown(keys, errors);
    let status = status(table, errors);
    let at = place(table, "at", errors);
    let without = place(table, "without", errors);
    let condition = match (table.get("is"), table.get("has")) {
        (None, None) => {
            let message = format!("has neither `is` nor `has`: {why}");
            let remedy = "add at = \"PLACE\" with is or has: what only the API itself writes there";
            errors.add(Missing, table.path(), message, remedy);
            return None;
        }
        (Some(_), Some(_)) => {
            let remedy = "keep one of the two, or write two rules";
            errors.add(Conflict, table.path(), "has both `is` and `has`", remedy);
            return None;
        }
        (Some(value), None) => Condition::Is(scalar(table, value, errors)?),
        (None, Some(_)) => {
            let text = table.text("has", errors)?;
            // With `without`, that there is any value at one place and none at another says enough.
            if text.is_empty() && without.is_none() {
                let message = "is empty, and every text contains the empty text";
                let remedy = "write a part of the text, or add `without`";
                errors.bad_value(table.key("has"), message, remedy);
            }
            Condition::Has(template(text, table.key("has"), errors)?)
        }
    };
    if !table.has("at") {
        let remedy = "add at = \"PLACE\", where the value is";
        errors.add(Missing, table.path(), "has no `at`", remedy);
    }
    Some(Rule { status, at: at?, condition, without })
}

fn status(table: &RawTable<'_>, errors: &mut Errors) -> Option<u16> {
    let value = table.get("status")?;
    let status = value.as_integer().and_then(|status| u16::try_from(status).ok());
    let status = status.filter(|status| (100..=599).contains(status));
    if status.is_none() {
        let message =
            format!("must be an HTTP status from 100 to 599, but is {}", described(value));
        let remedy = "write a number without quotes, such as status = 403";
        errors.bad_value(table.key("status"), message, remedy);
    }
    status
}

fn scalar(table: &RawTable<'_>, value: &Value, errors: &mut Errors) -> Option<Scalar> {
    match value {
        Value::Boolean(value) => Some(Scalar::Boolean(*value)),
        #[expect(clippy::cast_precision_loss, reason = "status codes and lives are small")]
        Value::Integer(number) => Some(Scalar::Number(*number as f64)),
        Value::Float(number) => Some(Scalar::Number(*number)),
        Value::String(text) => Some(Scalar::Text(template(text, table.key("is"), errors)?)),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            let expected = "a text, a number, true or false";
            let remedy = "write is = \"...\"; for several values, write several rules";
            errors.wrong_type(table.key("is"), expected, value, remedy);
            None
        }
    }
}

/// `text` as a template.
pub(super) fn template(text: &str, path: String, errors: &mut Errors) -> Option<Template> {
    Template::parse(text)
        .map_err(|error| {
            let text = error.to_string();
            let (message, remedy) = text.split_once("; ").unwrap_or((&text, "correct the text"));
            errors.bad_value(path, format!("is no valid text: {message}"), remedy);
        })
        .ok()
}
