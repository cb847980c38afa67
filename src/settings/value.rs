//! Checks one value against the kind that its key requires.
//!
//! Stricter than the `config` crate, which accepts `"3"` for 3, 3.7 for 4 and `'yes'` for true.
//! Values that could be secrets are never shown.

use std::collections::HashMap;

use config::{Value, ValueKind};
use glob::Pattern;
use toml::de::DeValue;

use super::finding::ConfigErrorKind;
use super::maintenance_window::MaintenanceWindow;
use super::model::Reader;
use super::name_pattern::NamePattern;
use super::schema::Kind;
use super::setting_error::{SettingError, expected, invalid_value, setting_error, shortened};
use super::text;
use crate::event::EventName;
use crate::similarity::suggest;

/// Checks `value` for a key called `key` of this `kind`.
pub(super) fn check(key: &str, kind: Kind, value: &DeValue<'_>) -> Result<Value, SettingError> {
    let checked: ValueKind = match (kind, value) {
        (Kind::Boolean, DeValue::Boolean(value)) => (*value).into(),
        (Kind::Integer(min, max), DeValue::Integer(number)) => {
            let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
            let number = number.filter(|number| (min..=max).contains(number));
            number.ok_or_else(|| out_of_range(key, kind, value))?.into()
        }
        (Kind::Fraction | Kind::OpenFraction, DeValue::Integer(_) | DeValue::Float(_)) => {
            fraction(kind, value).ok_or_else(|| out_of_range(key, kind, value))?.into()
        }
        (Kind::Command, DeValue::Array(_)) => command(value)?.into(),
        (Kind::MaintenanceWindows, DeValue::Array(_)) => maintenance_windows(key, value)?.into(),
        (Kind::Readers, DeValue::Array(_)) => readers(key, value)?.into(),
        (Kind::Hosts, DeValue::Array(_)) => hosts(key, value)?.into(),
        (Kind::Endpoints, DeValue::Array(_)) => endpoints(key, value)?.into(),
        (Kind::Events, DeValue::Array(_)) => events(key, value)?.into(),
        (Kind::TokenPatterns, DeValue::Array(_)) => token_patterns(key, value)?.into(),
        (_, DeValue::String(text)) if kind.is_text() => {
            text::check(key, kind, text)?;
            text.as_ref().into()
        }
        _ => return Err(wrong_type(key, kind, value)),
    };
    Ok(Value::new(None, checked))
}

fn fraction(kind: Kind, value: &DeValue<'_>) -> Option<f64> {
    let number: f64 = match value {
        DeValue::Integer(number) => number.as_str().parse().ok()?,
        DeValue::Float(number) => number.as_str().parse().ok()?,
        _ => return None,
    };
    let fits = match kind {
        Kind::OpenFraction => number > 0.0 && number < 1.0,
        _ => (0.0..=1.0).contains(&number),
    };
    fits.then_some(number)
}

fn command(value: &DeValue<'_>) -> Result<Vec<String>, SettingError> {
    let example =
        "write the program, then its arguments: command = [\"/path/to/program\", \"argument\"]";
    let words = texts(value, example)?;
    match words.first() {
        None => Err(invalid_value("must name a program, but is empty", example)),
        Some(program) if program.trim().is_empty() => {
            Err(invalid_value("must begin with a program, but begins with an empty text", example))
        }
        Some(_) if words.iter().any(|word| word.contains('\0')) => {
            Err(invalid_value("contains a NUL character", "remove it"))
        }
        Some(_) => Ok(words),
    }
}

fn maintenance_windows(key: &str, value: &DeValue<'_>) -> Result<Vec<String>, SettingError> {
    let windows = texts(value, &example_of_windows(key))?;
    for window in &windows {
        window.parse::<MaintenanceWindow>().map_err(|error| {
            invalid_value(format!("contains {}, {error}", shortened(window)), error.remedy())
        })?;
    }
    Ok(windows)
}

fn example_of_windows(key: &str) -> String {
    format!("write {key} = [\"23:45-00:15 America/New_York\"]")
}

fn readers(key: &str, value: &DeValue<'_>) -> Result<Vec<String>, SettingError> {
    let readers = texts(value, &example_of_readers(key))?;
    for reader in &readers {
        let name = reader.strip_prefix(Reader::GROUP).unwrap_or(reader);
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let message =
                format!("names {}, but there is no such user or group", shortened(reader));
            return Err(invalid_value(message, example_of_readers(key)));
        }
    }
    Ok(readers)
}

fn example_of_readers(key: &str) -> String {
    format!("write {key} = [\"user\", \"@group\"]")
}

fn hosts(key: &str, value: &DeValue<'_>) -> Result<Vec<String>, SettingError> {
    let hosts = texts(value, &example_of_hosts(key))?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match hosts.iter().find(|host| host.is_empty() || !host.chars().all(fits)) {
        None => Ok(hosts),
        Some(host) => {
            let message = format!("names {}, which is not a valid host name", shortened(host));
            Err(invalid_value(message, example_of_hosts(key)))
        }
    }
}

fn example_of_hosts(key: &str) -> String {
    format!("write names without a port, like {key} = [\"tokens.example.net\"]")
}

fn endpoints(key: &str, value: &DeValue<'_>) -> Result<Vec<String>, SettingError> {
    let endpoints = texts(value, &example_of_endpoints(key))?;
    if endpoints.is_empty() {
        return Err(invalid_value(
            "must name an endpoint, but is empty",
            example_of_endpoints(key),
        ));
    }
    let mut known = HashMap::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        let number = index + 1;
        let error = match text::endpoint(endpoint) {
            Ok(url) => match known.insert(url, number) {
                None => continue,
                Some(first) => {
                    let message = format!("has the same endpoint as numbers {first} and {number}");
                    return Err(invalid_value(message, "remove one of them"));
                }
            },
            Err(error) => error,
        };
        let message = format!("is a list whose endpoint number {number} {}", error.message);
        return Err(invalid_value(message, error.remedy));
    }
    Ok(endpoints)
}

