//! A look for a page of tokens: what is looked for, and what is found.

use glob::Pattern;

use super::Daemon;
use super::roster::Roster;
use super::worst::{Rank, Worst, rank};
use crate::control::{ApiError, ApiErrorKind, ListParams, Order, Reply, TokenPage};
use crate::lifecycle::{State, TokenSummary};
use crate::scheduler::TokenId;
use crate::time::Moment;

/// The most that one page holds: a millisecond's work to write down.
const LONGEST_PAGE: usize = 1_000;

/// A page without a wish: what people read at once.
const PAGE: usize = 100;

/// One look.
#[derive(Debug)]
pub(super) struct Search {
    wanted: Wanted,
    limit: usize,
    found: Found,
    reply: Reply<TokenPage>,
}

/// Which tokens are looked for.
#[derive(Debug)]
struct Wanted {
    name: Option<Pattern>,
    states: Vec<State>,
}

#[derive(Debug)]
enum Found {
    /// As they come, from a key on.
    Any { from: u32, keys: Vec<u32> },
    /// The worst of all; and how many fit, those of earlier pages included.
    Worst { after: Option<Rank>, worst: Worst, matched: usize },
}

impl Wanted {
    fn parse(listing: &ListParams) -> Result<Self, ApiError> {
        let name = listing.filter.as_deref().map(Pattern::new).transpose();
        let name = name.map_err(|error| bad(&format!("filter: {}", error.msg)))?;
        let mut states = Vec::new();
        for word in listing.state.iter().flat_map(|words| words.split(',')) {
            let state = State::ALL.into_iter().find(|state| state.as_str() == word);
            states.push(state.ok_or_else(|| bad(&format!("there is no state {word:?}")))?);
        }
        Ok(Self { name, states })
    }

    fn fits(&self, state: State, id: TokenId, roster: &Roster) -> bool {
        let named = |name: &Pattern| roster.token(id).is_some_and(|kept| name.matches(kept.name()));
        (self.states.is_empty() || self.states.contains(&state))
            && self.name.as_ref().is_none_or(named)
    }
}

impl Search {
    /// A look for `listing`; what cannot be looked for is answered at once.
    pub(super) fn begin(listing: &ListParams, reply: Reply<TokenPage>) -> Option<Self> {
        let limit = listing.limit.unwrap_or(PAGE);
        let parts = Wanted::parse(listing).and_then(|wanted| {
            if !(1..=LONGEST_PAGE).contains(&limit) {
                return Err(bad(&format!("limit: give a number from 1 to {LONGEST_PAGE}")));
            }
            let cursor = listing.cursor.as_deref();
            let rank = cursor.map(parse_cursor).transpose()?;
            Ok((wanted, rank))
        });
        match parts {
            Ok((wanted, after)) => {
                let found = match listing.order {
                    Order::Any => {
                        let from = after.map_or(0, |(.., key)| key.saturating_add(1));
                        Found::Any { from, keys: Vec::new() }
                    }
                    // One more, to know whether there is a next page.
                    Order::Worst => {
                        Found::Worst { after, worst: Worst::new(limit + 1), matched: 0 }
                    }
                };
                Some(Self { wanted, limit, found, reply })
            }
            Err(problem) => {
                // Whoever asked may have gone.
                let _ = reply.send(Err(problem));
                None
            }
        }
    }

    /// Where it begins, if it goes its own way; `None` where it goes past all tokens.
    pub(super) const fn goes_alone_from(&self) -> Option<u32> {
        match self.found {
            Found::Any { from, .. } => Some(from),
            Found::Worst { .. } => None,
        }
    }

