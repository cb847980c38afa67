//! Watches the file of the control socket with inotify. Polls only if that is impossible.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use inotify::{EventStream, Inotify, WatchMask};
use tokio::time::{Sleep, sleep};

/// Polling interval if the file cannot be watched.
pub const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Time from the first event to the examination of the file: a replacement causes several events.
const SETTLE_TIME: Duration = Duration::from_millis(200);

/// Room for a few events without a name.
const BUFFER_BYTES: usize = 1_024;

/// A watch on the file and on its directory.
#[derive(Debug)]
pub(super) struct SocketWatch {
    /// `None` if the file cannot be watched.
    events: Option<EventStream<Vec<u8>>>,
    /// Time until the file is examined.
    pause: Option<Pin<Box<Sleep>>>,
}

impl SocketWatch {
    /// Watches the socket at `path`. Must be called within a runtime, before the file is examined.
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

    /// Polls every [`POLL_INTERVAL`] instead of watching.
    pub(super) const fn polling() -> Self {
        Self { events: None, pause: None }
    }

    /// Waits until the file may have been removed or replaced. Cancel safe.
    pub(super) async fn maybe_changed(&mut self) {
        if let (None, Some(events)) = (&self.pause, &mut self.events) {
            let _ = events.next().await;
            self.pause = Some(Box::pin(sleep(SETTLE_TIME)));
        }
        self.pause.get_or_insert_with(|| Box::pin(sleep(POLL_INTERVAL))).await;
        self.pause = None;
    }
}
