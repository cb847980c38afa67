//! Notifies about changes of the mount table.

use std::fs::File;
use std::io;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::token_source::mount_table::MOUNT_TABLE;

/// The mount table of this process. The kernel signals a change with `POLLPRI`.
#[derive(Debug)]
pub(super) struct MountEvents(AsyncFd<File>);

impl MountEvents {
    /// Must be called within a tokio runtime.
    #[expect(
        deprecated,
        reason = "its successor is unsafe for the sake of types that change the descriptor they \
                  show; `File` never does"
    )]
    pub(super) fn open() -> io::Result<Self> {
        let file = File::open(MOUNT_TABLE)?;
        AsyncFd::with_interest(file, Interest::PRIORITY).map(Self)
    }

    /// Waits until a file system is mounted or unmounted. Cancel-safe.
    pub(super) async fn changed(&self) -> io::Result<()> {
        self.0.ready(Interest::PRIORITY).await?.clear_ready();
        Ok(())
    }
}
