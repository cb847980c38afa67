//! Restores persisted state at startup. State that cannot be read costs a warning and checks, and
//! nothing else. The core restores the schedule from it in `scheduler::restore`, and one token in
//! `lifecycle::restore`.

mod deferred;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

pub(crate) use self::deferred::DeferredRestore;

use super::notices;
use super::tokens::{TokenBitSet, Tokens, window_end};
use crate::clock;
use crate::event_log::EventLog;
use crate::lifecycle::{Method, SourceChange};
use crate::scheduler::ReauthFailures;
use crate::store::{ClusterSeen, Counter, CounterKey, Store, StoredLife, Writer};
use crate::time::{Moment, whole_millis};
use crate::token_source::PersistError;

/// What an earlier run knew of the cluster.
#[derive(Debug, Default)]
pub(crate) struct RecalledCluster {
    /// The newest state of etcd.
    pub(crate) seen: Option<ClusterSeen>,
    /// For the hash of each token the tags of its last value and of the one before.
    pub(crate) values: HashMap<u64, [Option<i64>; 2]>,
    /// For the key of each token whose spending may not have ended in etcd the revision before.
    pub(crate) spendings: HashMap<String, u64>,
}

/// The state of an earlier run, while the daemon starts.
#[derive(Debug)]
pub(crate) struct Restore<'a> {
    pub(crate) store: Option<Store>,
    pub(crate) state_dir: &'a Path,
}

impl<'a> Restore<'a> {
    /// Begins with the result of opening the database: an unusable one is a warning.
    pub(crate) fn new(
        store: Result<Store, PersistError>,
        state_dir: &'a Path,
        log: &mut EventLog,
    ) -> Self {
        let mut restore = Self { store: None, state_dir };
        match store {
            Ok(store) => {
                restore.store = Some(store);
                restore.warn_of_damage(log);
                warn_of_unknown_boot(log);
            }
            Err(error) => restore.warn(
                log,
                "the state directory cannot be used; a restart loses new values of tokens without \
                 a file, and the count of re-auth attempts",
                &error,
            ),
        }
        restore
    }

    fn warn(&self, log: &mut EventLog, message: &str, error: &PersistError) {
        warn_of_state(log, self.state_dir, message, error);
    }

    fn warn_of_damage(&mut self, log: &mut EventLog) {
        if let Some(error) = self.store.as_mut().and_then(Store::set_aside) {
            self.warn(log, "saved state cannot be used", &error);
        }
    }

    /// Reads one part of the database; the startup continues without what cannot be read.
    fn read(
        &mut self,
        tokens: &mut Tokens,
        part: impl FnOnce(&mut Store, &mut Tokens) -> Result<(), PersistError>,
    ) {
        let Some(store) = &mut self.store else { return };
        if let Err(error) = part(store, tokens) {
            self.warn(&mut tokens.log, "saved state cannot be read", &error);
        }
        self.warn_of_damage(&mut tokens.log);
    }

    /// What an earlier run knew of the cluster.
    pub(crate) fn cluster(&self, log: &mut EventLog) -> RecalledCluster {
        let Some(store) = &self.store else { return RecalledCluster::default() };
        let read = store.cluster_seen().and_then(|seen| {
            let (values, spendings) = (store.cluster_values()?, store.cluster_spendings()?);
            Ok(RecalledCluster { seen, values, spendings })
        });
        read.unwrap_or_else(|error| {
            self.warn(log, "saved state cannot be read", &error);
            RecalledCluster::default()
        })
    }

    /// Loads the persisted values. To be called before tokens are added.
    pub(crate) fn load_values(&mut self, tokens: &mut Tokens) {
        self.read(tokens, |store, tokens| {
            let kept = retention(tokens.recorder.keep_removed);
            store.values(|name, stored, until_ms| {
                tokens.recorder.load_value(name, stored, until_ms.map(&kept));
            })
        });
        self.read(tokens, |store, tokens| {
            let kept = retention(tokens.recorder.keep_removed);
            store.companions(|name, stored, until_ms| {
                tokens.companions.load(name, stored, until_ms.map(&kept));
            })
        });
    }

