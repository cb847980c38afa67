//! One look at the daemon a second for all who watch, and none while nobody does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::Snapshot;

/// Between two looks: what the page shows in between runs down by itself.
const INTERVAL: Duration = Duration::from_secs(1);

/// Hands what the daemon shows to everybody who watches.
#[derive(Debug)]
pub(in crate::control) struct Broadcaster {
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    subscribed: Notify,
}

impl Broadcaster {
    /// A feed that nobody watches yet.
    pub(in crate::control) fn new() -> Self {
        Self { snapshots: watch::Sender::new(None), subscribed: Notify::new() }
    }

    /// Watches from now on, until what is returned is dropped.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        let snapshots = self.snapshots.subscribe();
        self.subscribed.notify_one();
        snapshots
    }

    /// Looks by `look` once a second while anybody watches. Ends when `look` finds nobody to
    /// ask any longer.
    pub(in crate::control) async fn run<L>(&self, mut look: impl FnMut() -> L)
    where
        L: Future<Output = Option<Snapshot>>,
    {
        loop {
            if self.snapshots.is_closed() {
                // What is known grows old: who comes next must not see it.
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

    /// Lets a feed run for `seconds` of virtual time; returns how often it has looked.
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
    async fn nobody_is_asked_while_nobody_watches() {
        assert_eq!(looks(&Broadcaster::new(), 60).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_watch_share_one_look_a_second() {
        let broadcaster = Broadcaster::new();
        let watching: Vec<_> = (0..16).map(|_| broadcaster.subscribe()).collect();
        assert_eq!(looks(&broadcaster, 10).await, 11);
        drop(watching);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_after_a_break_does_not_see_what_was_before() {
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
    async fn it_ends_when_there_is_nobody_to_ask() {
        let broadcaster = Broadcaster::new();
        let watching = broadcaster.subscribe();
        broadcaster.run(async || None).await;
        assert!(watching.borrow().is_none());
    }
}
