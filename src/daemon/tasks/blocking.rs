//! Runs blocking work (disk I/O, user database lookups) on a bounded number of threads, so that a
//! hung file system delays only the tokens that depend on it.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::token_source::DISK_TIMEOUT;

/// Threads for writes of values. The runtime has 512 threads, and needs some for name lookups of
/// servers.
pub(crate) static DISK: Semaphore = Semaphore::const_new(64);

/// Threads for files that a re-authentication attempt reads, one for each file or login: a hung disk
/// with many written values delays no login.
pub(crate) static LOGINS: Semaphore = Semaphore::const_new(64);

/// Threads for writes of `env_file`s: a hung disk with many of them delays no write of a value.
pub(crate) static ENV_FILES: Semaphore = Semaphore::const_new(16);

/// Threads for reads of sources before a death is acted on.
pub(crate) static REREADS: Semaphore = Semaphore::const_new(64);

/// Threads for reads of refresh tokens, one for each file: a hung disk with many of them delays no
/// write of a value.
pub(crate) static REFRESH_TOKENS: Semaphore = Semaphore::const_new(128);

/// Threads for files of webhooks: a hung disk with them delays no write of a value.
pub(crate) static NOTIFY: Semaphore = Semaphore::const_new(8);

/// Threads for files of servers that have no client yet.
pub(crate) static CLIENTS: Semaphore = Semaphore::const_new(8);

/// Threads for files of `[cluster]`, which are read again and again while one cannot be used.
pub(crate) static CLUSTER: Semaphore = Semaphore::const_new(4);

/// Threads for lookups in the user database, which may need the network.
pub(crate) static USERS: Semaphore = Semaphore::const_new(8);

/// Waits for work that needs the disk; `None` if that takes longer than [`DISK_TIMEOUT`].
pub(crate) async fn with_disk_timeout<T>(work: impl Future<Output = T>) -> Option<T> {
    timeout(DISK_TIMEOUT, work).await.ok()
}

/// Does all work at once, each on a thread of its own, for the startup, which needs the results.
/// Blocks for at most [`DISK_TIMEOUT`] longer than the disks respond; `None` is work that hangs.
pub(crate) fn wait_at_startup<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
    work: impl IntoIterator<Item = W>,
) -> Vec<Option<T>> {
    let start = |work: W| {
        let (sender, receiver) = sync_channel(1);
        // It fails if nothing waits any more.
        drop(spawn_blocking(move || sender.send(work())));
        receiver
    };
    let started: Vec<_> = work.into_iter().map(start).collect();
    let mut patience = DISK_TIMEOUT;
    let wait = started.into_iter().map(|result| {
        let result = result.recv_timeout(patience).ok();
        if result.is_none() {
            // The others have had the same time.
            patience = Duration::ZERO;
        }
        result
    });
    wait.collect()
}

/// Runs blocking work on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        // A panic aborts the process, and the end of the runtime ends this task too.
        Err(_) => std::future::pending().await,
    }
}

/// Runs blocking work once a permit is free. Work that hangs keeps its permit.
pub(crate) async fn blocking_among<T: Send + 'static>(
    permits: &'static Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    // The semaphores are never closed.
    let permit = permits.acquire().await;
    blocking(move || {
        let _permit = permit;
        work()
    })
    .await
}
