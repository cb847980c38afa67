//! What a replica needs from outside: the connection, the keys, random numbers; and a reload of the
//! first two.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use url::Url;

use super::{Cluster, ClusterEvent};
use crate::api::CertificateWarning;
use crate::clock;
use crate::cluster::etcd::Access;
use crate::cluster::link::{EndpointState, Engine as _};
use crate::cluster::seal::Keys;
use crate::control::{EndpointView, Reply};
use crate::daemon::tasks::blocking::{DISK, blocking_among, with_disk_timeout};
use crate::event_log::EventLog;
use crate::settings;

/// Pause between attempts to read files that are missing at the start.
const FILE_RETRY: Duration = Duration::from_secs(2);

/// The connection and the keys of a configuration.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(super) access: Access,
    pub(super) keys: Keys,
}

impl Opened {
    /// Reads the files that the configuration names. Blocks.
    ///
    /// # Errors
    ///
    /// What is wrong with one, and the remedy.
    pub(crate) fn read(settings: &settings::Cluster) -> Result<Self, String> {
        let variables = |name: &str| std::env::var_os(name);
        let keys = Keys::open(settings, &variables)?;
        let access = Access::open(settings, &variables).map_err(|error| error.to_string())?;
        Ok(Self { access, keys })
    }

    /// The same for a start, which a missing certificate or password must not prevent.
    ///
    /// # Errors
    ///
    /// What is wrong with a file, and the remedy.
    pub(crate) fn read_at_start(settings: &settings::Cluster) -> Result<Self, String> {
        let variables = |name: &str| std::env::var_os(name);
        let keys = Keys::open(settings, &variables)?;
        let access = Access::open_at_start(settings, &variables);
        Ok(Self { access: access.map_err(|error| error.to_string())?, keys })
    }

    /// Why etcd rejects the client certificate at this time.
    pub(crate) fn certificate_warning(&self) -> Option<CertificateWarning> {
        self.access.certificate_warning()
    }

    /// Equal for equal contents of the files within this process.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.access.fingerprint(), self.keys.ids()).hash(&mut hasher);
        hasher.finish()
    }
}

impl Cluster {
    /// The configuration was read again: files that it names may have changed, although it has not.
    /// Restored values of etcd are accepted from now on.
    pub(crate) fn reload(&mut self, settings: Option<&settings::Cluster>) {
        // Without `[cluster]`, it ends with the next start; so do another name and prefix.
        let Some(settings) = settings else { return };
        let new = settings::Cluster {
            name: self.settings.name.clone(),
            prefix: self.settings.prefix.clone(),
            failover: self.settings.failover,
            ..settings.clone()
        };
        if let Some(retry) = self.file_retry.take() {
            retry.abort();
        }
        self.work.spawn(async move {
            let hangs = || Err("a disk does not respond".to_owned());
            let read = blocking_among(&DISK, move || Opened::read(&new).map(|it| (new, it)));
            let opened = with_disk_timeout(read).await.unwrap_or_else(hangs);
            ClusterEvent::Reopened(Box::new(opened))
        });
        self.replica.accept_store(clock::now());
    }

    /// Reads the files again until none is missing.
    pub(super) fn retry_files(&mut self) {
        let settings = self.settings.clone();
        self.file_retry = Some(self.work.spawn(async move {
            loop {
                sleep(FILE_RETRY).await;
                let again = settings.clone();
                let read = blocking_among(&DISK, move || Opened::read(&again));
                if let Some(Ok(opened)) = with_disk_timeout(read).await {
                    return ClusterEvent::Reopened(Box::new(Ok((settings, opened))));
                }
            }
        }));
    }

    /// Asks the endpoints for their state. The reply is sent once they have answered or not.
    pub(crate) fn ask_endpoints(&mut self, reply: Reply<()>) {
        if self.endpoint_replies.is_empty() {
            let engine = Arc::clone(self.link.engine());
            self.work.spawn(async move { ClusterEvent::Endpoints(engine.reachable().await) });
        }
        self.endpoint_replies.push(reply);
    }

    pub(super) fn on_endpoints(&mut self, states: Vec<EndpointState>) {
        // In the order of the configuration.
        for (view, state) in self.endpoints.iter_mut().zip(states) {
            (view.version, view.error) = match state.state {
                Ok((version, _)) => (Some(version), None),
                Err(error) => (None, Some(error.to_string())),
            };
        }
        for reply in self.endpoint_replies.drain(..) {
            // The client may be gone.
            let _ = reply.send(Ok(()));
        }
    }

    pub(super) fn on_reopened(
        &mut self,
        opened: Result<(settings::Cluster, Opened), String>,
        log: &mut EventLog,
    ) {
        match opened {
            Ok((settings, Opened { access, keys })) => {
                self.replica.set_keys(keys.ids(), clock::now());
                self.link.engine().reconfigure(access);
                self.keys = keys;
                self.endpoints = unasked(&settings);
                self.settings = settings;
                self.values.reopen(clock::now());
            }
            Err(error) => {
                let message = "the connection to etcd stays as it was before the reload";
                log.config_warning(message, None, &error);
            }
        }
    }
}

/// The endpoints, before they were asked.
pub(super) fn unasked(settings: &settings::Cluster) -> Vec<EndpointView> {
    let view = |url: &Url| {
        let url = url.as_str().trim_end_matches('/').to_owned();
        EndpointView { url, version: None, error: None }
    };
    settings.etcd.iter().map(view).collect()
}

/// A random number. Two starts on one machine must not have the same.
pub(super) fn random() -> u64 {
    let mut bytes = [0; 8];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return fastrand::u64(..);
    }
    u64::from_le_bytes(bytes)
}

/// Id of this boot. A boot without one counts as another one each time.
pub(super) fn boot_id() -> u64 {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or_else(|_| random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_has_one_id_and_each_start_a_random_number_of_its_own() {
        assert_eq!(boot_id(), boot_id());
        assert_ne!(random(), random());
    }
}
