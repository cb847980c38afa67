//! Reads the configuration on a thread, with a time limit and a limited number of threads: nothing
//! can stop a thread that waits for a disk which hangs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::clients::{certificate_warning, certificate_warnings, changed_clients};
use crate::control::unmapped_readers;
use crate::daemon::cluster::Opened;
use crate::daemon::tasks::blocking::blocking;
use crate::daemon::tokens::{ServerClients, ServerHandle};
use crate::settings::{Cluster, ConfigErrors, Loaded, Settings};

/// Reads the configuration again, for a reload.
pub type Loader = dyn Fn() -> Result<Loaded, ConfigErrors> + Send + Sync;

/// How the files of `[cluster]` are read.
pub(super) type OpenCluster = fn(&Cluster) -> Result<Opened, String>;

/// The longest that a read may take: a hundred times the read of ten thousand tokens.
const LIMIT: Duration = Duration::from_secs(30);

/// Reads at once: the current one, and earlier ones that hang.
const THREADS: usize = 4;

const REMEDY: &str = "check whether a configuration file, its directory or a ca_file is on a \
network disk that does not respond, or is a pipe; correct that, then reload again";

/// A configuration that can be applied.
#[derive(Debug)]
pub(crate) struct LoadedConfig {
    pub(super) loaded: Loaded,
    /// The clients of servers that are new or changed.
    pub(super) clients: ServerClients,
    /// Fingerprint of the files that `[cluster]` names.
    pub(super) cluster_files: Option<u64>,
    /// It equals the current configuration.
    pub(super) is_unchanged: bool,
}

impl LoadedConfig {
    /// Builds the clients of servers that differ from the `old` ones, and reads the files of
    /// `[cluster]` with `open`, which rejects unusable ones. Blocks.
    pub(crate) fn new(
        mut loaded: Loaded,
        old: &[ServerHandle],
        open: OpenCluster,
    ) -> Result<Self, String> {
        let opened = loaded.settings.cluster.as_ref().map(open).transpose()?;
        let warning = opened.as_ref().and_then(Opened::certificate_warning);
        loaded.warnings.extend(warning.map(certificate_warning));
        let cluster_files = opened.as_ref().and_then(Opened::fingerprint);
        let clients = changed_clients(&loaded.settings, old).map_err(|error| error.to_string())?;
        loaded.warnings.extend(certificate_warnings(&clients));
        loaded.warnings.extend(unmapped_readers(&loaded));
        Ok(Self { loaded, clients, cluster_files, is_unchanged: false })
    }

    /// Compares it with the current settings. Blocks for some milliseconds if it is large.
    pub(super) fn compare_with(&mut self, current: &Settings, cluster_files: Option<u64>) {
        // A file that the settings name may have changed although they have not.
        self.is_unchanged = self.clients.is_empty()
            && self.cluster_files == cluster_files
            && self.loaded.settings == *current;
    }
}

/// Reads the configuration.
pub(crate) struct ConfigLoader {
    loader: Arc<Loader>,
    threads: Arc<Semaphore>,
}

impl ConfigLoader {
    pub(super) fn new(loader: Arc<Loader>) -> Self {
        Self { loader, threads: Arc::new(Semaphore::new(THREADS)) }
    }

    /// Reads the configuration that is to replace the `old` servers. The error is for people.
    pub(super) fn read(
        &self,
        old: Vec<ServerHandle>,
        open: OpenCluster,
    ) -> impl Future<Output = Result<LoadedConfig, String>> + Send + use<> {
        let thread = Arc::clone(&self.threads).try_acquire_owned();
        let loader = Arc::clone(&self.loader);
        async move {
            let Ok(thread) = thread else {
                return Err(format!(
                    "{THREADS} earlier attempts to read the configuration have not returned; \
                     {REMEDY}"
                ));
            };
            let read = blocking(move || {
                // Held until the read has ended, even if it has timed out before.
                let _thread = thread;
                loader()
                    .map_err(|errors| errors.to_string())
                    .and_then(|loaded| LoadedConfig::new(loaded, &old, open))
            });
            timeout(LIMIT, read).await.unwrap_or_else(|_| {
                Err(format!(
                    "the configuration could not be read within {} s; {REMEDY}",
                    LIMIT.as_secs()
                ))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::sync::{Mutex, PoisonError};

    use futures_util::FutureExt as _;
    use tokio::time::advance;

    use super::*;
    use crate::settings::{ConfigErrors, load};

    /// A loader whose reads hang until the sender is dropped.
    fn hanging() -> (ConfigLoader, mpsc::Sender<()>) {
        let (release, hangs) = mpsc::channel();
        let hangs = Mutex::new(hangs);
        let loader = move || -> Result<Loaded, ConfigErrors> {
            let _ = hangs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            load(std::path::Path::new("/nonexistent.toml"), std::iter::empty())
        };
        (ConfigLoader::new(Arc::new(loader)), release)
    }

    /// The error of a read that has timed out.
    async fn timed_out(reader: &ConfigLoader) -> String {
        let mut reading = std::pin::pin!(reader.read(Vec::new(), Opened::read));
        assert!(reading.as_mut().now_or_never().is_none(), "it is running");
        advance(LIMIT).await;
        reading.await.expect_err("no configuration")
    }

    #[tokio::test(start_paused = true)]
    async fn read_that_hangs_times_out_and_the_next_one_begins() {
        let (reader, _release) = hanging();
        for _ in 0..THREADS {
            assert!(timed_out(&reader).await.contains("could not be read within 30 s"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn number_of_reads_that_hang_is_limited() {
        let (reader, release) = hanging();
        for _ in 0..THREADS {
            timed_out(&reader).await;
        }
        let refused = reader.read(Vec::new(), Opened::read).await.expect_err("no thread");
        assert!(refused.contains("4 earlier attempts"), "{refused}");
        drop(release);
        while reader.threads.available_permits() < THREADS {
            tokio::task::yield_now().await;
        }
        let fault = reader.read(Vec::new(), Opened::read).await.expect_err("no file");
        assert!(fault.contains("/nonexistent.toml"), "{fault}");
    }
}
