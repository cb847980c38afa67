//! Subscriptions: events for each `[notify.NAME]`, in bounded queues.
//!
//! Events are added before the rate limiter and independently of `log.level`. Nothing is delivered
//! here: the daemon takes the events from the queues. If a queue is full, its oldest event is
//! dropped and counted, because the latest events describe the current state.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::record::Record;
use super::{EventName, Fields, Severity};
use crate::settings::{NamePattern, Notify};

/// Maximum number of events that wait for one `[notify.NAME]`.
pub const MAX_WAITING: usize = 1_000;

/// An event that waits to be delivered.
#[derive(Debug)]
pub struct WaitingEvent {
    name: EventName,
    record: Record,
}

impl WaitingEvent {
    /// The event's name.
    pub const fn name(&self) -> EventName {
        self.name
    }

    /// The event as one JSON line, as the log writes it.
    pub fn json_line(&self) -> Vec<u8> {
        // Writing to memory cannot fail.
        let mut line = serde_json::to_vec(&self.record).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// The field `key`, if the event has it and it is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.record.text(key)
    }

    /// The field `key`, if the event has it and it is a whole number.
    pub fn number(&self, key: &str) -> Option<u64> {
        let fields = &self.record.fields;
        fields.iter().find(|(name, _)| name == key).and_then(|(_, value)| Value::as_u64(value))
    }
}

/// Which events a subscription receives.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    /// A bit for each event, by its position in [`EventName::ALL`]; `None`: every event of level
    /// error, and `token_recovered`.
    events: Option<u64>,
    /// Only events of tokens with these names.
    tokens: Option<Vec<NamePattern>>,
}

const _: () = assert!(EventName::ALL.len() <= u64::BITS as usize, "each event has a bit");

const fn bit(name: EventName) -> u64 {
    1 << name as u32
}

impl Filter {
    fn new(notify: &Notify) -> Self {
        let events = notify.events.as_ref();
        Self {
            events: events.map(|events| events.iter().fold(0, |bits, name| bits | bit(*name))),
            tokens: notify.tokens.clone(),
        }
    }

    fn accepts(&self, name: EventName, severity: Severity, token: Option<&str>) -> bool {
        let is_subscribed = match self.events {
            Some(events) => events & bit(name) != 0,
            None => severity == Severity::Error || name == EventName::TokenRecovered,
        };
        is_subscribed
            && self.tokens.as_ref().is_none_or(|patterns| {
                token.is_some_and(|token| patterns.iter().any(|pattern| pattern.matches(token)))
            })
    }
}

/// The subscription of one `[notify.NAME]`, with the events that wait.
#[derive(Debug)]
struct Subscription {
    name: String,
    filter: Filter,
    waiting: VecDeque<Arc<WaitingEvent>>,
    /// Dropped events that [`Subscriptions::take_dropped`] has not returned yet.
    dropped: u64,
}

impl Subscription {
    /// Whether the subscription receives this event. Prevents loops: it receives no
    /// `notify_failed` about itself, and none about a `notify_failed` that was not delivered.
    fn wants(&self, name: EventName, severity: Severity, fields: &Fields<'_>) -> bool {
        self.filter.accepts(name, severity, fields.token)
            && fields.notify != Some(&*self.name)
            && fields.undelivered_event != Some(EventName::NotifyFailed.as_str())
    }

    fn add(&mut self, event: Arc<WaitingEvent>) {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
            self.dropped += 1;
        }
        self.waiting.push_back(event);
    }
}

/// The subscriptions of all `[notify.NAME]`.
#[derive(Debug, Default)]
pub struct Subscriptions(Vec<Subscription>);

impl Subscriptions {
    /// Replaces the subscriptions. Where a name stays, the events that wait stay too.
    pub fn configure(&mut self, notifies: &[Notify]) {
        let mut old = std::mem::take(&mut self.0);
        self.0.extend(notifies.iter().map(|notify| {
            let filter = Filter::new(notify);
            match old.iter().position(|subscription| subscription.name == notify.name) {
                Some(index) => Subscription { filter, ..old.swap_remove(index) },
                None => Subscription {
                    name: notify.name.clone(),
                    filter,
                    waiting: VecDeque::new(),
                    dropped: 0,
                },
            }
        }));
    }

