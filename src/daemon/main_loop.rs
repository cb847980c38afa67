//! The main loop: waits for the next event, passes it to the part that it concerns, and has the
//! actions that follow executed.
//!
//! - One turn handles all tasks that have ended, because at hundreds of checks per second the turns
//!   dominate the cost.
//! - A turn that only the clock causes comes at most every [`TICK`].
//! - The backlog is work without a due time: reloads, sources that were read. It is done in slices
//!   of [`SLICE`]; one slice follows each other event.
//! - Control commands get a turn every 4 ms, even if checks end without a pause.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use signal_hook::consts::{SIGCHLD, SIGHUP};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::Daemon;
use super::cluster::{self, Cluster, ClusterEvent};
use super::completions::CompletionHandler;
use super::config::{ConfigEvent, maintenance_windows};
use super::control::{ControlEvent, Parts};
use super::error::{DaemonError, system};
use super::executor::Executor;
use super::inventories::InventoryEvent;
use super::notify::DeliveryEnd;
use super::service_manager;
use super::shutdown::{self, GRACE, Revoked};
use super::tasks::{TaskEnd, remove_stale_temporary_files};
use crate::clock::{self, Stopwatch, Timer};
use crate::event_log::{EventName, Fields};
use crate::process;
use crate::store::StoreReport;
use crate::systemd;
use crate::time::Moment;

/// The least time between turns that only the clock causes: a check can wait for this long.
const TICK: Duration = Duration::from_millis(4);

/// How long the loop works on its backlog before it handles another event.
const SLICE: Duration = Duration::from_millis(2);

/// How long readiness waits for the first writes of `env_file`s: a service that is ordered after
/// this one reads them when it starts. A disk that hangs must not prevent the start.
const FIRST_WRITES: Duration = Duration::from_secs(2);

/// What the loop waits for.
#[derive(Debug)]
enum Event {
    /// A signal; `None` if no more can come.
    Signal(Option<i32>),
    /// The caller wants the loop to end.
    Stop,
    TaskEnded(TaskEnd),
    /// The watched files with these keys may have changed.
    FilesChanged(Vec<u32>),
    StoreReport(StoreReport),
    Inventory(InventoryEvent),
    Config(ConfigEvent),
    Revocation(Revoked),
    DeliveryEnded(DeliveryEnd),
    Control(ControlEvent),
    Cluster(ClusterEvent),
    /// A slice of the backlog.
    Slice,
    Timer,
}

/// Whether the loop continues after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}

impl Daemon {
    /// Runs until SIGTERM or SIGINT, or until `until` is ready, and then shuts down.
    ///
    /// # Errors
    ///
    /// When the system refuses timers.
    pub async fn run(mut self, until: impl Future<Output = ()>) -> Result<(), DaemonError> {
        let mut timer = Timer::new().map_err(system("creating a timer"))?;
        let mut until = pin!(until);
        self.begin_turn();
        self.ready_by = Some(self.woke + FIRST_WRITES);
        self.report_ready();
        remove_stale_temporary_files(&self.config.settings);
        if process::take_early_hangup() {
            self.config.request_reload(&mut self.tokens);
        }
        loop {
            let event = self.next_event(&mut timer, &mut until).await?;
            if self.handle_event(event) == Flow::Stop {
                break;
            }
            self.begin_turn();
            self.report_ready();
            if self.cluster.as_ref().is_some_and(|cluster| cluster.name_taken().is_some()) {
                break;
            }
        }
        let name_taken = self.cluster.as_ref().and_then(|cluster| cluster.name_taken());
        Box::pin(self.shut_down(timer)).await;
        name_taken.map_or(Ok(()), |name| Err(DaemonError::NameTaken { name }))
    }

    /// Reports once that the daemon is ready: when the first `env_file`s are written.
    fn report_ready(&mut self) {
        let Self { tokens, config, ready_by, woke, .. } = self;
        let waits = |until: &mut Moment| *until > *woke && tokens.env_files.are_being_written();
        if ready_by.take_if(|until| !waits(until)).is_none() {
            return;
        }
        service_manager::ready(&tokens.scheduler, config.rejected.as_ref(), &mut tokens.log);
        let count = u64::try_from(tokens.registry.len()).ok();
        let fields = Fields { tokens: count, ..Fields::default() };
        tokens.log.event(EventName::DaemonReady, "ready; running the first checks", fields);
    }

