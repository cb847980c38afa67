//! Searches the recorded events, a bounded number of them in one step.

use crate::control::{Coverage, EventCursor, EventScan, EventScanResult, RecordedEvent};
use crate::event_log::{EventLog, LoggedEvent};

use super::views::event;

/// Events that are examined in one step: some hundred microseconds with a pattern.
const STEP: usize = 2_048;

/// Takes one step of a search.
pub(crate) fn scan_events(log: &EventLog, scan: &EventScan) -> EventScanResult {
    let history = log.history();
    let newest = history.newest();
    let is_wanted = |event: &LoggedEvent| {
        scan.filter.as_ref().is_none_or(|filter| filter.matches(&event.token))
    };
    let (mut events, mut last) = (Vec::new(), None);
    let mut visit = |(seq, event): (u64, &LoggedEvent)| {
        last = Some(seq);
        if is_wanted(event) {
            events.push(recorded(seq, event));
        }
        events.len() < scan.limit
    };
    // Stops with the event that fills the page.
    match scan.cursor {
        EventCursor::After(after) => {
            let _ = history.between(after, u64::MAX).take(STEP).all(&mut visit);
        }
        EventCursor::Before(before) => {
            let _ = history.between(0, before).rev().take(STEP).all(&mut visit);
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
    use crate::control::EventFilter;
    use crate::event_log::{EventName, Fields, Severity};

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
            let filter = Some(EventFilter::new(token.to_owned()));
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
        assert_eq!(search(&log, "a", EventCursor::Before(u64::MAX), 2), (vec![9, 7], 1));
        assert_eq!(search(&log, "a", EventCursor::Before(7), 9).0, [5, 3, 1]);
        assert_eq!(search(&log, "b", EventCursor::After(4), 2).0, [6, 8]);
        assert_eq!(search(&log, "b", EventCursor::After(10), 2), (vec![], 1));
        assert_eq!(search(&log, "b", EventCursor::After(99), 2), (vec![], 1));
    }

    #[test]
    fn each_step_is_bounded_and_a_search_sees_the_whole_history() {
        let log = log(2 * STEP + 2);
        let (found, steps) = search(&log, "none", EventCursor::Before(u64::MAX), 1);
        assert_eq!((found.len(), steps), (0, 3));
        let (found, _) = search(&log, "?", EventCursor::After(0), usize::MAX);
        assert_eq!(found.len(), 2 * STEP + 2);
    }
}
