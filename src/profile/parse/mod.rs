//! Parses a profile: the TOML table becomes the model, or all its errors are returned.
//!
//! `request` and `rule` parse the parts; what has to fit together is checked here.

mod request;
mod rule;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::keys::{CALL, CALLS, PROFILE, RENEWALS, UNITS};
use super::model::{Call, Death, Deferral, Profile, Request, RequestBody, Unit};
use super::place::Place;
use super::raw::ProfileErrorKind::{Conflict, Missing};
use super::raw::{Errors, ProfileError, RawTable};
use super::template::{Placeholder, Template};
use crate::duration;
use crate::lifecycle::Renewal;
use crate::similarity::suggest;
use crate::text::shortened;

use request::Pairs;

/// The life that a success may be good for. Shorter ones would be a storm of requests.
const ASSUMED: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);

/// Parses the table of the profile `name`.
///
/// # Errors
///
/// All errors of the profile.
///
/// ```
/// use tokenkeep::profile::parse;
///
/// let table = toml::from_str(
///     "query = { request = 'GET session/{token}', life = 'ttl', unit = 's' }",
/// )
/// .unwrap();
/// assert!(parse("mine", &table).is_ok());
/// let errors = parse("mine", &toml::Table::new()).unwrap_err();
/// assert!(errors[0].to_string().starts_with("the profile has neither `query` nor `renew`"));
/// ```
pub fn parse(name: &str, table: &toml::Table) -> Result<Profile, Vec<ProfileError>> {
    let (raw, mut errors) = (RawTable::profile(table), Errors::default());
    raw.reject_unknown(PROFILE, &mut errors);
    let assume = assume(&raw, &mut errors);
    let detail = rule::place(&raw, "detail", &mut errors);
    let renewals = [Renewal::Auto, Renewal::Query, Renewal::Renew];
    let renewal = raw.choice("renewal", RENEWALS, renewals, &mut errors);
    let defaults = Shared::read(&raw, &mut errors);
    let context = Context {
        raw: &raw,
        defaults: &defaults,
        is_assumed: raw.has("assume"),
        is_valid: errors.count() == 0,
    };
    let [query, renew, login, revoke] = [0, 1, 2, 3].map(|at| context.call(CALLS[at], &mut errors));
    if !raw.has("query") && !raw.has("renew") {
        let message = "has neither `query` nor `renew`, so no token can be kept alive with it";
        let remedy = "add query = { request = \"GET ...\", life = \"PLACE\", unit = \"s\" }";
        errors.add(Missing, "", message, remedy);
    }
    let missing = match renewal {
        Some(Renewal::Query) => "query",
        Some(Renewal::Renew) => "renew",
        Some(Renewal::Auto) | None => "",
    };
    if !missing.is_empty() && !raw.has(missing) {
        let message = format!("is {missing:?}, but the profile has no `{missing}`");
        errors.add(Conflict, "renewal", message, format!("remove it, or add `{missing}`"));
    }
    if errors.count() == 0 {
        let once = once(&raw, renew.as_ref());
        let renewal = renewal.unwrap_or_default();
        let name = name.to_owned();
        let profile = Profile { name, query, renew, login, revoke, renewal, assume, once, detail };
        reject_ineffective(&raw, &profile, &mut errors);
        if errors.count() == 0 {
            return Ok(profile);
        }
    }
    Err(errors.0)
}

fn assume(raw: &RawTable<'_>, errors: &mut Errors) -> Option<Duration> {
    let text = raw.text("assume", errors)?;
    let assumed = duration::parse(text).ok().filter(|life| ASSUMED.contains(life));
    if assumed.is_none() {
        let message = format!("must be a duration from 1s to 365d, but is {}", shortened(text));
        errors.bad_value("assume", message, "write a number with its unit, like assume = \"20m\"");
    }
    assumed
}

/// Whether a renewal is sent only once. By default, if it spends a refresh token.
fn once(raw: &RawTable<'_>, renew: Option<&Call>) -> bool {
    let written = raw.get("renew").and_then(|renew| renew.get("once"));
    written
        .and_then(toml::Value::as_bool)
        .unwrap_or_else(|| renew.is_some_and(|call| call.request.uses_refresh_token()))
}

