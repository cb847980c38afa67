//! Model of a validated profile. Defaults of the profile are merged into its calls.

use std::collections::BTreeSet;
use std::time::Duration;

use super::place::Place;
use super::template::{JsonTemplate, Placeholder, Template};
use crate::lifecycle::Renewal;

/// A session API.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Its name: `[profile.NAME]`, or that of a built-in profile.
    pub name: String,
    /// Reads the remaining life. At least one of `query` and `renew` exists.
    pub query: Option<Call>,
    /// Renews the token.
    pub renew: Option<Call>,
    /// Opens a session.
    pub login: Option<Call>,
    /// Ends a session.
    pub revoke: Option<Call>,
    /// The request that is used as the check, unless the server says otherwise.
    pub renewal: Renewal,
    /// The API reports no life: the life that a success is good for.
    pub assume: Option<Duration>,
    /// Whether a renewal may consume the refresh token: never two at a time.
    pub once: bool,
    /// The API's explanation of an error, for people.
    pub detail: Option<Place>,
}

/// A request, and what its responses mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The request.
    pub request: Request,
    /// Places of the remaining life. The earliest expiry counts.
    pub life: Vec<Place>,
    /// The unit of the values at `life`.
    pub unit: Unit,
    /// If there is a null at this place, the token does not expire.
    pub endless: Option<Place>,
    /// A condition that a success must meet too.
    pub alive: Option<Rule>,
    /// Responses that report a dead token. The first rule that matches counts.
    pub dead: Vec<Death>,
    /// Responses that report an error of another kind. They precede `dead`.
    pub later: Vec<Deferral>,
    /// The place of a new value.
    pub value: Option<Place>,
    /// The place of a new refresh token.
    pub refresh: Option<Place>,
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The HTTP method, in capitals.
    pub method: String,
    /// The path below the server's URL, without a leading slash.
    pub path: Template,
    /// Parameters of the query.
    pub query: Vec<(String, Template)>,
    /// Header fields.
    pub headers: Vec<(String, Template)>,
    /// The body.
    pub body: RequestBody,
    /// User name and password of HTTP Basic authentication.
    pub basic: Option<[Template; 2]>,
}

/// The body of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum RequestBody {
    /// None.
    Empty,
    /// `application/x-www-form-urlencoded`.
    Form(Vec<(String, Template)>),
    /// `application/json`.
    Json(JsonTemplate),
}

/// What a number or text at a `life` place means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// Milliseconds from now on.
    #[default]
    Milliseconds,
    /// Seconds from now on.
    Seconds,
    /// Seconds since 1970.
    Epoch,
    /// Milliseconds since 1970.
    EpochMilliseconds,
    /// A date and time as in RFC 3339.
    Rfc3339,
}

/// A condition on a response.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The HTTP status; `None`: any.
    pub status: Option<u16>,
    /// The place whose value is compared.
    pub at: Place,
    /// What the value must be.
    pub condition: Condition,
    /// There must be no value at this place: nothing, null or an empty list. Except in `dead`, an
    /// empty text or object, and lists and objects of nothing else, are no value either.
    pub without: Option<Place>,
}

/// What the value at a place must be. A list meets it if one of its elements does; null never does.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Equal to this. Numbers and numeric strings compare as numbers.
    Is(Scalar),
    /// A text that contains this. Numbers and booleans count as texts. Every value contains the
    /// empty text.
    Has(Template),
}

/// A value to compare with.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// True or false.
    Boolean(bool),
    /// A number.
    Number(f64),
    /// A text, which may have placeholders.
    Text(Template),
}

/// A response that reports a dead token.
#[derive(Debug, Clone, PartialEq)]
pub struct Death {
    /// When.
    pub rule: Rule,
    /// How it died.
    pub means: DeathMeaning,
}

/// How a token died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeathMeaning {
    /// It has expired. Final.
    Expired,
    /// The API does not know it. Final once a second request confirms it.
    Rejected,
}

/// A response that reports an error which says nothing about the token.
#[derive(Debug, Clone, PartialEq)]
pub struct Deferral {
    /// When.
    pub rule: Rule,
    /// What it means.
    pub means: DeferralMeaning,
}

/// What an error means that says nothing about the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeferralMeaning {
    /// The server asks for a pause.
    Throttled,
    /// The server is unavailable.
    Unavailable,
    /// The configuration or the account must be corrected.
    Misconfigured,
}

impl Profile {
    /// Its calls, with their names.
    pub fn calls(&self) -> impl Iterator<Item = (&'static str, &Call)> {
        let Self { query, renew, login, revoke, .. } = self;
        let calls = [("query", query), ("renew", renew), ("login", login), ("revoke", revoke)];
        calls.into_iter().filter_map(|(name, call)| Some((name, call.as_ref()?)))
    }

    /// Whether a renewal sends the refresh token.
    pub fn renews_with_refresh_token(&self) -> bool {
        self.renew.as_ref().is_some_and(|call| call.request.uses_refresh_token())
    }

    /// Whether nothing but a refresh token tells whether a token lives.
    pub fn needs_refresh_token(&self) -> bool {
        self.query.is_none() && self.renews_with_refresh_token()
    }
}

impl Rule {
    /// Whether the rule depends on the body of a response.
    pub fn reads_body(&self) -> bool {
        let mut places = [Some(&self.at), self.without.as_ref()].into_iter().flatten();
        places.any(|place| matches!(place, Place::Body(_)))
    }
}

impl Call {
    /// The placeholders of the request and of the rules.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        let dead = self.dead.iter().map(|death| &death.rule);
        let later = self.later.iter().map(|deferral| &deferral.rule);
        let rules = self.alive.iter().chain(dead).chain(later);
        let compared = rules.filter_map(|rule| match &rule.condition {
            Condition::Is(Scalar::Text(text)) | Condition::Has(text) => Some(text),
            Condition::Is(Scalar::Boolean(_) | Scalar::Number(_)) => None,
        });
        self.request.templates().into_iter().chain(compared).flat_map(Template::placeholders)
    }

    /// The names of the parameters that it needs, from `with`.
    pub fn parameters(&self) -> BTreeSet<&str> {
        let parameters = self.placeholders().filter_map(|placeholder| match placeholder {
            Placeholder::Parameter(name) => Some(&**name),
            Placeholder::Token | Placeholder::Refresh | Placeholder::Minutes => None,
        });
        parameters.collect()
    }
}

impl Request {
    /// All texts that are sent.
    pub fn templates(&self) -> Vec<&Template> {
        let Self { path, query, headers, body, basic, .. } = self;
        let mut templates = vec![path];
        templates.extend(query.iter().chain(headers).map(|(_, value)| value));
        templates.extend(basic.iter().flatten());
        match body {
            RequestBody::Empty => {}
            RequestBody::Form(pairs) => templates.extend(pairs.iter().map(|(_, value)| value)),
            RequestBody::Json(json) => add_texts(json, &mut templates),
        }
        templates
    }

    /// Whether the request contains the refresh token.
    pub fn uses_refresh_token(&self) -> bool {
        self.templates().into_iter().any(Template::uses_refresh_token)
    }
}

/// Adds the texts in `json`.
fn add_texts<'j>(json: &'j JsonTemplate, texts: &mut Vec<&'j Template>) {
    match json {
        JsonTemplate::Object(entries) => {
            for (_, value) in entries {
                add_texts(value, texts);
            }
        }
        JsonTemplate::List(values) => {
            for value in values {
                add_texts(value, texts);
            }
        }
        JsonTemplate::Text(text) => texts.push(text),
        JsonTemplate::Other(_) => {}
    }
}
