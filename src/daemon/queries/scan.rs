//! Scans: passes over all tokens in slices, between which the loop does what is due, so that no
//! check is late because of a query.
//!
//! A query over all tokens waits for the scan that begins next, and shares it with other queries.
//! Scans have a fixed duty cycle: all together they take at most a quarter of each period.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::sleep;

use super::View;
use super::dashboard::DashboardQuery;
use super::list::ListQuery;
use super::metrics::MetricsQuery;
use super::name_filter::SearchedName;
use crate::clock::{self, Stopwatch};
use crate::time::Moment;

/// The length of a slice, and so the delay of a check by a scan. A slice ends with the step that
/// exceeds it, such as writing a page.
const SLICE: Duration = Duration::from_micros(300);

/// Tokens between two readings of the clock: some microseconds.
const STRIDE: u32 = 512;

/// The same for names: about the nanoseconds after which the clock is read, see
/// [`NameFilter::matches`](super::name_filter::NameFilter::matches). The slowest pattern takes 70 µs
/// for one name.
const STRIDE_WORK: usize = 10_000;

/// Nanoseconds to read a name, or to visit a token.
const NAME_WORK: usize = 10;

/// Scans take [`BUDGET`] of each period at most: a single search by name among a million tokens
/// does not wait.
const PERIOD: Duration = Duration::from_millis(400);
const BUDGET: Duration = Duration::from_millis(100);

/// The queries that are waiting or being answered.
#[derive(Debug, Default)]
pub(crate) struct ScanQueue {
    /// The scans of each [`ScanKind`], which take turns.
    scans: [VecDeque<Scan>; 3],
    /// The kind that had the last turn.
    last: usize,
    /// When the current period began, and how much of its budget is spent.
    period: Moment,
    spent: Duration,
}

/// Scans of different kinds do not wait for one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanKind {
    /// All tokens, without their names.
    Summary,
    /// All tokens, with their names.
    ByName,
    /// From this token on, as far as needed, for one query.
    From(u32),
}

impl ScanKind {
    const fn index(self) -> usize {
        match self {
            Self::Summary => 0,
            Self::ByName => 1,
            Self::From(_) => 2,
        }
    }
}

/// One pass over the tokens, for all its queries.
#[derive(Debug)]
struct Scan {
    next: u32,
    /// No other query can join.
    has_begun: bool,
    /// All tokens were visited.
    is_complete: bool,
    queries: Vec<Query>,
}

/// A query that is answered by a scan.
#[derive(Debug)]
pub(crate) enum Query {
    List(ListQuery),
    Metrics(MetricsQuery),
    Dashboard(DashboardQuery),
}

impl Query {
    fn kind(&self) -> ScanKind {
        match self {
            Self::List(list) => match list.first_key() {
                Some(key) => ScanKind::From(key),
                None if list.reads_names() => ScanKind::ByName,
                None => ScanKind::Summary,
            },
            Self::Metrics(_) | Self::Dashboard(_) => ScanKind::Summary,
        }
    }

    /// Whether its client still waits.
    fn is_wanted(&self) -> bool {
        match self {
            Self::List(list) => list.is_wanted(),
            Self::Metrics(metrics) => metrics.is_wanted(),
            Self::Dashboard(dashboard) => dashboard.is_wanted(),
        }
    }

    /// Answers the query, or a part of it: returns the rest then.
    fn answer(self, view: &View<'_>, next: u32) -> Option<Self> {
        match self {
            Self::List(list) => list.answer(view, next),
            Self::Metrics(metrics) => metrics.answer(view),
            Self::Dashboard(dashboard) => return dashboard.answer(view).map(Self::Dashboard),
        }
        None
    }
}

impl ScanQueue {
    /// Adds a query.
    pub(crate) fn add(&mut self, query: Query) {
        let kind = query.kind();
        let scans = &mut self.scans[kind.index()];
        let last = scans.back_mut().filter(|scan| !scan.has_begun);
        let next = match (kind, last) {
            (ScanKind::Summary | ScanKind::ByName, Some(scan)) => return scan.join(query),
            (ScanKind::Summary | ScanKind::ByName, None) => 0,
            (ScanKind::From(key), _) => key,
        };
        scans.push_back(Scan { next, has_begun: false, is_complete: false, queries: vec![query] });
    }

