//! What has been simulated, for people to see that it was not nothing.

use std::fmt;
use std::ops::AddAssign;

/// Counts of one world, or of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    short: bool,
    pub(crate) worlds: u64,
    pub(crate) checks: u64,
    pub(crate) checks_on_short_lives: u64,
    pub(crate) token_hours: u64,
    pub(crate) logins: u64,
    pub(crate) runs: u64,
    pub(crate) outages: u64,
    /// Actions that were cancelled, as their token was gone.
    pub(crate) cancelled: u64,
    /// Queries that were sent again after a keep-alive race.
    pub(crate) resent: u64,
    /// Requests that a pooled connection spoilt.
    pub(crate) spoilt: u64,
    pub(crate) inconclusive_logins: u64,
    /// Lives that another boot had known.
    pub(crate) other_boots: u64,
    pub(crate) deaths: u64,
    /// Deaths of values whose server could have kept them alive, by its nature.
    pub(crate) deaths_for_want_of_a_window: u64,
    /// Tokens that stayed alive through bad weather in the time between a check and the expiry.
    pub(crate) narrow_escapes: u64,
    /// Requests for one token within a minute, at the most: with lives under a minute, and over.
    pub(crate) most_in_a_minute: u64,
    pub(crate) most_on_longer_lives: u64,
}

impl Tally {
    pub(crate) fn new(short: bool) -> Self {
        Self { short, worlds: 1, ..Self::default() }
    }

    /// The world is at its end, after this many hours with so many tokens.
    pub(crate) fn close(&mut self, hours: u64, tokens: usize) {
        self.token_hours = hours * u64::try_from(tokens).unwrap_or(0);
        self.checks_on_short_lives = if self.short { self.checks } else { 0 };
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.worlds += other.worlds;
        self.checks += other.checks;
        self.checks_on_short_lives += other.checks_on_short_lives;
        self.token_hours += other.token_hours;
        self.logins += other.logins;
        self.runs += other.runs;
        self.outages += other.outages;
        self.cancelled += other.cancelled;
        self.resent += other.resent;
        self.spoilt += other.spoilt;
        self.inconclusive_logins += other.inconclusive_logins;
        self.other_boots += other.other_boots;
        self.deaths += other.deaths;
        self.deaths_for_want_of_a_window += other.deaths_for_want_of_a_window;
        self.narrow_escapes += other.narrow_escapes;
        self.most_in_a_minute = self.most_in_a_minute.max(other.most_in_a_minute);
        self.most_on_longer_lives = self.most_on_longer_lives.max(other.most_on_longer_lives);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} seeds, {} checks ({} on lives under an hour), {} token-years; \
             {} logins, {} starts of the daemon, {} outages noticed, {} escapes from bad weather, \
             {} deaths ({} for want of a window); at most {} requests for a token in a minute, \
             {} on lives over a minute; {} actions cancelled, {} queries sent again and {} spoilt \
             by pooled connections, {} logins without a conclusion, {} lives of another boot",
            self.worlds,
            self.checks,
            self.checks_on_short_lives,
            self.token_hours / (24 * 365),
            self.logins,
            self.runs,
            self.outages,
            self.narrow_escapes,
            self.deaths,
            self.deaths_for_want_of_a_window,
            self.most_in_a_minute,
            self.most_on_longer_lives,
            self.cancelled,
            self.resent,
            self.spoilt,
            self.inconclusive_logins,
            self.other_boots,
        )
    }
}
