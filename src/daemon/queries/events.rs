//! Searches the recorded events, in steps of a bounded time.

use std::time::Duration;

use crate::clock::Stopwatch;
use crate::control::{Coverage, EventCursor, EventScan, EventScanResult, RecordedEvent};
use crate::event_log::{EventLog, LoggedEvent};

use super::views::event;

/// The length of a step, and so the delay of a check by a search.
const STEP: Duration = Duration::from_micros(300);

/// Events between two readings of the clock: some microseconds, or 300 with the slowest pattern.
const STRIDE: usize = 32;

/// Takes one step of a search.
pub(crate) fn scan_events(log: &EventLog, scan: &EventScan) -> EventScanResult {
    let history = log.history();
    let newest = history.newest();
    // The events of no token have an empty name.
    let is_wanted = |LoggedEvent { token, .. }: &LoggedEvent| {
        scan.filter.as_ref().is_none_or(|filter| !token.is_empty() && filter.matches(token))
    };
    let step = Stopwatch::start();
    let (mut events, mut last, mut examined) = (Vec::new(), None, 0_usize);
    let mut visit = |(seq, event): (u64, &LoggedEvent)| {
        last = Some(seq);
        examined += 1;
        if is_wanted(event) {
            events.push(recorded(seq, event));
        }
        let is_over = examined.is_multiple_of(STRIDE) && step.elapsed() >= STEP;
        events.len() < scan.limit && !is_over
    };
    // Stops with the event that fills the page, or ends the step.
    match scan.cursor {
        EventCursor::After(after) => {
            let _ = history.between(after, u64::MAX).all(&mut visit);
        }
        EventCursor::Before(before) => {
            let _ = history.between(0, before).rev().all(&mut visit);
        }
    }
    let (cursor, last) = match (scan.cursor, last) {
        (EventCursor::After(after), last) => {
            let last = last.unwrap_or(after.min(newest));
            ((last < newest).then_some(EventCursor::After(last)), last)
        }
        (EventCursor::Before(_), Some(seq)) => {
            let is_oldest = seq <= history.dropped() + 1;
            ((!is_oldest).then_some(EventCursor::Before(seq)), newest)
        }
        (EventCursor::Before(_), None) => (None, newest),
    };
    let started = log.started();
    let since = history.oldest_at().filter(|_| history.dropped() > 0).unwrap_or(started);
    let coverage = Coverage { started, since, dropped: history.dropped() };
    EventScanResult { coverage, events, cursor, last }
}

fn recorded(seq: u64, logged: &LoggedEvent) -> RecordedEvent {
    RecordedEvent {
        seq,
        token: Some(&*logged.token).filter(|token| !token.is_empty()).map(str::to_owned),
        server: logged.server.as_deref().map(str::to_owned),
        event: event(logged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::event_log::{EventName, Fields, Severity};
    use crate::settings::NamePattern;

    /// A log with `count` events of the tokens `a` and `b` in turn.
    fn log(count: usize) -> EventLog {
        let mut log = EventLog::new();
        for number in 0..count {
            let token = Some(if number % 2 == 0 { "a" } else { "b" });
            let fields = Fields { token, ..Fields::default() };
            let name = EventName::TokenExpired;
            log.write(clock::now(), name, Severity::Error, "it expired", fields);
        }
        log
    }

    /// All steps of a search, with the number of steps.
    fn search(
        log: &EventLog,
        token: &str,
        mut cursor: EventCursor,
        limit: usize,
    ) -> (Vec<u64>, usize) {
        let (mut found, mut steps) = (Vec::new(), 0);
        loop {
            let filter = Some(NamePattern::parse(token).unwrap());
            let result =
                scan_events(log, &EventScan { filter, cursor, limit: limit - found.len() });
            found.extend(result.events.iter().map(|event| event.seq));
            steps += 1;
            match result.cursor.filter(|_| found.len() < limit) {
                Some(next) => cursor = next,
                None => return (found, steps),
            }
        }
    }

    #[test]
    fn search_finds_the_latest_events_backwards_and_the_next_ones_forwards() {
        let log = log(10);
        assert_eq!(search(&log, "a", EventCursor::Before(u64::MAX), 2).0, [9, 7]);
        assert_eq!(search(&log, "a", EventCursor::Before(7), 9).0, [5, 3, 1]);
        assert_eq!(search(&log, "b", EventCursor::After(4), 2).0, [6, 8]);
        assert_eq!(search(&log, "b", EventCursor::After(10), 2), (vec![], 1));
        assert_eq!(search(&log, "b", EventCursor::After(99), 2), (vec![], 1));
        assert_eq!(search(&log, "*", EventCursor::After(0), 99).0, (1..=10).collect::<Vec<_>>());
    }

    #[test]
    fn a_search_sees_the_whole_history_in_several_steps() {
        let count = 20_000;
        let log = log(count);
        let slow = format!("*[{}]", "z".repeat(250));
        let (found, steps) = search(&log, &slow, EventCursor::Before(u64::MAX), 1);
        assert!(found.is_empty() && steps > 1, "{steps} steps");
        let all: Vec<_> = (1..=count as u64).collect();
        assert_eq!(search(&log, "?", EventCursor::After(0), usize::MAX).0, all);
        let backwards = search(&log, "?", EventCursor::Before(u64::MAX), usize::MAX).0;
        assert!(backwards.iter().eq(all.iter().rev()));
    }
}