    /// Waits for the next event.
    async fn next_event(
        &mut self,
        timer: &mut Timer,
        until: impl Future<Output = ()>,
    ) -> Result<Event, DaemonError> {
        let has_backlog = !self.source_reads.is_empty()
            || self.config.is_reloading()
            || self.cluster.as_ref().is_some_and(|cluster| cluster.has_backlog(&self.tokens));
        if std::mem::take(&mut self.is_slice_due) && has_backlog {
            return Ok(Event::Slice);
        }
        if std::mem::take(&mut self.is_control_due)
            && let Some(event) = self.control.take_turn(self.woke)
        {
            return Ok(Event::Control(event));
        }
        (self.is_slice_due, self.is_control_due) = (true, true);
        timer.set_at_latest(self.next_deadline()).map_err(system("setting a timer"))?;
        let is_stopping = self.config.is_stopping();
        Ok(tokio::select! {
            biased;
            signal = self.signals.next() => Event::Signal(signal),
            () = until => Event::Stop,
            ended = self.tasks.next() => Event::TaskEnded(ended),
            changed = self.tokens.watcher.changed() => Event::FilesChanged(changed),
            report = self.tokens.recorder.report() => Event::StoreReport(report),
            event = self.inventories.next(), if !is_stopping => Event::Inventory(event),
            event = self.config.next() => Event::Config(event),
            Some(revoked) = self.revocations.next() => Event::Revocation(revoked),
            ended = self.notifier.next() => Event::DeliveryEnded(ended),
            event = Cluster::next(self.cluster.as_deref_mut()) => Event::Cluster(event),
            _ = timer.expired() => Event::Timer,
            // Once everything else that is ready has had its turn.
            () = yield_now(), if has_backlog => Event::Slice,
            event = self.control.next() => Event::Control(event),
        })
    }

    /// Handles an event.
    fn handle_event(&mut self, event: Event) -> Flow {
        let Self { tokens, inventories, config, metrics, cluster, .. } = self;
        match event {
            Event::Signal(Some(SIGHUP)) => {
                config.request_reload(tokens);
            }
            Event::Signal(Some(SIGCHLD)) => process::reap_orphans(),
            Event::Signal(_) | Event::Stop => return Flow::Stop,
            Event::TaskEnded(ended) => self.completions().on_tasks_ended(ended),
            Event::FilesChanged(keys) => {
                config.warn_of_watches(tokens, inventories);
                tokens.on_files_changed(keys);
            }
            Event::StoreReport(report) => {
                self.restore.on_report(report, &config.settings.state_dir, tokens);
            }
            Event::Inventory(event) => {
                if let Some(read) = inventories.on_event(event, tokens) {
                    self.restore.on_inventory_read(read, tokens);
                }
            }
            Event::Config(event) => config.on_event(event, tokens),
            Event::Revocation(revoked) => shutdown::on_revoked(revoked, tokens),
            Event::DeliveryEnded(end) => self.notifier.on_end(end, metrics, &mut tokens.log),
            Event::Control(event) => {
                let parts =
                    Parts { tokens, inventories, config, metrics, cluster: cluster.as_deref_mut() };
                self.control.on_event(event, parts);
            }
            Event::Cluster(event) => {
                if let Some(cluster) = cluster {
                    cluster.on_event(event, &mut tokens.log);
                }
            }
            Event::Slice => self.work_off_backlog(),
            Event::Timer => {}
        }
        Flow::Continue
    }

    /// Does what is due, and executes the actions.
    fn begin_turn(&mut self) {
        let now = clock::now();
        let Self { tokens, tasks, config, control, restore, .. } = self;
        maintenance_windows::close(tokens, now);
        restore.end_if_due(now, tokens);
        tokens.scheduler.wake(now);
        for write in tokens.take_file_writes(now) {
            tasks.write_file(write, config.is_stopping());
        }
        config.retry(now, tokens);
        control.listeners.retry(now, &mut tokens.log);
        if self.config.take_reloaded()
            && let Some(cluster) = &mut self.cluster
        {
            cluster.reload(self.config.settings.cluster.as_ref());
        }
        let mut executor = self.executor();
        executor.turn_cluster(now);
        executor.execute_actions();
        // Claims that were requested are sent at once.
        executor.turn_cluster(now);
        for write in self.tokens.take_env_file_writes(now) {
            self.tasks.write_env_file(write);
        }
        let Self { notifier, tokens, config, metrics, .. } = self;
        notifier.configure(&config.settings, metrics, &mut tokens.log);
        notifier.turn(now, tokens, metrics);
        self.tokens.log.write_due_summaries(now);
        let rejected = self.config.rejected.as_ref();
        self.service_manager.turn_ended(now, &self.tokens.scheduler, rejected);
        self.woke = now;
    }