    /// Whether any subscription receives this event. Events of level debug are not delivered.
    pub(super) fn want(&self, name: EventName, severity: Severity, fields: &Fields<'_>) -> bool {
        severity > Severity::Debug
            && self.0.iter().any(|subscription| subscription.wants(name, severity, fields))
    }

    /// Adds an event to the queue of each subscription that receives it.
    pub(super) fn add(
        &mut self,
        at: Timestamp,
        name: EventName,
        severity: Severity,
        message: &str,
        fields: &Fields<'_>,
    ) {
        if !self.want(name, severity, fields) {
            return;
        }
        let (level, values) = (severity.into(), fields.values());
        let record = Record::from_event(name, level, at, message.to_owned(), values);
        let event = Arc::new(WaitingEvent { name, record });
        for subscription in &mut self.0 {
            if subscription.wants(name, severity, fields) {
                subscription.add(Arc::clone(&event));
            }
        }
    }

    /// Takes the oldest event that waits for the `[notify.NAME]` called `name`.
    pub fn take(&mut self, name: &str) -> Option<Arc<WaitingEvent>> {
        self.find(name)?.waiting.pop_front()
    }

    /// Takes the number of events that were dropped since the last call.
    pub fn take_dropped(&mut self, name: &str) -> u64 {
        self.find(name).map_or(0, |subscription| std::mem::take(&mut subscription.dropped))
    }

    /// Number of events that wait for the `[notify.NAME]` called `name`; at most [`MAX_WAITING`].
    pub fn waiting(&self, name: &str) -> usize {
        let subscription = self.0.iter().find(|subscription| subscription.name == name);
        subscription.map_or(0, |subscription| subscription.waiting.len())
    }

    /// Whether no event waits.
    pub fn are_empty(&self) -> bool {
        self.0.iter().all(|subscription| subscription.waiting.is_empty())
    }

