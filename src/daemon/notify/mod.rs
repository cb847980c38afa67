//! Delivers events to each `[notify.NAME]`: one at a time, in order.
//!
//! Owns the running deliveries. Events that wait are in the subscriptions of the event log. A
//! delivery is a task of its own, and its command takes no slot of `max_hooks`, so that a receiver
//! that hangs delays neither checks, nor re-authentication, nor another receiver.

mod delivery;

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};

use self::delivery::{ATTEMPTS, Delivery, DeliveryError, Receiver};
use super::metrics::Metrics;
use super::tokens::{TokenEntry, Tokens};
use crate::event_log::{EventLog, EventName, Fields, MAX_WAITING, WaitingEvent};
use crate::settings::Settings;
use crate::time::Moment;

/// Time from the first dropped event to its report, so that a burst is one report.
const REPORT_DELAY: Duration = Duration::from_secs(1);

/// The least time between two reports of dropped events.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The end of a delivery.
#[derive(Debug)]
pub(crate) struct DeliveryEnd {
    id: Id,
    result: Result<(), DeliveryError>,
}

/// Delivers events.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    /// The settings that the receivers were created from.
    settings: Option<Arc<Settings>>,
    receivers: Vec<Arc<Receiver>>,
    running: JoinSet<Result<(), DeliveryError>>,
    /// The running deliveries: the name of the receiver, and the event.
    deliveries: HashMap<Id, (String, Arc<WaitingEvent>)>,
    drops: HashMap<String, DropReport>,
}

/// Events of one receiver that were dropped because too many waited.
#[derive(Debug, Default)]
struct DropReport {
    unreported: u64,
    /// When they are reported; `None` if there are none.
    due: Option<Moment>,
    /// When the last report was due.
    reported: Option<Moment>,
}

impl Notifier {
    /// Creates the receivers of these settings, unless they exist. A delivery that is running
    /// continues with the settings before.
    pub(crate) fn configure(
        &mut self,
        settings: &Arc<Settings>,
        metrics: &Metrics,
        log: &mut EventLog,
    ) {
        if self.settings.as_ref().is_some_and(|known| Arc::ptr_eq(known, settings)) {
            return;
        }
        let notifies = &settings.notifies;
        log.subscriptions_mut().configure(notifies);
        for old in &self.receivers {
            let name = &old.settings.name;
            if !notifies.iter().any(|notify| notify.name == *name) {
                metrics.forget_notify(name);
                self.drops.remove(name);
            }
        }
        for notify in notifies {
            metrics.create_notify(&notify.name);
        }
        self.receivers =
            notifies.iter().map(|notify| Arc::new(Receiver::new(notify.clone()))).collect();
        self.settings = Some(Arc::clone(settings));
    }

    /// Reports dropped events, and starts the next delivery of each receiver that is idle.
    pub(crate) fn turn(&mut self, now: Moment, tokens: &mut Tokens, metrics: &Metrics) {
        if self.receivers.is_empty() {
            return;
        }
        self.count_drops(now, metrics, &mut tokens.log);
        self.report_drops(now, &mut tokens.log);
        if tokens.log.subscriptions().are_empty() {
            return;
        }
        for receiver in &self.receivers {
            let name = &receiver.settings.name;
            if self.deliveries.values().any(|(busy, _)| busy == name) {
                continue;
            }
            let Some(event) = tokens.log.subscriptions_mut().take(name) else { continue };
            let delivery = prepare(Arc::clone(receiver), Arc::clone(&event), tokens);
            let id = self.running.spawn(delivery.run()).id();
            self.deliveries.insert(id, (name.clone(), event));
        }
    }

    /// When dropped events are to be reported.
    pub(crate) fn due(&self) -> Option<Moment> {
        self.drops.values().filter_map(|report| report.due).min()
    }

    /// Whether no delivery is running and no event waits.
    pub(crate) fn is_idle(&self, log: &EventLog) -> bool {
        self.running.is_empty() && log.subscriptions().are_empty()
    }

