//! What happens in a world, a line for each thing, for one seed that someone wants to read.

use tokenkeep::cluster::replica::{Key, Output};
use tokenkeep::lifecycle::{Action, Notice, Slot};
use tokenkeep::outcome::Outcome;

use crate::api::Value;
use crate::chance::{Ms, SECOND};
use crate::etcd::Change;
use crate::host::{key_of, token_of};
use crate::plan::Plan;

/// Prints, or does not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace {
    on: bool,
    /// The only token that is told of; `None` for all.
    only: Option<usize>,
    /// Nothing is told before this moment.
    from: Ms,
}

impl Trace {
    pub(crate) const OFF: Self = Self { on: false, only: None, from: 0 };

    pub(crate) const fn on(only: Option<usize>, from: Ms) -> Self {
        Self { on: true, only, from }
    }

    fn tells(&self, now: Ms, token: usize) -> bool {
        self.on && now >= self.from && self.only.is_none_or(|only| only == token)
    }

    pub(crate) fn world(&self, plan: &Plan) {
        if self.on {
            println!("{plan:#?}");
        }
    }

    pub(crate) fn event(&self, now: Ms, what: impl FnOnce() -> String) {
        if self.on && now >= self.from {
            line(now, &what());
        }
    }

    /// A replica wants something done or reports it.
    pub(crate) fn replica(&self, now: Ms, host: usize, output: &Output) {
        let key = match output {
            Output::NewValue { token, .. }
            | Output::Published { token, .. }
            | Output::Counted(token, _) => Some(token.clone()),
            Output::Commit(_, transaction) => {
                let of_token = |key: &Key| match key {
                    Key::Value(token) | Key::Claim(token) | Key::Count(token) => {
                        Some(token.clone())
                    }
                    Key::Paused(_) | Key::Meta | Key::Member(_) => None,
                };
                transaction.expected.iter().find_map(|(key, _)| of_token(key))
            }
            Output::Beat { put: None } => return,
            _ => None,
        };
        if key.is_none_or(|key| self.tells(now, token_of(&key))) && self.on && now >= self.from {
            let output = format!("{output:?}");
            let output = output.chars().take(600).collect::<String>();
            line(now, &format!("host {host} <= {output}"));
        }
    }

    /// A key of etcd has changed.
    pub(crate) fn change(&self, now: Ms, change: &Change) {
        let token = match &change.entry.key {
            Key::Value(token) | Key::Claim(token) | Key::Count(token) | Key::Paused(token) => {
                token_of(token)
            }
            Key::Meta | Key::Member(_) => self.only.unwrap_or(0),
        };
        if self.tells(now, token) {
            let entry = format!("{:?}", change.entry);
            let entry = entry.chars().take(300).collect::<String>();
            line(now, &format!("etcd: {entry} (before: {})", change.before));
        }
    }

    pub(crate) fn asks(&self, now: Ms, host: usize, token: usize, asks: bool) {
        if self.tells(now, token) {
            line(now, &format!("host {host}, {}: asks: {asks}", key_of(token).as_str()));
        }
    }

    pub(crate) fn action(&self, now: Ms, host: usize, token: usize, action: Action) {
        if self.tells(now, token) {
            line(now, &format!("host {host}, token {token} -> {action:?}"));
        }
    }

    pub(crate) fn notice(&self, now: Ms, host: usize, token: usize, notice: &Notice) {
        if self.tells(now, token) {
            line(now, &format!("host {host}, token {token}    {notice:?}"));
        }
    }

    pub(crate) fn spends(&self, now: Ms, host: usize, token: usize, takes: Ms) {
        if self.tells(now, token) {
            line(now, &format!("API: host {host} spends for token {token}, {takes} ms"));
        }
    }

    pub(crate) fn answer(&self, now: Ms, host: usize, token: usize, slot: Slot, outcome: &Outcome) {
        if self.tells(now, token) {
            line(now, &format!("host {host}, token {token} <- {slot:?}: {outcome:?}"));
        }
    }

    pub(crate) fn login(&self, now: Ms, host: usize, token: usize, value: Option<Value>) {
        if self.tells(now, token) {
            line(now, &format!("host {host}, token {token} <- login: {value:?}"));
        }
    }
}

fn line(now: Ms, what: &str) {
    println!("{:>9}.{:03} {what}", now / SECOND, now % SECOND);
}
