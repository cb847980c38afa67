//! What the API has seen: checks, logins, and which logins were double.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

/// All requests, by the API's clock.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ledger {
    /// The newest value of each token.
    pub(crate) newest: HashMap<String, String>,
    /// The logins, in order of their arrival.
    pub(crate) logins: Vec<Login>,
    /// The checks, in order of their arrival.
    pub(crate) checks: Vec<Check>,
}

/// A login request.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) token: String,
    pub(crate) replica: usize,
    pub(crate) began: Duration,
    /// When the API had sent its response.
    pub(crate) ended: Option<Duration>,
    /// The value that was issued.
    pub(crate) value: Option<String>,
    /// Why it should not have come.
    pub(crate) double: Option<Double>,
}

/// A login that came although it was not due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Double {
    /// Another login for the token was under way.
    Overlaps,
    /// This newest value of the token was alive.
    Alive(String),
}

/// A check.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    pub(crate) token: String,
    pub(crate) replica: usize,
    pub(crate) at: Duration,
    pub(crate) alive: bool,
}

/// What the logins come to.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// All logins.
    pub(crate) logins: usize,
    /// Logins that overlap another one, or whose token had a living value that was stored.
    pub(crate) double: Vec<Login>,
    /// Second logins for one death after the value of the first one was never stored.
    pub(crate) lost: Vec<Login>,
}

impl Ledger {
    /// Records a login, and returns its index. `is_alive`: the newest value of the token is alive.
    pub(crate) fn login_began(
        &mut self,
        token: &str,
        replica: usize,
        now: Duration,
        is_alive: bool,
    ) -> usize {
        let mut others = self.logins.iter().rev().filter(|login| login.token == token);
        let double = if others.any(|login| login.ended.is_none()) {
            Some(Double::Overlaps)
        } else {
            is_alive.then(|| Double::Alive(self.newest[token].clone()))
        };
        let (token, began) = (token.to_owned(), now);
        self.logins.push(Login { token, replica, began, ended: None, value: None, double });
        self.logins.len() - 1
    }

    /// Records a check.
    pub(crate) fn checked(&mut self, token: &str, replica: usize, at: Duration, alive: bool) {
        self.checks.push(Check { token: token.to_owned(), replica, at, alive });
    }

    /// Judges the logins. `stored`: all values that were ever in etcd.
    pub(crate) fn judge(&self, stored: &HashSet<String>) -> Verdict {
        let mut verdict = Verdict { logins: self.logins.len(), ..Verdict::default() };
        for login in &self.logins {
            match &login.double {
                None => {}
                Some(Double::Alive(value)) if !stored.contains(value) => {
                    verdict.lost.push(login.clone());
                }
                Some(_) => verdict.double.push(login.clone()),
            }
        }
        verdict
    }

    /// How many logins there were for this token.
    pub(crate) fn logins_of(&self, token: &str) -> usize {
        self.logins.iter().filter(|login| login.token == token).count()
    }

    /// The replicas that have checked each token in the time `recently` before `at`.
    pub(crate) fn askers(
        &self,
        at: Duration,
        recently: Duration,
    ) -> BTreeMap<String, BTreeSet<usize>> {
        let mut askers: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        let before = self.checks.iter().rev().skip_while(|check| check.at > at);
        for check in before.take_while(|check| check.at + recently > at) {
            askers.entry(check.token.clone()).or_default().insert(check.replica);
        }
        askers
    }

    /// When the tokens were first checked by another replica after `at`; `None`: not all were yet.
    pub(crate) fn taken_over(
        &self,
        tokens: &BTreeSet<String>,
        replica: usize,
        at: Duration,
    ) -> Option<Duration> {
        let mut first: HashMap<&str, Duration> = HashMap::new();
        for check in self.checks.iter().filter(|check| check.at >= at && check.replica != replica) {
            first.entry(&check.token).or_insert(check.at);
        }
        let times = tokens.iter().map(|token| first.get(&**token).copied());
        times.collect::<Option<Vec<_>>>().map(|times| times.into_iter().max().unwrap_or(at))
    }

    /// The tokens that `concerned` accepts and a check found dead.
    pub(crate) fn dead(&self, concerned: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let dead = self.checks.iter().filter(|check| !check.alive && concerned(&check.token));
        dead.map(|check| check.token.clone()).collect()
    }
}
