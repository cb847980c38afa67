//! The state of the tokens in one sentence, for the terminal and the page.
//!
//! Pure. A sentence consists of parts, because each client formats times itself: in its own time
//! zone, and relative to its own present. What a client may not see is not in the facts either.

mod sentence;

use serde::{Deserialize, Serialize};

use self::sentence::Sentence;
use crate::lifecycle::State;

/// A sentence, or a few of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Whether an operator must act.
    pub level: Level,
    /// The parts, which are joined without spaces.
    pub parts: Vec<Part>,
}

/// How bad the state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// All tokens are alive.
    #[default]
    Ok,
    /// Nothing has been lost so far.
    Warn,
    /// A token is not alive, or a server is unavailable.
    Error,
}

/// One part of a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Part {
    /// Text.
    Text(String),
    /// The name of a token.
    Token {
        /// The name.
        token: String,
    },
    /// A time of day.
    At {
        /// Unix time in milliseconds.
        at_ms: i64,
    },
    /// A time span, such as `18 min`, until a moment in the future.
    In {
        /// Milliseconds from the response to that moment.
        in_ms: u64,
    },
}

/// How urgently a token needs an operator, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    /// Dead or missing, and only an operator can replace the value.
    NeedsOperator,
    /// Dead or missing, with a `reauth`.
    Dead,
    /// Unverified: no check has succeeded since before the last known expiry.
    Lapsed,
    /// Unverified: no check has succeeded yet, and the last one failed.
    Failing,
    /// Unverified: there was no response yet.
    Unchecked,
    /// Alive, but neither a renewal nor a `reauth` will keep it so.
    RunsOut,
    /// Alive, but the last check failed.
    Retrying,
    /// Paused by an operator.
    Paused,
    /// Alive.
    Alive,
    /// Checked by another replica.
    Elsewhere,
}

impl Concern {
    /// Number of variants.
    pub const COUNT: usize = Self::Elsewhere as usize + 1;

    const ALL: [Self; Self::COUNT] = [
        Self::NeedsOperator,
        Self::Dead,
        Self::Lapsed,
        Self::Failing,
        Self::Unchecked,
        Self::RunsOut,
        Self::Retrying,
        Self::Paused,
        Self::Alive,
        Self::Elsewhere,
    ];
}

/// What the sentence about all tokens is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Number of tokens of each [`Concern`].
    pub counts: [usize; Concern::COUNT],
    /// The most urgent tokens, in order. They may have changed since they were counted.
    pub first: Vec<TokenFacts>,
    /// Milliseconds until the next check of any token.
    pub next_check_ms: Option<u64>,
    /// The servers that are unavailable.
    pub outages: Vec<OutageFacts>,
    /// Why nothing can be spent, if this daemon is a replica and etcd cannot be used.
    pub no_etcd: Option<NoEtcdFacts>,
}

impl Facts {
    fn count(&self, concern: Concern) -> usize {
        self.counts[concern as usize]
    }

    /// The most urgent concern of any token.
    fn main_concern(&self) -> Concern {
        let main = Concern::ALL.into_iter().find(|concern| self.count(*concern) > 0);
        main.unwrap_or(Concern::Alive)
    }
}

/// An unavailable server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutageFacts {
    /// Its name.
    pub server: String,
    /// Since when, in Unix time in milliseconds.
    pub since_ms: Option<i64>,
    /// The error.
    pub reason: Option<String>,
    /// Number of its tokens.
    pub tokens: usize,
}

/// etcd cannot be used: logins, renewals that can be sent once, and revocations wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoEtcdFacts {
    /// Since when, in Unix time in milliseconds.
    pub since_ms: Option<i64>,
    /// The error.
    pub reason: Option<String>,
    /// Number of tokens that wait.
    pub held: usize,
}

/// What the remaining life of a token is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LifeBasis {
    /// The server reported it.
    #[default]
    Reported,
    /// The API reports no life: it is assumed.
    Assumed,
    /// The server reported that the token does not expire.
    Endless,
}