    fn find(&mut self, name: &str) -> Option<&mut Subscription> {
        self.0.iter_mut().find(|subscription| subscription.name == name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::NotifyTarget;

    fn notify(name: &str, events: Option<&[EventName]>, tokens: Option<&[&str]>) -> Notify {
        Notify {
            name: name.to_owned(),
            events: events.map(<[_]>::to_vec),
            tokens: tokens
                .map(|names| names.iter().map(|name| NamePattern::parse(name).unwrap()).collect()),
            target: NotifyTarget::Command(vec!["/bin/true".to_owned()]),
            timeout: Duration::from_secs(1),
        }
    }

    fn subscribed(notifies: &[Notify]) -> Subscriptions {
        let mut subscriptions = Subscriptions::default();
        subscriptions.configure(notifies);
        subscriptions
    }

    fn add(subscriptions: &mut Subscriptions, name: EventName, severity: Severity, token: &str) {
        let token = Some(token).filter(|token| !token.is_empty());
        let fields = Fields { token, ..Fields::default() };
        subscriptions.add(Timestamp::UNIX_EPOCH, name, severity, "it happened", &fields);
    }

    /// The tokens of the events that wait.
    fn tokens(subscriptions: &mut Subscriptions, name: &str) -> Vec<String> {
        let token = |event: Arc<WaitingEvent>| event.text("token").unwrap_or("none").to_owned();
        std::iter::from_fn(|| subscriptions.take(name)).map(token).collect()
    }

    #[test]
    fn by_default_events_of_level_error_and_recoveries_are_received() {
        let mut subscriptions = subscribed(&[notify("a", None, None)]);
        for (name, severity) in [
            (EventName::TokenChecked, Severity::Info),
            (EventName::TokenExpired, Severity::Error),
            (EventName::CheckFailed, Severity::Warn),
            (EventName::CheckFailed, Severity::Error),
            (EventName::TokenReplaced, Severity::Info),
            (EventName::TokenRecovered, Severity::Info),
        ] {
            add(&mut subscriptions, name, severity, "quotes");
        }
        let received: Vec<_> =
            std::iter::from_fn(|| subscriptions.take("a")).map(|event| event.name()).collect();
        assert_eq!(
            received,
            [EventName::TokenExpired, EventName::CheckFailed, EventName::TokenRecovered]
        );
    }

    #[test]
    fn events_of_level_debug_are_not_received() {
        let mut subscriptions = subscribed(&[notify("a", Some(&[EventName::TokenChecked]), None)]);
        add(&mut subscriptions, EventName::TokenChecked, Severity::Debug, "quotes");
        assert!(subscriptions.are_empty());
    }

    #[test]
    fn patterns_select_tokens_and_exclude_events_without_a_token() {
        let patterns = ["quotes", "orders-*", "[x]"];
        let events = [EventName::TokenExpired, EventName::ServerUnavailable];
        let mut subscriptions = subscribed(&[notify("a", Some(&events), Some(&patterns))]);
        for token in ["quotes", "quotes-2", "orders-1", "orders", "[x]", ""] {
            add(&mut subscriptions, EventName::TokenExpired, Severity::Error, token);
        }
        assert_eq!(tokens(&mut subscriptions, "a"), ["quotes", "orders-1", "[x]"]);
    }

    #[test]
    fn full_queue_drops_and_counts_the_oldest_event() {
        let mut subscriptions = subscribed(&[notify("a", Some(&[EventName::TokenReplaced]), None)]);
        for number in 0..MAX_WAITING + 3 {
            let token = number.to_string();
            add(&mut subscriptions, EventName::TokenReplaced, Severity::Info, &token);
        }
        assert_eq!(subscriptions.waiting("a"), MAX_WAITING);
        assert_eq!([subscriptions.take_dropped("a"), subscriptions.take_dropped("a")], [3, 0]);
        let waiting = tokens(&mut subscriptions, "a");
        let newest: Vec<_> = (3..MAX_WAITING + 3).map(|number| number.to_string()).collect();
        assert_eq!(waiting, newest);
    }

    #[test]
    fn waiting_events_survive_a_change_of_the_filter_and_end_with_the_subscription() {
        let replaced = [EventName::TokenReplaced];
        let mut subscriptions = subscribed(&[notify("a", Some(&replaced), None)]);
        add(&mut subscriptions, EventName::TokenReplaced, Severity::Info, "quotes");
        subscriptions.configure(&[notify("b", None, None), notify("a", None, None)]);
        add(&mut subscriptions, EventName::TokenReplaced, Severity::Info, "orders");
        assert_eq!(tokens(&mut subscriptions, "a"), ["quotes"]);
        add(&mut subscriptions, EventName::TokenExpired, Severity::Error, "orders");
        subscriptions.configure(&[]);
        subscriptions.configure(&[notify("a", None, None)]);
        assert!(subscriptions.are_empty());
    }

    #[test]
    fn failures_of_two_subscriptions_do_not_cause_each_other_without_end() {
        let mut subscriptions = subscribed(&[notify("a", None, None), notify("b", None, None)]);
        add(&mut subscriptions, EventName::TokenExpired, Severity::Error, "quotes");
        let mut failures = 0;
        // Every delivery fails.
        while let Some((name, event)) =
            ["a", "b"].into_iter().find_map(|name| Some((name, subscriptions.take(name)?)))
        {
            failures += 1;
            assert!(failures < 100);
            let fields = Fields {
                notify: Some(name),
                undelivered_event: Some(event.name().as_str()),
                ..Fields::default()
            };
            let failed = EventName::NotifyFailed;
            subscriptions.add(Timestamp::UNIX_EPOCH, failed, failed.severity(), "failed", &fields);
        }
        assert_eq!(failures, 4, "the event twice, and each failure once at the other");
    }

    #[test]
    fn event_is_the_json_line_of_the_log() {
        let mut subscriptions = subscribed(&[notify("a", None, None)]);
        add(&mut subscriptions, EventName::TokenExpired, Severity::Error, "quotes");
        let event = subscriptions.take("a").unwrap();
        assert_eq!(
            String::from_utf8(event.json_line()).unwrap(),
            "{\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"level\":\"error\",\
             \"event\":\"token_expired\",\"message\":\"it happened\",\"token\":\"quotes\"}\n"
        );
    }
}
