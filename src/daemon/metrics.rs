//! Metrics that are counted while the daemon runs. Those that are read off the tokens are in
//! [`queries::metrics`](super::queries). Their text formats are in `control::metrics_format`.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::lifecycle::{CheckResult, Notice};
use crate::outcome::Outcome;
use crate::scheduler::{ServerId, Ticket};
use crate::settings::Reauth;

pub(crate) type Labels = Vec<(&'static str, String)>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// A request takes a millisecond in the same rack; the default time-out is ten seconds.
const REQUEST: [f64; 11] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// A check is milliseconds late, or seconds if the server's limits delay it.
const LATENESS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0];
/// From a script to a confirmation on another device.
const LOGIN: [f64; 9] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

/// The outcomes of a check.
const OUTCOMES: [&str; 6] =
    ["alive", "expired", "rejected", "throttled", "misconfigured", "unavailable"];

/// All metrics that are counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    checks: Family<Labels, Counter>,
    durations: Histograms,
    lateness: Histograms,
    renewals: Family<Labels, Counter>,
    reauths: Family<Labels, Counter>,
    hooks: Histograms,
    notify_delivered: Family<Labels, Counter>,
    notify_failed: Family<Labels, Counter>,
    notify_dropped: Family<Labels, Counter>,
    /// The metrics of each server, so that a check needs no look-up.
    servers: Vec<Option<ServerMetrics>>,
}

