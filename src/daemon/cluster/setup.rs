//! What a replica needs from outside: the connection, the keys, random numbers; and a reload of the
//! first two.

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
use crate::daemon::tasks::blocking::{CLUSTER, blocking_among, with_disk_timeout};
use crate::event_log::EventLog;
use crate::settings;

/// Pause before files are read again that could not be used, or that etcd has rejected.
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
        Ok(Self { access: Access::open(settings, &variables)?, keys })
    }

    /// The same for a daemon without a connection to etcd: a certificate or password that cannot be
    /// used must not prevent its start, or keep another configuration from it. Each request fails
    /// with the reason.
    ///
    /// # Errors
    ///
    /// What is wrong with the file of a key, and the remedy.
    pub(crate) fn read_without_connection(settings: &settings::Cluster) -> Result<Self, String> {
        let variables = |name: &str| std::env::var_os(name);
        let keys = Keys::open(settings, &variables)?;
        let access = Access::open(settings, &variables);
        let access = access.unwrap_or_else(|error| Access::unusable(settings, error));
        Ok(Self { access, keys })
    }

    /// Why etcd rejects the client certificate at this time.
    pub(crate) fn certificate_warning(&self) -> Option<CertificateWarning> {
        self.access.certificate_warning()
    }

    /// Equal for equal contents of the files within this process; `None` if one cannot be used.
    pub(crate) fn fingerprint(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        (self.access.fingerprint(), self.keys.ids()).hash(&mut hasher);
        (!self.access.is_unusable()).then(|| hasher.finish())
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
        self.reopen(new, Duration::ZERO);
        self.replica.accept_store(clock::now());
    }

    /// Reads the files again after a pause, in place of an earlier attempt that has not ended.
    pub(super) fn reopen(&mut self, settings: settings::Cluster, pause: Duration) {
        let reopening = self.work.spawn(async move {
            let again = settings.clone();
            let opened = read_after(pause, move || Opened::read(&again)).await;
            ClusterEvent::Reopened(Box::new((settings, opened)))
        });
        if let Some(earlier) = self.reopening.replace(reopening) {
            earlier.abort();
        }
    }

    /// etcd has rejected the password or a certificate: its file may have been read while it was being
    /// written. Reads the files again after a pause, unless they are being read.
    pub(super) fn reread(&mut self) {
        if self.reopening.as_ref().is_some_and(|reading| !reading.is_finished()) {
            return;
        }
        let settings = self.settings.clone();
        let rereading = self.work.spawn(async move {
            let variables = |name: &str| std::env::var_os(name);
            let again = settings.clone();
            let read = move || Access::open(&again, &variables);
            ClusterEvent::Reread(Box::new((settings, read_after(FILE_RETRY, read).await)))
        });
        self.reopening = Some(rereading);
    }

    /// The next attempt uses what was read. It comes when it would have come anyway: a login that
    /// fails often may be locked.
    pub(super) fn on_reread(&self, settings: &settings::Cluster, access: Result<Access, String>) {
        // A reload may have replaced the settings meanwhile. What could not be read is read again after
        // the next rejection.
        if let Ok(access) = access
            && *settings == self.settings
        {
            self.link.engine().renew(access);
        }
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
        settings: settings::Cluster,
        opened: Result<Opened, String>,
        log: &mut EventLog,
    ) {
        match opened {
            Ok(Opened { access, keys }) => {
                self.replica.set_keys(keys.ids(), clock::now());
                self.link.engine().reconfigure(access);
                self.keys = keys;
                self.endpoints = unasked(&settings);
                self.settings = settings;
                self.values.reopen(clock::now());
            }
            Err(error) if self.link.engine().is_unusable() => {
                self.link.engine().reconfigure(Access::unusable(&settings, error));
                self.reopen(settings, FILE_RETRY);
            }
            Err(error) => {
                let message = "the connection to etcd stays as it was before the reload";
                log.config_warning(message, None, &error);
            }
        }
    }
}

/// Reads files after a pause, beside the loop.
async fn read_after<T: Send + 'static>(
    pause: Duration,
    read: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    sleep(pause).await;
    let read = with_disk_timeout(blocking_among(&CLUSTER, read)).await;
    read.unwrap_or_else(|| Err("a disk does not respond".to_owned()))
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

/// Half of the id of this boot. A boot without one counts as another one each time.
pub(super) fn boot_id() -> u64 {
    let id = clock::boot_id();
    let half = id.and_then(|id| u64::from_str_radix(id.get(..16)?, 16).ok());
    half.unwrap_or_else(random)
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
