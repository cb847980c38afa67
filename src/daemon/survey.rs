//! A look at all tokens, a slice at a time: between two slices the loop does what is due, so
//! that no check is late because somebody looks.

use std::collections::{BTreeSet, VecDeque};

use glob::Pattern;

use super::Daemon;
use super::roster::Roster;
use super::scrape::Scrape;
use crate::control::{Listing, Order, Page, Problem, ProblemKind, Reply};
use crate::keeper::TokenId;
use crate::lifecycle::{State, Token};
use crate::time::Moment;

/// Tokens in a slice: well under a millisecond of work, even where each is a cache miss.
pub(super) const SLICE: u32 = 2_048;

/// The most that one page holds: a millisecond's work to write down.
const LONGEST_PAGE: usize = 1_000;

/// A page without a wish: what people read at once.
const PAGE: usize = 100;

/// How urgent a token is: the worst state first, then the nearest end.
pub(super) type Rank = (State, Moment, u32);

/// The looks under way, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Surveys(VecDeque<Survey>);

impl Surveys {
    /// Whether another slice is wanted.
    pub(super) fn are_under_way(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn add(&mut self, survey: Survey) {
        self.0.push_back(survey);
    }
}

/// One look, and how far it is.
#[derive(Debug)]
pub(super) struct Survey {
    next: u32,
    look: Look,
}

/// What is looked for.
#[derive(Debug)]
enum Look {
    Search(Search),
    Scrape(Scrape),
}

/// For a page of tokens.
#[derive(Debug)]
struct Search {
    wanted: Wanted,
    order: Order,
    /// Those before this, and it, were on an earlier page.
    after: Option<Rank>,
    limit: usize,
    matched: usize,
    /// The best so far; for any order, those found so far.
    found: BTreeSet<Rank>,
    reply: Reply<Page>,
}

/// Which tokens are looked for.
#[derive(Debug)]
struct Wanted {
    name: Option<Pattern>,
    states: Vec<State>,
}

impl Wanted {
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

    fn fits(&self, state: State, id: TokenId, roster: &Roster) -> bool {
        let named = |name: &Pattern| roster.token(id).is_some_and(|kept| name.matches(kept.name()));
        (self.states.is_empty() || self.states.contains(&state))
            && self.name.as_ref().is_none_or(named)
    }
}

impl Survey {
    /// A look for the metrics.
    pub(super) const fn scrape(scrape: Scrape) -> Self {
        Self { next: 0, look: Look::Scrape(scrape) }
    }

    /// A look for `listing`; what cannot be looked for is answered at once.
    pub(super) fn begin(listing: &Listing, reply: Reply<Page>) -> Option<Self> {
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
            Ok((wanted, rank)) => {
                let next = match (listing.order, rank) {
                    (Order::Any, Some((.., key))) => key.saturating_add(1),
                    (Order::Any | Order::Worst, _) => 0,
                };
                let search = Search {
                    wanted,
                    order: listing.order,
                    after: rank.filter(|_| listing.order == Order::Worst),
                    limit,
                    matched: 0,
                    found: BTreeSet::new(),
                    reply,
                };
                Some(Self { next, look: Look::Search(search) })
            }
            Err(problem) => {
                // Whoever asked may have gone.
                let _ = reply.send(Err(problem));
                None
            }
        }
    }

    fn is_wanted(&self) -> bool {
        match &self.look {
            Look::Search(search) => !search.reply.is_closed(),
            Look::Scrape(scrape) => scrape.is_wanted(),
        }
    }
}

impl Search {
    fn see(&mut self, id: TokenId, token: &Token, roster: &Roster) {
        let state = token.state();
        if !self.wanted.fits(state, id, roster) {
            return;
        }
        self.matched += 1;
        let rank = rank(state, token, id);
        if self.order == Order::Worst {
            if self.after.is_some_and(|after| rank <= after) {
                return;
            }
            if self.found.len() > self.limit {
                if self.found.last().is_some_and(|last| *last < rank) {
                    return;
                }
                self.found.pop_last();
            }
        }
        self.found.insert(rank);
    }

    /// Whether a page is full, so that what follows is for the next one.
    fn is_full(&self) -> bool {
        self.order == Order::Any && self.found.len() >= self.limit
    }
}

pub(super) fn rank(state: State, token: &Token, id: TokenId) -> Rank {
    (state, token.bound().unwrap_or_default(), id.key())
}

impl Daemon {
    /// Goes on with the oldest look.
    pub(super) fn survey(&mut self) {
        let Some(mut survey) = self.control.surveys.0.pop_front() else {
            return self.go_on_looking();
        };
        if !survey.is_wanted() {
            return;
        }
        let all = self.keeper.numbers();
        let end = survey.next.saturating_add(SLICE).min(all);
        let mut full = false;
        while survey.next < end && !full {
            let key = survey.next;
            survey.next += 1;
            self.keeper.look(key, |id, token, spec| match &mut survey.look {
                Look::Search(search) => {
                    search.see(id, token, &self.roster);
                    full = search.is_full();
                }
                Look::Scrape(scrape) => scrape.see(token, spec.server.index()),
            });
        }
        if !full && survey.next < all {
            return self.control.surveys.0.push_front(survey);
        }
        match survey.look {
            Look::Search(search) => self.conclude_search(search, survey.next),
            Look::Scrape(scrape) => self.conclude_scrape(scrape),
        }
    }

    fn conclude_search(&self, search: Search, next: u32) {
        let Search { mut found, limit, order, matched, reply, .. } = search;
        let next = match order {
            Order::Worst if found.len() > limit => {
                found.pop_last();
                found.last().map(|rank| write_cursor(*rank))
            }
            Order::Any if next < self.keeper.numbers() => {
                Some(write_cursor((State::Alive, Moment::default(), next - 1)))
            }
            Order::Worst | Order::Any => None,
        };
        let ids = found.iter().filter_map(|(.., key)| self.keeper.id_of(*key));
        let page = Page {
            counts: self.counts(),
            matched: (order == Order::Worst).then_some(matched),
            tokens: ids.filter_map(|id| self.view(id)).collect(),
            next,
        };
        // Whoever asked may have gone.
        let _ = reply.send(Ok(page));
    }
}

/// `STATE.BOUND.KEY`, where the page before ended.
fn write_cursor((state, bound, key): Rank) -> String {
    format!("{}.{}.{key}", state.as_str(), bound.as_millis())
}

fn parse_cursor(text: &str) -> Result<Rank, Problem> {
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
