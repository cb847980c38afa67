//! The wording of the sentences.

use super::{
    Concern, Facts, LifeBasis, NoEtcdFacts, OutageFacts, Part, TokenFacts, ValueOrigin, When,
};
use crate::lifecycle::State;
use crate::text::{format_millis, group_digits};

/// Parts of a sentence that is being written.
#[derive(Default)]
pub(super) struct Sentence {
    pub(super) parts: Vec<Part>,
}

impl Sentence {
    pub(super) fn text(&mut self, text: &str) {
        match self.parts.last_mut() {
            Some(Part::Text(before)) => before.push_str(text),
            _ => self.parts.push(Part::Text(text.to_owned())),
        }
    }

    /// The name, or "a token" if it is hidden.
    fn name(&mut self, token: &TokenFacts) {
        match &token.name {
            Some(name) => self.parts.push(Part::Token { token: name.clone() }),
            None => self.text("a token"),
        }
    }

    /// `{before} 14:05`, if the time is known.
    fn at(&mut self, before: &str, at_ms: Option<i64>) {
        if let Some(at_ms) = at_ms {
            self.text(before);
            self.text(" ");
            self.parts.push(Part::At { at_ms });
        }
    }

    /// `{before} 14:05 (in 29 min)`, or without the span if the moment has passed.
    fn when(&mut self, before: &str, when: When) {
        self.at(before, Some(when.at_ms));
        if let Ok(in_ms @ 1..) = u64::try_from(when.in_ms) {
            self.text(" (in ");
            self.parts.push(Part::In { in_ms });
            self.text(")");
        }
    }

    pub(super) fn outage(&mut self, outage: &OutageFacts, others: usize) {
        self.text(&format!("Server {} ", outage.server));
        self.text(if outage.since_ms.is_some() {
            "has been unavailable"
        } else {
            "is unavailable"
        });
        self.at(" since", outage.since_ms);
        if let Some(reason) = &outage.reason {
            self.text(&format!(": {reason}"));
        }
        self.text(
            match outage.tokens {
                1 => ". 1 token waits for it. ".to_owned(),
                tokens => format!(". {} tokens wait for it. ", group_digits(tokens)),
            }
            .as_str(),
        );
        match others {
            0 => {}
            1 => self.text("1 more server is unavailable. "),
            more => self.text(&format!("{} more servers are unavailable. ", group_digits(more))),
        }
    }

    pub(super) fn no_etcd(&mut self, no_etcd: &NoEtcdFacts) {
        match (no_etcd.since_ms, &no_etcd.reason) {
            // It may be reachable: it has not responded since the start.
            (None, Some(reason)) => self.text(reason),
            (since_ms, reason) => {
                self.text("etcd cannot be used");
                self.at(" since", since_ms);
                if let Some(reason) = reason {
                    self.text(&format!(": {reason}"));
                }
            }
        }
        self.text(
            match no_etcd.held {
                0 => ". Checks continue; logins would wait for it. ".to_owned(),
                1 => ". Checks continue; the login of 1 token waits for it. ".to_owned(),
                held => {
                    format!(
                        ". Checks continue; the logins of {} tokens wait for it. ",
                        group_digits(held)
                    )
                }
            }
            .as_str(),
        );
    }

    /// No token is checked here: other replicas check all of them.
    pub(super) fn all_elsewhere(&mut self, first: &[TokenFacts], count: usize) {
        match first {
            [token] if count == 1 => self.token_summary(token),
            _ => self.text(&format!("Other replicas check all {} tokens.", group_digits(count))),
        }
    }

