//! The configuration, read again beside the loop: within a limit of time and of threads, as
//! nothing can stop a thread that waits for a disk which is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::daemon::Loader;
use crate::daemon::config::objects::{certificate_warnings, clients};
use crate::daemon::tasks::blocking::blocking;
use crate::daemon::tokens::ServerHandle;
use crate::daemon::tokens::server_client::ServerClient;
use crate::settings::{Loaded, Settings};

/// The longest that a reading may take: a hundred times what ten thousand tokens do.
const LIMIT: Duration = Duration::from_secs(30);

/// Readings at once: the one that counts, and those before it that hang.
const THREADS: usize = 4;

/// A configuration that can be put into force.
#[derive(Debug)]
pub(crate) struct LoadedConfig {
    pub(crate) loaded: Loaded,
    /// Of servers that are new or changed.
    pub(crate) clients: BTreeMap<String, ServerClient>,
    /// It says what the configuration in force says.
    pub(crate) unchanged: bool,
}

impl LoadedConfig {
    /// With what it takes in place of the `old` servers. Reads the files that these name.
    pub(crate) fn new(mut loaded: Loaded, old: &[ServerHandle]) -> Result<Self, String> {
        let clients = clients(&loaded.settings, old).map_err(|error| error.to_string())?;
        loaded.warnings.extend(certificate_warnings(&clients));
        Ok(Self { loaded, clients, unchanged: false })
    }

    /// Compares it with the configuration in force. Blocks for some milliseconds if it is large.
    pub(crate) fn compare_with(&mut self, old: &Settings) {
        // A file that the settings name may have changed although they have not.
        self.unchanged = self.clients.is_empty() && self.loaded.settings == *old;
    }
}

/// Reads the configuration.
pub(crate) struct ConfigLoader {
    loader: Arc<Loader>,
    threads: Arc<Semaphore>,
}

impl ConfigLoader {
    pub(crate) fn new(loader: Arc<Loader>) -> Self {
        Self { loader, threads: Arc::new(Semaphore::new(THREADS)) }
    }

    /// What is there now, in place of the `old` servers; or why not, for people.
    pub(crate) fn read(
        &self,
        old: Vec<ServerHandle>,
    ) -> impl Future<Output = Result<LoadedConfig, String>> + Send + use<> {
        let thread = Arc::clone(&self.threads).try_acquire_owned();
        let loader = Arc::clone(&self.loader);
        async move {
            let Ok(thread) = thread else {
                return Err(format!(
                    "{THREADS} earlier readings of the configuration still hang; {REMEDY}"
                ));
            };
            let reading = blocking(move || {
                // Until it has really ended, however long nobody waits for it any more.
                let _thread = thread;
                loader()
                    .map_err(|faults| faults.to_string())
                    .and_then(|loaded| LoadedConfig::new(loaded, &old))
            });
            timeout(LIMIT, reading).await.unwrap_or_else(|_| {
                Err(format!(
                    "reading the configuration has not ended within {} s; {REMEDY}",
                    LIMIT.as_secs()
                ))
            })
        }
    }
}

const REMEDY: &str = "does a file or folder of it, or a ca_file, lie on a network disk that is gone, \
                      or is it a pipe? Mend that, and reload again";

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::sync::{Mutex, PoisonError};

    use futures_util::FutureExt as _;
    use tokio::time::advance;

    use super::*;
    use crate::settings::{Faults, load};

    /// Readings that hang, each until the sender is dropped or has sent something.
    fn hanging() -> (ConfigLoader, mpsc::Sender<()>) {
        let (release, hangs) = mpsc::channel();
        let hangs = Mutex::new(hangs);
        let loader = move || -> Result<Loaded, Faults> {
            let _ = hangs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            load(std::path::Path::new("/nonexistent.toml"), std::iter::empty())
        };
        (ConfigLoader::new(Arc::new(loader)), release)
    }

    /// What a reading says once its time is over.
    async fn timed_out(reader: &ConfigLoader) -> String {
        let mut reading = std::pin::pin!(reader.read(Vec::new()));
        assert!(reading.as_mut().now_or_never().is_none(), "it is under way");
        advance(LIMIT).await;
        reading.await.expect_err("no configuration")
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_that_hangs_is_given_up_and_the_next_one_begins_all_the_same() {
        let (reader, _release) = hanging();
        for _ in 0..THREADS {
            assert!(timed_out(&reader).await.contains("not ended within 30 s"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn readings_that_hang_do_not_pile_up_and_count_no_more_when_they_have_ended() {
        let (reader, release) = hanging();
        for _ in 0..THREADS {
            timed_out(&reader).await;
        }
        let refused = reader.read(Vec::new()).await.expect_err("no thread");
        assert!(refused.contains("4 earlier readings"), "{refused}");
        drop(release);
        while reader.threads.available_permits() < THREADS {
            tokio::task::yield_now().await;
        }
        let fault = reader.read(Vec::new()).await.expect_err("no file");
        assert!(fault.contains("/nonexistent.toml"), "{fault}");
    }
}
