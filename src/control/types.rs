//! Request and response types of the control API, shared by server and client. Documented in
//! docs/openapi.json.
//!
//! Names and values are a stable interface. Times are whole milliseconds relative to the response; a
//! remaining life is negative after the expiry.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::cluster::{ClaimView, ClusterStatus};
use super::summary::{LifeBasis, Summary};
use crate::clock;

/// Number of tokens in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// All tokens.
    pub total: usize,
    /// The last response reported the token as alive.
    pub alive: usize,
    /// Alive, but the last check failed.
    pub retrying: usize,
    /// Paused by an operator.
    pub paused: usize,
    /// No check has succeeded yet, or none since before the last known expiry.
    pub unverified: usize,
    /// The server reported that the token has expired.
    pub expired: usize,
    /// The server does not know the token, or the token was revoked.
    pub rejected: usize,
    /// The token has no value.
    pub missing: usize,
    /// Other replicas check the token; `None` without a cluster.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub elsewhere: Option<usize>,
}

/// Summary of one token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// The token's name.
    pub name: String,
    /// The name of its server.
    pub server: String,
    /// The name of its inventory, if it comes from one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inventory: Option<String>,
    /// The state: the name of a field of [`Counts`].
    pub state: String,
    /// Remaining life; negative after the last known expiry.
    pub remaining_ms: Option<i64>,
    /// The token's full life.
    pub life_ms: Option<u64>,
    /// Time since the last response that reported a remaining life.
    pub last_check_ms: Option<u64>,
    /// Time until the next check; `None` while one is in flight, or if none is planned.
    pub next_check_ms: Option<u64>,
    /// Whether an action for the token is in progress.
    pub busy: bool,
    /// The request that renews tokens of its server, if known: `query` or `renew`.
    pub renews_by: Option<String>,
    /// The API reports no life: `remaining_ms` and `life_ms` are assumed.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub assumed: bool,
    /// The server reported that the token does not expire: `remaining_ms` and `life_ms` count from
    /// 366 days.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub endless: bool,
    /// The replica that checks it; only in a cluster.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replica: Option<String>,
    /// The replica that logs in, renews or revokes at present; only in a cluster.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub claim: Option<ClaimView>,
}

impl TokenView {
    /// What its remaining life is based on.
    pub const fn life_basis(&self) -> LifeBasis {
        match (self.endless, self.assumed) {
            (true, _) => LifeBasis::Endless,
            (false, true) => LifeBasis::Assumed,
            (false, false) => LifeBasis::Reported,
        }
    }
}

/// One page of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenPage {
    /// The sentence about all tokens; only in the first page of all tokens, worst first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub summary: Option<Summary>,
    /// Counts of all tokens, regardless of the filter.
    pub counts: Counts,
    /// Number of tokens that match the filter; `None` if they were not counted.
    pub matched: Option<usize>,
    /// The tokens of this page.
    pub tokens: Vec<TokenView>,
    /// Cursor of the next page; `None` on the last page.
    pub next: Option<String>,
    /// The last reload failed, or a part of the configuration is missing since the start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub config_rejected: Option<ConfigRejection>,
    /// The cluster of replicas, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cluster: Option<ClusterStatus>,
}

/// Details of one token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenDetail {
    /// The summary.
    #[serde(flatten)]
    pub token: TokenView,
    /// The sentence about this token.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub summary: Option<Summary>,
    /// The value source: the path of a file, `credential NAME` or `$VARIABLE`; `None` for a line of
    /// an inventory.
    #[serde(default)]
    pub source: Option<String>,
    /// Time between the planned check and the expiry, in which failed checks are retried.
    pub retry_room_ms: Option<u64>,
    /// Consecutive failed requests.
    pub failures: u16,
    /// How the token gets a new value; `None` if it has no `reauth`.
    pub reauth: Option<ReauthView>,
    /// Recent events other than routine checks, oldest first.
    pub events: Vec<EventView>,
}

/// The `reauth` method of a token, and its budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReauthView {
    /// Its name.
    pub name: String,
    /// Attempts left in this window.
    pub attempts_left: u32,
    /// Maximum attempts per window.
    pub max_attempts: u32,
    /// Time until the next attempt; `None` if none is planned.
    pub next_attempt_ms: Option<u64>,
}

/// A recorded event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// When, as RFC 3339 in UTC.
    pub at: String,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// The event's name, as in the log.
    pub event: String,
    /// The message for people, with the error.
    pub message: String,
}

/// Health of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The daemon's version.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Time since the start.
    pub uptime_ms: u64,
    /// All tokens.
    pub counts: Counts,
    /// The servers, by name.
    pub servers: Vec<ServerView>,
    /// The last reload failed, or a part of the configuration is missing since the start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub config_rejected: Option<ConfigRejection>,
    /// The cluster of replicas, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cluster: Option<ClusterStatus>,
}

/// State of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// Its name.
    pub name: String,
    /// Number of its tokens.
    pub tokens: usize,
    /// Whether the server responds, as far as is known.
    pub available: bool,
    /// Remaining time of the pause that the server asked for.
    pub quiet_ms: u64,
    /// The request that renews its tokens, if known: `query` or `renew`.
    pub renews_by: Option<String>,
}

/// The configuration on disk was rejected; the daemon runs with an earlier one.
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

/// Outcome of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reloaded {
    /// Whether the new configuration was applied. If not, the previous one stays active.
    pub applied: bool,
    /// The error, if it was not applied.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// Added names: the first 20 and the number of others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub added: Option<String>,
    /// Removed names, likewise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub removed: Option<String>,
    /// Changed names, likewise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub changed: Option<String>,
    /// Changed settings that take effect after a restart.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub needs_restart: Option<String>,
    /// The configuration has not changed.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub unchanged: bool,
}

/// A reload in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloading {
    /// Its number, for requests that wait for the outcome.
    pub number: u64,
}

/// Order of a list of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Worst state first, then earliest expiry. Each page scans all tokens.
    #[default]
    Worst,
    /// Storage order. The cheapest, for reading all pages.
    Any,
}

/// Query parameters of a list of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListParams {
    /// Only tokens whose names match this pattern: `*` is any text, `?` any character.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Only tokens in one of these states, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The order.
    pub order: Order,
    /// The cursor that the previous page returned. The other parameters must be the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Maximum number of tokens per page, 1 to 1000.
    pub limit: Option<usize>,
}