    /// About the most urgent concern, and the number of tokens with others. `total` tokens are
    /// checked here.
    pub(super) fn most_urgent(&mut self, facts: &Facts, total: usize) {
        let main = facts.main_concern();
        let count = match main {
            // What is said about tokens whose checks fail is true of these as well.
            Concern::Failing => facts.count(main) + facts.count(Concern::Unchecked),
            _ => facts.count(main),
        };
        let here = if facts.count(Concern::Elsewhere) > 0 { " checked here" } else { "" };
        let of = |one: &str, many: &str| {
            let verb = if count == 1 { one } else { many };
            format!("{} of {}{here} {verb}", group_digits(count), group_digits(total))
        };
        let dead = facts.counts[..=Concern::Unchecked as usize].iter().sum::<usize>();
        let alive = total - dead - facts.count(Concern::Paused);
        let alive = match total {
            1 if alive == 1 => format!("The token{here} is alive"),
            _ if alive == total => format!("All {} tokens{here} are alive", group_digits(total)),
            _ => {
                format!("{} of {} tokens{here} are alive", group_digits(alive), group_digits(total))
            }
        };
        let alike: Vec<_> = facts.first.iter().filter(|token| token.concern == main).collect();
        match (main, &alike[..]) {
            (Concern::Alive | Concern::Elsewhere, _) => {
                self.text(&alive);
                self.next_check(facts.next_check_ms);
            }
            (Concern::Failing, [_]) if count == 1 => {
                self.text(&of("is unverified: ", ""));
                self.fates(&alike, count);
            }
            (Concern::Failing, _) => {
                let text = "unverified: no check has succeeded yet";
                self.text(&of(&format!("is {text}"), &format!("are {text}")));
            }
            (Concern::Unchecked, _) => {
                self.text(&of("is unverified: no response yet", "are unverified: no response yet"));
            }
            // The tokens of most concern have changed since they were counted.
            (_, []) => {
                let word = word(main);
                self.text(&of(&format!("is {word}"), &format!("are {word}")));
            }
            (Concern::NeedsOperator | Concern::Dead, [token, ..]) => {
                self.text(&match main {
                    Concern::NeedsOperator => of("needs you: ", "need you: "),
                    _ => of("is not alive: ", "are not alive: "),
                });
                self.fates(&alike, count);
                if count == 1 {
                    self.next_value(token);
                } else if count == alike.len() {
                    self.next_attempt(&alike);
                }
            }
            (Concern::Lapsed, _) => {
                self.text(&of("is unverified: ", "are unverified: "));
                self.fates(&alike, count);
            }
            (Concern::RunsOut, [token, ..]) if count == 1 => {
                self.text(&of("is running out: ", ""));
                self.fates(&alike, count);
                self.text(", and no permitted request renews it");
                self.next_value(token);
            }
            (Concern::RunsOut, [token, ..]) => {
                self.text(&of("", "are running out: no permitted request renews them"));
                self.first_expiry(token);
            }
            (Concern::Retrying, [token, ..]) if count == 1 => {
                self.text(&alive);
                self.text(", but the last check of ");
                self.name(token);
                self.text(" failed");
                self.expiry(
                    token,
                    ["; it expires at", "; its life is assumed until", "; it does not expire"],
                );
            }
            (Concern::Retrying, [token, ..]) => {
                self.text(&alive);
                self.text(&format!(", but the last checks of {} failed", group_digits(count)));
                self.first_expiry(token);
            }
            (Concern::Paused, _) if count == 1 => {
                self.text(&alive);
                self.text("; ");
                self.fates(&alike, count);
            }
            (Concern::Paused, [token, ..]) => {
                self.text(&format!("{alive}; {} are paused", group_digits(count)));
                self.first_expiry(token);
            }
        }
        self.text(".");
        self.others(facts, main);
    }

    /// What happened to these of `count` tokens.
    fn fates(&mut self, tokens: &[&TokenFacts], count: usize) {
        for (index, token) in tokens.iter().enumerate() {
            if index > 0 {
                self.text(if index + 1 == count { " and " } else { ", " });
            }
            self.name(token);
            self.text(" ");
            self.fate(token);
        }
        if let more @ 1.. = count.saturating_sub(tokens.len()) {
            self.text(&format!(" and {} more", group_digits(more)));
        }
    }

