//! Tokens of the simulated server, and the rules of the API.
//!
//! Pure: the time since the server's start is an argument, and responses are returned as values.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::behaviour::{Behaviour, Endpoint, RenewsBy, Reports};
use super::fault::Interceptor;

/// A request, as far as the rules need it.
pub(super) struct Call<'a> {
    /// The endpoint; `None` if the path is unknown.
    pub(super) endpoint: Option<Endpoint>,
    pub(super) is_get: bool,
    pub(super) parameters: &'a HashMap<String, String>,
    /// The time of the server's clock.
    pub(super) server_time: Timestamp,
}

impl Call<'_> {
    /// The token value or API key of the request.
    pub(super) fn value(&self) -> Option<&str> {
        let name = if self.endpoint == Some(Endpoint::Login) { "APIKey" } else { "SessionToken" };
        self.parameters.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// An error of the API.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) status: u16,
    pub(super) detail: String,
}

/// The server's state.
pub(super) struct World {
    pub(super) behaviour: Behaviour,
    pub(super) interceptors: Vec<Interceptor>,
    /// Number of values issued by login or rotation; part of the next value.
    given_out: u32,
    /// By value, dead or alive.
    pub(super) tokens: HashMap<String, Token>,
}

pub(super) struct Token {
    /// The full life.
    life: Duration,
    /// The expiry, since the server's start.
    ends: Duration,
    revoked: bool,
}

impl World {
    /// A server without tokens.
    pub(super) fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, interceptors: Vec::new(), given_out: 0, tokens: HashMap::new() }
    }

    /// Handles `call` at `now`. Returns the `Result` or the `Errors` of the envelope.
    pub(super) fn answer(&mut self, call: &Call<'_>, now: Duration) -> Result<Value, Complaint> {
        if self.behaviour.maintenance {
            return Err(complaint(500, "The service is under maintenance"));
        }
        let Some(endpoint) = call.endpoint else {
            return Err(complaint(404, "There is no such endpoint"));
        };
        if !call.is_get {
            return Err(complaint(405, "Method not allowed"));
        }
        let Some(value) = call.value() else {
            return Err(complaint(400, "A required parameter is missing"));
        };
        match endpoint {
            Endpoint::Login => self.log_in(value, call.parameters, now),
            Endpoint::Query => self.query(value, now),
            Endpoint::Renew => self.renew(value, call.server_time, now),
            Endpoint::Revoke => {
                self.living(value, now)?;
                self.revoke(value);
                Ok(json!({ "Status": 200, "Detail": "The session token has been revoked" }))
            }
        }
    }

    pub(super) fn add(&mut self, value: &str, life: Duration, now: Duration) {
        let token = Token { life, ends: now.saturating_add(life), revoked: false };
        self.tokens.insert(value.to_owned(), token);
    }

    pub(super) fn revoke(&mut self, value: &str) {
        if let Some(token) = self.tokens.get_mut(value) {
            token.revoked = true;
        }
    }

    pub(super) fn expire(&mut self, value: &str, now: Duration) {
        if let Some(token) = self.tokens.get_mut(value) {
            token.ends = token.ends.min(now);
        }
    }

    /// The remaining life of a value; `None` if it is unknown or revoked.
    pub(super) fn remaining(&self, value: &str, now: Duration) -> Option<Duration> {
        let token = self.tokens.get(value).filter(|token| !token.revoked)?;
        Some(token.ends.saturating_sub(now))
    }

    fn query(&mut self, value: &str, now: Duration) -> Result<Value, Complaint> {
        let renews = self.behaviour.renews_by == RenewsBy::Query;
        let reported = self.touch(value, renews, now)?;
        Ok(json!({ "Remaining": self.rounded(reported) }))
    }

    fn renew(
        &mut self,
        value: &str,
        server_time: Timestamp,
        now: Duration,
    ) -> Result<Value, Complaint> {
        let renews = self.behaviour.renews_by != RenewsBy::Neither;
        let reported = self.touch(value, renews, now)?;
        let value = if self.behaviour.rotates { self.rotate(value) } else { value.to_owned() };
        Ok(json!({
            "LastActive": server_time.to_string(),
            "SessionToken": value,
            "Remaining": self.rounded(reported),
        }))
    }

    fn log_in(
        &mut self,
        key: &str,
        parameters: &HashMap<String, String>,
        now: Duration,
    ) -> Result<Value, Complaint> {
        let accepted = self.behaviour.api_key.as_ref().map(ExposeSecret::expose_secret);
        if accepted != Some(key) {
            return Err(complaint(401, "The API key is not valid"));
        }
        let minutes: u64 = match parameters.get("Minutes").map_or(Ok(30), |text| text.parse()) {
            Ok(minutes @ 1..=1440) => minutes,
            Ok(_) | Err(_) => return Err(complaint(400, "Minutes must be from 1 to 1440")),
        };
        let life = self.behaviour.login_life.unwrap_or(Duration::from_secs(minutes * 60));
        let value = self.new_value();
        self.add(&value, life, now);
        Ok(json!({ "SessionToken": value, "Remaining": self.rounded(life) }))
    }

    /// Renews a live token if `renews`, and returns the remaining life to report.
    fn touch(&mut self, value: &str, renews: bool, now: Duration) -> Result<Duration, Complaint> {
        let reports = self.behaviour.reports;
        let token = self.living(value, now)?;
        let before = token.ends.saturating_sub(now);
        if renews {
            token.ends = now.saturating_add(token.life);
        }
        Ok(match reports {
            Reports::Before => before,
            Reports::After => token.ends.saturating_sub(now),
        })
    }

    fn living(&mut self, value: &str, now: Duration) -> Result<&mut Token, Complaint> {
        match self.tokens.get_mut(value) {
            None => Err(complaint(401, "The session token is not valid")),
            Some(token) if token.revoked => Err(complaint(401, "The session token was revoked")),
            Some(token) if token.ends <= now => {
                Err(complaint(410, "The session token has expired"))
            }
            Some(token) => Ok(token),
        }
    }

    fn rotate(&mut self, old: &str) -> String {
        let new = self.new_value();
        if let Some(token) = self.tokens.remove(old) {
            self.tokens.insert(new.clone(), token);
        }
        new
    }

    /// A new value, with characters that must be percent-encoded, as in real values.
    fn new_value(&mut self) -> String {
        self.given_out += 1;
        format!("issued-{}/{:016x}+=", self.given_out, fastrand::u64(..))
    }

    fn rounded(&self, life: Duration) -> u64 {
        let millis = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        if self.behaviour.whole_seconds { millis - millis % 1000 } else { millis }
    }
}

fn complaint(status: u16, detail: &str) -> Complaint {
    Complaint { status, detail: detail.to_owned() }
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