    /// Whether it takes more than a glance at each token.
    pub(super) const fn reads_names(&self) -> bool {
        self.wanted.name.is_some()
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    pub(super) fn see(&mut self, id: TokenId, glance: TokenSummary, roster: &Roster) {
        if !self.wanted.fits(glance.state, id, roster) {
            return;
        }
        match &mut self.found {
            Found::Any { keys, .. } => keys.push(id.key()),
            Found::Worst { after, worst, matched } => {
                *matched += 1;
                let rank = rank(glance, id.key());
                if after.is_none_or(|after| rank > after) {
                    worst.see(rank);
                }
            }
        }
    }

    /// Whether a page is full, so that what follows is for the next one.
    pub(super) const fn is_full(&self) -> bool {
        match &self.found {
            Found::Any { keys, .. } => keys.len() >= self.limit,
            Found::Worst { .. } => false,
        }
    }
}

impl Daemon {
    /// The answer to a look that has come up to the key `next`.
    pub(super) fn conclude_search(&self, search: Search, next: u32) {
        let Search { limit, found, reply, .. } = search;
        let (keys, matched, next) = match found {
            Found::Any { keys, .. } => {
                let last = (State::Alive, Moment::default(), next.saturating_sub(1));
                let cursor = (next < self.scheduler.key_limit()).then(|| write_cursor(last));
                (keys, None, cursor)
            }
            Found::Worst { worst, matched, .. } => {
                let mut ranks = worst.in_order();
                let more = ranks.len() > limit;
                ranks.truncate(limit);
                let cursor = ranks.last().filter(|_| more).map(|last| write_cursor(*last));
                (ranks.into_iter().map(|(.., key)| key).collect(), Some(matched), cursor)
            }
        };
        let ids = keys.iter().filter_map(|key| self.scheduler.id_of(*key));
        let tokens = ids.filter_map(|id| self.view(id)).collect();
        let config_rejected = self.config_rejected.clone();
        let page = TokenPage { counts: self.counts(), matched, tokens, next, config_rejected };
        // Whoever asked may have gone.
        let _ = reply.send(Ok(page));
    }
}

/// `STATE.BOUND.KEY`, where the page before ended.
fn write_cursor((state, bound, key): Rank) -> String {
    format!("{}.{}.{key}", state.as_str(), bound.as_millis())
}

fn parse_cursor(text: &str) -> Result<Rank, ApiError> {
    let mut parts = text.split('.');
    let state =
        parts.next().and_then(|word| State::ALL.into_iter().find(|state| state.as_str() == word));
    let bound = parts.next().and_then(|bound| bound.parse().ok()).map(Moment::from_millis);
    let key = parts.next().and_then(|key| key.parse().ok());
    match (state, bound, key) {
        (Some(state), Some(bound), Some(key)) => Ok((state, bound, key)),
        _ => Err(bad("cursor: give what the page before calls `next`")),
    }
}

fn bad(message: &str) -> ApiError {
    ApiError::new(ApiErrorKind::BadRequest, message)
}

/// For every `listing`: its filter fits the names that it should, and fits each in bounded time; a
/// cursor is read as it was written. See `crate::fuzzing`.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn check_filter(listing: &ListParams) {
    let filter = listing.filter.as_deref().unwrap_or_default();
    let longest = "a".repeat(64);
    let wanted = Wanted::parse(listing);
    for name in ["quotes-1", "a.b", "\u{e4}\u{f6}", "[x]", &*longest, filter] {
        if let Ok(Wanted { name: Some(pattern), .. }) = &wanted {
            let fits = pattern.matches(name);
            if !filter.contains('[') && !filter.contains('/') && !name.contains('/') {
                assert_eq!(fits, fits_simply(filter, name), "{filter:?} {name:?}");
            }
        }
        // What completes a name asks for all that begin with it.
        let escaped = Pattern::new(&format!("{}*", Pattern::escape(name))).expect("escaped");
        assert!(escaped.matches(name), "{name:?}");
    }
    if let Ok(rank) = parse_cursor(listing.cursor.as_deref().unwrap_or_default()) {
        assert_eq!(parse_cursor(&write_cursor(rank)), Ok(rank));
    }
}

/// Whether `name` fits `filter`, in which `*` is any text and `?` any character: the plain rule.
#[cfg(any(test, feature = "fuzzing"))]
fn fits_simply(filter: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    // The lengths of the beginnings of the name that fit so far.
    let mut ends = vec![false; name.len() + 1];
    ends[0] = true;
    for sign in filter.chars() {
        let mut next = vec![false; ends.len()];
        for end in 0..ends.len() {
            let fits_one = end > 0 && ends[end - 1] && (sign == '?' || sign == name[end - 1]);
            let fits_any = sign == '*' && (ends[end] || (end > 0 && next[end - 1]));
            next[end] = if sign == '*' { fits_any } else { fits_one };
        }
        ends = next;
    }
    ends[name.len()]
}
