//! Broadcasts one snapshot per second to all dashboard clients. Takes none while there are no
//! clients.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::Snapshot;

/// Time between two snapshots. In between, the page counts remaining lives down by itself.
const INTERVAL: Duration = Duration::from_secs(1);

/// Broadcasts snapshots to subscribers.
#[derive(Debug)]
pub(in crate::control) struct Broadcaster {
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    subscribed: Notify,
}

impl Broadcaster {
    /// A broadcaster without subscribers.
    pub(in crate::control) fn new() -> Self {
        Self { snapshots: watch::Sender::new(None), subscribed: Notify::new() }
    }

    /// Subscribes until the receiver is dropped.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        let snapshots = self.snapshots.subscribe();
        self.subscribed.notify_one();
        snapshots
    }

    /// Calls `look` for a snapshot once a second while there are subscribers. Ends when `look`
    /// returns `None`, because the main loop is gone.
    pub(in crate::control) async fn run<L>(&self, mut look: impl FnMut() -> L)
    where
        L: Future<Output = Option<Snapshot>>,
    {
        loop {
            if self.snapshots.is_closed() {
                // The next subscriber must not get an outdated snapshot.
                self.snapshots.send_replace(None);
                self.subscribed.notified().await;
                continue;
            }
            let Some(snapshot) = look().await else { return };
            self.snapshots.send_replace(Some(Arc::new(snapshot)));
            sleep(INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Runs the broadcaster for `seconds` of virtual time; returns the number of snapshots.
    async fn looks(broadcaster: &Broadcaster, seconds: u64) -> usize {
        let looks = Cell::new(0);
        let look = async || {
            looks.set(looks.get() + 1);
            Some(Snapshot::default())
        };
        let over = sleep(Duration::from_secs(seconds) + INTERVAL / 2);
        tokio::select! {
            () = broadcaster.run(look) => {}
            () = over => {}
        }
        looks.get()
    }

    #[tokio::test(start_paused = true)]
    async fn no_snapshot_is_taken_without_subscribers() {
        assert_eq!(looks(&Broadcaster::new(), 60).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn all_subscribers_share_one_snapshot_per_second() {
        let broadcaster = Broadcaster::new();
        let watching: Vec<_> = (0..16).map(|_| broadcaster.subscribe()).collect();
        assert_eq!(looks(&broadcaster, 10).await, 11);
        drop(watching);
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscriber_after_a_break_gets_no_outdated_snapshot() {
        let broadcaster = Broadcaster::new();
        drop(broadcaster.subscribe());
        looks(&broadcaster, 1).await;
        let first = broadcaster.subscribe();
        looks(&broadcaster, 1).await;
        assert!(first.borrow().is_some());
        drop(first);
        looks(&broadcaster, 2).await;
        assert!(broadcaster.subscribe().borrow().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_broadcaster_ends_when_the_main_loop_is_gone() {
        let broadcaster = Broadcaster::new();
        let watching = broadcaster.subscribe();
        broadcaster.run(async || None).await;
        assert!(watching.borrow().is_none());
    }
}
