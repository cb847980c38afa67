//! Queries for a page of tokens.

use super::digest::{Digest, Disclosure};
use super::name_filter::{NameFilter, SearchedName};
use super::top_k::{SeverityRank, TopK, rank};
use super::views::View;
use crate::control::{ApiError, ApiErrorKind, ListParams, Order, Reply, TokenPage};
use crate::lifecycle::{State, TokenSummary};
use crate::scheduler::{TokenId, TokenSpec};
use crate::settings::NamePattern;
use crate::time::Moment;

/// Tokens of the longest page: it takes a millisecond to write.
const LONGEST_PAGE: usize = 1_000;

/// Tokens of a page without a limit.
const PAGE: usize = 100;

/// A query for a page.
#[derive(Debug)]
pub(crate) struct ListQuery {
    wanted: TokenFilter,
    limit: usize,
    found: Found,
    /// For the first page of all tokens, worst first.
    digest: Option<Digest>,
    reply: Reply<TokenPage>,
}

/// Which tokens are wanted.
#[derive(Debug)]
struct TokenFilter {
    name: Option<Box<NameFilter>>,
    states: Vec<State>,
}

#[derive(Debug)]
enum Found {
    /// In no order, from a key on.
    Any { from: u32, keys: Vec<u32> },
    /// The most urgent ones; and how many match, those of earlier pages included.
    Worst { after: Option<SeverityRank>, worst: TopK, matched: usize },
}

impl TokenFilter {
    fn parse(listing: &ListParams) -> Result<Self, ApiError> {
        let name = listing.filter.as_deref().map(NamePattern::parse_strictly).transpose();
        let name = name.map_err(|error| bad(&format!("filter: {error}")))?;
        let mut states = Vec::new();
        for word in listing.state.iter().flat_map(|words| words.split(',')) {
            let state = State::ALL.into_iter().find(|state| state.as_str() == word);
            states.push(state.ok_or_else(|| bad(&format!("there is no state {word:?}")))?);
        }
        Ok(Self { name: name.map(NameFilter::new).map(Box::new), states })
    }

    const fn is_all(&self) -> bool {
        self.name.is_none() && self.states.is_empty()
    }

    fn matches_state(&self, state: State) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }
}