    /// Waits for the next delivery to end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> DeliveryEnd {
        let Some(ended) = self.running.join_next_with_id().await else { return pending().await };
        let panicked = |error: JoinError| DeliveryEnd {
            id: error.id(),
            result: Err(DeliveryError {
                error: "internal error: the delivery panicked".to_owned(),
                status: None,
                exit_status: None,
            }),
        };
        ended.map_or_else(panicked, |(id, result)| DeliveryEnd { id, result })
    }

    /// A delivery has ended: counts it, and logs a failure.
    pub(crate) fn on_end(&mut self, end: DeliveryEnd, metrics: &Metrics, log: &mut EventLog) {
        let Some((name, event)) = self.deliveries.remove(&end.id) else { return };
        if self.receivers.iter().any(|receiver| receiver.settings.name == name) {
            metrics.count_notify(&name, end.result.is_ok());
        }
        let Err(DeliveryError { error, status, exit_status }) = end.result else { return };
        let undelivered = event.name().as_str();
        let message = format!(
            "[notify.{name}]: {undelivered} could not be delivered in {ATTEMPTS} attempts: {error}"
        );
        let fields = Fields {
            token: event.text("token"),
            server: event.text("server"),
            notify: Some(&name),
            undelivered_event: Some(undelivered),
            error: Some(&error),
            status,
            exit_status,
            attempt: Some(ATTEMPTS),
            ..Fields::default()
        };
        log.event(EventName::NotifyFailed, &message, fields);
    }

    /// Ends all deliveries, and logs how many events were not delivered.
    pub(crate) async fn stop(&mut self, now: Moment, metrics: &Metrics, log: &mut EventLog) {
        self.running.shutdown().await;
        self.count_drops(now, metrics, log);
        self.report_drops(Moment::NEVER, log);
        let undelivered = |receiver: &Arc<Receiver>| {
            let name = &receiver.settings.name;
            let running = self.deliveries.values().filter(|(busy, _)| busy == name).count();
            (name.clone(), log.subscriptions().waiting(name) + running)
        };
        let undelivered: Vec<_> = self.receivers.iter().map(undelivered).collect();
        log.subscriptions_mut().configure(&[]);
        for (name, count) in undelivered.into_iter().filter(|(_, count)| *count > 0) {
            let error = "tokenkeep stopped before they were delivered";
            report(log, &name, count as u64, error);
        }
        self.deliveries.clear();
    }

    fn count_drops(&mut self, now: Moment, metrics: &Metrics, log: &mut EventLog) {
        for receiver in &self.receivers {
            let name = &receiver.settings.name;
            let dropped = log.subscriptions_mut().take_dropped(name);
            if dropped > 0 {
                metrics.count_dropped_notifications(name, dropped);
                let report = self.drops.entry(name.clone()).or_default();
                report.unreported += dropped;
                let earliest =
                    report.reported.map_or(now, |reported| now.max(reported + REPORT_INTERVAL));
                report.due.get_or_insert(earliest + REPORT_DELAY);
            }
        }
    }

    fn report_drops(&mut self, now: Moment, log: &mut EventLog) {
        for (name, report_state) in &mut self.drops {
            if let Some(due) = report_state.due.take_if(|due| *due <= now) {
                report_state.reported = Some(due);
                let error = format!("{MAX_WAITING} newer events waited for delivery");
                report(log, name, std::mem::take(&mut report_state.unreported), &error);
            }
        }
    }
}

/// Adds what the event's token and server have now.
fn prepare(receiver: Arc<Receiver>, event: Arc<WaitingEvent>, tokens: &Tokens) -> Delivery {
    let server = event.text("server").and_then(|name| tokens.servers.id_of(name));
    let server = server.and_then(|id| tokens.servers.get(id));
    let url = server.map(|server| server.settings.url.to_string());
    let token = event.text("token").and_then(|name| tokens.registry.id_of(name));
    let token = token.and_then(|id| tokens.registry.token(id));
    let file = token.and_then(TokenEntry::file);
    Delivery { receiver, event, url, file }
}

/// Logs that events were dropped.
fn report(log: &mut EventLog, name: &str, count: u64, error: &str) {
    let events = if count == 1 { "1 event was" } else { &format!("{count} events were") };
    let message = format!("[notify.{name}]: {events} not delivered: {error}");
    let fields = Fields {
        notify: Some(name),
        error: Some(error),
        dropped: Some(count),
        ..Fields::default()
    };
    log.event(EventName::NotifyFailed, &message, fields);
}