    /// What happened to a token, as a predicate.
    fn fate(&mut self, token: &TokenFacts) {
        match (token.state, token.expiry) {
            (State::Missing, _) => {
                self.text("has no value");
                self.at(" since", token.died_at_ms);
            }
            (State::Rejected, _) => {
                self.text(if token.was_revoked { "was revoked" } else { "was rejected" });
                self.at(" at", token.died_at_ms);
            }
            (State::Expired, _) => {
                self.text(if token.was_alive { "expired" } else { "was found expired" });
                self.at(" at", token.died_at_ms);
            }
            (State::Unverified, Some(expiry)) if expiry.in_ms <= 0 => {
                let expiry_name = match token.basis {
                    LifeBasis::Assumed => "assumed expiry",
                    LifeBasis::Reported | LifeBasis::Endless => "expiry",
                };
                self.at(
                    &format!("has had no successful check since before its {expiry_name} at"),
                    Some(expiry.at_ms),
                );
            }
            (State::Unverified, _) if token.is_failing => {
                self.text("has had no successful check yet");
            }
            (State::Unverified, _) => self.text("has had no response yet"),
            (State::Paused, None) => self.text("is paused"),
            (State::Paused, Some(expiry)) if expiry.in_ms <= 0 => {
                self.at("is paused, and its last known expiry was at", Some(expiry.at_ms));
            }
            (State::Paused, Some(_)) => self.expiry(
                token,
                [
                    "is paused and expires at",
                    "is paused, and its life is assumed until",
                    "is paused and does not expire",
                ],
            ),
            (State::Elsewhere, _) => self.checked_elsewhere(token),
            (State::Retrying | State::Alive, None) => self.text("is alive"),
            (State::Retrying | State::Alive, Some(_)) => {
                self.expiry(token, ["expires at", "is assumed to expire at", "does not expire"]);
            }
        }
    }

    /// The sentence about one token.
    pub(super) fn token_summary(&mut self, token: &TokenFacts) {
        match &token.name {
            None => self.text("The token"),
            Some(_) => self.name(token),
        }
        self.text(" ");
        match token.state {
            State::Missing | State::Rejected | State::Expired => {
                self.fate(token);
                self.next_value(token);
            }
            State::Unverified => {
                self.fate(token);
                self.next_check(token.next_check_ms);
            }
            State::Elsewhere => self.checked_elsewhere(token),
            State::Paused => {
                self.fate(token);
                self.text("; `tokenkeep resume");
                if let Some(name) = &token.name {
                    self.text(&format!(" {name}"));
                }
                self.text("` continues its checks");
            }
            State::Retrying | State::Alive => {
                self.text("is alive");
                self.expiry(token, [" until", ", assumed until", " and does not expire"]);
                if token.state == State::Retrying {
                    self.text(", but the last check failed");
                }
                if token.is_unrenewed {
                    self.text(", and no permitted request renews it");
                    self.next_value(token);
                } else {
                    self.next_check(token.next_check_ms);
                }
            }
        }
        self.text(".");
    }

    fn checked_elsewhere(&mut self, token: &TokenFacts) {
        let facts = token.elsewhere.clone().unwrap_or_default();
        let replica = facts.replica.as_deref();
        self.text(&format!("is checked by {}", replica.unwrap_or("another replica")));
        if let Some(time) = facts.take_over_ms {
            let (who, time) = (replica.unwrap_or("that one"), format_millis(time));
            self.text(&format!("; this replica takes over within {time} if {who} fails"));
        }
    }

    /// The expiry, if it is known: after a text for one that the server reported, or one for an
    /// assumed one. The third text is for a token that does not expire.
    fn expiry(&mut self, token: &TokenFacts, [reported, assumed, endless]: [&str; 3]) {
        match (token.expiry, token.basis) {
            (None, _) => {}
            (Some(expiry), LifeBasis::Reported) => self.when(reported, expiry),
            (Some(expiry), LifeBasis::Assumed) => self.when(assumed, expiry),
            (Some(_), LifeBasis::Endless) => self.text(endless),
        }
    }