/// The metrics of one server.
#[derive(Debug)]
struct ServerMetrics {
    /// In the order of [`OUTCOMES`].
    outcomes: [Counter; OUTCOMES.len()],
    renewals: Counter,
    duration: Histogram,
    lateness: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            checks: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(REQUEST)),
            lateness: Family::new_with_constructor(|| Histogram::new(LATENESS)),
            renewals: Family::default(),
            reauths: Family::default(),
            hooks: Family::new_with_constructor(|| Histogram::new(LOGIN)),
            notify_delivered: Family::default(),
            notify_failed: Family::default(),
            notify_dropped: Family::default(),
            servers: Vec::new(),
        }
    }

    fn of_server(&mut self, id: ServerId, name: &str) -> &ServerMetrics {
        if self.servers.len() <= id.index() {
            self.servers.resize_with(id.index() + 1, || None);
        }
        let Self { checks, durations, lateness, renewals, servers, .. } = self;
        servers[id.index()].get_or_insert_with(|| {
            let labels = vec![("server", name.to_owned())];
            let outcome = |outcome| checks.get_or_create_owned(&with_outcome(&labels, outcome));
            ServerMetrics {
                outcomes: OUTCOMES.map(outcome),
                renewals: renewals.get_or_create_owned(&labels),
                duration: durations.get_or_create_owned(&labels),
                lateness: lateness.get_or_create_owned(&labels),
            }
        })
    }

    /// A server was removed, and its number is reused. Its series go if its name is `gone` too.
    pub(crate) fn forget_server(&mut self, id: ServerId, gone: Option<&String>) {
        if let Some(slot) = self.servers.get_mut(id.index()) {
            *slot = None;
        }
        let Some(name) = gone else { return };
        let labels = vec![("server", name.clone())];
        for outcome in OUTCOMES {
            self.checks.remove(&with_outcome(&labels, outcome));
        }
        self.renewals.remove(&labels);
        self.durations.remove(&labels);
        self.lateness.remove(&labels);
    }

    /// A `[reauth]` method was removed, and its series with it.
    pub(crate) fn forget_reauth(&self, name: &str) {
        let labels = vec![("reauth", name.to_owned())];
        self.hooks.remove(&labels);
        for outcome in ["succeeded", "failed"] {
            self.reauths.remove(&with_outcome(&labels, outcome));
        }
    }

    /// A `[notify.NAME]` exists: its series begin at 0.
    pub(crate) fn create_notify(&self, name: &str) {
        for family in self.notify_families() {
            drop(family.get_or_create(&notify_labels(name)));
        }
    }

    /// A `[notify.NAME]` was removed, and its series with it.
    pub(crate) fn forget_notify(&self, name: &str) {
        for family in self.notify_families() {
            family.remove(&notify_labels(name));
        }
    }

    const fn notify_families(&self) -> [&Family<Labels, Counter>; 3] {
        [&self.notify_delivered, &self.notify_failed, &self.notify_dropped]
    }

    /// Registers the metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let seconds = || Unit::Seconds;
        registry.register("checks", "Requests about tokens, by outcome", self.checks.clone());
        registry.register_with_unit(
            "check_duration",
            "Time from a request to its response",
            seconds(),
            self.durations.clone(),
        );
        registry.register_with_unit(
            "check_lateness",
            "Time from when a check was due to when its request was sent",
            seconds(),
            self.lateness.clone(),
        );
        registry.register("renewals", "Readings that proved a renewal", self.renewals.clone());
        registry.register(
            "reauths",
            "Re-authentication attempts, by outcome",
            self.reauths.clone(),
        );
        registry.register_with_unit(
            "hook_duration",
            "Run time of re-authentication commands",
            seconds(),
            self.hooks.clone(),
        );
        registry.register(
            "notify_delivered",
            "Events that were delivered to a [notify]",
            self.notify_delivered.clone(),
        );
        registry.register(
            "notify_failed",
            "Events for a [notify] that were given up after three attempts",
            self.notify_failed.clone(),
        );
        registry.register(
            "notify_dropped",
            "Events for a [notify] that were dropped because 1000 newer ones waited",
            self.notify_dropped.clone(),
        );
    }

    /// A check has ended.
    pub(crate) fn count_check(
        &mut self,
        (server, name): (ServerId, &str),
        ticket: Ticket,
        answer: &CheckResult,
    ) {
        let metrics = self.of_server(server, name);
        let outcome = match answer.outcome {
            Outcome::Alive { .. } => 0,
            Outcome::Expired(_) => 1,
            Outcome::Rejected(_) => 2,
            Outcome::Throttled { .. } => 3,
            Outcome::Misconfigured(_) => 4,
            Outcome::Unavailable(_) => 5,
        };
        metrics.outcomes[outcome].inc();
        metrics.lateness.observe(answer.sent.since(ticket.due).as_secs_f64());
        metrics.duration.observe(answer.received.since(answer.sent).as_secs_f64());
    }

    /// A command of this `[reauth]` method has ended.
    pub(crate) fn count_command(&self, reauth: &str, duration: Duration) {
        let labels = vec![("reauth", reauth.to_owned())];
        self.hooks.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// An event was delivered to a `[notify.NAME]`, or given up.
    pub(crate) fn count_notify(&self, name: &str, is_delivered: bool) {
        let family = if is_delivered { &self.notify_delivered } else { &self.notify_failed };
        family.get_or_create(&notify_labels(name)).inc();
    }

    /// Events for a `[notify.NAME]` were dropped because too many waited.
    pub(crate) fn count_dropped_notifications(&self, name: &str, dropped: u64) {
        self.notify_dropped.get_or_create(&notify_labels(name)).inc_by(dropped);
    }

    /// The scheduler has a notice of a token on this server, with this `[reauth]` method.
    pub(crate) fn count_notice(
        &mut self,
        (server, name): (ServerId, &str),
        reauth: Option<&Reauth>,
        notice: &Notice,
    ) {
        let outcome = match notice {
            Notice::Checked { renewed: Some(true), .. } => {
                self.of_server(server, name).renewals.inc();
                return;
            }
            Notice::ReauthSucceeded { .. } => "succeeded",
            Notice::ReauthFailed { .. } => "failed",
            _ => return,
        };
        if let Some(reauth) = reauth {
            let labels = vec![("reauth", reauth.name.clone())];
            self.reauths.get_or_create(&with_outcome(&labels, outcome)).inc();
        }
    }
}

fn with_outcome(labels: &Labels, outcome: &str) -> Labels {
    [&labels[..], &[("outcome", outcome.to_owned())]].concat()
}

fn notify_labels(name: &str) -> Labels {
    vec![("notify", name.to_owned())]
}
