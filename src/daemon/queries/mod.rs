//! Looks at all tokens, a slice at a time: between two slices the loop does what is due, so
//! that no check is late because somebody looks.
//!
//! Whoever wants to look at all of them waits for the walk that begins next, and goes along with
//! others who do. All together never take more of the CPU's time than their
//! [leisure](super::leisure) is.

pub(crate) mod dashboard;
pub(crate) mod leisure;
pub(crate) mod list;
pub(crate) mod metrics;
pub(crate) mod top_k;
pub(crate) mod views;

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::sleep;

use crate::clock::{self, Stopwatch};
use crate::daemon::Daemon;
use crate::daemon::queries::dashboard::DashboardQuery;
use crate::daemon::queries::leisure::Leisure;
use crate::daemon::queries::list::ListQuery;
use crate::daemon::queries::metrics::MetricsQuery;
use crate::time::Moment;

/// What a slice takes, and what a check may be late because of it; and the one thing more that
/// it ends with, such as a page of answers.
const SLICE: Duration = Duration::from_micros(300);

/// Tokens between two looks at the clock: a few microseconds, or some ten where names are read.
const STRIDE: u32 = 512;

/// The looks under way.
#[derive(Debug, Default)]
pub(crate) struct ScanQueue {
    /// Of each [`ScanKind`], in turns.
    under_way: [VecDeque<Scan>; 3],
    /// Whose turn it is.
    turn: usize,
    leisure: Leisure,
}

/// Those who go in different ways do not wait for one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanKind {
    /// Past all tokens, at a glance.
    Quickly,
    /// Past all tokens, with a look at their names.
    ByName,
    /// From one token on as far as need be.
    Alone { from: u32 },
}

impl ScanKind {
    const fn index(self) -> usize {
        match self {
            Self::Quickly => 0,
            Self::ByName => 1,
            Self::Alone { .. } => 2,
        }
    }
}

/// One walk past the tokens, for all who go along.
#[derive(Debug)]
struct Scan {
    next: u32,
    /// Nobody can join any more.
    has_begun: bool,
    /// Everything has been seen.
    is_over: bool,
    looks: Vec<Query>,
}

/// What is looked for.
#[derive(Debug)]
pub(crate) enum Query {
    ListQuery(ListQuery),
    MetricsQuery(MetricsQuery),
    DashboardQuery(DashboardQuery),
}

impl Query {
    fn way(&self) -> ScanKind {
        match self {
            Self::ListQuery(search) => match search.goes_alone_from() {
                Some(from) => ScanKind::Alone { from },
                None if search.reads_names() => ScanKind::ByName,
                None => ScanKind::Quickly,
            },
            Self::MetricsQuery(_) | Self::DashboardQuery(_) => ScanKind::Quickly,
        }
    }

    fn is_wanted(&self) -> bool {
        match self {
            Self::ListQuery(search) => search.is_wanted(),
            Self::MetricsQuery(scrape) => scrape.is_wanted(),
            Self::DashboardQuery(picture) => picture.is_wanted(),
        }
    }
}

impl ScanQueue {
    /// Somebody wants to look.
    pub(crate) fn add(&mut self, look: Query) {
        let way = look.way();
        let under_way = &mut self.under_way[way.index()];
        let last = under_way.back_mut().filter(|survey| !survey.has_begun);
        let next = match (way, last) {
            (ScanKind::Quickly | ScanKind::ByName, Some(survey)) => return survey.join(look),
            (ScanKind::Quickly | ScanKind::ByName, None) => 0,
            (ScanKind::Alone { from }, _) => from,
        };
        under_way.push_back(Scan { next, has_begun: false, is_over: false, looks: vec![look] });
    }

    /// How long until there is to be another slice; `None` while nobody looks.
    fn pause(&self, now: Moment) -> Option<Duration> {
        let nobody = self.under_way.iter().all(VecDeque::is_empty);
        (!nobody).then(|| self.leisure.pause(now))
    }

    /// The survey whose turn it is, with the number of its way.
    fn take(&mut self) -> Option<(usize, Scan)> {
        let ways = self.under_way.len();
        (0..ways).find_map(|_| {
            self.turn = (self.turn + 1) % ways;
            Some((self.turn, self.under_way[self.turn].pop_front()?))
        })
    }

    /// A survey goes on at its way's next turn; one that goes alone, after others that do.
    fn put_back(&mut self, way: usize, survey: Scan) {
        let under_way = &mut self.under_way[way];
        if way == (ScanKind::Alone { from: 0 }).index() {
            under_way.push_back(survey);
        } else {
            under_way.push_front(survey);
        }
    }

    /// Comes when another slice is wanted, once everything else that is under way has had its
    /// turn.
    pub(crate) async fn turn(&self) {
        match self.pause(clock::now()) {
            None => pending().await,
            Some(Duration::ZERO) => yield_now().await,
            Some(pause) => sleep(pause).await,
        }
    }
}