/// Reports keys of a valid profile that change nothing.
fn reject_ineffective(raw: &RawTable<'_>, profile: &Profile, errors: &mut Errors) {
    let checks = [&profile.query, &profile.renew];
    if raw.has("assume") && checks.into_iter().flatten().all(|call| !call.life.is_empty()) {
        let message = "has no effect: every call that is a check has a `life`";
        errors.add(Conflict, "assume", message, "remove it");
    }
    if !profile.renews_with_refresh_token() {
        for call in CALLS {
            if raw.get(call).is_some_and(|call| call.get("refresh").is_some()) {
                let message = "has no effect: `renew` does not send {refresh}";
                let remedy = "remove it, or send {refresh} in `renew`";
                errors.add(Conflict, format!("{call}.refresh"), message, remedy);
            }
        }
    }
}

/// The keys that a call takes from the profile unless it has them itself.
#[derive(Default, Clone)]
struct Shared {
    headers: Option<Pairs>,
    body: Option<RequestBody>,
    /// User name and password, or nothing.
    basic: Option<Vec<Template>>,
    life: Option<Vec<Place>>,
    unit: Option<Unit>,
    dead: Option<Vec<Death>>,
    later: Option<Vec<Deferral>>,
}

impl Shared {
    fn read(table: &RawTable<'_>, errors: &mut Errors) -> Self {
        let units = [
            Unit::Milliseconds,
            Unit::Seconds,
            Unit::Epoch,
            Unit::EpochMilliseconds,
            Unit::Rfc3339,
        ];
        Self {
            headers: request::headers(table, errors),
            body: request::body(table, errors),
            basic: request::basic(table, errors),
            life: rule::places(table, "life", errors),
            unit: table.choice("unit", UNITS, units, errors),
            dead: rule::dead(table, errors),
            later: rule::later(table, errors),
        }
    }

    fn or(self, defaults: &Self) -> Self {
        let Self { headers, body, basic, life, unit, dead, later } = defaults.clone();
        Self {
            headers: self.headers.or(headers),
            body: self.body.or(body),
            basic: self.basic.or(basic),
            life: self.life.or(life),
            unit: self.unit.or(unit),
            dead: self.dead.or(dead),
            later: self.later.or(later),
        }
    }
}

/// What the calls of a profile have in common.
struct Context<'a> {
    raw: &'a RawTable<'a>,
    defaults: &'a Shared,
    is_assumed: bool,
    /// The keys of the profile itself have no errors. Otherwise one that seems to be missing may
    /// be misspelled.
    is_valid: bool,
}

impl Context<'_> {
    /// The call `name`; `None` also if it has errors.
    fn call(&self, name: &'static str, errors: &mut Errors) -> Option<Call> {
        let example = format!("write {name} = {{ request = \"GET ...\" }}");
        let table = RawTable::new(name.to_owned(), self.raw.get(name)?, &example, errors)?;
        let before = errors.count();
        table.reject_unknown(CALL, errors);
        let request = request::method_and_path(&table, errors);
        if !table.has("request") {
            let remedy = if name == "query" {
                "add request = \"GET ...\"; `query` of a profile is the call that reads the life, \
                 and parameters of a request are written inside of a call"
            } else {
                "add request = \"METHOD PATH\""
            };
            errors.add(Missing, name, "has no `request`", remedy);
        }
        let own = Shared::read(&table, errors);
        let query = request::pairs(&table, "query", errors).unwrap_or_default();
        let endless = rule::place(&table, "endless", errors);
        let alive = rule::alive(&table, errors);
        let value = rule::place(&table, "value", errors);
        let refresh = rule::place(&table, "refresh", errors);
        table.boolean("once", errors);
        reject_useless_keys(name, &table, errors);
        let (method, path) = request?;
        let has_body = method != "GET";
        if !has_body && own.body.is_some() {
            let key = table.key(if table.has("form") { "form" } else { "json" });
            let remedy = "send it as `query`, or use another method";
            errors.add(Conflict, key, "is a body, but a GET request has none", remedy);
        }
        if errors.count() > before || !self.is_valid {
            return None;
        }
        let Shared { headers, body, basic, life, unit, dead, later } = own.or(self.defaults);
        let request = Request {
            method,
            path,
            query,
            headers: headers.unwrap_or_default(),
            body: body.filter(|_| has_body).unwrap_or(RequestBody::Empty),
            basic: basic.and_then(|pair| pair.try_into().ok()),
        };
        let call = Call {
            request,
            life: life.unwrap_or_default(),
            unit: unit.unwrap_or_default(),
            endless,
            alive,
            dead: dead.unwrap_or_default(),
            later: later.unwrap_or_default(),
            value,
            refresh,
        };
        let has_unit = table.has("unit") || self.raw.has("unit");
        self.check_life(name, &call, has_unit, errors);
        check_placeholders(name, &call, errors);
        let has_authorization =
            |(header, _): &(String, Template)| header.eq_ignore_ascii_case("authorization");
        if call.request.basic.is_some() && call.request.headers.iter().any(has_authorization) {
            let message = "sends both `basic` and the header field Authorization";
            let remedy = "keep one of the two; basic = [] in a call means none";
            errors.add(Conflict, name, message, remedy);
        }
        if name == "login" && call.value.is_none() {
            let remedy = "add value = \"PLACE\", where the response has the new token";
            errors.add(Missing, name, "has no `value`", remedy);
        }
        Some(call)
    }

    /// Checks that a success of a call tells how long the token lives.
    fn check_life(&self, name: &str, call: &Call, has_unit: bool, errors: &mut Errors) {
        if name != "revoke" && !call.life.is_empty() && !has_unit {
            let remedy = "add unit = \"s\", or \"ms\", \"epoch\", \"epoch_ms\", \"rfc3339\"";
            errors.add(Missing, name, "has a `life`, but no `unit`", remedy);
        }
        if !matches!(name, "query" | "renew") || !call.life.is_empty() {
            return;
        }
        if !self.is_assumed {
            let message = "has no `life`, so a success does not say how long the token lives";
            let remedy = "add life = \"PLACE\" and unit; if the API reports no life, add \
                          assume = \"20m\" to the profile: what a success is good for";
            errors.add(Missing, name, message, remedy);
        } else if call.alive.is_none() {
            let message = "has no `alive`, and its life is assumed: a proxy's success would count \
                           as the API's";
            let remedy = "add alive = { at = \"PLACE\", is = \"...\" }: what only the API writes, \
                          and only for a living token";
            errors.add(Missing, name, message, remedy);
        }
    }
}

