//! The keys of a profile, of its calls and of its rules. Also the source of the JSON schema.

/// A key of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) content: Content,
}

/// What a [`Key`] contains.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    /// A table with the keys [`CALL`].
    Call,
    /// A text.
    Text,
    /// A duration with its unit.
    Duration,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// True or false.
    Boolean,
    /// A whole number in this range, both ends included.
    Integer(i64, i64),
    /// A text, a number, true or false.
    Scalar,
    /// A text or a list of texts.
    Places,
    /// A list of two texts, or none.
    Pair,
    /// A table of texts.
    Texts,
    /// Any table.
    Json,
    /// A table with these keys.
    Rule(&'static [Key]),
    /// A list of tables with these keys.
    Rules(&'static [Key]),
}

const fn key(name: &'static str, content: Content) -> Key {
    Key { name, content }
}

/// Names of the calls.
pub(crate) const CALLS: [&str; 4] = ["query", "renew", "login", "revoke"];

/// `renewal`.
pub(crate) const RENEWALS: [&str; 3] = ["auto", "query", "renew"];
/// `unit`.
pub(crate) const UNITS: [&str; 5] = ["ms", "s", "epoch", "epoch_ms", "rfc3339"];
/// `means` of `dead`.
pub(crate) const DEATHS: [&str; 2] = ["expired", "rejected"];
/// `means` of `later`.
pub(crate) const DEFERRALS: [&str; 3] = ["throttled", "unavailable", "misconfigured"];

const HEADERS: Key = key("headers", Content::Texts);
const FORM: Key = key("form", Content::Texts);
const JSON: Key = key("json", Content::Json);
const BASIC: Key = key("basic", Content::Pair);
const LIFE: Key = key("life", Content::Places);
const UNIT: Key = key("unit", Content::Choice(&UNITS));
const DEAD: Key = key("dead", Content::Rules(DEATH));
const LATER: Key = key("later", Content::Rules(DEFERRAL));

/// `[profile.NAME]`. A call has those of its keys that it does not define itself.
pub(crate) const PROFILE: &[Key] = &[
    key("renewal", Content::Choice(&RENEWALS)),
    key("assume", Content::Duration),
    key("detail", Content::Text),
    HEADERS,
    FORM,
    JSON,
    BASIC,
    LIFE,
    UNIT,
    DEAD,
    LATER,
    key(CALLS[0], Content::Call),
    key(CALLS[1], Content::Call),
    key(CALLS[2], Content::Call),
    key(CALLS[3], Content::Call),
];

/// A call: `[profile.NAME.query]` and the like.
pub(crate) const CALL: &[Key] = &[
    key("request", Content::Text),
    key("query", Content::Texts),
    HEADERS,
    FORM,
    JSON,
    BASIC,
    LIFE,
    UNIT,
    key("endless", Content::Text),
    key("alive", Content::Rule(RULE)),
    DEAD,
    LATER,
    key("value", Content::Text),
    key("refresh", Content::Text),
    key("once", Content::Boolean),
];

const STATUS: Key = key("status", Content::Integer(100, 599));
const AT: Key = key("at", Content::Text);
const IS: Key = key("is", Content::Scalar);
const HAS: Key = key("has", Content::Text);
const WITHOUT: Key = key("without", Content::Text);

/// `alive`.
pub(crate) const RULE: &[Key] = &[STATUS, AT, IS, HAS, WITHOUT];
/// `dead`.
pub(crate) const DEATH: &[Key] =
    &[STATUS, AT, IS, HAS, WITHOUT, key("means", Content::Choice(&DEATHS))];
/// `later`.
pub(crate) const DEFERRAL: &[Key] =
    &[STATUS, AT, IS, HAS, WITHOUT, key("means", Content::Choice(&DEFERRALS))];
