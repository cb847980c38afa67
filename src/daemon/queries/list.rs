//! A look for a page of tokens: what is looked for, and what is found.

use glob::Pattern;

use crate::control::{Listing, Order, Page, Problem, ProblemKind, Reply};
use crate::daemon::Daemon;
use crate::daemon::queries::top_k::{SeverityRank, TopK, rank};
use crate::daemon::tokens::TokenRegistry;
use crate::keeper::TokenId;
use crate::lifecycle::{Glance, State};
use crate::time::Moment;

/// The most that one page holds: a millisecond's work to write down.
const LONGEST_PAGE: usize = 1_000;

/// A page without a wish: what people read at once.
const PAGE: usize = 100;

/// One look.
#[derive(Debug)]
pub(crate) struct ListQuery {
    wanted: TokenFilter,
    limit: usize,
    found: Found,
    reply: Reply<Page>,
}

/// Which tokens are looked for.
#[derive(Debug)]
struct TokenFilter {
    name: Option<Pattern>,
    states: Vec<State>,
}

#[derive(Debug)]
enum Found {
    /// As they come, from a key on.
    Any { from: u32, keys: Vec<u32> },
    /// The worst of all; and how many fit, those of earlier pages included.
    Worst { after: Option<SeverityRank>, worst: TopK, matched: usize },
}

impl TokenFilter {
    fn parse(listing: &Listing) -> Result<Self, Problem> {
        let name = listing.filter.as_deref().map(Pattern::new).transpose();
        let name = name.map_err(|error| bad(&format!("filter: {}", error.msg)))?;
        let mut states = Vec::new();
        for word in listing.state.iter().flat_map(|words| words.split(',')) {
            let state = State::ALL.into_iter().find(|state| state.as_str() == word);
            states.push(state.ok_or_else(|| bad(&format!("there is no state {word:?}")))?);
        }
        Ok(Self { name, states })
    }

    fn fits(&self, state: State, id: TokenId, roster: &TokenRegistry) -> bool {
        let named = |name: &Pattern| roster.token(id).is_some_and(|kept| name.matches(kept.name()));
        (self.states.is_empty() || self.states.contains(&state))
            && self.name.as_ref().is_none_or(named)
    }
}

impl ListQuery {
    /// A look for `listing`; what cannot be looked for is answered at once.
    pub(crate) fn begin(listing: &Listing, reply: Reply<Page>) -> Option<Self> {
        let limit = listing.limit.unwrap_or(PAGE);
        let parts = TokenFilter::parse(listing).and_then(|wanted| {
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
                    Order::Worst => Found::Worst { after, worst: TopK::new(limit + 1), matched: 0 },
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
    pub(crate) const fn goes_alone_from(&self) -> Option<u32> {
        match self.found {
            Found::Any { from, .. } => Some(from),
            Found::Worst { .. } => None,
        }
    }

    /// Whether it takes more than a glance at each token.
    pub(crate) const fn reads_names(&self) -> bool {
        self.wanted.name.is_some()
    }

    pub(crate) fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    pub(crate) fn see(&mut self, id: TokenId, glance: Glance, roster: &TokenRegistry) {
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
    pub(crate) const fn is_full(&self) -> bool {
        match &self.found {
            Found::Any { keys, .. } => keys.len() >= self.limit,
            Found::Worst { .. } => false,
        }
    }
}

impl Daemon {
    /// The answer to a look that has come up to the key `next`.
    pub(crate) fn conclude_search(&self, search: ListQuery, next: u32) {
        let ListQuery { limit, found, reply, .. } = search;
        let (keys, matched, next) = match found {
            Found::Any { keys, .. } => {
                let last = (State::Alive, Moment::default(), next.saturating_sub(1));
                let cursor = (next < self.tokens.scheduler.numbers()).then(|| write_cursor(last));
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
        let ids = keys.iter().filter_map(|key| self.tokens.scheduler.id_of(*key));
        let tokens = ids.filter_map(|id| self.view(id)).collect();
        let config_rejected = self.config_rejected.clone();
        let page = Page { counts: self.counts(), matched, tokens, next, config_rejected };
        // Whoever asked may have gone.
        let _ = reply.send(Ok(page));
    }
}

/// `STATE.BOUND.KEY`, where the page before ended.
fn write_cursor((state, bound, key): SeverityRank) -> String {
    format!("{}.{}.{key}", state.as_str(), bound.as_millis())
}

fn parse_cursor(text: &str) -> Result<SeverityRank, Problem> {
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

fn bad(message: &str) -> Problem {
    Problem::new(ProblemKind::BadRequest, message)
}
