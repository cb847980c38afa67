//! Watches all keys below the prefix, over any number of streams.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::interpret::{self, Failure, WatchLine};
use super::lines::LineError;
use super::send::NoAnswer;
use super::{Changes, Etcd, Reason, StoreRevision, bytes};
use crate::clock::Stopwatch;

/// The longest time that a watch may be silent although etcd's revision grows. Etcd itself reports
/// the progress of a silent watch every ten minutes.
const MAX_SILENCE: Duration = Duration::from_secs(660);

/// Pauses between attempts to watch, from the second failure in a row on.
const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// A watch that has lived for this long was no failure.
const GOOD_WATCH: Duration = Duration::from_secs(5);

/// How a watch has ended.
enum End {
    /// It can continue from where it was.
    Lost,
    /// It cannot.
    Gap(Arc<str>),
}

impl Etcd {
    /// See [`Engine::watch`](super::Engine::watch).
    pub(super) async fn watch_until_gap(
        &self,
        mut after: StoreRevision,
        changes: mpsc::Sender<Changes>,
    ) -> Arc<str> {
        let mut silence = self.sender().access.failover;
        let (mut pause, mut behind) = (Duration::ZERO, None);
        loop {
            let started = Stopwatch::start();
            let end = self.follow(&mut after, &mut silence, &mut behind, &changes).await;
            if let End::Gap(why) = end {
                return why;
            }
            if started.elapsed() >= GOOD_WATCH {
                pause = Duration::ZERO;
            }
            sleep(pause).await;
            pause = (pause * 2).clamp(MIN_PAUSE, MAX_PAUSE);
        }
    }

    /// Watches once, until the stream ends. `behind`: since when each member of etcd that was asked
    /// had an older revision than `after`.
    async fn follow(
        &self,
        after: &mut StoreRevision,
        silence: &mut Duration,
        behind: &mut Option<Stopwatch>,
        changes: &mpsc::Sender<Changes>,
    ) -> End {
        let sender = self.sender();
        let context = sender.access.context();
        let (key, end) = range_of(&sender.access.prefix);
        let body = json!({ "create_request": {
            "key": STANDARD.encode(key),
            "range_end": STANDARD.encode(end),
            "start_revision": (after.revision + 1).to_string(),
            "progress_notify": true,
        }});
        let first = |line: &[u8]| interpret::watch_line(line, context);
        let (first, mut lines, endpoint) =
            match sender.stream("/v3/watch", bytes(&body), first).await {
                Ok(stream) => stream,
                Err(NoAnswer::Failed(failure)) => {
                    return End::Gap(Reason::from(failure).text().clone());
                }
                Err(NoAnswer::Unanswered(_)) => return End::Lost,
            };
        // From here on no notification is missed.
        let mut failed = pin!(endpoint.failed.notified());
        if !Arc::ptr_eq(&sender, &self.sender()) {
            return End::Lost; // Reconfigured while the stream was opened.
        }
        let mut next = Ok(first);
        loop {
            match next {
                Ok(WatchLine::Created(at)) if at.cluster != after.cluster => {
                    return End::Gap("this is another etcd cluster".into());
                }
                // Its own state: a member that lags behind has not seen everything yet. If it stays
                // so, etcd was restored.
                Ok(WatchLine::Created(at)) if at.revision < after.revision => {
                    let since = behind.get_or_insert_with(Stopwatch::start);
                    if since.elapsed() > sender.access.failover {
                        return End::Gap("etcd has an older revision than before".into());
                    }
                    sender.access.gave_up(endpoint);
                    return End::Lost;
                }
                Ok(WatchLine::Created(_)) => *behind = None,
                Ok(WatchLine::Changed(at, entries)) => {
                    *after = at;
                    *silence = sender.access.failover;
                    if changes.send((at, entries)).await.is_err() {
                        return End::Gap("the watch is not wanted any more".into());
                    }
                }
                Ok(WatchLine::Progress(at)) => {
                    *after = at;
                    *silence = sender.access.failover;
                }
                Err(Failure::Unavailable(_) | Failure::LogIn) => return End::Lost,
                Err(failure) => return End::Gap(Reason::from(failure).text().clone()),
            }
            next = loop {
                tokio::select! {
                    line = lines.next() => match line {
                        Ok(line) => break interpret::watch_line(&line, context),
                        Err(LineError::Ended(_)) => return End::Lost,
                        Err(LineError::TooLong) => {
                            return End::Gap("too much has changed at once".into());
                        }
                    },
                    () = &mut failed => return End::Lost,
                    () = sleep(*silence) => {
                        // etcd has changed, perhaps below another prefix, perhaps unnoticed here.
                        if self.newest.load(Ordering::Relaxed) > after.revision {
                            *silence = (*silence * 2).min(MAX_SILENCE);
                            return End::Lost;
                        }
                    }
                }
            };
        }
    }
}

/// The first key below a prefix, and the first one behind them.
fn range_of(prefix: &str) -> (Vec<u8>, Vec<u8>) {
    // `0` follows `/`.
    (format!("{prefix}/").into_bytes(), format!("{prefix}0").into_bytes())
}