impl Scan {
    /// Scrapes count the same, and count it once.
    fn join(&mut self, look: Query) {
        let scraping = self.looks.iter_mut().find_map(|look| match look {
            Query::MetricsQuery(scrape) => Some(scrape),
            Query::ListQuery(_) | Query::DashboardQuery(_) => None,
        });
        match (look, scraping) {
            (Query::MetricsQuery(scrape), Some(scraping)) => scraping.join(scrape),
            (look, _) => self.looks.push(look),
        }
    }
}

impl Daemon {
    /// Goes on with a look, if there is one and it is time for it.
    pub(crate) fn survey(&mut self) {
        let now = clock::now();
        if self.control.surveys.pause(now) != Some(Duration::ZERO) {
            return;
        }
        let Some((way, mut survey)) = self.control.surveys.take() else { return };
        // A busy machine makes a slice longer, and the looks no dearer.
        let (slice, before) = (Stopwatch::start(), clock::cpu_time());
        survey.has_begun = true;
        survey.looks.retain(Query::is_wanted);
        while slice.elapsed() < SLICE {
            if !survey.is_over {
                self.stride(&mut survey);
            } else if let Some(look) = survey.looks.pop() {
                survey.looks.extend(self.conclude_look(look, survey.next));
            } else {
                break;
            }
        }
        if !survey.looks.is_empty() {
            self.control.surveys.put_back(way, survey);
        }
        self.control.surveys.leisure.spend(now, clock::cpu_time().saturating_sub(before));
    }

    /// Shows some tokens to all who go along.
    fn stride(&self, survey: &mut Scan) {
        let all = self.tokens.scheduler.numbers();
        let end = survey.next.saturating_add(STRIDE).min(all);
        let mut full = survey.looks.is_empty();
        while survey.next < end && !full {
            let key = survey.next;
            survey.next += 1;
            let Some((id, glance, server)) = self.tokens.scheduler.glance(key) else { continue };
            for look in &mut survey.looks {
                match look {
                    Query::ListQuery(search) => {
                        search.see(id, glance, &self.tokens.registry);
                        full = search.is_full();
                    }
                    Query::MetricsQuery(scrape) => scrape.see(glance, server),
                    Query::DashboardQuery(picture) => picture.see(glance, key),
                }
            }
        }
        survey.is_over = full || survey.next >= all;
    }

    /// Answers, or does a part of that and gives back the rest.
    fn conclude_look(&self, look: Query, next: u32) -> Option<Query> {
        match look {
            Query::ListQuery(search) => self.conclude_search(search, next),
            Query::MetricsQuery(scrape) => self.conclude_scrape(scrape),
            Query::DashboardQuery(picture) => {
                return self.conclude_picture(picture).map(Query::DashboardQuery);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::control::{Listing, Order};

    fn scrape() -> Query {
        Query::MetricsQuery(MetricsQuery::begin(true, oneshot::channel().0))
    }

    fn search(order: Order, filter: Option<&str>) -> Query {
        let filter = filter.map(str::to_owned);
        let listing = Listing { filter, order, ..Listing::default() };
        Query::ListQuery(ListQuery::begin(&listing, oneshot::channel().0).unwrap())
    }

    /// How many looks there are in each of the walks under way.
    fn walks(surveys: &ScanQueue) -> [Vec<usize>; 3] {
        let looks = |survey: &Scan| survey.looks.len();
        surveys.under_way.each_ref().map(|walks| walks.iter().map(looks).collect())
    }

    #[test]
    fn who_wants_to_see_all_waits_for_the_walk_that_begins_next() {
        let mut surveys = ScanQueue::default();
        surveys.add(search(Order::Worst, None));
        surveys.under_way[0][0].has_begun = true;
        surveys.add(search(Order::Worst, None));
        surveys.add(scrape());
        surveys.add(search(Order::Worst, None));
        assert_eq!(walks(&surveys), [vec![1, 3], vec![], vec![]]);
    }

    #[test]
    fn what_scrapes_tell_is_counted_once_however_many_they_are() {
        let mut surveys = ScanQueue::default();
        (0..5).for_each(|_| surveys.add(scrape()));
        assert_eq!(walks(&surveys), [vec![1], vec![], vec![]]);
    }

    #[test]
    fn who_looks_for_a_name_or_takes_tokens_as_they_come_holds_up_nobody_else() {
        let mut surveys = ScanQueue::default();
        surveys.add(search(Order::Worst, Some("quotes-*")));
        surveys.add(search(Order::Any, Some("quotes-*")));
        surveys.add(search(Order::Any, None));
        surveys.add(search(Order::Worst, None));
        assert_eq!(walks(&surveys), [vec![1], vec![1], vec![1, 1]]);
        let turns: Vec<_> = std::iter::from_fn(|| surveys.take()).map(|(way, _)| way).collect();
        assert_eq!(turns, [1, 2, 0, 2]);
    }

    #[test]
    fn nobody_is_waited_for_while_nobody_looks() {
        let mut surveys = ScanQueue::default();
        assert_eq!(surveys.pause(clock::now()), None);
        surveys.add(scrape());
        assert_eq!(surveys.pause(clock::now()), Some(Duration::ZERO));
    }
}