    /// The executor of actions and notices.
    fn executor(&mut self) -> Executor<'_> {
        let Self { tokens, tasks, metrics, cluster, .. } = self;
        Executor { tokens, tasks, metrics, cluster: cluster.as_deref_mut() }
    }

    /// The handler of the results of tasks.
    fn completions(&mut self) -> CompletionHandler<'_> {
        let Self { tokens, tasks, inventories, metrics, cluster, source_reads, .. } = self;
        let cluster = cluster.as_deref_mut();
        CompletionHandler { tokens, tasks, inventories, metrics, cluster, source_reads }
    }

    /// When the next turn comes at the latest.
    fn next_deadline(&self) -> Option<Moment> {
        let due = [
            self.tokens.scheduler.next_wake(),
            self.tokens.next_file_retry(),
            self.tokens.env_files.next_retry(),
            self.restore.due(),
            self.config.next_retry(),
            self.control.listeners.due(),
            self.tokens.log.due(),
            self.notifier.due(),
            self.service_manager.due(),
            self.ready_by,
            self.cluster.as_ref().and_then(|cluster| cluster.due()),
            (!self.tokens.scheduler.outputs.is_empty()).then_some(self.woke),
        ];
        Some(due.into_iter().flatten().min()?.max(self.woke + TICK))
    }

    /// Works off a slice of the backlog: sources that were read, then the reload, then what the
    /// cluster must be told.
    fn work_off_backlog(&mut self) {
        let Self { tokens, inventories, config, metrics, source_reads, .. } = self;
        let slice = Stopwatch::start();
        let mut has_read = false;
        while slice.elapsed() < SLICE {
            if let Some(read) = source_reads.pop_front() {
                tokens.on_source_read(read);
                has_read = true;
            } else if !config.reload_step(tokens, inventories, metrics)
                && !self.cluster.as_mut().is_some_and(|it| it.step(tokens, &mut self.tasks))
            {
                break;
            }
        }
        if has_read {
            inventories.log_changes(tokens);
        }
    }

    /// Stops within [`GRACE`]. Checks continue until the tasks that must finish have ended, because
    /// a token with a short life would not survive a pause of that length.
    async fn shut_down(mut self, mut timer: Timer) {
        let Self { tokens, tasks, inventories, config, revocations, cluster, .. } = &mut self;
        tokens.log.event(EventName::DaemonStopping, "stopping", Fields::default());
        service_manager::report_error(systemd::stopping(), &mut tokens.log);
        let longest = shutdown::LONGEST + Duration::from_secs(1);
        let longest = if cluster.is_some() { longest + cluster::LONGEST_LEAVE } else { longest };
        service_manager::report_error(systemd::extend_timeout(longest), &mut tokens.log);
        config.stop();
        tokens.scheduler.stop_reauth();
        for write in tokens.take_file_writes(Moment::NEVER) {
            tasks.write_file(write, true);
        }
        for write in tokens.take_env_file_writes(Moment::NEVER) {
            tasks.write_env_file(write);
        }
        tokens.companions.stop();
        inventories.stop(tokens);
        tokens.scheduler.flush_pending_writes(clock::now());
        revocations.begin(tokens);
        if let Some(cluster) = cluster {
            cluster.stop(tokens);
        }
        let mut ends_early = !tokens.companions.is_empty();
        let (mut last_rotation, mut deadline) =
            (pin!(sleep(shutdown::LAST_ROTATION)), pin!(sleep(GRACE)));
        let mut is_closed = false;
        loop {
            self.begin_turn();
            // While events are delivered, checks continue too.
            if !is_closed && self.has_finished() {
                is_closed = true;
                self.end_checks().await;
            }
            if is_closed && self.has_finished() && self.tasks.has_no_renewals() {
                break;
            }
            let end = if ends_early { last_rotation.as_mut() } else { deadline.as_mut() };
            let Ok(event) = self.next_event(&mut timer, end).await else { break };
            if matches!(event, Event::Stop) && std::mem::take(&mut ends_early) {
                if !std::mem::replace(&mut is_closed, true) {
                    self.end_checks().await;
                }
            } else if self.handle_event(event) == Flow::Stop {
                break;
            }
        }
        self.tokens.scheduler.stop_admitting();
        self.tasks.abort_all().await;
        if let Some(cluster) = self.cluster.take() {
            cluster.leave(&mut self.tokens, &mut self.tasks).await;
        }
        self.notifier.stop(clock::now(), &self.metrics, &mut self.tokens.log).await;
        shutdown::close_store(&mut self.tokens).await;
        self.tokens.log.event(EventName::DaemonStopped, "stopped", Fields::default());
    }

    /// Whether all work that must finish before the daemon stops has ended. Renewals do not count.
    fn has_finished(&self) -> bool {
        self.tasks.has_finished()
            && self.revocations.are_complete()
            && self.notifier.is_idle(&self.tokens.log)
            && !self.tokens.scheduler.has_unpersisted_candidates()
            && self.cluster.as_ref().is_none_or(|cluster| !cluster.is_storing())
    }

    /// Ends all checks. Shutdown still waits for renewal requests in flight, and for a last attempt
    /// to store each value that could not be stored.
    async fn end_checks(&mut self) {
        self.tokens.scheduler.stop_admitting();
        for ticket in self.tasks.abort_checks().await {
            self.tokens.cancel(ticket);
        }
        self.tokens.scheduler.flush_pending_writes(clock::now());
        self.executor().execute_actions();
    }
}

#[cfg(test)]
mod tests;