    /// Time until the next slice; `None` without queries.
    fn pause(&self, now: Moment) -> Option<Duration> {
        let is_empty = self.scans.iter().all(VecDeque::is_empty);
        let is_spent = self.spent >= BUDGET;
        let pause = if is_spent { (self.period + PERIOD).since(now) } else { Duration::ZERO };
        (!is_empty).then_some(pause)
    }

    /// Whether a slice is due.
    pub(crate) fn is_due(&self, now: Moment) -> bool {
        self.pause(now) == Some(Duration::ZERO)
    }

    /// Counts a slice.
    fn spend(&mut self, now: Moment, time: Duration) {
        if now >= self.period + PERIOD {
            self.period = now;
            self.spent = Duration::ZERO;
        }
        self.spent += time;
    }

    /// The scan whose turn it is, with the index of its kind.
    fn take(&mut self) -> Option<(usize, Scan)> {
        let kinds = self.scans.len();
        (0..kinds).find_map(|_| {
            self.last = (self.last + 1) % kinds;
            Some((self.last, self.scans[self.last].pop_front()?))
        })
    }

    /// Puts a scan back that is not finished. Scans for one query take turns.
    fn put_back(&mut self, kind: usize, scan: Scan) {
        let scans = &mut self.scans[kind];
        if kind == ScanKind::From(0).index() {
            scans.push_back(scan);
        } else {
            scans.push_front(scan);
        }
    }

    /// Waits until another slice is due, and everything else that is ready has had its turn.
    pub(crate) async fn next_slice(&self) {
        match self.pause(clock::now()) {
            None => pending().await,
            Some(Duration::ZERO) => yield_now().await,
            Some(pause) => sleep(pause).await,
        }
    }

    /// Runs a slice, if one is due.
    pub(crate) fn run_slice(&mut self, view: &View<'_>) {
        let now = clock::now();
        if !self.is_due(now) {
            return;
        }
        let Some((kind, mut scan)) = self.take() else { return };
        let slice = Stopwatch::start();
        scan.has_begun = true;
        scan.queries.retain(Query::is_wanted);
        while slice.elapsed() < SLICE {
            if !scan.is_complete {
                scan.stride(view);
            } else if let Some(query) = scan.queries.pop() {
                scan.queries.extend(query.answer(view, scan.next));
            } else {
                break;
            }
        }
        if !scan.queries.is_empty() {
            self.put_back(kind, scan);
        }
        // A slice that the machine has interrupted costs no more than some whole ones.
        self.spend(now, slice.elapsed().min(4 * SLICE));
    }
}

impl Scan {
    /// Adds a query. Queries for metrics share one count.
    fn join(&mut self, query: Query) {
        let metrics = self.queries.iter_mut().find_map(|query| match query {
            Query::Metrics(metrics) => Some(metrics),
            Query::List(_) | Query::Dashboard(_) => None,
        });
        match (query, metrics) {
            (Query::Metrics(query), Some(metrics)) => metrics.join(query),
            (query, _) => self.queries.push(query),
        }
    }

    /// Visits some tokens.
    fn stride(&mut self, view: &View<'_>) {
        let by_name = |query: &Query| matches!(query, Query::List(list) if list.reads_names());
        let all = view.tokens.scheduler.key_limit();
        let is_full = if self.queries.first().is_some_and(by_name) {
            self.stride_names(view, all)
        } else {
            self.stride_summaries(view, all)
        };
        self.is_complete = is_full || self.next >= all;
    }

    /// Visits some tokens before the key `all`. Returns whether no more is wanted.
    fn stride_summaries(&mut self, view: &View<'_>, all: u32) -> bool {
        let scheduler = &view.tokens.scheduler;
        let end = self.next.saturating_add(STRIDE).min(all);
        let mut is_full = self.queries.is_empty();
        while self.next < end && !is_full {
            let key = self.next;
            self.next += 1;
            let Some((id, summary, spec)) = scheduler.summary(key) else { continue };
            for query in &mut self.queries {
                match query {
                    Query::List(list) => {
                        list.visit(id, summary, spec);
                        is_full = list.is_full();
                    }
                    Query::Metrics(metrics) => metrics.visit(summary, spec),
                    Query::Dashboard(dashboard) => dashboard.visit(summary, spec, key),
                }
            }
        }
        is_full
    }