/// What the sentence about one token is made of.
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFacts {
    /// Its name; `None` if names are hidden.
    pub name: Option<String>,
    /// How urgent it is.
    pub concern: Concern,
    /// Its state.
    pub state: State,
    /// When it expires, or when its last known expiry was.
    pub expiry: Option<When>,
    /// What `expiry` is based on.
    pub basis: LifeBasis,
    /// When it was found dead or missing, in Unix time in milliseconds.
    pub died_at_ms: Option<i64>,
    /// It is rejected because an operator revoked it.
    pub was_revoked: bool,
    /// It has been seen alive, so that the time when it was found dead is close to its expiry.
    pub was_alive: bool,
    /// No permitted request renews it.
    pub is_unrenewed: bool,
    /// The last check failed.
    pub is_failing: bool,
    /// Milliseconds until its next check.
    pub next_check_ms: Option<u64>,
    /// Where a new value comes from.
    pub source: ValueOrigin,
    /// Its re-authentication.
    pub reauth: Option<ReauthFacts>,
    /// The replica that checks it, if that is another one.
    pub elsewhere: Option<ElsewhereFacts>,
}

/// Another replica checks the token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ElsewhereFacts {
    /// Its name; `None` if names are hidden.
    pub replica: Option<String>,
    /// Time until this replica takes over if that one fails, in milliseconds; `None` if it cannot.
    pub take_over_ms: Option<u64>,
}

/// A moment, as time of day and relative to the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    /// Unix time in milliseconds.
    pub at_ms: i64,
    /// Milliseconds from the response; negative in the past.
    pub in_ms: i64,
}

/// Where an operator puts a new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueOrigin {
    /// Not shown to this client.
    Hidden,
    /// A file, which is watched.
    File(String),
    /// A credential or an environment variable, which only a restart replaces.
    Service(String),
    /// An inventory.
    Inventory(String),
}

/// The re-authentication of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReauthFacts {
    /// An attempt is in progress.
    pub is_running: bool,
    /// The next attempt.
    pub next: Option<When>,
    /// Attempts left in this window.
    pub attempts_left: u32,
    /// Maximum attempts per window.
    pub max_attempts: u32,
}

/// The sentence about all tokens.
pub fn summarize(facts: &Facts) -> Summary {
    let mut sentence = Sentence::default();
    for outage in facts.outages.iter().take(1) {
        sentence.outage(outage, facts.outages.len() - 1);
    }
    if let Some(no_etcd) = &facts.no_etcd {
        sentence.no_etcd(no_etcd);
    }
    let elsewhere = facts.count(Concern::Elsewhere);
    let here = facts.counts.iter().sum::<usize>() - elsewhere;
    match (&facts.first[..], here) {
        (_, 0) if elsewhere > 0 => sentence.all_elsewhere(&facts.first, elsewhere),
        ([], 0) => sentence.text("No token is configured. Add one with `tokenkeep add NAME`."),
        ([token], 1) if elsewhere == 0 => sentence.token_summary(token),
        _ => sentence.most_urgent(facts, here),
    }
    let worst = level(facts.main_concern());
    let is_out = !facts.outages.is_empty() || facts.no_etcd.is_some();
    let level = if is_out { Level::Error } else { worst };
    Summary { level, parts: sentence.parts }
}

/// The sentence about one token: its state, until when, and what happens next.
pub fn summarize_token(token: &TokenFacts) -> Summary {
    let mut sentence = Sentence::default();
    sentence.token_summary(token);
    Summary { level: level(token.concern), parts: sentence.parts }
}

const fn level(concern: Concern) -> Level {
    match concern {
        Concern::NeedsOperator | Concern::Dead | Concern::Lapsed | Concern::Failing => Level::Error,
        Concern::Unchecked | Concern::RunsOut | Concern::Retrying | Concern::Paused => Level::Warn,
        Concern::Alive | Concern::Elsewhere => Level::Ok,
    }
}

#[cfg(test)]
mod tests;