    fn first_expiry(&mut self, token: &TokenFacts) {
        if token.expiry.is_none() || token.basis == LifeBasis::Endless {
            return;
        }
        if token.name.is_none() {
            let assumed = "; the first is assumed to expire at";
            return self.expiry(token, ["; the first expires at", assumed, ""]);
        }
        self.text("; the first to expire is ");
        self.name(token);
        self.expiry(token, [", at", ", assumed at", ""]);
    }

    fn next_check(&mut self, next_check_ms: Option<u64>) {
        match next_check_ms {
            Some(in_ms @ 1_000..) => {
                self.text("; the next check is in ");
                self.parts.push(Part::In { in_ms });
            }
            Some(_) => self.text("; a check is due now"),
            None => self.text("; a check is in progress"),
        }
    }

    /// How the token gets a new value.
    fn next_value(&mut self, token: &TokenFacts) {
        self.text("; ");
        let Some(reauth) = token.reauth else { return self.put_value(&token.source) };
        let (left, most) = (reauth.attempts_left, reauth.max_attempts);
        match reauth.next {
            _ if reauth.is_running => self.text("re-authentication is in progress"),
            Some(next) if left == 0 => {
                self.when("re-authentication is stopped until", next);
                self.text(&format!(", after {most} attempts; "));
                self.put_value(&token.source);
            }
            Some(next) if next.in_ms > 0 => {
                self.when("the next re-authentication attempt is at", next);
                self.text(&format!(", {left} of {most} attempts left"));
            }
            Some(_) => {
                self.text("re-authentication is about to start");
            }
            // It has a new value that is being checked, or is alive.
            None if matches!(token.state, State::Alive | State::Retrying) => {
                self.text("re-authentication starts when it has expired");
            }
            None => self.text("a new value is being checked"),
        }
    }

    /// When the first of several tokens is re-authenticated.
    fn next_attempt(&mut self, tokens: &[&TokenFacts]) {
        let reauths: Vec<_> = tokens.iter().filter_map(|token| token.reauth).collect();
        let next = reauths.iter().filter_map(|reauth| reauth.next).min_by_key(|next| next.in_ms);
        match next.filter(|next| next.in_ms > 0) {
            Some(next) if reauths.iter().all(|reauth| reauth.attempts_left == 0) => {
                self.when("; re-authentication is stopped until", next);
            }
            Some(next) => self.when("; the next re-authentication attempt is at", next),
            None => {}
        }
    }

    fn put_value(&mut self, source: &ValueOrigin) {
        self.text(&match source {
            ValueOrigin::Hidden => "it needs a new value".to_owned(),
            ValueOrigin::File(path) => format!("put a new token into {path}"),
            ValueOrigin::Service(name) => {
                format!("give {name} a new value and restart tokenkeep")
            }
            ValueOrigin::Inventory(name) => format!("put a new token into the inventory {name}"),
        });
    }

    /// How many tokens have less urgent concerns.
    fn others(&mut self, facts: &Facts, main: Concern) {
        const GROUPS: [&[Concern]; 6] = [
            &[Concern::Dead],
            &[Concern::Lapsed],
            &[Concern::Failing, Concern::Unchecked],
            &[Concern::RunsOut],
            &[Concern::Retrying],
            &[Concern::Paused],
        ];
        let others = GROUPS.iter().filter(|group| group[0] > main);
        let others = others
            .map(|group| (group.iter().map(|concern| facts.count(*concern)).sum(), word(group[0])));
        let others: Vec<_> = others
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{} {word}", group_digits(count)))
            .collect();
        if !others.is_empty() {
            self.text(&format!(" Also: {}.", others.join(", ")));
        }
    }
}

/// What tokens are, as a predicate.
const fn word(concern: Concern) -> &'static str {
    match concern {
        Concern::NeedsOperator => "in need of a new value",
        Concern::Dead => "being re-authenticated",
        Concern::Lapsed => "unverified past the expiry",
        Concern::Failing | Concern::Unchecked => "not verified yet",
        Concern::RunsOut => "not renewed",
        Concern::Retrying => "retrying",
        Concern::Paused => "paused",
        Concern::Alive => "alive",
        Concern::Elsewhere => "checked by other replicas",
    }
}
