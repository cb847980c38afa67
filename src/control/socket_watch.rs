//! Watches the file of the control socket by inotify, so that nothing is polled while it is there.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use inotify::{EventStream, Inotify, WatchMask};
use tokio::time::{Sleep, sleep};

/// Time between two looks at the file where it cannot be watched.
pub const POLLING: Duration = Duration::from_secs(5);

/// From the first event until the file is looked at: a replacement is several events.
const SETTLING: Duration = Duration::from_millis(200);

/// Room for a few events without a name.
const BUFFER_BYTES: usize = 1_024;

/// A watch on the file and on its directory.
#[derive(Debug)]
pub(super) struct SocketWatch {
    /// `None` where the file cannot be watched.
    events: Option<EventStream<Vec<u8>>>,
    /// Until the file is looked at.
    pause: Option<Pin<Box<Sleep>>>,
}

impl SocketWatch {
    /// A watch on the socket at `path`. To be called within a runtime, before the file is compared.
    pub(super) fn new(path: &Path) -> Self {
        let events = Inotify::init().and_then(|inotify| {
            // A bound socket keeps its inode, so its removal is a change of the number of links.
            let file = WatchMask::ATTRIB | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF;
            inotify.watches().add(path, file)?;
            if let Some(directory) = path.parent() {
                let mask = WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ONLYDIR;
                inotify.watches().add(directory, mask)?;
            }
            inotify.into_event_stream(vec![0; BUFFER_BYTES])
        });
        Self { events: events.ok(), pause: None }
    }

    /// No watch: the file is looked at every [`POLLING`].
    pub(super) const fn polling() -> Self {
        Self { events: None, pause: None }
    }

    /// Waits until the file may have been removed or replaced. Loses nothing when it is cancelled.
    pub(super) async fn suspicion(&mut self) {
        if let (None, Some(events)) = (&self.pause, &mut self.events) {
            let _ = events.next().await;
            self.pause = Some(Box::pin(sleep(SETTLING)));
        }
        self.pause.get_or_insert_with(|| Box::pin(sleep(POLLING))).await;
        self.pause = None;
    }
}