/// Reports keys that change nothing in the call `name`.
fn reject_useless_keys(name: &str, table: &RawTable<'_>, errors: &mut Errors) {
    let useless: &[&str] = match name {
        "query" => &["value", "refresh", "once"],
        "login" => &["once"],
        "revoke" => &["life", "unit", "endless", "value", "refresh", "once"],
        _ => &[],
    };
    for key in useless.iter().filter(|key| table.has(key)) {
        let remedy = match (name, *key) {
            ("query", "value" | "refresh") => {
                "remove it; a call that returns a new value belongs under `renew`"
            }
            _ => "remove it",
        };
        errors.add(Conflict, table.key(key), format!("has no effect in `{name}`"), remedy);
    }
}

/// Checks that the call `name` sends only what exists, and something of the token.
fn check_placeholders(name: &str, call: &Call, errors: &mut Errors) {
    for (placeholder, text, calls, message, remedy) in [
        (
            Placeholder::Token,
            "{token}",
            &["query", "renew", "revoke"][..],
            "which exists only after the login",
            "remove it; a login that must not have the profile's `headers` has headers = {}",
        ),
        (
            Placeholder::Refresh,
            "{refresh}",
            &["renew"],
            "which is sent only to renew",
            "use {token}, or move it to `renew`",
        ),
        (
            Placeholder::Minutes,
            "{minutes}",
            &["login"],
            "which is a key of the [reauth.NAME] that logs in",
            "remove it, or use a parameter of `with`",
        ),
    ] {
        if !calls.contains(&name) && call.placeholders().any(|used| *used == placeholder) {
            errors.bad_value(name, format!("uses {text}, {message}"), remedy);
        }
    }
    let names_token =
        |used: &Placeholder| matches!(used, Placeholder::Token | Placeholder::Refresh);
    if name != "login"
        && !call.request.templates().into_iter().flat_map(Template::placeholders).any(names_token)
    {
        let message = "sends neither {token} nor {refresh}, so its response says nothing about a \
                       token";
        let near = call.parameters().into_iter().find_map(|used| {
            suggest(used, ["token", "refresh"]).map(|near| (used.to_owned(), near))
        });
        let remedy = match near {
            Some((used, near)) => format!("it sends {{{used}}}: did you mean {{{near}}}?"),
            None => "add {token} to the path, `query`, `headers`, `form`, `json` or `basic`".into(),
        };
        errors.add(Missing, name, message, remedy);
    }
}