impl ListQuery {
    /// A query for `listing`. An invalid one is answered at once.
    pub(crate) fn begin(listing: &ListParams, reply: Reply<TokenPage>) -> Option<Self> {
        let limit = listing.limit.unwrap_or(PAGE);
        let parts = TokenFilter::parse(listing).and_then(|wanted| {
            if !(1..=LONGEST_PAGE).contains(&limit) {
                return Err(bad(&format!("limit: must be a number from 1 to {LONGEST_PAGE}")));
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
                let is_first =
                    listing.order == Order::Worst && listing.cursor.is_none() && wanted.is_all();
                let digest = is_first.then(Digest::new);
                Some(Self { wanted, limit, found, digest, reply })
            }
            Err(problem) => {
                // The client may be gone.
                let _ = reply.send(Err(problem));
                None
            }
        }
    }

    /// The key that it begins with, if it does not need all tokens.
    pub(crate) const fn first_key(&self) -> Option<u32> {
        match self.found {
            Found::Any { from, .. } => Some(from),
            Found::Worst { .. } => None,
        }
    }

    /// Whether it needs the tokens' names.
    pub(crate) const fn reads_names(&self) -> bool {
        self.wanted.name.is_some()
    }

    /// Whether it compares pairs of bytes of names.
    pub(super) fn reads_pairs(&self) -> bool {
        self.wanted.name.as_ref().is_some_and(|filter| filter.reads_pairs())
    }

    /// Whether it wants tokens of this name. Adds the time to `work`, see [`NameFilter::matches`].
    pub(super) fn matches_name(&self, name: &SearchedName<'_>, work: &mut usize) -> bool {
        self.wanted.name.as_ref().is_none_or(|filter| filter.matches(name, work))
    }

    pub(crate) fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    /// Visits a token whose name is wanted.
    pub(super) fn visit(&mut self, id: TokenId, summary: TokenSummary, spec: &TokenSpec) {
        if let Some(digest) = &mut self.digest {
            digest.visit(summary, spec, id.key());
        }
        if !self.wanted.matches_state(summary.state) {
            return;
        }
        match &mut self.found {
            Found::Any { keys, .. } => keys.push(id.key()),
            Found::Worst { after, worst, matched } => {
                *matched += 1;
                let rank = rank(summary, id.key());
                if after.is_none_or(|after| rank > after) {
                    worst.visit(rank);
                }
            }
        }
    }

    /// Whether the page is full.
    pub(crate) const fn is_full(&self) -> bool {
        match &self.found {
            Found::Any { keys, .. } => keys.len() >= self.limit,
            Found::Worst { .. } => false,
        }
    }
}

impl ListQuery {
    /// Answers the query, whose scan has ended before the key `next`.
    pub(super) fn answer(self, view: &View<'_>, next: u32) {
        let Self { limit, found, digest, reply, .. } = self;
        let scheduler = &view.tokens.scheduler;
        let (keys, matched, next) = match found {
            Found::Any { keys, .. } => {
                let last = (State::Alive, Moment::default(), next.saturating_sub(1));
                let cursor = (next < scheduler.key_limit()).then(|| write_cursor(last));
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
        let ids = keys.iter().filter_map(|key| scheduler.id_of(*key));
        let tokens = ids.filter_map(|id| view.token(id)).collect();
        let config_rejected = view.config_rejected.cloned();
        let summary = digest.map(|digest| digest.summary(view, Disclosure::EVERYTHING));
        let counts = view.counts();
        let cluster = view.cluster_status(Disclosure::EVERYTHING);
        let page = TokenPage { summary, counts, matched, tokens, next, config_rejected, cluster };
        // The client may be gone.
        let _ = reply.send(Ok(page));
    }
}

/// `STATE.BOUND.KEY` of the last token of a page.
fn write_cursor((state, bound, key): SeverityRank) -> String {
    format!("{}.{}.{key}", state.as_str(), bound.as_millis())
}

fn parse_cursor(text: &str) -> Result<SeverityRank, ApiError> {
    let mut parts = text.split('.');
    let state =
        parts.next().and_then(|word| State::ALL.into_iter().find(|state| state.as_str() == word));
    let bound = parts.next().and_then(|bound| bound.parse().ok()).map(Moment::from_millis);
    let key = parts.next().and_then(|key| key.parse().ok());
    match (state, bound, key) {
        (Some(state), Some(bound), Some(key)) => Ok((state, bound, key)),
        _ => Err(bad("cursor: must be the `next` value of the previous page")),
    }
}

fn bad(message: &str) -> ApiError {
    ApiError::new(ApiErrorKind::BadRequest, message)
}

/// For every `listing`: its filter fits the names that it should, and fits each in bounded time; a
/// cursor is read as it was written. See `crate::fuzzing`.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn check_filter(listing: &ListParams) {
    use glob::Pattern;

    let filter = listing.filter.as_deref().unwrap_or_default();
    let longest = "a".repeat(64);
    let wanted = TokenFilter::parse(listing);
    for name in ["quotes-1", "a.b", "\u{e4}\u{f6}", "[x]", &*longest, filter] {
        if let Ok(TokenFilter { name: Some(pattern), .. }) = &wanted {
            let fits = pattern.matches(&SearchedName::new(name.as_bytes(), true), &mut 0);
            if !filter.contains('[') && !filter.contains('/') && !name.contains('/') {
                assert_eq!(fits, fits_simply(filter, name), "{filter:?} {name:?}");
            }
        }
        // What completes a name asks for all that begin with it.
        let escaped = NamePattern::parse_strictly(&format!("{}*", Pattern::escape(name)));
        if let Ok(escaped) = escaped.map(NameFilter::new) {
            assert!(escaped.matches(&SearchedName::new(name.as_bytes(), true), &mut 0), "{name:?}");
        }
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