    /// As [`stride_summaries`](Self::stride_summaries), for queries that read names. The state of a
    /// token is read only if a query wants its name.
    fn stride_names(&mut self, view: &View<'_>, all: u32) -> bool {
        let (scheduler, registry) = (&view.tokens.scheduler, &view.tokens.registry);
        let (mut work, mut is_full) = (0, false);
        let reads_pairs = |query: &Query| matches!(query, Query::List(list) if list.reads_pairs());
        let with_pairs = self.queries.iter().any(reads_pairs);
        while self.next < all && work < STRIDE_WORK && !is_full {
            let key = self.next;
            self.next += 1;
            work += NAME_WORK;
            let Some(name) = registry.name_of_key(key) else { continue };
            work += if with_pairs { name.len() } else { 0 };
            let name = SearchedName::new(name, with_pairs);
            for query in &mut self.queries {
                if let Query::List(list) = query
                    && list.matches_name(&name, &mut work)
                    && let Some((id, summary, spec)) = scheduler.summary(key)
                {
                    work += NAME_WORK;
                    list.visit(id, summary, spec);
                    is_full = list.is_full();
                }
            }
        }
        is_full
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::control::{ListParams, Order};

    fn metrics() -> Query {
        Query::Metrics(MetricsQuery::new(true, oneshot::channel().0))
    }

    fn list(order: Order, filter: Option<&str>) -> Query {
        let filter = filter.map(str::to_owned);
        let listing = ListParams { filter, order, ..ListParams::default() };
        Query::List(ListQuery::begin(&listing, oneshot::channel().0).unwrap())
    }

    /// How many queries each scan has.
    fn query_counts(scans: &ScanQueue) -> [Vec<usize>; 3] {
        let count = |scan: &Scan| scan.queries.len();
        scans.scans.each_ref().map(|kind| kind.iter().map(count).collect())
    }

    #[test]
    fn query_joins_the_scan_that_begins_next() {
        let mut scans = ScanQueue::default();
        scans.add(list(Order::Worst, None));
        scans.scans[0][0].has_begun = true;
        scans.add(list(Order::Worst, None));
        scans.add(metrics());
        scans.add(list(Order::Worst, None));
        assert_eq!(query_counts(&scans), [vec![1, 3], vec![], vec![]]);
    }

    #[test]
    fn queries_for_metrics_share_one_count() {
        let mut scans = ScanQueue::default();
        (0..5).for_each(|_| scans.add(metrics()));
        assert_eq!(query_counts(&scans), [vec![1], vec![], vec![]]);
    }

    #[test]
    fn scans_of_different_kinds_take_turns() {
        let mut scans = ScanQueue::default();
        scans.add(list(Order::Worst, Some("quotes-*")));
        scans.add(list(Order::Any, Some("quotes-*")));
        scans.add(list(Order::Any, None));
        scans.add(list(Order::Worst, None));
        assert_eq!(query_counts(&scans), [vec![1], vec![1], vec![1, 1]]);
        let turns: Vec<_> = std::iter::from_fn(|| scans.take()).map(|(way, _)| way).collect();
        assert_eq!(turns, [1, 2, 0, 2]);
    }

    #[test]
    fn no_slice_is_due_without_queries() {
        let mut scans = ScanQueue::default();
        assert_eq!(scans.pause(clock::now()), None);
        scans.add(metrics());
        assert_eq!(scans.pause(clock::now()), Some(Duration::ZERO));
    }

    #[test]
    fn scans_take_a_quarter_of_the_time_at_most() {
        let mut scans = ScanQueue::default();
        scans.add(metrics());
        let (mut now, mut spent) = (Moment::from_millis(7_000_000), Duration::ZERO);
        let end = now + PERIOD * 10;
        while now < end {
            match scans.pause(now).expect("a query") {
                Duration::ZERO => {
                    scans.spend(now, Duration::from_millis(1));
                    spent += Duration::from_millis(1);
                    now = now + Duration::from_millis(1);
                }
                pause => now = now + pause,
            }
        }
        assert_eq!(spent, BUDGET * 10);
    }
}