    /// Restores attempt counts and renewal methods.
    pub(crate) fn restore_counts(&mut self, tokens: &mut Tokens) {
        self.read(tokens, |store, tokens| {
            store.counters(|counted, count| match counted {
                CounterKey::Token(name) => match tokens.registry.id_of(&name) {
                    Some(id) => tokens.restore_reauth_attempts(id, &count),
                    None => tokens.recorder.stash_count(&name, count),
                },
                CounterKey::Reauth(name) => restore_reauth_failures(tokens, &name, &count),
            })
        });
        self.read(tokens, |store, tokens| {
            let Tokens { servers, scheduler, .. } = tokens;
            let server = |name: &str| servers.id_of(name);
            store.renewal_methods(
                |name| Some(servers[server(name)?].settings.url.to_string()),
                |name, renewing| {
                    if let Some(id) = server(name) {
                        let method = if renewing { Method::Renew } else { Method::Query };
                        scheduler.restore_renewal_method(id, method);
                    }
                },
            )
        });
    }

    /// Restores check results, then tells the scheduler of all values that the sources hold, and
    /// opens the database for writing.
    pub(crate) fn finish(mut self, tokens: &mut Tokens) {
        let mut has_rebooted = false;
        self.read(tokens, |store, tokens| {
            let mut seen = TokenBitSet::default();
            store.lives(|recalled| has_rebooted |= restore_lives(tokens, &mut seen, recalled))
        });
        // One reading of the clock for all: a million of them would take time.
        let now = clock::now();
        let changes = tokens.deferred.end_startup();
        for id in changes.new_values {
            if tokens.scheduler.is_missing(id) {
                let change = SourceChange::NewValue;
                tokens.scheduler.source_changed(id, change, now);
            }
        }
        for (id, change) in changes.others {
            tokens.scheduler.source_changed(id, change, now);
        }
        match tokens.recorder.open(self.store.take()) {
            Ok(()) => {
                let writer = tokens.recorder.shared_writer();
                tokens.companions.set_writer(writer.map(Writer::companions));
                tokens.compact_at_startup(has_rebooted);
            }
            Err(error) => {
                let message = "state is kept in memory only and will be lost at a restart";
                self.warn(&mut tokens.log, message, &error);
            }
        }
    }
}

/// Converts the time until when something of a removed token is kept, in milliseconds since 1970.
fn retention(longest: Duration) -> impl Fn(i64) -> Moment {
    let (now, wall) = (clock::now(), clock::wall_clock().as_millisecond());
    move |until_ms| {
        let left = until_ms.saturating_sub(wall).max(0).unsigned_abs();
        now + Duration::from_millis(left).min(longest)
    }
}

/// Restores check results. They come with the newest first: results of tokens that were `seen` are
/// outdated. Returns whether any is of an earlier boot.
fn restore_lives(tokens: &mut Tokens, seen: &mut TokenBitSet, recalled: &[StoredLife<'_>]) -> bool {
    let now = clock::now();
    let mut has_rebooted = false;
    let ids = tokens.registry.ids_of(recalled.iter().map(|recalled| recalled.name));
    for (id, recalled) in ids.into_iter().zip(recalled) {
        let Some(id) = id.filter(|id| !seen.contains(*id)) else { continue };
        seen.insert(id);
        if tokens.scheduler.is_missing(id) {
            has_rebooted |= tokens.restore_life(id, recalled, now);
        }
    }
    has_rebooted
}

fn restore_reauth_failures(tokens: &mut Tokens, name: &str, count: &Counter) {
    let now = clock::now();
    let Some(id) = tokens.reauths.id_of(name) else { return };
    let Some(reauth) = tokens.reauths.get(id) else { return };
    let window = reauth.policy.window;
    let Some(window_end) = window_end(count, window, now, clock::wall_clock()) else { return };
    let count = count.count;
    tokens.scheduler.restore_reauth_failures(id, ReauthFailures { window_end, count });
    if count >= reauth.max_failures_all.get() {
        notices::reauth(&mut tokens.log, name, count, whole_millis(window_end.since(now)));
    }
}

/// Warns that saved times cannot be compared with those of another run.
fn warn_of_unknown_boot(log: &mut EventLog) {
    if clock::boot_id().is_none() {
        log.config_warning(
            "the current boot is not known, so each restart counts as a reboot, after which all \
             tokens are checked",
            Some(clock::BOOT_ID_FILE),
            "make this file readable, or set `Environment=TOKENKEEP_BOOT_ID=%b` in the unit",
        );
    }
}

/// Warns that persisted state cannot be used.
fn warn_of_state(log: &mut EventLog, state_dir: &Path, message: &str, error: &PersistError) {
    log.config_warning(message, Some(&state_dir.display().to_string()), &error.to_string());
}
