//! The shapes of the answers, as both ends know them. Described in docs/openapi.json.
//!
//! Names and values are a stable interface. Times are whole milliseconds from the answer on:
//! a life that has passed is a negative number.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::clock;

/// How many tokens are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// All of them.
    pub total: usize,
    /// The last answer said that they live.
    pub alive: usize,
    /// They live, but the last call came to no conclusion.
    pub retrying: usize,
    /// A person has paused them.
    pub paused: usize,
    /// No answer yet, or none before the reported end.
    pub unverified: usize,
    /// The server says that they have expired.
    pub expired: usize,
    /// The server does not know them, or they were revoked.
    pub rejected: usize,
    /// They have no value.
    pub missing: usize,
}

/// One token at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Its name.
    pub name: String,
    /// Its server's name.
    pub server: String,
    /// The inventory that brought it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inventory: Option<String>,
    /// One word for how it is: a field of [`Counts`].
    pub state: String,
    /// Time until the end that the server has reported; negative once that has passed.
    pub remaining_ms: Option<i64>,
    /// A whole life.
    pub life_ms: Option<u64>,
    /// Time since the answer that said so.
    pub last_check_ms: Option<u64>,
    /// Time until it is asked about; `None` while that is under way, or not planned.
    pub next_check_ms: Option<u64>,
    /// Something is under way for it.
    pub busy: bool,
    /// The call that is known to renew tokens of its server: `query` or `renew`.
    pub renews_by: Option<String>,
}

/// Tokens, a page of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// All tokens, whatever was asked for.
    pub counts: Counts,
    /// How many fit what was asked for; `None` where that was not counted.
    pub matched: Option<usize>,
    /// Those on this page.
    pub tokens: Vec<TokenView>,
    /// What the next page is asked for by; `None` on the last.
    pub next: Option<String>,
    /// The last reload failed, or a part of the configuration is missing since the start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub config_rejected: Option<ConfigRejection>,
}

/// One token in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// The token at a glance.
    #[serde(flatten)]
    pub token: TokenView,
    /// Where its value comes from: the path of a file, `credential NAME` or `$VARIABLE`; `None` for
    /// a line of an inventory.
    #[serde(default)]
    pub source: Option<String>,
    /// The time between the planned check and the reported end.
    pub retry_room_ms: Option<u64>,
    /// Failures in a row.
    pub failures: u16,
    /// How it gets a new value; `None`: not at all.
    pub reauth: Option<ReauthView>,
    /// What has happened to it lately but routine checks, the oldest first.
    pub events: Vec<EventView>,
}

/// A token's way to a new value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReauthView {
    /// Its name.
    pub name: String,
    /// Attempts that are left in this window.
    pub attempts_left: u32,
    /// Attempts in a window.
    pub max_attempts: u32,
    /// Time until the next attempt; `None` where none is planned.
    pub next_attempt_ms: Option<u64>,
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// When, as RFC 3339 in UTC.
    pub at: String,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// The event's name, as in the log.
    pub event: String,
    /// The same for people, with the reason.
    pub message: String,
}

/// How the daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The daemon's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// How long it has been running.
    pub uptime_ms: u64,
    /// All tokens.
    pub counts: Counts,
    /// The servers, by name.
    pub servers: Vec<ServerView>,
    /// The last reload failed, or a part of the configuration is missing since the start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub config_rejected: Option<ConfigRejection>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// Its name.
    pub name: String,
    /// Tokens that depend on it.
    pub tokens: usize,
    /// Whether it answers, as far as is known.
    pub available: bool,
    /// How long it wants to be left alone.
    pub quiet_ms: u64,
    /// The call that is known to renew its tokens: `query` or `renew`.
    pub renews_by: Option<String>,
}

/// The configuration on disk is not the one that the daemon runs by: it was rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRejection {
    /// When, as RFC 3339 in UTC.
    pub at: Timestamp,
    /// Why.
    pub error: String,
}

impl fmt::Display for ConfigRejection {
    /// With the local time of day, and the date if it was not today.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [at, now] = [self.at, clock::wall_clock()].map(|at| at.to_zoned(TimeZone::system()));
        let format = if at.date() == now.date() { "%H:%M" } else { "%F %H:%M" };
        write!(f, "configuration on disk rejected at {}", at.strftime(format))
    }
}

/// What came of reading the configuration again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reloaded {
    /// Whether it holds; if not, the old one goes on whole.
    pub applied: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// Names that are new; the first 20 and the number of others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub added: Option<String>,
    /// Names that are gone, likewise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub removed: Option<String>,
    /// Names that have changed, likewise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub changed: Option<String>,
    /// Settings that hold after a restart only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub needs_restart: Option<String>,
    /// The configuration says what it said before.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub unchanged: bool,
}

/// A reload that has not ended yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloading {
    /// What is asked by for its end.
    pub number: u64,
}

/// In which order tokens are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The worst first, then those that end first. Each page looks at all tokens.
    #[default]
    Worst,
    /// As they come: for all of them, one page after the other.
    Any,
}

/// Which tokens are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listing {
    /// Only those whose names fit this pattern: `*` is any text, `?` any character.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Only those in one of these states, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// In this order.
    pub order: Order,
    /// What the page before has said; the rest of the query is to be the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// At most so many, 1 to 1000.
    pub limit: Option<usize>,
}