fn example_of_endpoints(key: &str) -> String {
    format!("write {key} = [\"https://10.0.0.1:2379\", \"https://10.0.0.2:2379\"]")
}

fn events(key: &str, value: &DeValue<'_>) -> Result<Vec<String>, SettingError> {
    let events = texts(value, &example_of_events(key))?;
    let known = || EventName::ALL.iter().map(|name| name.as_str());
    match events.iter().find(|event| EventName::named(event).is_none()) {
        None if events.is_empty() => {
            Err(invalid_value("must name an event, but is empty", example_of_events(key)))
        }
        None => Ok(events),
        Some(event) => {
            let message = format!("names {}, but there is no such event", shortened(event));
            let remedy = match suggest(event, known()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => {
                    format!("write names of events: {}", known().collect::<Vec<_>>().join(", "))
                }
            };
            Err(invalid_value(message, remedy))
        }
    }
}

fn example_of_events(key: &str) -> String {
    format!("write {key} = [\"token_replaced\"], or leave the key out")
}

fn token_patterns(key: &str, value: &DeValue<'_>) -> Result<Vec<String>, SettingError> {
    let example = example_of_token_patterns(key);
    let patterns = texts(value, &example)?;
    if patterns.is_empty() || patterns.iter().any(String::is_empty) {
        return Err(invalid_value("must name a token, but is empty", example));
    }
    if let Some(error) = patterns.iter().find_map(|text| NamePattern::parse(text).err()) {
        return Err(invalid_value(error, example));
    }
    if let Some((pattern, error)) =
        patterns.iter().find_map(|text| Some((text, Pattern::new(text).err()?)))
    {
        let message = format!(
            "contains {}, which is not a valid pattern: at character {}, {}",
            shortened(pattern),
            error.pos + 1,
            error.msg
        );
        return Err(invalid_value(message, example));
    }
    Ok(patterns)
}

fn example_of_token_patterns(key: &str) -> String {
    format!("write names, or patterns with `*` and `?`, like {key} = [\"quotes\", \"quotes-*\"]")
}

/// The items of a list that may contain text only.
fn texts(value: &DeValue<'_>, example: &str) -> Result<Vec<String>, SettingError> {
    let texts = value.as_array().into_iter().flatten();
    let texts = texts.map(|text| text.get_ref().as_str().map(str::to_owned));
    texts.collect::<Option<_>>().ok_or_else(|| {
        setting_error(ConfigErrorKind::WrongType, "must contain only text in quotes", example)
    })
}

fn out_of_range(key: &str, kind: Kind, value: &DeValue<'_>) -> SettingError {
    let remedy = match kind {
        Kind::Integer(min, _) => format!("write a number within these, like {key} = {min}"),
        _ => format!("write a number within these, like {key} = 0.5"),
    };
    invalid_value(format!("must be {}, but is {}", expected(kind), described(kind, value)), remedy)
}

fn wrong_type(key: &str, kind: Kind, value: &DeValue<'_>) -> SettingError {
    let remedy = match (kind, value) {
        (Kind::Duration(..), DeValue::Integer(number)) => {
            format!("write {key} = \"{number}s\" if these are seconds")
        }
        (Kind::Duration(..), DeValue::Float(number)) => {
            format!("write {key} = \"{number}s\" if these are seconds")
        }
        (Kind::Duration(..), _) => format!("write {key} = \"90s\""),
        (Kind::Integer(..) | Kind::Fraction | Kind::OpenFraction, DeValue::String(text))
            if text.trim().parse::<f64>().is_ok() =>
        {
            format!("remove the quotes: {key} = {}", text.trim())
        }
        (Kind::Integer(min, _), _) => format!("write a whole number, like {key} = {min}"),
        (Kind::Fraction | Kind::OpenFraction, _) => format!("write a number, like {key} = 0.5"),
        (Kind::Boolean, _) => format!("write {key} = true or {key} = false, without quotes"),
        (Kind::Command, _) => {
            format!("write {key} = [\"/path/to/program\", \"argument\"]")
        }
        (Kind::MaintenanceWindows, _) => example_of_windows(key),
        (Kind::Readers, _) => example_of_readers(key),
        (Kind::Hosts, _) => example_of_hosts(key),
        (Kind::Endpoints, _) => example_of_endpoints(key),
        (Kind::Events, _) => example_of_events(key),
        (Kind::TokenPatterns, _) => example_of_token_patterns(key),
        (Kind::Parameter, _) => {
            format!("write {key} = {{ file = \"/path\" }}, or {key} = \"...\" if it is no secret")
        }
        (Kind::Choice(words), _) => format!("write {key} = {:?}", words[0]),
        _ => format!("write it in quotes: {key} = \"...\""),
    };
    let message = format!("must be {}, but is {}", expected(kind), described(kind, value));
    setting_error(ConfigErrorKind::WrongType, message, remedy)
}

fn described(kind: Kind, value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if kind.may_be_shown() => format!("the text {}", shortened(text)),
        DeValue::String(_) => "text".to_owned(),
        DeValue::Integer(number) if kind.may_be_shown() => number.to_string(),
        DeValue::Float(number) if kind.may_be_shown() => number.to_string(),
        DeValue::Integer(_) | DeValue::Float(_) => "a number".to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
