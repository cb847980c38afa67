//! What may block, on threads beside the loop: a disk or a directory of users that hangs holds up
//! no token but those that need it, and takes no more threads than it may.

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::token_file::DISK_PATIENCE;

/// Threads that writes of values, and what an attempt reads, may hold while the disk hangs. The
/// runtime has 512, and needs some to look up the names of servers.
pub(crate) static DISK: Semaphore = Semaphore::const_new(64);

/// Threads that may read sources before a death is acted on.
pub(crate) static REREADS: Semaphore = Semaphore::const_new(64);

/// Threads that may ask the system who somebody is, which may take a network.
pub(crate) static USERS: Semaphore = Semaphore::const_new(8);

/// What comes of something that needs the disk; `None` if that hangs.
pub(crate) async fn with_disk_timeout<T>(work: impl Future<Output = T>) -> Option<T> {
    timeout(DISK_PATIENCE, work).await.ok()
}

/// Runs what may block on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        // Only a panic or the runtime's end gets here: the one aborts, the other stops us too.
        Err(_) => std::future::pending().await,
    }
}

/// The same on one of so many threads: what hangs keeps its place.
pub(crate) async fn blocking_among<T: Send + 'static>(
    places: &'static Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    // They are never closed.
    let place = places.acquire().await;
    blocking(move || {
        let _place = place;
        work()
    })
    .await
}
